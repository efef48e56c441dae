//! What becomes of events while nodes of a broker of three die, or are cut off from each other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast::{
    bus::{EventBus, RabbitMqBus, RabbitMqOptions},
    domain::event::EventType::OrderCreated,
};
use tokio::time::sleep;

use crate::support::{
    PATIENCE,
    broker::{events, next},
    cluster::{Cluster, NODES},
    eventually,
    traffic::{MAIL, Publishing, collect},
};

/// A bus that tries these nodes in this order, where the leaders of its queues are on `leader`.
async fn bus(cluster: &Cluster, leader: &str, nodes: &[&str]) -> (Arc<RabbitMqBus>, RabbitMqOptions) {
    let options = cluster.options(nodes);
    let first = cluster.options(&[leader]);
    // Whoever makes a queue has its leader.
    let maker = RabbitMqBus::new(RabbitMqOptions { prefix: options.prefix.clone(), ..first });
    maker.declare(&[MAIL]).await.expect("a new topology");
    maker.close().await;
    let queue = format!("{}.mail", options.prefix);
    assert_eq!(cluster.leader(leader, &queue), leader);
    // A broker that is killed right after it made a queue may not know it when it comes back.
    sleep(Duration::from_secs(5)).await;
    let bus = Arc::new(RabbitMqBus::new(options.clone()));
    bus.declare(&[MAIL]).await.expect("the same topology");
    (bus, options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_confirmed_event_is_lost_when_the_leader_of_a_queue_is_killed() {
    let cluster = Cluster::alone().await;
    let [leader, second, third] = NODES;
    let (bus, options) = bus(&cluster, leader, &[second, third]).await;
    let publishing = Publishing::begin(bus.clone()).await;
    cluster.kill(leader);
    publishing.wait_for_more(400).await;
    let published = publishing.end().await;
    let (events, gap) = (published.confirmed.len(), published.longest_gap);
    let again = collect(bus.as_ref(), &published.confirmed).await;
    eprintln!(
        "leader killed: {events} events confirmed, none lost, {again} twice, {} windows published again, nothing confirmed for \
         {} ms at most",
        published.failures,
        gap.as_millis()
    );
    assert_ne!(cluster.leader(second, &format!("{}.mail", options.prefix)), leader);
    // The aim is one second; the rest is for a machine on which everything runs at once.
    assert!(gap < Duration::from_secs(4), "nothing was confirmed for {gap:?}");
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_confirmed_event_is_lost_while_a_majority_of_the_nodes_is_away() {
    let cluster = Cluster::alone().await;
    let [first, second, third] = NODES;
    let (bus, _) = bus(&cluster, first, &NODES).await;
    let publishing = Publishing::begin(bus.clone()).await;
    cluster.kill(second);
    cluster.kill(third);
    // Alone, the last node stops: what it confirmed could be lost.
    eventually("the last node stops", PATIENCE, async || !cluster.answers(first).await).await;
    let before = publishing.confirmed();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(publishing.confirmed(), before, "it was confirmed by one node of three");
    cluster.start_again(&[second, third]);
    let back = Instant::now();
    publishing.wait_for_more(1).await;
    let confirmed_after = back.elapsed();
    publishing.wait_for_more(200).await;
    let published = publishing.end().await;
    let again = collect(bus.as_ref(), &published.confirmed).await;
    eprintln!(
        "majority away: {} events confirmed, none lost, {again} twice; the first confirm came {} ms after two nodes answered",
        published.confirmed.len(),
        confirmed_after.as_millis()
    );
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_is_cut_off_confirms_nothing_and_no_event_is_lost() {
    let cluster = Cluster::alone().await;
    let [alone, second, third] = NODES;
    // Both the leader of the queue and the publisher's connection are on the wrong side.
    let (bus, options) = bus(&cluster, alone, &[alone, second, third]).await;
    let publishing = Publishing::begin(bus.clone()).await;
    let there = RabbitMqOptions { prefix: options.prefix, ..cluster.options(&[alone]) };
    let there = RabbitMqBus::new(RabbitMqOptions { confirm_timeout: Duration::from_secs(2), ..there });
    there.declare(&[MAIL]).await.expect("the same topology");

    cluster.cut_off(alone);
    // The others elect a leader and go on, while the one that was it takes nothing.
    publishing.wait_for_more(1).await;
    eventually("the node that is alone stops", PATIENCE, async || !cluster.answers(alone).await).await;
    there.publish(&events(OrderCreated, 3)).await.expect_err("it has no majority");
    publishing.wait_for_more(200).await;

    cluster.join(alone);
    eventually("the node is back", PATIENCE, async || cluster.answers(alone).await).await;
    publishing.wait_for_more(200).await;
    let published = publishing.end().await;
    let again = collect(bus.as_ref(), &published.confirmed).await;
    eprintln!(
        "a node cut off: {} events confirmed, none lost, {again} twice, {} windows published again; nothing confirmed for \
         {} ms at most",
        published.confirmed.len(),
        published.failures,
        published.longest_gap.as_millis()
    );
    // One queue, wherever it is read.
    let window = events(OrderCreated, 1);
    eventually("it publishes again", PATIENCE, async || there.publish(&window).await.is_ok()).await;
    let mut deliveries = bus.subscribe(&MAIL, 1).await;
    assert!(next(&mut deliveries).await.envelope.is_ok());
    there.close().await;
    bus.close().await;
}
