//! The sections of the configuration. What each setting means stands in `defaults.toml`, beside its default.
#![expect(missing_docs, reason = "defaults.toml documents every field, once")]

use std::{fmt, str::FromStr, time::Duration};

use serde::Deserialize;

/// A setting that must not be printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"…\"")
    }
}

/// A setting that is one of a few words; another one is refused with those that there are.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        #[serde(try_from = "String")]
        pub enum $name {
            $($variant),+
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(word: String) -> Result<Self, String> {
                match word.as_str() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("{word:?} must be one of: {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub bind: String,
    pub drain_seconds: u64,
    pub max_connections: usize,
    pub max_streams: usize,
    pub header_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub max_header_bytes: usize,
    pub max_body_bytes: usize,
    pub tls: Tls,
    pub rate_limit: RateLimit,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    pub requests_per_second: u32,
    pub burst: u32,
    pub without_key_per_second: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate_file: String,
    pub private_key_file: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: Secret,
    pub max_connections: u32,
    pub acquire_timeout_ms: u64,
    pub statement_timeout_ms: u64,
    pub lock_timeout_ms: u64,
    pub idle_in_transaction_timeout_ms: u64,
}

words!(LockBackend { ZooKeeper = "zookeeper", None = "none" });

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    pub backend: LockBackend,
    pub acquire_timeout_ms: u64,
    pub epoch: i32,
    pub zookeeper: ZooKeeper,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZooKeeper {
    pub servers: String,
    pub root: String,
    pub session_timeout_ms: u64,
    pub request_timeout_ms: u64,
    pub auth: Secret,
    pub allow_open_acl: bool,
    pub cache: bool,
    pub hand_over_ms: u64,
    pub linger_ms: u64,
    pub idle_ms: u64,
    pub max_held_keys: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    pub lanes: usize,
    pub queue: usize,
    pub batch_orders: usize,
    pub batch_lines: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    pub rabbitmq: RabbitMq,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RabbitMq {
    pub url: Secret,
    pub prefix: String,
    pub confirm_timeout_ms: u64,
    pub delivery_limit: u32,
}

words!(ProviderBackend { Stripe = "stripe" });

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub backend: ProviderBackend,
    pub base_url: String,
    pub secret_key: Secret,
    pub timeout_ms: u64,
    pub budget_ms: u64,
    pub webhook_secrets: Secret,
    pub breaker: Breaker,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    pub failures: u32,
    pub window_ms: u64,
    pub open_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub default_location: String,
    pub reservation_ttl_seconds: i64,
    pub max_reservation_ttl_seconds: i64,
    pub max_extensions: u16,
    pub payment_pin_seconds: u64,
    pub max_open_per_customer: u32,
    pub max_open_per_client: u32,
    pub told_event_delay_seconds: u64,
    pub max_event_delay_seconds: u64,
    pub max_waiting_events: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    pub bind: String,
    pub drain_seconds: u64,
    pub payment: PaymentWorker,
    pub fulfilment: FulfilmentWorker,
    pub expiry: ExpiryWorker,
    pub import: ImportWorker,
    pub relay: RelayWorker,
    pub retention: RetentionWorker,
    pub webhook: WebhookWorker,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentWorker {
    pub concurrency: u16,
    pub max_prefetch: u16,
    pub lookup_interval_ms: u64,
}

words!(FulfilmentMode { Auto = "auto", Manual = "manual" });

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FulfilmentWorker {
    pub concurrency: u16,
    pub max_prefetch: u16,
    pub mode: FulfilmentMode,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpiryWorker {
    pub interval_ms: u64,
    pub batch: u16,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportWorker {
    pub interval_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayWorker {
    pub lanes: u8,
    pub window: u16,
    pub poll_interval_ms: u64,
    pub lease_seconds: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionWorker {
    pub interval_ms: u64,
    pub events_days: u16,
    pub idempotency_key_days: u16,
    pub provider_event_days: u16,
    pub stock_import_days: u16,
    pub webhook_delivery_days: u16,
    pub dropped_letter_days: u16,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookWorker {
    pub concurrency: u16,
    pub endpoint_concurrency: u16,
    pub interval_ms: u64,
    pub retry_seconds: String,
    pub disable_after_days: u16,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub timeout_ms: u64,
    pub allowed_ports: String,
    pub allowed_networks: String,
    pub allow_insecure: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    pub bind: String,
    pub webhook_url: String,
    pub late_success_seconds: u64,
}

words!(LogFormat { Pretty = "pretty", Json = "json" });

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub format: LogFormat,
    pub filter: String,
    pub otlp_endpoint: String,
    pub trace_sample_ratio: f64,
}

impl Http {
    pub const fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

impl Worker {
    pub const fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

impl Lock {
    pub const fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.acquire_timeout_ms)
    }
}

impl ZooKeeper {
    /// `user:password`, if set.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.auth.reveal().split_once(':')
    }
}

impl Provider {
    /// One by one.
    pub fn webhook_secrets(&self) -> Vec<String> {
        let secrets = self.webhook_secrets.reveal().split(',').map(str::trim);
        secrets.filter(|secret| !secret.is_empty()).map(str::to_owned).collect()
    }
}

impl WebhookWorker {
    /// One by one. What is no number was refused before.
    pub fn retry_seconds(&self) -> Vec<u32> {
        numbers(&self.retry_seconds).unwrap_or_default()
    }
}

impl Webhook {
    /// One by one; `None` is any.
    pub fn allowed_ports(&self) -> Result<Option<Vec<u16>>, String> {
        if self.allowed_ports == "any" { Ok(None) } else { numbers(&self.allowed_ports).map(Some) }
    }
}

/// Numbers, separated by commas.
pub(super) fn numbers<T: FromStr>(list: &str) -> Result<Vec<T>, String> {
    list.split(',').map(|number| number.trim().parse().map_err(|_| format!("{number:?} is none"))).collect()
}

impl RabbitMq {
    pub fn urls(&self) -> Vec<String> {
        self.url.reveal().split(',').map(|url| url.trim().to_owned()).collect()
    }
}
