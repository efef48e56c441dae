//! `GET /metrics` of a real process: what the locks did is counted.

use crate::support::system::{Servers, System};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_tells_what_its_locks_did() {
    let system = System::start(Servers::ZooKeeper, &[]).await;
    system.import_stock("sku,on_hand\ncounted,9\n").await;
    system.api("api").await;
    system.ready("api").await;
    for order in 0..3 {
        let answer = system.place("api", &format!("order-{order}"), "counted", 1).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let answer = system.http.get(format!("{}/metrics", system.url("api"))).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = answer.text().await.unwrap();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    };
    for (name, expected) in [
        ("acquisitions_total", 3.0),
        ("cache_hits_total", 2.0),
        ("held_keys", 1.0),
        ("wait_seconds_count", 1.0),
        ("hold_seconds_count", 3.0),
        ("hold_seconds_bucket{le=\"+Inf\"}", 3.0),
        ("hand_overs_total", 0.0),
        ("lost_total", 0.0),
        ("fenced_total", 0.0),
    ] {
        assert!((value(&format!("holdfast_lock_{name}")) - expected).abs() < 0.5, "{name}: {text}");
    }
    assert!(value("holdfast_reservation_orders_under_way").abs() < 0.5, "{text}");
    assert!(text.contains("# HELP holdfast_lock_hand_overs_total Keys given up"), "{text}");
    system.assert_clean().await;
}
