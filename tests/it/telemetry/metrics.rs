//! What real processes tell Prometheus after a small run: every metric is described, named by the conventions and listed, and the
//! numbers are those of what happened.

use std::collections::{BTreeMap, BTreeSet};

use super::documents::listed;
use crate::support::{
    eventually,
    system::{PATIENCE, Servers, System, free_port},
};

/// Of each metric its type, and whether it is described.
fn families(text: &str) -> BTreeMap<String, (String, bool)> {
    let described: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), described.contains(name)))).collect()
}

/// The sum of the series of a metric with this in their labels.
fn value(text: &str, name: &str, labels: &str) -> f64 {
    let series = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let own = series.split('{').next() == Some(name) && series.contains(labels);
        own.then(|| value.parse::<f64>().unwrap())
    });
    series.sum()
}

fn is(text: &str, name: &str, labels: &str, expected: f64) {
    let found = value(text, name, labels);
    assert!((found - expected).abs() < 0.5, "{name}{{{labels}}} is {found}, not {expected}: {text}");
}

async fn scrape(system: &System, url: &str) -> String {
    system.http.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap()
}

/// That what processes tell is described, named by the conventions, and listed. Gives the names.
fn assert_conventional(texts: &[String]) -> BTreeSet<String> {
    let listed = listed();
    let mut seen = BTreeSet::new();
    for text in texts {
        for (name, (kind, is_described)) in families(text) {
            assert!(is_described, "{name} is not described");
            assert!(listed.contains(&name), "{name} is not in docs/operations.md");
            let has = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
            match kind.as_str() {
                "counter" => assert!(has(&["_total"]), "{name} is a counter"),
                "histogram" => assert!(has(&["_seconds", "_orders"]), "{name} is a histogram"),
                // The library counts fractions of a second, and Prometheus names it so everywhere.
                _ if name == "process_cpu_seconds_total" => {}
                "gauge" => assert!(!has(&["_total", "_count", "_ms"]), "{name} is a gauge"),
                other => panic!("{name} is a {other}"),
            }
            seen.insert(name);
        }
        for common in ["holdfast_build_info", "process_open_fds", "holdfast_database_connections"] {
            assert!(value(text, common, "") > 0.0, "{common}: {text}");
        }
    }
    seen
}

/// Every role in a process of its own; gives where the workers show themselves.
async fn start() -> (System, BTreeMap<&'static str, String>) {
    let system = System::start(Servers::ZooKeeperAndRabbitMq, &[]).await;
    system.import_stock("sku,on_hand\na,9\n").await;
    system.spawn("sandbox", &["sandbox"], &[]);
    let mut workers = BTreeMap::new();
    for kind in ["payment", "fulfilment", "expiry", "import", "relay", "retention"] {
        let bind = format!("127.0.0.1:{}", free_port());
        system.spawn(&format!("worker-{kind}"), &["worker", kind], &[("HOLDFAST__WORKER__BIND", &bind)]);
        workers.insert(kind, format!("http://{bind}"));
    }
    system.api("api").await;
    (system, workers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_described_named_by_the_conventions_and_listed() {
    let (system, workers) = start().await;
    for reference in ["one", "two"] {
        let order = system.place("api", reference, "a", 1).await;
        system.pay("api", order.id(), "pm_card_visa").await;
        system.wait_for_order("api", order.id(), "fulfilled").await;
    }
    system.place("api", "two", "a", 1).await;
    assert_eq!(system.place("api", "much", "a", 100).await.status, 409);
    system.wait_for_empty_outbox().await;
    let mut texts = vec![scrape(&system, &system.url("api")).await];
    // It looks every ten seconds, at first before the others have come.
    let looked = async || {
        let text = scrape(&system, &workers["relay"]).await;
        let consumers =
            |queue: &&str| value(&text, "holdfast_queue_consumers", &format!("queue=\"{queue}\""));
        ["payment", "fulfilment", "dead-letter"].iter().all(|queue| (consumers(queue) - 1.0).abs() < 0.5)
    };
    eventually("the relay sees who consumes", PATIENCE, looked).await;
    for url in workers.values() {
        texts.push(scrape(&system, url).await);
    }

    let seen = assert_conventional(&texts);
    assert!(seen.len() > 45, "{seen:?}");
    let api = &texts[0];
    is(api, "holdfast_http_problems_total", r#"code="insufficient_stock""#, 1.0);
    assert!(api.contains("holdfast_http_problems_total{code=\"lock_unavailable\"} 0"), "{api}");
    // ApiSlow compares with the first, and the second is longer than anything may take.
    for bound in ["0.5", "60"] {
        assert!(api.contains(&format!("method=\"POST\",le=\"{bound}\"}}")), "{bound}: {api}");
    }
    is(api, "holdfast_idempotency_replays_total", "", 1.0);
    is(
        api,
        "holdfast_reservation_batch_orders_count",
        "",
        value(api, "holdfast_reservation_batch_seconds_count", ""),
    );
    is(api, "holdfast_reservation_lanes_busy", "", 0.0);
    is(api, "holdfast_database_waiting", "", 0.0);
    assert!(value(api, "holdfast_database_acquire_seconds_count", r#"pool="general""#) > 0.0, "{api}");
    let relay = scrape(&system, &workers["relay"]).await;
    for event_type in ["order.created.v1", "payment.captured.v1", "order.fulfilled.v1"] {
        is(
            &relay,
            "holdfast_relay_events_total",
            &format!("type=\"{event_type}\",outcome=\"confirmed\""),
            2.0,
        );
    }
    let events = value(&relay, "holdfast_relay_events_total", "");
    is(&relay, "holdfast_relay_lag_seconds_count", "", events);
    assert!(value(&relay, "holdfast_relay_confirm_seconds_count", "") > 0.0, "{relay}");
    is(&relay, "holdfast_relay_shards", "", 16.0);
    for queue in ["payment", "fulfilment", "retry.1s", "dead-letter"] {
        is(&relay, "holdfast_queue_messages", &format!("queue=\"{queue}\""), 0.0);
    }
    let retention = scrape(&system, &workers["retention"]).await;
    assert_eq!(retention.matches("\nholdfast_invariants_broken{").count(), 4, "{retention}");
    is(&retention, "holdfast_invariants_broken", "", 0.0);
    is(&scrape(&system, &workers["expiry"]).await, "holdfast_expiry_behind_seconds", "", 0.0);
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invariant_that_cannot_be_checked_keeps_no_other_from_it() {
    let system = System::start(Servers::Neither, &[]).await;
    let broken = "ALTER TABLE inventory_level RENAME TO inventory_level_away;
        INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data, created_at)
        SELECT gen_random_uuid(), 0, gen_random_uuid(), 1, 'order.created.v1', 'order/' || n, '{}', now() - interval '2 minutes'
        FROM generate_series(1, 50) n";
    sqlx::raw_sql(broken).execute(&system.database).await.unwrap();
    let bind = format!("127.0.0.1:{}", free_port());
    system.spawn("worker-retention", &["worker", "retention"], &[("HOLDFAST__WORKER__BIND", &bind)]);
    let url = format!("http://{bind}");
    system.wait_for_log("worker-retention", "an invariant cannot be checked").await;
    let text = async || scrape(&system, &url).await;
    eventually("the others are checked", PATIENCE, async || {
        text().await.contains("holdfast_invariants_broken{invariant=\"I21\"} 0")
    })
    .await;
    let told = text().await;
    // All are counted, and a few are described.
    is(&told, "holdfast_invariants_broken", r#"invariant="I11""#, 50.0);
    assert!(!told.contains("holdfast_invariants_broken{invariant=\"I1\"}"), "{told}");
    assert!(value(&told, "holdfast_invariants_unchecked_total", r#"invariant="I1""#) > 0.5, "{told}");
    is(&told, "holdfast_invariants_unchecked_total", r#"invariant="I16""#, 0.0);
}
