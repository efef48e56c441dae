//! Relays that come and go share the shards, and no event is lost or overtakes another of its order meanwhile.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::support::{
    eventually,
    system::{PATIENCE, Servers, System},
};

/// What the tests set.
const LEASE: Duration = Duration::from_secs(2);

/// What a loaded machine may take for anything.
const SLACK: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_share_by_zookeeper() {
    relays_come_and_go(Servers::ZooKeeperAndRabbitMq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_share_by_postgresql() {
    relays_come_and_go(Servers::RabbitMq).await;
}

async fn relays_come_and_go(servers: Servers) {
    let system = System::start(servers, &[]).await;
    system.import_stock("sku,on_hand\nbook,100000\n").await;
    system.api("api").await;
    system.worker("relay-a", &["relay"]);
    wait_for_shares(&system, &[16]).await;
    let orders = tokio::spawn({
        let (url, key, http) = (system.url("api"), system.key.clone(), system.http.clone());
        async move { join_all((0..4).map(|client| keep_ordering(&url, &key, &http, client))).await }
    });

    system.worker("relay-b", &["relay"]);
    wait_for_shares(&system, &[8, 8]).await;
    system.worker("relay-c", &["relay"]);
    wait_for_shares(&system, &[5, 5, 6]).await;

    // One that is told to stop gives its shards up: nobody waits for its leases.
    let stopped = Instant::now();
    tokio::task::block_in_place(|| system.stack.stop("relay-c")).unwrap();
    wait_for_shares(&system, &[8, 8]).await;
    assert!(stopped.elapsed() < SLACK, "{:?}", stopped.elapsed());

    // One that is killed cannot: its leases run out.
    tokio::task::block_in_place(|| system.stack.kill("relay-b")).unwrap();
    let killed = Instant::now();
    wait_for_shares(&system, &[16]).await;
    assert!(killed.elapsed() < LEASE + SLACK, "{:?}", killed.elapsed());

    // One that is stopped for longer than its lease comes back to find them taken, and gets its share again.
    system.worker("relay-d", &["relay"]);
    wait_for_shares(&system, &[8, 8]).await;
    system.stack.pause("relay-d").unwrap();
    wait_for_shares(&system, &[16]).await;
    system.stack.resume("relay-d").unwrap();
    wait_for_shares(&system, &[8, 8]).await;

    orders.abort();
    assert!(orders.await.is_err_and(|ended| ended.is_cancelled()), "an order was refused");
    system.wait_for_empty_outbox().await;
    system.assert_in_order().await;
    system.assert_clean().await;
    assert!(system.count("SELECT count(*) FROM outbox_sent").await > 50);
}

/// Places orders and cancels each, so that there are events that must not overtake each other.
async fn keep_ordering(url: &str, key: &str, http: &reqwest::Client, client: usize) {
    for number in 0.. {
        let body = serde_json::json!({
            "currency": "USD", "lines": [{ "sku": "book", "quantity": 1, "unit_amount": 500 }],
        });
        let post = |path: String, body: &serde_json::Value, step: &str| {
            let request = http.post(format!("{url}{path}")).bearer_auth(key);
            request.header("Idempotency-Key", format!("{client}-{number}-{step}")).json(body).send()
        };
        let placed = post("/v1/orders".into(), &body, "place").await.unwrap();
        assert_eq!(placed.status(), 201);
        let order: serde_json::Value = placed.json().await.unwrap();
        let path = format!("/v1/orders/{}/cancel", order["id"].as_str().unwrap());
        let canceled = post(path, &serde_json::json!({ "reason": "test" }), "cancel").await.unwrap();
        assert_eq!(canceled.status(), 200);
    }
}

/// Waits until the relays lease so many shards each.
async fn wait_for_shares(system: &System, expected: &[i64]) {
    let query = "SELECT count(*) FROM relay_lease WHERE expires_at > clock_timestamp() AND owner IS NOT NULL
                 GROUP BY owner ORDER BY 1";
    let shared = || async {
        let shares: Vec<i64> = sqlx::query_scalar(query).fetch_all(&system.database).await.unwrap();
        shares == expected
    };
    eventually(&format!("shares are {expected:?}"), PATIENCE, shared).await;
}
