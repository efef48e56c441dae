//! Dead letters as an operator meets them: listed, looked at, replayed in the order of their order's history, dropped.

use serde_json::Value;
use tokio::task::block_in_place;

use crate::support::{
    eventually,
    system::{Finished, PATIENCE, Servers, System},
};

const WAITING: &str = "SELECT count(*) FROM dead_letter WHERE dropped_at IS NULL";
const SHIPMENTS: &str = "SELECT count(*) FROM shipment";

/// Refuses every shipment, as a defect would.
const DEFECT: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                      BEGIN RAISE EXCEPTION 'a defect' USING ERRCODE = '22000'; END $$;
                      CREATE TRIGGER defect BEFORE INSERT ON shipment FOR EACH ROW EXECUTE FUNCTION refuse()";
const REPAIRED: &str = "DROP TRIGGER defect ON shipment; DROP FUNCTION refuse()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_replayed_in_order_once_whoever_asks_and_whatever_is_away() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,100\n").await;
    system.start_roles().await;
    system.execute(DEFECT).await;
    let orders = [paid(&system, "first").await, paid(&system, "second").await];
    // Of each order the confirmation, and the capture, which builds on it.
    system.wait_for_count(WAITING, 4).await;
    let letters = list(&system, &["--consumer", "fulfilment"]).await;
    let reasons: Vec<&str> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == "refused").count(), 2, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| **reason == "order_blocked").count(), 2, "{reasons:?}");
    let of_first = list(&system, &["--order", &orders[0]]).await;
    assert_eq!(of_first.len(), 2, "{of_first:?}");
    let (refused, blocked) = (&of_first[0], &of_first[1]);
    assert_eq!(
        (&blocked["blocked_by"], refused["type"].as_str()),
        (&refused["id"], Some("order.confirmed.v1"))
    );
    let shown = run(&system, &["show", &refused["id"].to_string()]).await.expect_success("show");
    assert!(shown.contains("a defect") && shown.contains(&orders[0]), "{shown}");
    let shown = run(&system, &["show", &blocked["id"].to_string(), "--json"]).await.expect_success("show");
    let shown: Value = serde_json::from_str(&shown[shown.find('{').unwrap()..]).unwrap();
    assert_eq!(shown["body"]["order_id"], orders[0].as_str());

    // Nothing is repaired yet: the first is dead again, and the one behind it is not tried.
    let again = run(&system, &["replay", "--order", &orders[0]]).await;
    assert!(!again.success, "{}", again.output);
    assert!(
        again.output.contains("dead again, refused") && again.output.contains("was not tried"),
        "{}",
        again.output
    );
    let unsure = run(&system, &["replay"]).await;
    assert!(!unsure.success && unsure.output.contains("--all"), "{}", unsure.output);
    let dry = run(&system, &["replay", "--all", "--dry-run"]).await.expect_success("a dry run");
    assert!(dry.contains("4 of 4"), "{dry}");

    // One order's capture alone would be blocked again. Both orders at once, asked for twice, while the broker is away.
    system.execute(REPAIRED).await;
    // See `relays`: not at once after the queues were made.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    block_in_place(|| system.stack.kill("rabbitmq")).unwrap();
    for name in ["ask-a", "ask-b"] {
        system.spawn(name, &["dead-letters", "replay", "--all"], &[]);
    }
    let asked = "SELECT count(*) FROM dead_letter WHERE replay_requested_at IS NOT NULL";
    system.wait_for_count(asked, 4).await;
    assert_eq!(system.count(WAITING).await, 4, "a letter stays until its effect is committed");
    block_in_place(|| system.stack.restart("rabbitmq")).unwrap();
    for name in ["ask-a", "ask-b"] {
        let done = system.finish(name, PATIENCE).await.expect_success(name);
        assert!(done.contains("4 dead letters replayed, 0 not"), "{done}");
    }
    for order in &orders {
        system.wait_for_order("api", order, "fulfilled").await;
    }
    assert_eq!(system.count(SHIPMENTS).await, 2);
    system.wait_for_empty_outbox().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_took_effect_is_not_done_twice_what_may_have_is_not_replayed_and_what_was_dropped_is_gone() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,100\n").await;
    system.start_roles().await;
    let order = paid(&system, "done").await;
    system.wait_for_order("api", &order, "fulfilled").await;
    system.wait_for_empty_outbox().await;
    // A letter of what has taken effect by now, as a late copy leaves it; one that is too old; one that is no event.
    system
        .execute(
            "INSERT INTO dead_letter (consumer, event_id, type, subject, sequence, event_time, body, reason_code, reason, attempts)
             SELECT 'fulfilment', event_id, type, subject, sequence, created_at, convert_to(data::text, 'UTF8'), 'refused', 'x', 1
             FROM outbox_sent WHERE type = 'payment.captured.v1';
             INSERT INTO dead_letter (consumer, event_id, type, subject, sequence, event_time, body, reason_code, reason, attempts)
             VALUES ('payment', '00000000-0001-7000-8000-000000000000', 'order.expired.v1', 'order/x', 1, now(), '{}',
                     'refused', 'x', 1),
                    ('payment', NULL, NULL, NULL, NULL, NULL, 'no event', 'not_an_event', 'has no attribute id', 1);
             UPDATE event_feed SET kept_since = '2020-01-01'",
        )
        .await;
    let replayed = run(&system, &["replay", "--consumer", "fulfilment"]).await.expect_success("replay");
    assert!(replayed.contains("has taken effect"), "{replayed}");
    assert_eq!((system.count(WAITING).await, system.count(SHIPMENTS).await), (2, 1));
    let refused = run(&system, &["replay", "--all"]).await;
    assert!(!refused.success, "{}", refused.output);
    assert!(
        refused.output.contains("not an event") && refused.output.contains("was dropped"),
        "{}",
        refused.output
    );

    let unreasoned = run(&system, &["drop", "--all"]).await;
    assert!(!unreasoned.success && unreasoned.output.contains("--reason-text"), "{}", unreasoned.output);
    let dropped = run(&system, &["drop", "--all", "--reason-text", "of no use"]).await.expect_success("drop");
    assert!(dropped.contains("2 dead letters dropped"), "{dropped}");
    assert_eq!(list(&system, &[]).await.len(), 0);
    let kept =
        "SELECT count(*) FROM dead_letter WHERE dropped_because = 'of no use' AND dropped_by LIKE '%@%'";
    assert_eq!(system.count(kept).await, 2);
    system.execute("DELETE FROM dead_letter; UPDATE event_feed SET kept_since = 'epoch'").await;
    system.assert_clean().await;
}

/// Tried for ever it would be in the way of others, and nobody could drop it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_whose_consumer_has_no_queue_is_no_longer_replayed_and_can_be_dropped() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system
        .execute(
            "INSERT INTO dead_letter (consumer, event_id, type, subject, sequence, event_time, body, reason_code, reason, attempts)
             VALUES ('former', event_id_from(now()), 'order.expired.v1', 'order/x', 1, now(), '{}', 'refused', 'why', 1)",
        )
        .await;
    system.worker("worker-relay", &["relay"]);
    for _ in 0..2 {
        let replayed = run(&system, &["replay", "--all"]).await;
        assert!(!replayed.success, "{}", replayed.output);
        let text = "why; it could not be sent again, because its consumer has no queue\n";
        assert!(replayed.output.contains(text), "{}", replayed.output);
    }
    let dropped =
        run(&system, &["drop", "--all", "--reason-text", "it is no more"]).await.expect_success("drop");
    assert!(dropped.contains("1 dead letter dropped"), "{dropped}");
}

/// Its queue may have been deleted again, and one copy more takes no effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_was_sent_and_has_not_ended_can_be_sent_again_after_a_minute() {
    let system = System::start(Servers::Neither, &[]).await;
    for (consumer, seconds) in [("payment", 50), ("fulfilment", 70)] {
        let letter = "INSERT INTO dead_letter (consumer, event_id, type, subject, sequence, event_time, body, reason_code, reason,
                          attempts, replay_requested_at, replay_requested_by, replay_claimed_at, replay_sent_at)
                      SELECT $1, event_id_from(now()), 'order.expired.v1', 'order/x', 1, now(), '{}', 'lost', 'x', 0, at, 'x', at, at
                      FROM (SELECT now() - make_interval(secs => $2) AS at) AS sent";
        sqlx::query(letter).bind(consumer).bind(f64::from(seconds)).execute(&system.database).await.unwrap();
    }
    let asked = run(&system, &["replay", "--all", "--no-wait"]).await.expect_success("replay");
    assert!(asked.contains("2 dead letters to be replayed, 1 of them from before"), "{asked}");
    let anew = "SELECT count(*) FROM dead_letter WHERE consumer = 'fulfilment' AND replay_sent_at IS NULL";
    assert_eq!(system.count(anew).await, 1);
    // While it may still take effect it is not to be dropped.
    let dropped = run(&system, &["drop", "--all", "--reason-text", "lost"]).await;
    assert!(!dropped.success && dropped.output.contains("was not dropped"), "{}", dropped.output);
}

/// An order that is paid, and whose payment was captured.
async fn paid(system: &System, reference: &str) -> String {
    let order = system.place("api", reference, "book", 1).await.id().to_owned();
    system.pay("api", &order, "pm_card_visa").await.id();
    let captured = || async {
        let summary = system.summary().await;
        summary["captured"].as_i64() == Some(system.count("SELECT count(*) FROM orders").await)
    };
    eventually("the money is captured", PATIENCE, captured).await;
    order
}

async fn run(system: &System, args: &[&str]) -> Finished {
    system.run(&[&["dead-letters"], args].concat()).await
}

async fn list(system: &System, args: &[&str]) -> Vec<Value> {
    let output = run(system, &[&["list", "--json"], args].concat()).await.expect_success("list");
    let json = &output[output.find('[').unwrap()..];
    serde_json::from_str(json).unwrap()
}
