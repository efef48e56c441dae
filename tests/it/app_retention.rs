//! What is old is deleted, and nothing else: days of events, idempotency keys, the provider's events, stock imports.

use chrono::NaiveDate;
use holdfast::{
    app::{DeletedRows, Followed, RowAges, RowWalks},
    domain::event::EventType,
    store::{
        inbox,
        retention::{self, AgingTable},
    },
    worker::WorkerKind,
};
use serde_json::json;

use crate::support::{
    PATIENCE,
    api::order,
    app::{Setup, TestApp},
    broker, eventually,
    past_days::{AGE, age_events, make_past_day},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_of_events_are_made_ahead_and_take_what_is_there_already() {
    let test = TestApp::start().await;
    let days = "SELECT count(*) FROM event_day WHERE day >= (now() AT TIME ZONE 'UTC')::date";
    // The database is a copy of one that may have been made before midnight.
    test.app.make_event_days().await.unwrap();
    assert_eq!(test.count(days).await, 3);
    // The worker was away for days: events of the last one that it made and of today are where no day is.
    let away = "DROP TABLE outbox_sent_default, inbox_default;
        DO $$ DECLARE part text; BEGIN
            FOR part IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                        WHERE i.inhparent IN ('outbox_sent'::regclass, 'inbox'::regclass)
            LOOP EXECUTE format('DROP TABLE %I', part); END LOOP;
        END $$;
        CREATE TABLE outbox_sent_default PARTITION OF outbox_sent DEFAULT;
        CREATE TABLE inbox_default PARTITION OF inbox DEFAULT;
        INSERT INTO outbox_sent (id, event_id, shard, aggregate_id, sequence, type, subject, data, created_at, sent_at, position)
        SELECT n, event_id_from(now() + (n - 1) * interval '1 day'), 0, gen_random_uuid(), 1, 'order.expired.v1',
               'order/x', jsonb_build_object('order_id', 'ord_' || replace(gen_random_uuid()::text, '-', '')), now(), now(),
               n FROM generate_series(1, 2) n;
        INSERT INTO inbox (consumer, event_id) SELECT 'payment', event_id FROM outbox_sent;
        UPDATE event_feed SET position = 2";
    sqlx::raw_sql(away).execute(&mut *test.conn().await).await.unwrap();
    assert_eq!(test.app.make_event_days().await.unwrap(), 3);
    assert_eq!(test.count(days).await, 3);
    assert_eq!(test.count("SELECT count(*) FROM outbox_sent").await, 2);
    let left = "SELECT (SELECT count(*) FROM outbox_sent_default) + (SELECT count(*) FROM inbox_default)";
    assert_eq!(test.count(left).await, 0);
    assert_eq!(test.app.make_event_days().await.unwrap(), 0);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_is_made_and_dropped_once_by_two_at_a_time() {
    let test = TestApp::start().await;
    let day = make_past_day(&test).await;
    let next: NaiveDate = "2100-01-01".parse().unwrap();
    let store = &test.app.store;
    let (one, two) =
        tokio::join!(retention::make_event_day(store, next), retention::make_event_day(store, next));
    one.and(two).unwrap();
    let (one, two) =
        tokio::join!(retention::drop_event_day(store, day), retention::drop_event_day(store, day));
    one.and(two).unwrap();
    let error = retention::drop_event_day(store, next).await.expect_err("older days are there");
    assert_eq!(error.constraint(), Some("event_day_order"));
    test.stop().await;
}

/// What was there before the drop: an order whose events are all old, and one that has some of today.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_old_days_were_dropped_the_rest_adds_up_and_old_events_take_no_effect() {
    let workers = &[WorkerKind::Relay, WorkerKind::Payment, WorkerKind::Fulfilment];
    let test = TestApp::start_with(Setup { workers, ship_at_once: false, ..Setup::default() }).await;
    make_past_day(&test).await;
    test.stock("a", 10).await;
    let over = test.placed(&[("a", 1)]).await;
    test.api.cancel(&over).await.expect(200);
    let living = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&living, "pm_card_visa").await;
    test.payment_becomes(&payment_id, "captured").await;
    test.drain().await;
    age_events(&test).await;
    // What is handled, and what is there of it, before and after.
    assert_eq!(test.app.drop_old_events(AGE).await.unwrap(), 0);
    let old = test.app.list_events(Followed::All(None), None, 1000).await.unwrap().events;
    // Consumers would refuse an event of a day that was dropped: one that is not published yet keeps its day.
    let held_back =
        "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data, created_at)
         SELECT gen_random_uuid(), 0, gen_random_uuid(), 1, 'order.teleported.v1', 'order/x', '{}',
                now() - make_interval(days => $1)";
    sqlx::query(held_back).bind(AGE).execute(&mut *test.conn().await).await.unwrap();
    assert_eq!(test.app.drop_old_events(AGE - 1).await.unwrap(), 0);
    sqlx::query("DELETE FROM outbox").execute(&mut *test.conn().await).await.unwrap();
    assert_eq!(test.app.drop_old_events(AGE - 1).await.unwrap(), 1);
    assert_eq!(test.count("SELECT count(*) FROM outbox_sent").await, 0);
    assert_eq!(test.count("SELECT count(*) FROM inbox").await, 0);
    assert_eq!(test.app.verify_invariants().await.unwrap().violations, []);

    // The order goes on, with events of today.
    let shipment = test.api.get(&format!("/v1/orders/{living}/shipments")).await.expect(200);
    let shipment = shipment["data"][0]["id"].as_str().unwrap().to_owned();
    test.api.post(&format!("/v1/shipments/{shipment}/pack"), &json!({})).await.expect(200);
    test.placed(&[("a", 1)]).await;
    test.drain().await;
    assert_eq!(test.app.verify_invariants().await.unwrap().violations, []);

    // A copy of an old event is nothing that a consumer may act on: it may have.
    let mut old = old.into_iter().map(|event| event.envelope);
    let copy = old.find(|event| event.event_type == EventType::PaymentCreated).unwrap();
    let before = test.sandbox.summary().await["requests"].clone();
    broker::publish(test.bus.as_ref(), std::slice::from_ref(&copy)).await;
    let parked = "SELECT count(*) FROM dead_letter WHERE consumer = 'payment' AND reason_code = 'too_old'";
    eventually("it is parked", PATIENCE, async || test.count(parked).await == 1).await;
    assert_eq!(test.sandbox.summary().await["requests"], before);
    // Not even where it would not be asked whether it is old.
    let refused = inbox::insert(&mut *test.conn().await, "payment", copy.id).await;
    assert_eq!(refused.expect_err("it may have taken effect").constraint(), Some(inbox::KEPT));
    sqlx::query("DELETE FROM dead_letter").execute(&mut *test.conn().await).await.unwrap();
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_deleted_once_they_are_old() {
    let test = TestApp::start().await;
    test.stock("a", 100).await;
    let body = order(&[("a", 1)]);
    for key in ["old", "new"] {
        test.api.post_as(key, "/v1/orders", &body).await.expect(201);
    }
    let imports = [
        test.api.import("mode=set", "sku,on_hand\nb,1\n").await,
        test.api.import("mode=set", "sku,on_hand\nc,1\n").await,
    ];
    test.app.run_stock_import(imports[0].parse().ok()).await.unwrap();
    let aged = "UPDATE idempotency_key SET created_at = now() - interval '31 days' WHERE key = 'old';
                UPDATE stock_import SET completed_at = now() - interval '91 days' WHERE completed_at IS NOT NULL;
                INSERT INTO provider_event (provider, event_id, type, provider_reference, created_at, received_at, processed_at)
                SELECT 'stripe', 'evt_' || n, 'x', 'pi_1', now(), now() - n * interval '40 days', now() FROM generate_series(1, 3) n;
                INSERT INTO webhook_delivery (id, endpoint_id, event_id, event_type, subject, sequence, attempts, status,
                                              next_attempt_at, completed_at)
                SELECT event_id_from(now() - made * interval '1 day'), gen_random_uuid(), gen_random_uuid(), 'order.expired.v1',
                       'order/x', 1, 1, CASE WHEN ended IS NULL THEN 'pending' ELSE 'failed' END,
                       CASE WHEN ended IS NULL THEN now() END, now() - ended * interval '1 day'
                FROM (VALUES (40, 31), (41, 29), (42, NULL), (2, 1)) AS d (made, ended);
                INSERT INTO webhook_attempt (delivery_id, number, started_at, status_code)
                SELECT id, 1, now(), 500 FROM webhook_delivery WHERE completed_at IS NOT NULL;
                INSERT INTO dead_letter (consumer, body, reason_code, reason, attempts, created_at, dropped_at, dropped_by, dropped_because)
                SELECT 'payment', '', 'refused', 'x', 1, '2020-01-01', now() - n * interval '80 days', 'x', 'x'
                FROM generate_series(0, 2) n";
    sqlx::raw_sql(aged).execute(&mut *test.conn().await).await.unwrap();
    let mut walks = RowWalks::default();
    let none = test.app.delete_old_rows(RowAges::default(), &mut walks).await.unwrap();
    assert_eq!(none, DeletedRows::default());
    let ages = RowAges {
        idempotency_key: Some(30),
        provider_event: Some(90),
        stock_import: Some(90),
        webhook_delivery: Some(30),
        dropped_letter: Some(90),
    };
    let deleted = test.app.delete_old_rows(ages, &mut walks).await.unwrap();
    let expected = DeletedRows {
        idempotency_keys: 1,
        provider_events: 1,
        stock_imports: 1,
        webhook_deliveries: 1,
        dropped_letters: 1,
    };
    assert_eq!(deleted, expected);
    let left = "SELECT (SELECT count(*) FROM webhook_delivery) * 10 + (SELECT count(*) FROM webhook_attempt)";
    assert_eq!(test.count(left).await, 32);
    assert_eq!(test.app.delete_old_rows(ages, &mut walks).await.unwrap(), DeletedRows::default());
    // What is gone is new again, what is kept is as it was.
    assert!(test.api.post_as("new", "/v1/orders", &body).await.replayed());
    assert!(!test.api.post_as("old", "/v1/orders", &body).await.replayed());
    test.api.get(&format!("/v1/inventory/imports/{}", imports[0])).await.problem(404, "not_found");
    assert_eq!(
        test.api.get(&format!("/v1/inventory/imports/{}", imports[1])).await.expect(200)["status"],
        "pending"
    );
    test.finish().await;
}

/// A table is walked through in parts: the next run goes on where the last one was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_goes_through_a_large_table_to_its_end() {
    let test = TestApp::start().await;
    let rows = "INSERT INTO idempotency_key (digest, client_id, route, key, fingerprint, status_code, response_body, created_at)
                SELECT gen_random_uuid(), gen_random_uuid(), 'r', n::text, sha256('x'), 200, 
                       (SELECT string_agg(md5(n || '-' || m), '') FROM generate_series(1, 55) m),
                       now() - interval '2 days' FROM generate_series(1, 5000) n";
    sqlx::query(rows).execute(&mut *test.conn().await).await.unwrap();
    let mut conn = test.conn().await;
    let (mut from, mut steps, mut deleted) = (Some(retention::Block::default()), 0, 0);
    while let Some(block) = from {
        let step =
            retention::delete_in_blocks(&mut conn, AgingTable::IdempotencyKeys, block, 1).await.unwrap();
        (from, steps, deleted) = (step.next, steps + 1, deleted + step.deleted);
    }
    assert_eq!((steps > 1, deleted), (true, 5000));
    drop(conn);
    test.stop().await;
}
