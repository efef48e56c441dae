//! A consumer of the failure tests: it runs as every consumer does, and what it does with an event is what the event says.
//!
//! It is called `troubled` and takes `order.canceled` events. Their `reason` is what it does: `abort` ends the process,
//! `panic` panics, `slow` takes half a second; any other is handled at once. The effect is a row in the table `effect`, made
//! with the mark in the inbox.
#![allow(clippy::unwrap_used, reason = "whatever fails here fails the test")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast::{
    app::{
        App, BacklogLimits, Error, EventBacklog, Handling, Progress, ReservationEngine, ReservationOptions,
        Settings, SettlingEngine, Watches,
    },
    bus::{EventBus, RabbitMqBus, RabbitMqOptions, Subscription},
    config::Config,
    domain::{
        event::{Event, EventType},
        new_order::OrderLimits,
        open_orders::OpenOrderCaps,
        webhook_url::UrlRules,
    },
    lifecycle::shutdown_token,
    lock::NoLock,
    provider::{StripeWebhooks, install_crypto_provider},
    store::{self, Store, StoreOptions, inbox},
    telemetry,
    webhook::{AddressGuard, NameLookup, SystemLookup, WebhookOptions, WebhookSender},
    worker::{Consumer, ConsumerOptions, run_consumer},
};

struct Troubled;

#[async_trait]
impl Consumer for Troubled {
    fn subscription(&self) -> Subscription {
        Subscription { consumer: "troubled", events: &[EventType::OrderCanceled] }
    }

    fn builds_on_earlier_events(&self) -> bool {
        true
    }

    async fn handle(&self, app: &App, handling: &Handling, event: &Event) -> Result<Progress, Error> {
        let Event::OrderCanceled(canceled) = event else { return Ok(Progress::Done) };
        match canceled.reason.as_deref() {
            Some("abort") => std::process::abort(),
            Some("panic") => panic!("as the event says"),
            Some("slow") => tokio::time::sleep(Duration::from_millis(500)).await,
            _ => {}
        }
        let mut tx = app.store.begin("effect").await?;
        if inbox::insert(&mut tx, handling.consumer, handling.event_id).await? {
            let effect =
                sqlx::query("INSERT INTO effect (event_id) VALUES ($1)").bind(handling.event_id.uuid());
            effect.execute(&mut *tx).await.map_err(store::Error::from)?;
            tx.commit().await?;
        }
        Ok(Progress::Done)
    }
}

#[tokio::main]
async fn main() {
    let config = Config::load(None).unwrap();
    telemetry::init(&config.telemetry).unwrap();
    let shutdown = shutdown_token().unwrap();
    let rabbitmq = &config.bus.rabbitmq;
    let bus: Arc<dyn EventBus> = Arc::new(RabbitMqBus::new(RabbitMqOptions {
        urls: rabbitmq.urls(),
        delivery_limit: rabbitmq.delivery_limit,
        connection_name: "troubled".into(),
        ..RabbitMqOptions::default()
    }));
    let options = ConsumerOptions { concurrency: 4, max_prefetch: 64, drain: config.worker.drain() };
    let app = app(&config).await;
    run_consumer(&Troubled, app.clone(), Arc::clone(&bus), options, shutdown).await;
    bus.close().await;
    app.store.close().await;
}

async fn app(config: &Config) -> App {
    let patience = Duration::from_secs(5);
    let options = StoreOptions {
        url: config.database.url.reveal().to_owned(),
        max_connections: 8,
        acquire_timeout: patience,
        statement_timeout: patience,
        lock_timeout: patience,
        idle_in_transaction_timeout: patience,
    };
    let store = Store::connect(&options).await.unwrap();
    let caps = OpenOrderCaps::NONE;
    let reservation =
        ReservationOptions { lanes: 1, queue: 1, batch_orders: 1, batch_lines: 1, share_locks: false, caps };
    install_crypto_provider();
    let lookup: Arc<dyn NameLookup> = Arc::new(SystemLookup);
    let webhooks = WebhookOptions {
        urls: UrlRules { allow_insecure: false, ports: None },
        addresses: AddressGuard::default(),
        timeout: patience,
        idle_connections: 0,
    };
    App {
        engine: ReservationEngine::new(store.clone(), reservation),
        settling: SettlingEngine::one_by_one(),
        watches: Watches::new(&store),
        backlog: EventBacklog::new(BacklogLimits::default()),
        store,
        locks: Arc::new(NoLock),
        provider: None,
        webhooks: StripeWebhooks::new(Vec::new()),
        webhook_sender: WebhookSender::new(webhooks, &lookup).unwrap(),
        settings: Settings {
            provider_name: "none",
            limits: OrderLimits {
                default_location: "main".parse().unwrap(),
                default_ttl_seconds: 900,
                max_ttl_seconds: 900,
            },
            lock_timeout: patience,
            payment_pin: patience,
            ship_at_once: false,
            max_extensions: 0,
        },
    }
}
