//! Measures the relay: how fast it drains a backlog, and how long an event takes from its commit to its delivery.
//!
//! `cargo build --release && cargo run --release --example relay_rate [BACKLOG [RATE [SECONDS [RELAYS]]]]`, on private servers.
//! First so many events wait and are drained by so many relay processes; then so many a second are committed, each by itself,
//! for so long, and a consumer notes when it has each; then a few come one by one. BACKLOG or RATE 0 leaves its part out.
#![allow(clippy::unwrap_used, reason = "whatever fails here fails the measurement")]

use std::{
    collections::HashMap,
    env,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use devstack::{Stack, StackOptions};
use holdfast::{
    bus::{EventBus as _, RabbitMqBus, RabbitMqOptions, Settlement, Subscription},
    domain::event::EventType,
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

/// A consumer of its own, so that the events have a queue as real ones do.
const MEASURED: Subscription = Subscription { consumer: "measured", events: &[EventType::OrderCreated] };

/// Who commits events while the latency is measured.
const WRITERS: u32 = 8;

/// What an order's event is like. Each is of an order of its own.
const EVENT: &str = r#"'{"order_id": "ord_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c", "currency": "USD", "total_amount": 2500, "lines":
    [{"sku": "SKU-000123", "quantity": 1, "unit_amount": 2500, "location_id": "main"}]}'"#;

fn main() {
    let count = |at: usize, default: u32| env::args().nth(at).map_or(default, |text| text.parse().unwrap());
    let (backlog, rate, seconds, relays) = (count(1, 200_000), count(2, 1_000), count(3, 20), count(4, 1));
    let stack = Stack::start(StackOptions { zookeeper_nodes: 0, ..StackOptions::default() }).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let measurement = Measurement::prepare(&stack).await;
        if backlog > 0 {
            measurement.drain(backlog, relays).await;
        }
        if rate > 0 {
            measurement.latency(rate, Duration::from_secs(seconds.into())).await;
        }
    });
}

struct Measurement<'a> {
    stack: &'a Stack,
    environment: Vec<(String, String)>,
    database: PgPool,
    bus: RabbitMqBus,
}

impl<'a> Measurement<'a> {
    /// Migrates, and makes the queue.
    async fn prepare(stack: &'a Stack) -> Self {
        let mut environment = stack.environment();
        for (name, value) in
            [("HOLDFAST__LOCK__BACKEND", "none"), ("HOLDFAST__PROVIDER__SECRET_KEY", "sk_none")]
        {
            environment.push((name.to_owned(), value.to_owned()));
        }
        // What is measured can be set from outside.
        environment.extend(env::vars().filter(|(name, _)| name.starts_with("HOLDFAST__WORKER__RELAY__")));
        // Nobody consumes a backlog while it is drained. At the servers' usual limit the broker would block the relay now and then.
        let enough = ["set_vm_memory_high_watermark", "absolute", "8GB"];
        stack.rabbitmqctl("rabbitmq", &enough).unwrap();
        let url = stack.addresses().postgres_url.clone().unwrap();
        let database = PgPoolOptions::new().max_connections(WRITERS + 2).connect(&url).await.unwrap();
        let urls = stack.addresses().amqp_urls.clone();
        let bus = RabbitMqBus::new(RabbitMqOptions { urls, ..RabbitMqOptions::default() });
        bus.declare(&[MEASURED]).await.unwrap();
        let measurement = Self { stack, environment, database, bus };
        measurement.spawn("migrate", &["migrate"]);
        assert!(stack.wait_exit("migrate", Duration::from_mins(1)).unwrap().success());
        measurement
    }

    fn spawn(&self, name: &str, args: &[&str]) {
        let binary = env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().join("holdfast");
        assert!(binary.exists(), "{} is missing: cargo build", binary.display());
        self.stack.spawn(name, &binary, args, &self.environment).unwrap();
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.database).await.unwrap()
    }

    /// How many events were ever confirmed: without counting them.
    async fn sent(&self) -> i64 {
        self.count("SELECT position FROM event_feed").await
    }

    async fn drain(&self, backlog: u32, relays: u32) {
        let fill = format!(
            "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data)
             SELECT i.id, ('x' || right(i.id::text, 1))::bit(4)::integer, i.id, 1, 'order.created.v1',
                    'order/ord_' || replace(i.id::text, '-', ''), {EVENT}
             FROM (SELECT (substr(event_id_from(now())::text, 1, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid AS id
                   FROM generate_series(1, $1)) i"
        );
        let backlog = i64::from(backlog);
        sqlx::query(sqlx::AssertSqlSafe(fill)).bind(backlog).execute(&self.database).await.unwrap();
        let before = self.sent().await;
        for relay in 0..relays {
            self.spawn(&format!("relay-{relay}"), &["worker", "relay"]);
        }
        while self.sent().await == before {
            sleep(Duration::from_millis(5)).await;
        }
        let (begun, first) = (Instant::now(), self.sent().await);
        let (mut second, mut last, mut rates) = (begun, first, Vec::new());
        while last < before + backlog {
            sleep(Duration::from_millis(20)).await;
            let now = self.sent().await;
            if second.elapsed() >= Duration::from_secs(1) {
                rates.push(rate(now - last, second.elapsed()));
                (second, last) = (Instant::now(), now);
            }
            if now == before + backlog {
                break;
            }
        }
        let took = begun.elapsed();
        println!(
            "backlog of {backlog}, {relays} relays: {:.0} events/s over {took:.1?}; of each second at least {:.0}, at most {:.0}",
            rate(before + backlog - first, took),
            rates.iter().copied().fold(f64::INFINITY, f64::min),
            rates.iter().copied().fold(0.0, f64::max),
        );
        assert_eq!(self.count("SELECT count(*) FROM outbox").await, 0);
        for relay in 0..relays {
            self.stack.stop(&format!("relay-{relay}")).unwrap();
        }
    }

    async fn latency(&self, rate: u32, time: Duration) {
        let delivered = self.deliveries().await;
        self.spawn("relay", &["worker", "relay"]);
        // What was drained before comes first.
        let mut quiet = 0;
        while quiet < 20 {
            let seen = delivered.lock().unwrap().len();
            sleep(Duration::from_millis(100)).await;
            quiet = if delivered.lock().unwrap().len() == seen { quiet + 1 } else { 0 };
        }
        let committed = self.commit(rate, time).await;
        report(&format!("{rate} events/s for {time:?}"), &committed, &delivered).await;
        let mut single = HashMap::new();
        for _ in 0..time.as_secs().min(30) {
            sleep(Duration::from_millis(rand::random_range(300..700))).await;
            let id = insert(&self.database).await;
            single.insert(id, Instant::now());
        }
        report("single events", &single, &delivered).await;
        self.stack.stop("relay").unwrap();
    }

    /// Notes when each event comes.
    async fn deliveries(&self) -> Arc<Mutex<HashMap<Uuid, Instant>>> {
        let delivered = Arc::new(Mutex::new(HashMap::new()));
        let mut deliveries = self.bus.subscribe(&MEASURED, 500).await;
        let noted = Arc::clone(&delivered);
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.recv().await {
                let id = delivery.envelope.as_ref().unwrap().id.uuid();
                noted.lock().unwrap().entry(id).or_insert_with(Instant::now);
                delivery.settle.settle(Settlement::Ack).await.unwrap();
            }
        });
        delivered
    }

    /// Commits events at this rate. Gives when each commit was answered.
    async fn commit(&self, rate: u32, time: Duration) -> HashMap<Uuid, Instant> {
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..WRITERS {
            let database = self.database.clone();
            let mut ticks = interval(Duration::from_secs(1) * WRITERS / rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            writers.spawn(async move {
                let (until, mut committed) = (Instant::now() + time, Vec::new());
                while Instant::now() < until {
                    ticks.tick().await;
                    committed.push((insert(&database).await, Instant::now()));
                }
                committed
            });
        }
        writers.join_all().await.into_iter().flatten().collect()
    }
}

async fn insert(database: &PgPool) -> Uuid {
    let id = Uuid::now_v7();
    let insert = format!(
        "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data)
         VALUES ($1, $2, $1, 1, 'order.created.v1', 'order/ord_' || replace($1::text, '-', ''), {EVENT})"
    );
    let shard = i16::try_from(id.as_u128() % 16).unwrap();
    let insert = sqlx::query(sqlx::AssertSqlSafe(insert)).bind(id).bind(shard);
    insert.execute(database).await.unwrap();
    id
}

/// Waits until all have come, and says how long they took.
async fn report(what: &str, committed: &HashMap<Uuid, Instant>, delivered: &Mutex<HashMap<Uuid, Instant>>) {
    let all_came = async {
        while !committed.keys().all(|id| delivered.lock().unwrap().contains_key(id)) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_mins(1), all_came).await.expect("every event is delivered");
    let delivered = delivered.lock().unwrap();
    let mut took: Vec<Duration> =
        committed.iter().map(|(id, at)| delivered[id].saturating_duration_since(*at)).collect();
    took.sort();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!(
        "{what}: {} from commit to delivery: p50 {:.1?}, p99 {:.1?}, most {:.1?}",
        took.len(),
        at(50),
        at(99),
        at(100)
    );
}

#[expect(clippy::cast_precision_loss, reason = "counts of events are far below 2^52")]
fn rate(events: i64, time: Duration) -> f64 {
    events as f64 / time.as_secs_f64()
}
