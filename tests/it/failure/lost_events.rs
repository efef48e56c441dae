//! Events that the broker confirmed and lost: somebody deleted a queue. The audit names them, and they are sent again.

use lapin::options::QueueDeleteOptions;
use serde_json::json;
use tokio::task::block_in_place;

use crate::support::{
    broker::channel,
    eventually,
    system::{PATIENCE, Servers, System},
};

const LETTERS: &str = "SELECT count(*) FROM dead_letter";
const CAPTURED: &str = "SELECT count(*) FROM payment WHERE status = 'captured'";
const SHIPMENTS: &str = "SELECT count(*) FROM shipment";

/// Orders whose shipment was planned before it was sent.
const IN_ORDER: &str = "SELECT count(*) FROM outbox_sent a JOIN inbox i ON i.event_id = a.event_id AND i.consumer = 'fulfilment'
                        JOIN outbox_sent b ON b.aggregate_id = a.aggregate_id AND b.type = 'payment.captured.v1'
                        JOIN inbox j ON j.event_id = b.event_id AND j.consumer = 'fulfilment'
                        WHERE a.type = 'order.confirmed.v1' AND i.received_at < j.received_at";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_deleted_queue_has_lost_is_named_and_sent_again_once() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,100\n").await;
    system.start_roles().await;
    let unpaid = system.place("api", "unpaid", "book", 1).await.id().to_owned();
    stop(&system, "worker-fulfilment");
    let orders = [paid(&system, "first").await, paid(&system, "second").await];
    system.wait_for_count(CAPTURED, 2).await;
    stop(&system, "worker-payment");
    system.post("api", &format!("/v1/orders/{unpaid}/cancel"), "cancel", &json!({})).await;
    system.wait_for_empty_outbox().await;
    let (_connection, channel) = channel(&system.stack).await;
    for queue in ["holdfast.payment", "holdfast.fulfilment"] {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("it was there");
    }
    // They are made anew, and empty.
    system.run(&["topology", "apply"]).await.expect_success("topology apply");
    for worker in ["worker-payment", "worker-fulfilment"] {
        block_in_place(|| system.stack.restart(worker)).unwrap();
    }

    let audit = system.run(&["audit", "--since", "1h", "--grace", "0s"]).await;
    assert!(!audit.success && audit.output.contains("audit: 5 violations, 0 events"), "{}", audit.output);
    assert!(audit.output.contains("holdfast events resend"), "{}", audit.output);
    // What was just sent is on its way.
    let early = system.run(&["events", "resend", "--since", "1h"]).await.expect_success("resend");
    assert!(early.contains("nothing to send again"), "{early}");
    let dry = resend(&system, &["--dry-run"]).await;
    assert!(dry.contains("5 would be sent again"), "{dry}");
    for told in ["2 order.confirmed.v1 to fulfilment", "2 payment.captured.v1 to fulfilment", &orders[0]] {
        assert!(dry.contains(told), "{told} is missing: {dry}");
    }
    assert_eq!(system.count(LETTERS).await, 0);

    let one = resend(&system, &["--consumer", "payment"]).await;
    assert!(one.contains("1 order.canceled.v1 to payment") && one.contains("1 to be sent again"), "{one}");
    for name in ["resend-a", "resend-b"] {
        system.spawn(name, &["events", "resend", "--since", "1h", "--grace", "0s"], &[]);
    }
    let mut sent = 0;
    for name in ["resend-a", "resend-b"] {
        sent += count_sent(&system.finish(name, PATIENCE).await.expect_success(name));
    }
    assert_eq!(sent, 4, "each once, whoever was faster");
    for order in &orders {
        system.wait_for_order("api", order, "fulfilled").await;
    }
    assert_handled(&system, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_all_takes_effect_once() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,100\n").await;
    system.start_roles().await;
    stop(&system, "worker-fulfilment");
    let order = paid(&system, "late").await;
    system.wait_for_count(CAPTURED, 1).await;
    system.wait_for_empty_outbox().await;
    // They wait in the queue, and nobody can know that they are not lost.
    assert_eq!(count_sent(&resend(&system, &[]).await), 2);
    assert_eq!(count_sent(&resend(&system, &[]).await), 0);
    let sent = "SELECT count(*) FROM dead_letter WHERE replay_sent_at IS NOT NULL";
    system.wait_for_count(sent, 1).await;
    block_in_place(|| system.stack.restart("worker-fulfilment")).unwrap();
    system.wait_for_order("api", &order, "fulfilled").await;
    assert_handled(&system, 1).await;
}

/// That every event has come to its effect once, of each order in order, and nothing is left to be sent.
async fn assert_handled(system: &System, orders: i64) {
    let gone = || async { system.count(LETTERS).await == 0 };
    eventually("every letter has taken effect", PATIENCE, gone).await;
    assert_eq!((system.count(SHIPMENTS).await, system.count(IN_ORDER).await), (orders, orders));
    system.wait_for_empty_outbox().await;
    system.assert_accounted_for().await;
    let again = resend(system, &[]).await;
    assert!(again.contains("nothing to send again"), "{again}");
    system.assert_clean().await;
    system.assert_charged_once().await;
}

async fn resend(system: &System, args: &[&str]) -> String {
    let fixed = ["events", "resend", "--since", "1h", "--grace", "0s"];
    system.run(&[&fixed, args].concat()).await.expect_success("resend")
}

/// How many events are to be sent, as it says itself.
fn count_sent(output: &str) -> i64 {
    let said = output.lines().find_map(|line| line.split_once(" to be sent again"));
    said.map_or(0, |(count, _)| count.parse().unwrap())
}

fn stop(system: &System, worker: &str) {
    block_in_place(|| system.stack.stop(worker)).unwrap();
}

async fn paid(system: &System, reference: &str) -> String {
    let order = system.place("api", reference, "book", 1).await.id().to_owned();
    system.pay("api", &order, "pm_card_visa").await.id();
    order
}
