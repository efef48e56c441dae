//! From the order to its shipment, with everything running: API, all workers, a payment provider, RabbitMQ.
//!
//! A fixed number of orders is placed and paid; the clock runs from the first order until the last one is fulfilled.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rand::RngExt as _;
use serde_json::Value;
use sqlx::PgConnection;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{
    database::{Database, Sent},
    measure::{Measuring, environment},
    orders::Orders,
    plan::{Row, Workload},
    processes::{Environment, free_address, stop_all},
    result::{Measurement, micros, rate},
    usage::{Watched, peak_memory},
    wire::{Connection, Request},
};

/// How many orders for each second that other measurements last, where the order file does not say.
const ORDERS_PER_SECOND: u64 = 800;
/// How many are placed beforehand for each second that others warm up: ZooKeeper and RabbitMQ compile themselves while they run.
const WARM_UP_PER_SECOND: u64 = 400;
/// How long all of them may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// Between two tries of a request that was answered 503.
const RETRY: Duration = Duration::from_millis(20);
/// Between two looks at the database. Each counts all orders, beside what is measured.
const POLL: Duration = Duration::from_millis(100);
/// What the processes of a whole system need besides: as in the demo.
const PROVIDER_KEY: &str = "sk_test_sandbox";

impl Measuring {
    /// Measures a row of the pipeline.
    pub(super) async fn pipeline(&self, row: Row, database: &Database) -> anyhow::Result<Measurement> {
        let environment = whole_system(row, database)?;
        let sandbox = self.launcher.start("sandbox", &["sandbox"], &environment)?;
        let workers = self.launcher.start("worker", &["worker"], &environment)?;
        let mut apis = self.launcher.start_apis(row.processes, &environment).await?;
        let api = apis.remove(0);
        // The workers have no port to ask; the first orders show that they run, and are not measured.
        let mut conn = database.connect().await?;
        let orders = Arc::new(Orders::new(row.workload, &self.baskets, &self.server.secret));
        let before = usize::try_from(WARM_UP_PER_SECOND * self.warm_up.as_secs())?.max(1);
        place_and_pay(api.address, &orders, &self.server.secret, row.clients, before).await?;
        wait_until_fulfilled(&mut conn, before).await?;

        let count = match row.workload {
            Workload::PipelineRetail => self.baskets.len(),
            _ => usize::try_from(ORDERS_PER_SECOND * self.length.as_secs())?,
        };
        let pids = [&api.process, &workers].map(|process| process.pid);
        let watched = Watched { holdfast: pids.into(), ..self.watched.clone() };
        let (began, reading) = (Instant::now(), watched.read());
        place_and_pay(api.address, &orders, &self.server.secret, row.clients, count).await?;
        wait_until_fulfilled(&mut conn, before + count).await?;
        let seconds = began.elapsed().as_secs_f64();
        let cores = watched.since(&reading);

        let memory = peak_memory(api.process.pid);
        stop_all([api.process, workers, sandbox]).await?;
        database.check(Sent { accepted: (before + count) as u64, refused: 0 }, true).await?;
        let mut latencies = latencies(&mut conn, before).await?;
        let mut measured = Measurement::new(rate(count as u64, seconds), &mut latencies, cores)?;
        measured.peak_memory_mib = memory;
        Ok(measured)
    }
}

/// The settings of all processes.
fn whole_system(row: Row, database: &Database) -> anyhow::Result<Environment> {
    let sandbox = free_address()?;
    let mut environment = environment(row.subject, database);
    environment.extend([
        ("HOLDFAST__SANDBOX__BIND", sandbox.to_string()),
        ("HOLDFAST__PROVIDER__BASE_URL", format!("http://{sandbox}")),
        ("HOLDFAST__PROVIDER__SECRET_KEY", PROVIDER_KEY.to_owned()),
        ("HOLDFAST__PROVIDER__TIMEOUT_MS", "3000".to_owned()),
        // Queues of its own: those of another database must not be consumed.
        ("HOLDFAST__BUS__RABBITMQ__PREFIX", format!("holdfast_bench_{}", Uuid::now_v7().simple())),
    ]);
    Ok(environment)
}

/// Places and pays `count` orders, by so many clients.
async fn place_and_pay(
    address: SocketAddr,
    orders: &Arc<Orders>,
    secret: &str,
    clients: u16,
    count: usize,
) -> anyhow::Result<()> {
    let placed = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (orders, placed, secret) = (Arc::clone(orders), Arc::clone(&placed), secret.to_owned());
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            while placed.fetch_add(1, Ordering::Relaxed) < count {
                let order = created(&mut connection, orders.next()).await?;
                let id = order["id"].as_str().context("an order has no id")?;
                let body = r#"{"method":"card","payment_token":"pm_card_visa"}"#;
                let payment = Request::post(&format!("/v1/orders/{id}/payments"), &secret, body);
                created(&mut connection, &payment).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished??;
    }
    Ok(())
}

/// Sends a request again while the answer is 503, as a merchant would.
async fn created(connection: &mut Connection, request: &Request) -> anyhow::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    let key = rand::rng().random();
    loop {
        let (status, body) = connection.send_as(request, key).await?;
        if status == 503 && Instant::now() < deadline {
            sleep(RETRY).await;
            continue;
        }
        ensure!(status == 201, "a request was answered {status}: {}", String::from_utf8_lossy(body));
        return Ok(serde_json::from_slice(body)?);
    }
}

async fn wait_until_fulfilled(conn: &mut PgConnection, count: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let fulfilled: i64 = sqlx::query_scalar("SELECT count(*) FROM orders WHERE status = 'fulfilled'")
            .fetch_one(&mut *conn)
            .await?;
        if usize::try_from(fulfilled)? >= count {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{fulfilled} of {count} orders were fulfilled: see the logs of the processes"
        );
        sleep(POLL).await;
    }
}

/// From placing to shipping, by the database's clock, but for so many orders `before`.
async fn latencies(conn: &mut PgConnection, before: usize) -> anyhow::Result<Vec<u32>> {
    let seconds: Vec<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM updated_at - created_at)::double precision FROM orders ORDER BY created_at OFFSET $1",
    )
    .bind(i64::try_from(before)?)
    .fetch_all(conn)
    .await?;
    Ok(seconds.into_iter().map(micros).collect())
}
