//! A holder of a SKU's lock that reads the stock in one transaction and sells what it saw in another, with no row lock in
//! between: the pattern that only a fencing token makes safe. The failure tests pause it between the two.
//!
//! Holdfast itself reads and writes under the row lock, in one transaction, and so would not oversell without a token
//! either. That is why a test of the fence needs this program.
//!
//! Arguments: `WRITE FENCE SKU GO`. WRITE is `reserve`, the product's own statement, which adds to the counter and looks
//! at what is left; or `absolute`, which stores the counter as it was computed. FENCE is `on` or `off`: whether the write carries the token.
//! It prints `read`, waits until the file GO exists, writes, and prints `sold`, `sold out` or `refused: why`.
#![allow(clippy::unwrap_used, reason = "whatever fails here fails the test")]

use std::{collections::BTreeMap, env, path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use holdfast::{
    domain::{
        allocation::Allocation,
        ids::{ClientId, OrderId},
        inventory::{InventoryLevel, LevelKey},
        new_order::{NewOrder, OrderDraft, OrderLimits},
        open_orders::OpenOrderCaps,
    },
    lock::{LockManager as _, LockOwner, ZooKeeperLock, ZooKeeperOptions},
    store::{
        Conn, Error, Store, StoreOptions,
        idempotency::{IdempotencyKey, IdempotentRequest},
        inventory,
        placement::{self, Batch, PlacedOrder, ReserveStock},
    },
};
use tokio::time::{Instant, sleep};

const LOCATION: &str = "main";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [write, fence, sku, go] = arguments.as_slice() else { panic!("WRITE FENCE SKU GO") };
    let (store, locks) = (store().await, locks().await);
    let guard = locks
        .acquire(std::slice::from_ref(sku), LockOwner::new(), Instant::now() + Duration::from_secs(30))
        .await
        .unwrap();
    let token = guard.token(sku).map(|token| (token.epoch, token.sequence));
    let key = LevelKey { sku: sku.parse().unwrap(), location_id: LOCATION.parse().unwrap() };
    let (level, now) = read(&store, &key).await;
    if level.available() < 1 {
        println!("sold out");
        return;
    }
    println!("read");
    while !Path::new(go).exists() {
        sleep(Duration::from_millis(5)).await;
    }
    // Whether the lock is still held is not asked: the answer could be out of date before it is used.
    let fence = if fence == "on" { token } else { None };
    let mut tx = store.begin("sell").await.unwrap();
    let reserve = ReserveStock { quantity: 1, fence, from_shelf: false };
    let written = match write.as_str() {
        "reserve" => place(&mut tx, &key, now, [(&key, reserve)].into()).await,
        _ => match write_absolute(&mut tx, &key, level.reserved + 1, fence).await {
            Ok(()) => place(&mut tx, &key, now, BTreeMap::new()).await,
            refused => refused,
        },
    };
    match written {
        Ok(()) => {
            tx.commit().await.unwrap();
            println!("sold");
        }
        Err(error) => println!("refused: {error}"),
    }
}

async fn store() -> Store {
    let options = StoreOptions {
        url: env::var("HOLDFAST__DATABASE__URL").unwrap(),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(5),
        lock_timeout: Duration::from_secs(5),
        idle_in_transaction_timeout: Duration::from_secs(5),
    };
    Store::connect(&options).await.unwrap()
}

async fn locks() -> ZooKeeperLock {
    let options = ZooKeeperOptions {
        servers: env::var("HOLDFAST__LOCK__ZOOKEEPER__SERVERS").unwrap(),
        root: "/holdfast/locks".into(),
        session_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(5),
        auth: None,
        allow_open_acl: true,
        epoch: 0,
        holder: "fenced_holder".into(),
        cache: None,
    };
    ZooKeeperLock::connect(options).await.unwrap()
}

/// Reads the level; its row lock is gone when this returns.
async fn read(store: &Store, key: &LevelKey) -> (InventoryLevel, DateTime<Utc>) {
    let mut tx = store.begin("read").await.unwrap();
    let (mut levels, now) = inventory::lock_levels(&mut tx, std::slice::from_ref(key)).await.unwrap();
    tx.rollback().await.unwrap();
    (levels.remove(key).unwrap().level, now)
}

/// As the product writes a level, but it stores what was computed from the reading, as a cache of the level would.
async fn write_absolute(
    conn: &mut Conn,
    key: &LevelKey,
    reserved: i64,
    fence: Option<(i32, i64)>,
) -> Result<(), Error> {
    let update = sqlx::query(
        "UPDATE inventory_level
         SET reserved = $3, version = version + 1,
             fence_epoch = COALESCE($4, fence_epoch), fence = COALESCE($5, fence)
         WHERE sku = $1 AND location_id = $2
           AND (fence_epoch, fence) <= (COALESCE($4, fence_epoch), COALESCE($5, fence))",
    );
    let update = update.bind(key.sku.as_str()).bind(key.location_id.as_str()).bind(reserved);
    let result =
        update.bind(fence.map(|fence| fence.0)).bind(fence.map(|fence| fence.1)).execute(conn).await?;
    holdfast::store::expect_rows(&result, 1, "absolute write")
}

/// The order that the unit goes to, as the product writes it.
async fn place(
    conn: &mut Conn,
    key: &LevelKey,
    read_at: DateTime<Utc>,
    levels: BTreeMap<&LevelKey, ReserveStock>,
) -> Result<(), Error> {
    let order = serde_json::json!({
        "currency": "USD",
        "lines": [{ "sku": key.sku, "quantity": 1, "unit_amount": 500 }],
    });
    let order: NewOrder = serde_json::from_value(order).unwrap();
    let limits = OrderLimits {
        default_location: LOCATION.parse().unwrap(),
        default_ttl_seconds: 900,
        max_ttl_seconds: 900,
    };
    let draft: OrderDraft = order.validate(&limits).unwrap();
    let request = IdempotentRequest {
        key: Arc::new(IdempotencyKey::new(
            ClientId::new(),
            "POST /v1/orders".into(),
            OrderId::new().to_string(),
        )),
        fingerprint: [0; 32],
        success_status: 201,
    };
    let created_at = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *conn).await?;
    let expires_at = read_at + TimeDelta::seconds(draft.ttl_seconds);
    let allocations = [Allocation::whole(key.clone(), 1)];
    let created = draft.to_created(&allocations, created_at, expires_at);
    let order = PlacedOrder {
        draft: &draft,
        allocations: &allocations,
        created_at,
        expires_at,
        request: &request,
        body: &serde_json::to_string(&created).unwrap_or_default(),
        correlation_id: None,
        trace_parent: None,
    };
    placement::insert(conn, &Batch { orders: vec![order], levels, caps: OpenOrderCaps::NONE }).await.map(drop)
}
