//! Configuration: embedded defaults, then a file, then the environment. Read once, at start.
//!
//! Unknown keys, values of the wrong type and unsafe values refuse to start with one line that names the key. Secrets
//! never show up in what is printed.

use std::path::Path;

use serde::Deserialize;

mod check;
mod sections;

pub use sections::{
    Breaker, Bus, Database, ExpiryWorker, FulfilmentMode, Http, ImportWorker, Lock, LockBackend, LogFormat,
    Order, PaymentWorker, Provider, ProviderBackend, RabbitMq, RateLimit, RelayWorker, Reservation,
    RetentionWorker, Sandbox, Secret, Telemetry, Tls, Webhook, WebhookWorker, Worker, ZooKeeper,
};

/// Every setting with its default and what it means.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The API.
    pub http: Http,
    /// PostgreSQL.
    pub database: Database,
    /// Locks.
    pub lock: Lock,
    /// How orders are placed.
    pub reservation: Reservation,
    /// The event bus.
    pub bus: Bus,
    /// The payment provider.
    pub provider: Provider,
    /// What orders may ask for.
    pub order: Order,
    /// Posting to the merchant's endpoints.
    pub webhook: Webhook,
    /// The workers.
    pub worker: Worker,
    /// The sandbox provider.
    pub sandbox: Sandbox,
    /// Logs.
    pub telemetry: Telemetry,
}

/// A configuration that Holdfast does not start with.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(String);

impl Config {
    /// Reads defaults, `file` if given, and the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let environment = config::Environment::with_prefix("HOLDFAST").prefix_separator("__").separator("__");
        Self::build(file, environment)
    }

    fn build(file: Option<&Path>, environment: config::Environment) -> Result<Self, ConfigError> {
        let mut builder =
            config::Config::builder().add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml));
        if let Some(path) = file {
            builder = builder.add_source(config::File::from(path).format(config::FileFormat::Toml));
        }
        let merged = builder.add_source(environment).build().map_err(|error| one_line(&error))?;
        let config: Self = merged.try_deserialize().map_err(|error| one_line(&error))?;
        check::check(&config).map_err(ConfigError)?;
        Ok(config)
    }
}

/// The error without the drawing of the place in the file: line and column say it too.
fn one_line(error: &config::ConfigError) -> ConfigError {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.contains('|') && !line.is_empty());
    ConfigError(lines.collect::<Vec<_>>().join(": "))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn load(settings: &[(&str, &str)]) -> Result<Config, String> {
        let open = [
            ("HOLDFAST__LOCK__ZOOKEEPER__ALLOW_OPEN_ACL", "true"),
            ("HOLDFAST__PROVIDER__SECRET_KEY", "sk_x"),
        ];
        let source: HashMap<String, String> =
            open.iter().chain(settings).map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let environment = config::Environment::with_prefix("HOLDFAST").prefix_separator("__").separator("__");
        Config::build(None, environment.source(Some(source))).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_complete_and_the_environment_overrides_them() {
        let config =
            load(&[("HOLDFAST__DATABASE__MAX_CONNECTIONS", "7"), ("HOLDFAST__LOCK__BACKEND", "none")]);
        let config = config.expect("valid");
        assert_eq!(config.database.max_connections, 7);
        assert_eq!(config.lock.backend, LockBackend::None);
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let wrong = [
            ("HOLDFAST__HTTP__BINDD", "x", "bindd"),
            ("HOLDFAST__LOCK__BACKEND", "etcd", "etcd"),
            ("HOLDFAST__DATABASE__MAX_CONNECTIONS", "many", "max_connections"),
            ("HOLDFAST__DATABASE__MAX_CONNECTIONS", "0", "database.max_connections"),
            ("HOLDFAST__ORDER__RESERVATION_TTL_SECONDS", "0", "order.reservation_ttl_seconds"),
            ("HOLDFAST__ORDER__RESERVATION_TTL_SECONDS", "86401", "order.reservation_ttl_seconds"),
            ("HOLDFAST__LOCK__ZOOKEEPER__ALLOW_OPEN_ACL", "false", "lock.zookeeper.auth"),
            ("HOLDFAST__LOCK__ZOOKEEPER__AUTH", "nocolon", "lock.zookeeper.auth"),
            ("HOLDFAST__LOCK__ZOOKEEPER__SESSION_TIMEOUT_MS", "10", "lock.zookeeper.session_timeout_ms"),
            (
                "HOLDFAST__DATABASE__IDLE_IN_TRANSACTION_TIMEOUT_MS",
                "0",
                "database.idle_in_transaction_timeout_ms",
            ),
            ("HOLDFAST__HTTP__RATE_LIMIT__BURST", "0", "http.rate_limit.burst"),
            (
                "HOLDFAST__HTTP__RATE_LIMIT__REQUESTS_PER_SECOND",
                "1000001",
                "http.rate_limit.requests_per_second",
            ),
            ("HOLDFAST__ORDER__DEFAULT_LOCATION", "a b", "order.default_location"),
            ("HOLDFAST__WORKER__PAYMENT__MAX_PREFETCH", "63", "worker.payment.max_prefetch"),
            ("HOLDFAST__WORKER__RELAY__WINDOW", "0", "worker.relay.window"),
            ("HOLDFAST__WORKER__RELAY__LANES", "17", "worker.relay.lanes"),
            ("HOLDFAST__LOCK__BACKEND", "foo", "\"foo\" must be one of: zookeeper, none"),
            ("HOLDFAST__LOCK__BACKEND", "foo", "lock.backend"),
            ("HOLDFAST__WORKER__RETENTION__INTERVAL_MS", "0", "worker.retention.interval_ms"),
            ("HOLDFAST__HTTP__HEADER_TIMEOUT_MS", "0", "http.header_timeout_ms"),
            ("HOLDFAST__HTTP__BODY_TIMEOUT_MS", "600001", "http.body_timeout_ms"),
            ("HOLDFAST__HTTP__MAX_CONNECTIONS", "0", "http.max_connections"),
            ("HOLDFAST__HTTP__MAX_HEADER_BYTES", "8191", "http.max_header_bytes"),
            ("HOLDFAST__HTTP__MAX_BODY_BYTES", "16777217", "http.max_body_bytes"),
            ("HOLDFAST__HTTP__TLS__CERTIFICATE_FILE", "/x.pem", "http.tls.private_key_file"),
            ("HOLDFAST__HTTP__TLS__PRIVATE_KEY_FILE", "/x.pem", "http.tls.certificate_file"),
            ("HOLDFAST__PROVIDER__BUDGET_MS", "9999", "provider.budget_ms"),
            ("HOLDFAST__PROVIDER__BUDGET_MS", "60001", "provider.budget_ms"),
            ("HOLDFAST__PROVIDER__WEBHOOK_SECRETS", "whsec_long_enough_1,short", "provider.webhook_secrets"),
            ("HOLDFAST__TELEMETRY__TRACE_SAMPLE_RATIO", "1.5", "telemetry.trace_sample_ratio"),
            ("HOLDFAST__TELEMETRY__OTLP_ENDPOINT", "collector:4318", "telemetry.otlp_endpoint"),
            ("HOLDFAST__WEBHOOK__TIMEOUT_MS", "60001", "webhook.timeout_ms"),
            ("HOLDFAST__WEBHOOK__ALLOWED_PORTS", "443,x", "webhook.allowed_ports"),
            ("HOLDFAST__WEBHOOK__ALLOW_INSECURE", "true", "webhook.allowed_networks"),
            ("HOLDFAST__WORKER__WEBHOOK__RETRY_SECONDS", "5,", "worker.webhook.retry_seconds"),
            ("HOLDFAST__WORKER__WEBHOOK__ENDPOINT_CONCURRENCY", "65", "worker.webhook.endpoint_concurrency"),
            ("HOLDFAST__WORKER__RETENTION__EVENTS_DAYS", "3", "worker.webhook.retry_seconds"),
            (
                "HOLDFAST__WORKER__WEBHOOK__RETRY_SECONDS",
                "604800,604800,604800,604800",
                "worker.retention.events_days is 30: must be 0 or at least 33",
            ),
            ("HOLDFAST__WORKER__RETENTION__EVENTS_DAYS", "91", "worker.retention.dropped_letter_days"),
            ("HOLDFAST__WORKER__RETENTION__EVENTS_DAYS", "0", "worker.retention.dropped_letter_days"),
            ("HOLDFAST__WORKER__RETENTION__DROPPED_LETTER_DAYS", "29", "worker.retention.events_days (30)"),
            ("HOLDFAST__SANDBOX__WEBHOOK_URL", "http://127.0.0.1:8080", "provider.webhook_secrets"),
        ];
        for (key, value, named) in wrong {
            let error = load(&[(key, value)]).expect_err(key);
            assert!(error.contains(named), "{key}={value}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn what_is_kept_for_ever_and_no_longer_than_needed_is_allowed() {
        let (events, dropped) =
            ("HOLDFAST__WORKER__RETENTION__EVENTS_DAYS", "HOLDFAST__WORKER__RETENTION__DROPPED_LETTER_DAYS");
        for (events_days, dropped_days) in [("4", "4"), ("0", "0"), ("30", "0"), ("90", "90")] {
            load(&[(events, events_days), (dropped, dropped_days)]).expect("valid");
        }
    }

    #[test]
    fn a_file_that_is_not_toml_is_one_line_with_the_place() {
        let builder = config::Config::builder();
        let broken = config::File::from_str("[http]\nbind = \n", config::FileFormat::Toml);
        let error = one_line(&builder.add_source(broken).build().expect_err("broken")).to_string();
        assert!(error.contains("line 2, column 8"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn secrets_do_not_print() {
        let config = load(&[
            ("HOLDFAST__DATABASE__URL", "postgres://u:hunter2@db/h"),
            ("HOLDFAST__PROVIDER__SECRET_KEY", "hunter2"),
            ("HOLDFAST__PROVIDER__WEBHOOK_SECRETS", "whsec_hunter2_hunter2"),
            ("HOLDFAST__BUS__RABBITMQ__URL", "amqp://u:hunter2@mq"),
            ("HOLDFAST__LOCK__ZOOKEEPER__AUTH", "u:hunter2"),
        ]);
        let printed = format!("{:?}", config.expect("valid"));
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
