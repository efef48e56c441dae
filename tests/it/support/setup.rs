//! How the service of a test is put together: what a test may choose, and the parts built from that.

use std::{path::Path, sync::Arc, time::Duration};

use holdfast::{
    app::{App, ReservationEngine, ReservationOptions, Settings},
    config::{self, Config},
    domain::new_order::OrderLimits,
    http,
    lock::{CacheOptions, LockManager, NoLock, ZooKeeperLock, ZooKeeperOptions},
    worker::WorkerKind,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    PATIENCE,
    api::Api,
    database::TestDatabase,
    sandbox::{self, SECRET_KEY, TestSandbox},
    zookeeper::Locks,
};

/// What a test wants otherwise than by default.
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
    /// How orders are batched.
    pub(crate) reservation: ReservationOptions,
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
            reservation: ReservationOptions {
                lanes: 2,
                queue: 4096,
                batch_orders: 256,
                batch_lines: 1024,
                share_locks: true,
            },
        }
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
        store,
        locks: manager,
        provider: Some(Arc::new(sandbox::provider(&sandbox.url, SECRET_KEY, setup.provider_timeout))),
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

/// Serves the API until `shutdown`.
pub(super) async fn serve(
    app: App,
    secret: &str,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Api {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = shutdown.clone();
    tasks.spawn(async move { http::serve(listener, app, shutdown, Duration::from_secs(1)).await.unwrap() });
    Api::new(&url, secret)
}

/// See `settings.toml`.
pub(super) fn worker_settings() -> config::Worker {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/settings.toml");
    Config::load(Some(&file)).unwrap().worker
}
