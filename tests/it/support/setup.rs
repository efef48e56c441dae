//! How the service of a test is put together: what a test may choose, and the parts built from that.

use std::{path::Path, sync::Arc, time::Duration};

use holdfast::{
    app::{
        App, BacklogLimits, CreateApiKey, EventBacklog, NewApiKey, Once, ReservationEngine,
        ReservationOptions, Settings, SettlingEngine, Watches,
    },
    bus::RabbitMqOptions,
    config::{Config, Http, RateLimit},
    domain::{access::Scope, new_order::OrderLimits, open_orders::OpenOrderCaps, webhook_url::UrlRules},
    http,
    lock::{CacheOptions, LockManager, NoLock, ZooKeeperLock, ZooKeeperOptions},
    provider::{StripeWebhooks, install_crypto_provider},
    webhook::{AddressGuard, NameLookup, SystemLookup, WebhookOptions, WebhookSender},
    worker::{self, WorkerKind},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    PATIENCE,
    api::Api,
    database::TestDatabase,
    sandbox::{self, SECRET_KEY, TestSandbox},
    zookeeper::Locks,
};

/// What webhooks are signed with, the new one first, during a rotation.
pub(crate) const WEBHOOK_SECRETS: [&str; 2] = ["whsec_of_the_tests_new", "whsec_of_the_tests_old"];

/// What a test wants otherwise than by default.
#[expect(clippy::struct_excessive_bools, reason = "settings that have nothing to do with each other")]
pub(crate) struct Setup {
    /// Whether SKUs are locked in ZooKeeper, or nowhere.
    pub(crate) zookeeper: bool,
    /// Which workers run from the start.
    pub(crate) workers: &'static [WorkerKind],
    /// See [`Settings`].
    pub(crate) ship_at_once: bool,
    /// See [`Settings`].
    pub(crate) payment_pin: Duration,
    /// See [`Settings`].
    pub(crate) lock_timeout: Duration,
    /// How long to wait for the provider.
    pub(crate) provider_timeout: Duration,
    /// Whether the provider sends webhooks.
    pub(crate) webhooks: bool,
    /// What events lead to is done for each order by itself, and not in batches.
    pub(crate) one_by_one: bool,
    /// How orders are batched.
    pub(crate) reservation: ReservationOptions,
    /// How often may be asked.
    pub(crate) rate_limit: RateLimit,
    /// From when on events are late.
    pub(crate) backlog: BacklogLimits,
    /// Where the merchant's endpoints may be.
    pub(crate) webhook: WebhookOptions,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            zookeeper: false,
            workers: &[],
            ship_at_once: true,
            payment_pin: Duration::from_mins(15),
            lock_timeout: PATIENCE,
            provider_timeout: Duration::from_secs(20),
            webhooks: false,
            one_by_one: false,
            reservation: ReservationOptions {
                lanes: 2,
                queue: 4096,
                batch_orders: 256,
                batch_lines: 1024,
                share_locks: true,
                caps: OpenOrderCaps { per_customer: Some(50), per_client: None },
            },
            rate_limit: RateLimit { requests_per_second: 2000, burst: 4000, without_key_per_second: 2000 },
            backlog: BacklogLimits::default(),
            webhook: local_webhooks(),
        }
    }
}

impl Setup {
    /// How its APIs are served.
    pub(crate) fn http(&self) -> Http {
        Http { rate_limit: self.rate_limit, ..settings().http }
    }
}

/// The use cases, with a pool and a lock manager of their own.
pub(super) async fn build(
    setup: &Setup,
    database: &TestDatabase,
    sandbox: &TestSandbox,
    locks: &Locks,
) -> App {
    let manager: Arc<dyn LockManager> = if setup.zookeeper {
        let session_timeout = Duration::from_secs(10);
        let options = ZooKeeperOptions {
            session_timeout,
            request_timeout: session_timeout,
            cache: Some(CacheOptions::default()),
            ..locks.options()
        };
        Arc::new(ZooKeeperLock::connect(options).await.unwrap())
    } else {
        Arc::new(NoLock)
    };
    let store = database.store().await;
    App {
        engine: ReservationEngine::new(store.clone(), setup.reservation),
        settling: if setup.one_by_one { SettlingEngine::one_by_one() } else { SettlingEngine::new(&store) },
        watches: Watches::new(&store),
        backlog: EventBacklog::new(setup.backlog),
        store,
        webhooks: StripeWebhooks::new(WEBHOOK_SECRETS.map(str::to_owned).into()),
        locks: manager,
        provider: Some(Arc::new(sandbox::provider(&sandbox.url, SECRET_KEY, setup.provider_timeout))),
        webhook_sender: sender(&setup.webhook),
        settings: Settings {
            provider_name: "stripe",
            limits: OrderLimits {
                default_location: "main".parse().unwrap(),
                default_ttl_seconds: 900,
                max_ttl_seconds: 86_400,
            },
            lock_timeout: setup.lock_timeout,
            payment_pin: setup.payment_pin,
            ship_at_once: setup.ship_at_once,
            max_extensions: 3,
        },
    }
}

/// Endpoints on this machine.
pub(crate) fn local_webhooks() -> WebhookOptions {
    WebhookOptions {
        urls: UrlRules { allow_insecure: true, ports: None },
        addresses: AddressGuard::new("127.0.0.0/8").unwrap(),
        timeout: Duration::from_secs(2),
        idle_connections: 4,
    }
}

fn sender(options: &WebhookOptions) -> WebhookSender {
    install_crypto_provider();
    let lookup: Arc<dyn NameLookup> = Arc::new(SystemLookup);
    WebhookSender::new(options.clone(), &lookup).unwrap()
}

/// A key with these scopes, of a client of its own.
pub(super) async fn new_key(app: &App, name: &str, scopes: &[Scope]) -> NewApiKey {
    let create = CreateApiKey { name: name.to_owned(), scopes: scopes.to_vec() };
    match app.create_api_key(&create, None).await.unwrap() {
        Once::Now(new) => new,
        Once::Before(answer) => panic!("{answer:?}"),
    }
}

/// Serves the API on a free port until `shutdown`.
pub(super) async fn serve(
    app: App,
    secret: &str,
    settings: &Http,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Api {
    serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), app, secret, settings, shutdown, tasks)
}

/// Serves the API until `shutdown`.
pub(super) fn serve_on(
    listener: TcpListener,
    app: App,
    secret: &str,
    settings: &Http,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Api {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = shutdown.clone();
    let api = http::api(app, settings, asyncapi().to_string(), shutdown).unwrap();
    tasks.spawn(api.serve(listener));
    Api::new(&url, secret)
}

/// The document that these APIs serve of the broker.
pub(crate) fn asyncapi() -> Value {
    RabbitMqOptions::default().asyncapi(&worker::subscriptions())
}

/// See `settings.toml`.
pub(crate) fn settings() -> Config {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/settings.toml");
    Config::load(Some(&file)).unwrap()
}
