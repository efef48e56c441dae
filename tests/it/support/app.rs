//! The whole service for one test: API and workers in the test's process, real servers, a database, an event prefix and
//! a lock path of its own, a payment provider of its own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use holdfast::{
    app::{App, NewApiKey},
    bus::{EventBus, RabbitMqBus, RabbitMqOptions},
    config::Http,
    domain::{
        access::Scope,
        ids::{OrderId, PaymentId},
    },
    members::{MemberDirectory, PostgresDirectory},
    sandbox::{SandboxOptions, WebhookOptions},
    worker::{self, CONSUMERS, WorkerKind},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, pool::PoolConnection};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use super::setup::Setup;
use super::{
    PATIENCE,
    api::{Api, id},
    broker,
    database::TestDatabase,
    events, eventually,
    sandbox::{SECRET_KEY, TestSandbox},
    setup::{WEBHOOK_SECRETS, build, new_key, serve, serve_on, settings},
    zookeeper::{self, Locks},
};

/// See the module.
pub(crate) struct TestApp {
    pub(crate) app: App,
    pub(crate) api: Api,
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) sandbox: TestSandbox,
    pub(crate) database: TestDatabase,
    setup: Setup,
    bus_options: RabbitMqOptions,
    other_buses: Vec<Arc<dyn EventBus>>,
    pub(crate) locks: Locks,
    secret: String,
    others: Vec<App>,
    running: Vec<WorkerKind>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl TestApp {
    /// The API without locks and without workers.
    pub(crate) async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    /// API and all workers.
    pub(crate) async fn start_with_workers() -> Self {
        Self::start_with(Setup { workers: &WorkerKind::ALL, ..Setup::default() }).await
    }

    /// A key with these scopes, of a client of its own.
    pub(crate) async fn new_key(&self, name: &str, scopes: &[Scope]) -> NewApiKey {
        new_key(&self.app, name, scopes).await
    }

    pub(crate) async fn start_with(setup: Setup) -> Self {
        let database = TestDatabase::create().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/provider-webhooks/stripe", listener.local_addr().unwrap());
        let webhooks = WebhookOptions { url, secret: WEBHOOK_SECRETS[0].into() };
        let options = SandboxOptions {
            slow: Duration::from_millis(1_500),
            webhooks: setup.webhooks.then_some(webhooks),
            ..SandboxOptions::new(SECRET_KEY)
        };
        let sandbox = TestSandbox::start_with(options).await;
        let locks = Locks::new(zookeeper::shared());
        let app = build(&setup, &database, &sandbox, &locks).await;
        let secret = new_key(&app, "test", &[Scope::Admin]).await.secret;
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let http = setup.http();
        let api = serve_on(listener, app.clone(), &secret, &http, &shutdown, &mut tasks);
        let workers = setup.workers;
        let bus_options = broker::options(broker::shared());
        let mut test = Self {
            app,
            api,
            bus: Arc::new(RabbitMqBus::new(bus_options.clone())),
            bus_options,
            other_buses: Vec::new(),
            sandbox,
            database,
            setup,
            locks,
            secret,
            others: Vec::new(),
            running: Vec::new(),
            shutdown,
            tasks,
        };
        test.start_workers(workers);
        test
    }

    /// What another process of the same system would have, with a database pool and a lock session of its own.
    pub(crate) async fn another_app(&self) -> App {
        build(&self.setup, &self.database, &self.sandbox, &self.locks).await
    }

    /// Another API process: pool and lock manager of its own, the same database and the same lock path.
    pub(crate) async fn another_api(&mut self) -> Api {
        let app = self.another_app().await;
        self.serve(app).await
    }

    /// The API of an app that the test has built.
    pub(crate) async fn serve(&mut self, app: App) -> Api {
        self.others.push(app.clone());
        serve(app, &self.secret, &self.setup.http(), &self.shutdown, &mut self.tasks).await
    }

    /// How the APIs of this test are served.
    pub(crate) fn http(&self) -> Http {
        self.setup.http()
    }

    /// Another process's connections to the same queues.
    pub(crate) fn another_bus(&mut self) -> Arc<dyn EventBus> {
        let bus: Arc<dyn EventBus> = Arc::new(RabbitMqBus::new(self.bus_options.clone()));
        self.other_buses.push(Arc::clone(&bus));
        bus
    }

    /// Starts workers.
    pub(crate) fn start_workers(&mut self, kinds: &[WorkerKind]) {
        if !kinds.is_empty() {
            self.start_workers_on(kinds, Arc::clone(&self.bus));
        }
    }

    /// Starts workers with a bus of their own, as another process would.
    pub(crate) fn start_workers_on(&mut self, kinds: &[WorkerKind], bus: Arc<dyn EventBus>) {
        self.running.extend(kinds);
        let (kinds, app) = (kinds.to_vec(), self.app.clone());
        let (settings, shutdown) = (settings().worker, self.shutdown.clone());
        let directory: Arc<dyn MemberDirectory> = Arc::new(PostgresDirectory::new(app.store.clone()));
        self.tasks.spawn(async move {
            worker::run(&kinds, &app, &bus, &directory, &settings, &shutdown).await.unwrap();
        });
    }

    /// Sets what is on hand of a SKU.
    pub(crate) async fn stock(&self, sku: &str, on_hand: i64) {
        let path = format!("/v1/inventory/{sku}/main");
        self.api.put(&path, &json!({ "on_hand": on_hand })).await.expect(200);
    }

    /// Places an order that must succeed. Gives its id.
    pub(crate) async fn placed(&self, lines: &[(&str, i64)]) -> String {
        id(&self.api.place(lines).await.expect(201))
    }

    /// Starts a payment that must be accepted. Gives its id.
    pub(crate) async fn paying(&self, order_id: &str, token: &str) -> String {
        id(&self.api.pay(order_id, token).await.expect(201))
    }

    /// Waits until the order has this status. Gives the order.
    pub(crate) async fn order_becomes(&self, order_id: &str, status: &str) -> Value {
        let what = format!("{order_id} is {status}");
        let reached = async || self.api.order(order_id).await["status"] == status;
        eventually(&what, PATIENCE, reached).await;
        self.api.order(order_id).await
    }

    /// Waits until the payment has this status. Gives the payment.
    pub(crate) async fn payment_becomes(&self, payment_id: &str, status: &str) -> Value {
        let path = format!("/v1/payments/{payment_id}");
        let what = format!("{payment_id} is {status}");
        let reached = async || self.api.get(&path).await.expect(200)["status"] == status;
        eventually(&what, PATIENCE, reached).await;
        self.api.get(&path).await.expect(200)
    }

    /// Makes the time of an order run out, `seconds` ago.
    pub(crate) async fn run_out(&self, order_id: &str, seconds: f64) {
        let id = order_id.parse::<OrderId>().unwrap().uuid();
        let mut tx = self.app.store.begin("run_out").await.unwrap();
        for statement in [
            "UPDATE orders SET expires_at = clock_timestamp() - make_interval(secs => $2) WHERE id = $1",
            "UPDATE reservation SET expires_at = clock_timestamp() - make_interval(secs => $2)
             WHERE order_id = $1 AND status = 'held'",
        ] {
            sqlx::query(statement).bind(id).bind(seconds).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// A connection of the pool.
    pub(crate) async fn conn(&self) -> PoolConnection<Postgres> {
        self.app.store.conn().await.unwrap()
    }

    /// One number out of the database.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut *self.conn().await).await.unwrap()
    }

    /// What every table holds: a digest of its rows, by its name. When a key was used last is no content of theirs.
    pub(crate) async fn snapshot(&self) -> BTreeMap<String, String> {
        let mut conn = self.conn().await;
        let tables = "SELECT relname::text FROM pg_class
                      WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *conn).await.unwrap();
        let digest = |table: &str| {
            format!(
                "SELECT '{table}', count(*) || ' ' || md5(coalesce(string_agg(t::text, '\n' ORDER BY t::text), ''))
                 FROM (SELECT to_jsonb({table}) - 'last_used_at' AS t FROM {table}) t"
            )
        };
        let union: Vec<String> = tables.iter().map(|table| digest(table)).collect();
        let query = sqlx::query_as(AssertSqlSafe(union.join(" UNION ALL ")));
        let rows: Vec<(String, String)> = query.fetch_all(&mut *conn).await.unwrap();
        assert!(rows.len() > 15, "{rows:?}");
        rows.into_iter().collect()
    }

    /// Waits until every event is published and every consumer that runs has handled what it wants.
    pub(crate) async fn drain(&self) {
        let types = |kind: WorkerKind, name: &str| -> Vec<&str> {
            let consumer = CONSUMERS.iter().map(|c| c.subscription()).find(|c| c.consumer == name);
            let wanted = consumer.filter(|_| self.running.contains(&kind));
            wanted.map_or_else(Vec::new, |c| c.events.iter().map(|event| event.as_str()).collect())
        };
        let payment = types(WorkerKind::Payment, "payment");
        let fulfilment = types(WorkerKind::Fulfilment, "fulfilment");
        let mut conn = self.database.connect().await;
        let handled = async || pending(&mut conn, &payment, &fulfilment).await == 0;
        eventually("every event is handled", PATIENCE, handled).await;
    }

    /// Ends the test: everything is handled where workers run, nothing is a dead letter, every event fits the schema of its
    /// type, every invariant holds, and the money is where the provider says. Then everything stops as it does on SIGTERM.
    pub(crate) async fn finish(self) {
        if self.running.contains(&WorkerKind::Relay) {
            self.drain().await;
            self.money_agrees_with_the_provider().await;
        }
        let reasons: Vec<String> =
            sqlx::query_scalar("SELECT consumer || ': ' || reason_code || ': ' || reason FROM dead_letter WHERE dropped_at IS NULL")
                .fetch_all(&mut *self.conn().await)
                .await
                .unwrap();
        assert!(reasons.is_empty(), "dead letters: {reasons:?}");
        events::assert_all_fit(&mut *self.conn().await).await;
        let verification = self.app.verify_invariants().await.unwrap();
        assert!(verification.violations.is_empty(), "{:#?}", verification.violations);
        self.stop().await;
    }

    async fn money_agrees_with_the_provider(&self) {
        let payments: Vec<(Uuid, String, i64, i64)> =
            sqlx::query_as("SELECT id, status, amount_captured, amount_refunded FROM payment")
                .fetch_all(&mut *self.conn().await)
                .await
                .unwrap();
        for (id, status, captured, refunded) in payments {
            let id = PaymentId::from(id);
            let seen = self.sandbox.payment(id).await;
            let theirs = (seen["amount_captured"].as_i64(), seen["amount_refunded"].as_i64());
            assert_eq!((Some(captured), Some(refunded)), theirs, "{id} is {status}: {seen}");
            assert!(seen["authorizations"].as_i64() <= Some(1), "{id}: {seen}");
        }
        let summary = self.sandbox.summary().await;
        assert!(summary["captures_per_payment_max"].as_i64() <= Some(1), "{summary}");
    }

    /// Stops without looking at what is left.
    pub(crate) async fn stop(self) {
        self.leave().await.drop().await;
    }

    /// The same, and gives the database with what is left.
    pub(crate) async fn leave(mut self) -> TestDatabase {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        for bus in self.other_buses.iter().chain([&self.bus]) {
            bus.close().await;
        }
        for app in self.others.iter().chain([&self.app]) {
            app.locks.close().await;
            app.store.close().await;
        }
        self.sandbox.stop().await;
        self.database
    }
}

async fn pending(conn: &mut PgConnection, payment: &[&str], fulfilment: &[&str]) -> i64 {
    // One statement, one snapshot: what a consumer adds to the outbox is there together with its mark in the inbox.
    let query = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM outbox_sent s
        JOIN (SELECT 'payment' AS consumer, unnest($1::text[]) AS type
              UNION ALL SELECT 'fulfilment', unnest($2::text[])) wanted ON wanted.type = s.type
        WHERE NOT EXISTS (SELECT 1 FROM inbox i WHERE i.consumer = wanted.consumer AND i.event_id = s.event_id)
          AND NOT EXISTS (SELECT 1 FROM dead_letter d
                          WHERE d.consumer = wanted.consumer AND d.event_id = s.event_id))";
    sqlx::query_scalar(query).bind(payment).bind(fulfilment).fetch_one(conn).await.unwrap()
}
