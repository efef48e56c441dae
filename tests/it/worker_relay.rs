//! The relay beside the database: what commits late, and what a process tells of it.

use std::process::Command;

use holdfast::{
    domain::{
        event::{Aggregate, Event, OrderExpired},
        ids::OrderId,
    },
    store::outbox::{self, NewEvent},
    worker::WorkerKind,
};

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually,
    programs::relay_rate,
    system::{Servers, System},
};

fn event(order_id: OrderId) -> NewEvent {
    NewEvent {
        aggregate: Aggregate::Order(order_id),
        sequence: 1,
        event: Event::OrderExpired(OrderExpired { order_id }),
        correlation_id: None,
        causation_id: None,
        trace_parent: None,
    }
}

/// Ids are given before the commit. A relay that remembered how far it has come would pass this one by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_commits_after_later_ones_were_sent_is_sent() {
    let test = TestApp::start_with(Setup { workers: &[WorkerKind::Relay], ..Setup::default() }).await;
    let mut late = test.app.store.begin("late").await.unwrap();
    outbox::insert(&mut late, &[event(OrderId::new())]).await.unwrap();
    for _ in 0..5 {
        outbox::insert(&mut *test.conn().await, &[event(OrderId::new())]).await.unwrap();
    }
    let sent = "SELECT count(*) FROM outbox_sent";
    eventually("the later ones are sent", PATIENCE, async || test.count(sent).await == 5).await;
    late.commit().await.unwrap();
    eventually("all are sent", PATIENCE, async || test.count(sent).await == 6).await;
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_runs_everything_tells_what_its_relay_does() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,9\n").await;
    let bind = system.url("api").replace("http://", "");
    system.spawn("sandbox", &["sandbox"], &[]);
    system.spawn("all", &["all"], &[("HOLDFAST__HTTP__BIND", &bind)]);
    system.ready("api").await;
    system.place("api", "one", "book", 1).await;
    system.wait_for_empty_outbox().await;
    let url = format!("{}/metrics", system.url("api"));
    let lines = [
        "holdfast_relay_shards 16",
        "holdfast_relay_epoch{shard=\"0\"} 1",
        "holdfast_relay_events_total{type=\"order.created.v1\",outcome=\"confirmed\"} 1",
        "holdfast_bus_blocked 0",
        "holdfast_outbox_rows 0",
        "holdfast_outbox_oldest_seconds 0",
    ];
    for line in lines {
        eventually(&format!("{line} is told"), PATIENCE, async || {
            let text = system.http.get(&url).send().await.unwrap().text().await.unwrap();
            text.lines().any(|told| told == line)
        })
        .await;
    }
    system.assert_clean().await;
}

#[test]
fn what_the_relay_does_is_measured() {
    let output = Command::new(relay_rate()).args(["3000", "100", "2", "2"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let begins = ["backlog of 3000, 2 relays: ", "100 events/s for 2s: ", "single events: 2 "];
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), begins.len(), "{printed}");
    assert!(lines.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{printed}");
}
