//! Builds what the commands need. The only place that knows which backends there are.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use url::Url;

use crate::{
    app::{
        App, BacklogLimits, EventBacklog, ReservationEngine, ReservationOptions, Settings, SettlingEngine,
        Watches,
    },
    bus::{Definitions, EventBus, Inspected, Policy, RabbitMqBus, RabbitMqOptions},
    config::{Config, FulfilmentMode, LockBackend, ProviderBackend},
    domain::{event::Topic, new_order::OrderLimits, open_orders::OpenOrderCaps, webhook_url::UrlRules},
    http::Dependency,
    lock::{CacheOptions, LockManager, NoLock, ZooKeeperLock, ZooKeeperOptions},
    members::{MemberDirectory, PostgresDirectory, ZooKeeperDirectory, ZooKeeperDirectoryOptions},
    provider::{
        BreakerOptions, CircuitBreaker, PaymentProvider, StripeOptions, StripeProvider, StripeWebhooks,
        install_crypto_provider,
    },
    store::{Store, StoreOptions},
    telemetry::export::{self, Export, ExportOptions},
    webhook::{AddressGuard, NameLookup, SystemLookup, WebhookOptions, WebhookSender},
    worker::{self, WorkerKind},
};

/// Connects to PostgreSQL.
pub(super) async fn store(config: &Config) -> anyhow::Result<Store> {
    let database = &config.database;
    let options = StoreOptions {
        url: database.url.reveal().to_owned(),
        max_connections: database.max_connections,
        acquire_timeout: Duration::from_millis(database.acquire_timeout_ms),
        statement_timeout: Duration::from_millis(database.statement_timeout_ms),
        lock_timeout: Duration::from_millis(database.lock_timeout_ms),
        idle_in_transaction_timeout: Duration::from_millis(database.idle_in_transaction_timeout_ms),
    };
    Store::connect(&options).await.map_err(|error| {
        let address = address(database.url.reveal());
        anyhow!("PostgreSQL at {address} cannot be used: {error}. Start it, or set database.url")
    })
}

/// Connects to PostgreSQL, and fails where it lacks migrations.
pub(super) async fn migrated_store(config: &Config) -> anyhow::Result<Store> {
    let store = store(config).await?;
    store.check_migrations().await?;
    Ok(store)
}

/// Connects to the lock backend.
pub(super) async fn locks(config: &Config) -> anyhow::Result<Arc<dyn LockManager>> {
    let zookeeper = &config.lock.zookeeper;
    match config.lock.backend {
        LockBackend::None => Ok(Arc::new(NoLock)),
        LockBackend::ZooKeeper => {
            let options = ZooKeeperOptions {
                servers: zookeeper.servers.clone(),
                root: zookeeper.root.clone(),
                session_timeout: Duration::from_millis(zookeeper.session_timeout_ms),
                request_timeout: Duration::from_millis(zookeeper.request_timeout_ms),
                auth: zookeeper.credentials().map(|(user, word)| (user.to_owned(), word.to_owned())),
                allow_open_acl: zookeeper.allow_open_acl,
                epoch: config.lock.epoch,
                holder: format!("{}/{}", hostname(), std::process::id()),
                cache: zookeeper.cache.then(|| CacheOptions {
                    hand_over: Duration::from_millis(zookeeper.hand_over_ms),
                    linger: Duration::from_millis(zookeeper.linger_ms),
                    idle: Duration::from_millis(zookeeper.idle_ms),
                    keys_max: zookeeper.max_held_keys,
                }),
            };
            let connected = ZooKeeperLock::connect(options).await;
            let locks = connected.map_err(|error| {
                let servers = &zookeeper.servers;
                anyhow!(
                    "ZooKeeper at {servers} cannot be used: {error}. Start it, or set lock.zookeeper.servers"
                )
            })?;
            Ok(Arc::new(locks))
        }
    }
}

/// Where the relays find each other. Connects when the first joins.
pub(super) fn directory(config: &Config, app: &App) -> Arc<dyn MemberDirectory> {
    let zookeeper = &config.lock.zookeeper;
    match config.lock.backend {
        LockBackend::None => Arc::new(PostgresDirectory::new(app.store.clone())),
        LockBackend::ZooKeeper => Arc::new(ZooKeeperDirectory::new(ZooKeeperDirectoryOptions {
            servers: zookeeper.servers.clone(),
            path: format!("{}-relays", zookeeper.root),
            request_timeout: Duration::from_millis(zookeeper.request_timeout_ms),
            auth: zookeeper.credentials().map(|(user, word)| (user.to_owned(), word.to_owned())),
        })),
    }
}

/// The event bus. Connects when it is first used.
pub(super) fn bus(config: &Config) -> Arc<dyn EventBus> {
    Arc::new(RabbitMqBus::new(rabbitmq(config)))
}

/// What is said of the event bus to those who consume from it: the AsyncAPI document.
pub(super) fn asyncapi(config: &Config) -> Value {
    rabbitmq(config).asyncapi(&worker::subscriptions())
}

/// The exchange that events of this topic are published to.
pub(super) fn exchange(config: &Config, topic: Topic) -> String {
    rabbitmq(config).exchange(topic)
}

/// What the program declares on the event bus.
pub(super) fn definitions(config: &Config) -> Definitions {
    rabbitmq(config).definitions(&worker::subscriptions())
}

/// The policies by which an operator may tune it.
pub(super) fn policies(config: &Config) -> Vec<Policy> {
    rabbitmq(config).policies(&worker::subscriptions())
}

/// Compares the event bus with what the program declares, and makes what is missing if it is told to.
pub(super) async fn inspect_topology(config: &Config, create: bool) -> anyhow::Result<Vec<Inspected>> {
    let bus = RabbitMqBus::new(rabbitmq(config));
    let inspected = match check_bus(config, &bus).await {
        Ok(()) => bus.inspect(&worker::subscriptions(), create).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    bus.close().await;
    inspected
}

fn rabbitmq(config: &Config) -> RabbitMqOptions {
    let rabbitmq = &config.bus.rabbitmq;
    RabbitMqOptions {
        urls: rabbitmq.urls(),
        prefix: rabbitmq.prefix.clone(),
        confirm_timeout: Duration::from_millis(rabbitmq.confirm_timeout_ms),
        heartbeat_seconds: 10,
        connection_name: format!("holdfast {}/{}", hostname(), std::process::id()),
        delivery_limit: rabbitmq.delivery_limit,
    }
}

/// Fails unless the event bus answers.
pub(super) async fn check_bus(config: &Config, bus: &dyn EventBus) -> anyhow::Result<()> {
    bus.ping(Duration::from_secs(10)).await.map_err(|error| {
        let addresses: Vec<String> = config.bus.rabbitmq.urls().iter().map(|url| address(url)).collect();
        let addresses = addresses.join(", ");
        anyhow!("RabbitMQ at {addresses} cannot be used: {error}. Start it, or set bus.rabbitmq.url")
    })
}

/// Where the traces of a process go, by the name that they have there. `None`: nowhere.
pub(super) fn traces(config: &Config, service: &str) -> anyhow::Result<Option<Export>> {
    let telemetry = &config.telemetry;
    if telemetry.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    install_crypto_provider();
    let options = ExportOptions {
        endpoint: telemetry.otlp_endpoint.clone(),
        sample_ratio: telemetry.trace_sample_ratio,
        service: service.to_owned(),
        instance: format!("{}/{}", hostname(), std::process::id()),
    };
    export::start(&options).map(Some).map_err(anyhow::Error::msg)
}

/// What a process of these workers needs.
pub(super) fn dependencies(kinds: &[WorkerKind], app: &App, bus: &Arc<dyn EventBus>) -> Vec<Dependency> {
    let store = app.store.clone();
    let database = Dependency::new("database", move |_| {
        let store = store.clone();
        Box::pin(async move { store.ping().await.map_err(|error| error.to_string()) })
    });
    let bus = Arc::clone(bus);
    let bus = Dependency::new("bus", move |limit| {
        let bus = Arc::clone(&bus);
        Box::pin(async move { bus.ping(limit).await.map_err(|error| error.to_string()) })
    });
    let uses_bus = kinds.iter().any(|kind| kind.uses_bus());
    std::iter::once(database).chain(uses_bus.then_some(bus)).collect()
}

/// The payment provider. Connects when it is first used.
pub(super) fn provider(config: &Config) -> anyhow::Result<Arc<dyn PaymentProvider>> {
    let provider = StripeProvider::new(StripeOptions {
        base_url: config.provider.base_url.clone(),
        secret_key: config.provider.secret_key.reveal().to_owned(),
        timeout: Duration::from_millis(config.provider.timeout_ms),
        connect_timeout: Duration::from_millis(config.provider.timeout_ms.min(3000)),
    });
    let provider = provider
        .context("the payment provider cannot be used: see provider.base_url and provider.secret_key")?;
    let breaker = &config.provider.breaker;
    let options = BreakerOptions {
        window: Duration::from_millis(breaker.window_ms),
        failures: breaker.failures,
        open: Duration::from_millis(breaker.open_ms),
        budget: Duration::from_millis(config.provider.budget_ms),
    };
    Ok(Arc::new(CircuitBreaker::new(Arc::new(provider), options)))
}

/// The use cases on the database alone. What a command needs besides, it adds: locks to place orders, the provider to
/// move money.
pub(super) async fn app(config: &Config) -> anyhow::Result<App> {
    let store = migrated_store(config).await?;
    let reservation = &config.reservation;
    let options = ReservationOptions {
        lanes: reservation.lanes,
        queue: reservation.queue,
        batch_orders: reservation.batch_orders,
        batch_lines: reservation.batch_lines,
        share_locks: config.lock.zookeeper.cache,
        caps: OpenOrderCaps {
            per_customer: cap(config.order.max_open_per_customer),
            per_client: cap(config.order.max_open_per_client),
        },
    };
    let engine = ReservationEngine::new(store.clone(), options);
    let settling = SettlingEngine::new(&store);
    Ok(App {
        watches: Watches::new(&store),
        backlog: EventBacklog::new(backlog_limits(config)),
        store,
        locks: Arc::new(NoLock),
        engine,
        settling,
        provider: None,
        webhooks: StripeWebhooks::new(config.provider.webhook_secrets()),
        webhook_sender: webhook_sender(config)?,
        settings: settings(config)?,
    })
}

/// Posts to the merchant's endpoints.
fn webhook_sender(config: &Config) -> anyhow::Result<WebhookSender> {
    let webhook = &config.webhook;
    let ports = webhook.allowed_ports().map_err(|error| anyhow!("webhook.allowed_ports: {error}"))?;
    let addresses = AddressGuard::new(&webhook.allowed_networks);
    let options = WebhookOptions {
        urls: UrlRules { allow_insecure: webhook.allow_insecure, ports },
        addresses: addresses.map_err(|error| anyhow!("configuration: webhook.allowed_networks: {error}"))?,
        timeout: Duration::from_millis(webhook.timeout_ms),
        idle_connections: config.worker.webhook.endpoint_concurrency.into(),
    };
    install_crypto_provider();
    let lookup: Arc<dyn NameLookup> = Arc::new(SystemLookup);
    WebhookSender::new(options, &lookup).map_err(anyhow::Error::msg)
}

/// 0 is none.
fn cap(setting: u32) -> Option<i64> {
    (setting > 0).then(|| setting.into())
}

fn backlog_limits(config: &Config) -> BacklogLimits {
    let order = &config.order;
    let seconds = |setting: u64| (setting > 0).then(|| Duration::from_secs(setting));
    BacklogLimits {
        told_delay: seconds(order.told_event_delay_seconds),
        order_delay: seconds(order.max_event_delay_seconds),
        order_waiting: cap(order.max_waiting_events),
    }
}

fn settings(config: &Config) -> anyhow::Result<Settings> {
    let order = &config.order;
    Ok(Settings {
        limits: OrderLimits {
            default_location: order.default_location.parse().context("order.default_location")?,
            default_ttl_seconds: order.reservation_ttl_seconds,
            max_ttl_seconds: order.max_reservation_ttl_seconds,
        },
        lock_timeout: config.lock.acquire_timeout(),
        payment_pin: Duration::from_secs(order.payment_pin_seconds),
        provider_name: match config.provider.backend {
            ProviderBackend::Stripe => StripeProvider::NAME,
        },
        max_extensions: i16::try_from(order.max_extensions).context("order.max_extensions")?,
        ship_at_once: config.worker.fulfilment.mode == FulfilmentMode::Auto,
    })
}

/// Host and port of a URL, without user and password.
fn address(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return "an address that is not a URL".into() };
    let host = url.host_str().unwrap_or("localhost");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The name of this machine.
pub(super) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".into() } else { name.trim().to_owned() }
}
