//! Refuses values that are of the right type and still unsafe.

use std::ops::RangeInclusive;

use url::Url;

use super::{Config, LockBackend, sections::numbers};
use crate::domain::{bounds::HoldSeconds, inventory::LocationId};

/// Gives one line that names the first wrong setting and what is allowed.
pub(super) fn check(config: &Config) -> Result<(), String> {
    check_http(config)?;
    check_rate_limit(config)?;
    check_database(config)?;
    check_lock(config)?;
    check_reservation(config)?;
    check_order(config)?;
    check_provider(config)?;
    check_telemetry(config)?;
    check_webhook(config)?;
    check_retention(config)?;
    check_worker(config)
}

fn at_least(name: &str, value: u64, least: u64) -> Result<(), String> {
    if value >= least { Ok(()) } else { Err(format!("{name} is {value}: must be at least {least}")) }
}

fn within(name: &str, value: u64, allowed: RangeInclusive<u64>) -> Result<(), String> {
    let (least, most) = (allowed.start(), allowed.end());
    if allowed.contains(&value) {
        Ok(())
    } else {
        Err(format!("{name} is {value}: must be {least} to {most}"))
    }
}

fn check_http(config: &Config) -> Result<(), String> {
    let http = &config.http;
    // A time-out that is off, or lasts for hours, lets a client hold a connection for nothing.
    for (name, value) in [
        ("header_timeout_ms", http.header_timeout_ms),
        ("idle_timeout_ms", http.idle_timeout_ms),
        ("body_timeout_ms", http.body_timeout_ms),
        ("write_timeout_ms", http.write_timeout_ms),
    ] {
        within(&format!("http.{name}"), value, 100..=600_000)?;
    }
    within("http.max_connections", http.max_connections as u64, 1..=1_000_000)?;
    within("http.max_header_bytes", http.max_header_bytes as u64, 8_192..=1_048_576)?;
    within("http.max_body_bytes", http.max_body_bytes as u64, 1_024..=16_777_216)?;
    match (http.tls.certificate_file.is_empty(), http.tls.private_key_file.is_empty()) {
        (true, false) => {
            Err("http.tls.certificate_file is empty: set it and http.tls.private_key_file".into())
        }
        (false, true) => {
            Err("http.tls.private_key_file is empty: set it and http.tls.certificate_file".into())
        }
        _ => Ok(()),
    }
}

fn check_rate_limit(config: &Config) -> Result<(), String> {
    let limit = &config.http.rate_limit;
    for (name, value) in [
        ("requests_per_second", limit.requests_per_second),
        ("burst", limit.burst),
        ("without_key_per_second", limit.without_key_per_second),
    ] {
        within(&format!("http.rate_limit.{name}"), value.into(), 0..=1_000_000)?;
    }
    if limit.requests_per_second > 0 {
        at_least("http.rate_limit.burst", limit.burst.into(), 1)?;
    }
    Ok(())
}

fn check_database(config: &Config) -> Result<(), String> {
    let database = &config.database;
    // An order placement may hold one connection while it waits to end expired holds on another.
    at_least("database.max_connections", database.max_connections.into(), 2)?;
    at_least("database.acquire_timeout_ms", database.acquire_timeout_ms, 100)?;
    // 0 would mean "no limit" to PostgreSQL: a paused process could then keep its row locks for ever.
    at_least("database.statement_timeout_ms", database.statement_timeout_ms, 100)?;
    at_least("database.lock_timeout_ms", database.lock_timeout_ms, 100)?;
    at_least("database.idle_in_transaction_timeout_ms", database.idle_in_transaction_timeout_ms, 1000)
}

fn check_lock(config: &Config) -> Result<(), String> {
    if config.lock.backend == LockBackend::None {
        return Ok(());
    }
    let zookeeper = &config.lock.zookeeper;
    at_least("lock.acquire_timeout_ms", config.lock.acquire_timeout_ms, 10)?;
    at_least("lock.zookeeper.session_timeout_ms", zookeeper.session_timeout_ms, 1000)?;
    at_least("lock.zookeeper.request_timeout_ms", zookeeper.request_timeout_ms, 100)?;
    at_least("lock.zookeeper.hand_over_ms", zookeeper.hand_over_ms, 1)?;
    at_least("lock.zookeeper.linger_ms", zookeeper.linger_ms, 1)?;
    at_least("lock.zookeeper.idle_ms", zookeeper.idle_ms, 1)?;
    at_least("lock.zookeeper.max_held_keys", zookeeper.max_held_keys as u64, 1)?;
    if zookeeper.linger_ms > zookeeper.hand_over_ms {
        return Err("lock.zookeeper.linger_ms must not be longer than lock.zookeeper.hand_over_ms".into());
    }
    if !zookeeper.root.starts_with('/') || zookeeper.root.ends_with('/') {
        return Err(format!("lock.zookeeper.root is {:?}: must begin and not end with /", zookeeper.root));
    }
    let auth = zookeeper.auth.reveal();
    if auth.is_empty() && !zookeeper.allow_open_acl {
        return Err("lock.zookeeper.auth is empty: set user:password, or set lock.zookeeper.allow_open_acl = true where \
                    nobody else can reach ZooKeeper"
            .into());
    }
    if !auth.is_empty()
        && zookeeper.credentials().is_none_or(|(user, word)| user.is_empty() || word.is_empty())
    {
        return Err("lock.zookeeper.auth must be user:password".into());
    }
    Ok(())
}

fn check_reservation(config: &Config) -> Result<(), String> {
    let reservation = &config.reservation;
    for (name, value) in [
        ("lanes", reservation.lanes),
        ("queue", reservation.queue),
        ("batch_orders", reservation.batch_orders),
        ("batch_lines", reservation.batch_lines),
    ] {
        at_least(&format!("reservation.{name}"), value as u64, 1)?;
    }
    let most = config.database.max_connections as usize;
    if reservation.lanes > most {
        let lanes = reservation.lanes;
        return Err(format!(
            "reservation.lanes is {lanes}: must be at most database.max_connections ({most})"
        ));
    }
    Ok(())
}

fn check_order(config: &Config) -> Result<(), String> {
    let order = &config.order;
    if let Err(error) = order.default_location.parse::<LocationId>() {
        return Err(format!("order.default_location is {:?}: {error}", order.default_location));
    }
    // A year, so that sums with the time of day cannot overflow.
    let (least, most) = HoldSeconds::RANGE.into_inner();
    if !HoldSeconds::RANGE.contains(&order.max_reservation_ttl_seconds) {
        return Err(format!("order.max_reservation_ttl_seconds must be {least} to {most}"));
    }
    if !(1..=order.max_reservation_ttl_seconds).contains(&order.reservation_ttl_seconds) {
        let most = order.max_reservation_ttl_seconds;
        let value = order.reservation_ttl_seconds;
        return Err(format!(
            "order.reservation_ttl_seconds is {value}: must be 1 to order.max_reservation_ttl_seconds ({most})"
        ));
    }
    if order.max_extensions > 1000 {
        return Err("order.max_extensions must be at most 1000".into());
    }
    if order.payment_pin_seconds > 86_400 {
        return Err("order.payment_pin_seconds must be at most 86400".into());
    }
    Ok(())
}

fn check_provider(config: &Config) -> Result<(), String> {
    let provider = &config.provider;
    at_least("provider.timeout_ms", provider.timeout_ms, 100)?;
    at_least("provider.budget_ms", provider.budget_ms, provider.timeout_ms)?;
    // A worker gives the handling of an event two minutes.
    if provider.budget_ms > 60_000 {
        return Err("provider.budget_ms must be at most 60000".into());
    }
    at_least("provider.breaker.failures", provider.breaker.failures.into(), 1)?;
    at_least("provider.breaker.window_ms", provider.breaker.window_ms, 100)?;
    at_least("provider.breaker.open_ms", provider.breaker.open_ms, 1)?;
    let secrets = provider.webhook_secrets();
    // Whoever can guess it can make the service look payments up, as fast as they like.
    if secrets.iter().any(|secret| secret.len() < 16) {
        return Err("provider.webhook_secrets: each must have 16 characters or more".into());
    }
    if !config.sandbox.webhook_url.is_empty() && secrets.is_empty() {
        return Err(
            "provider.webhook_secrets is empty: set what sandbox.webhook_url is to be signed with".into()
        );
    }
    Ok(())
}

fn check_telemetry(config: &Config) -> Result<(), String> {
    let telemetry = &config.telemetry;
    if !(0.0..=1.0).contains(&telemetry.trace_sample_ratio) {
        let ratio = telemetry.trace_sample_ratio;
        return Err(format!("telemetry.trace_sample_ratio is {ratio}: must be 0 to 1"));
    }
    let endpoint = &telemetry.otlp_endpoint;
    // A user in it would stand in the log.
    let is_plain = Url::parse(endpoint).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.query().is_none()
    });
    if endpoint.is_empty() || is_plain {
        return Ok(());
    }
    Err(format!(
        "telemetry.otlp_endpoint is {endpoint:?}: must be http(s)://host[:port], without user and query"
    ))
}

fn check_webhook(config: &Config) -> Result<(), String> {
    let (webhook, worker) = (&config.webhook, &config.worker.webhook);
    within("webhook.timeout_ms", webhook.timeout_ms, 100..=60_000)?;
    let ports = webhook.allowed_ports();
    if !ports.is_ok_and(|ports| ports.is_none_or(|ports| !ports.contains(&0))) {
        let value = &webhook.allowed_ports;
        return Err(format!(
            "webhook.allowed_ports is {value:?}: must be ports, separated by commas, or any"
        ));
    }
    if webhook.allow_insecure && webhook.allowed_networks.is_empty() {
        return Err(
            "webhook.allowed_networks is empty: name the networks that webhook.allow_insecure is for".into(),
        );
    }
    within("worker.webhook.concurrency", worker.concurrency.into(), 1..=1_000)?;
    let most = worker.concurrency.into();
    within("worker.webhook.endpoint_concurrency", worker.endpoint_concurrency.into(), 1..=most)?;
    at_least("worker.webhook.interval_ms", worker.interval_ms, 10)?;
    within("worker.webhook.disable_after_days", worker.disable_after_days.into(), 1..=365)?;
    let waits = numbers::<u32>(&worker.retry_seconds);
    if !waits.is_ok_and(|waits| waits.len() <= 30 && waits.iter().all(|wait| (1..=604_800).contains(wait))) {
        let value = &worker.retry_seconds;
        return Err(format!(
            "worker.webhook.retry_seconds is {value:?}: must be up to 30 numbers of 1 to 604800, separated by commas"
        ));
    }
    Ok(())
}

/// What is kept for how long hangs together; 0 is for ever.
fn check_retention(config: &Config) -> Result<(), String> {
    let (events, dropped) =
        (config.worker.retention.events_days, config.worker.retention.dropped_letter_days);
    // A webhook is made of its event each time that it is tried. A wait is spread out by up to 15 %.
    let waits = config.worker.webhook.retry_seconds();
    let seconds = waits.iter().map(|&wait| u64::from(wait)).sum::<u64>() * 115 / 100;
    let least = seconds.div_ceil(86_400);
    if events > 0 && u64::from(events) < least {
        return Err(format!(
            "worker.retention.events_days is {events}: must be 0 or at least {least}, the days that \
             worker.webhook.retry_seconds takes"
        ));
    }
    // Without its letter, an event that is kept and was not handled looks lost.
    match (events, dropped) {
        (_, 0) => Ok(()),
        (0, _) => Err(format!(
            "worker.retention.dropped_letter_days is {dropped}: must be 0, as worker.retention.events_days is"
        )),
        (events, dropped) if dropped < events => Err(format!(
            "worker.retention.dropped_letter_days is {dropped}: must be 0 or at least \
             worker.retention.events_days ({events})"
        )),
        _ => Ok(()),
    }
}

fn check_worker(config: &Config) -> Result<(), String> {
    let worker = &config.worker;
    at_least("worker.payment.concurrency", worker.payment.concurrency.into(), 1)?;
    let least = worker.payment.concurrency.into();
    at_least("worker.payment.max_prefetch", worker.payment.max_prefetch.into(), least)?;
    at_least("worker.payment.lookup_interval_ms", worker.payment.lookup_interval_ms, 10)?;
    at_least("worker.fulfilment.concurrency", worker.fulfilment.concurrency.into(), 1)?;
    let least = worker.fulfilment.concurrency.into();
    at_least("worker.fulfilment.max_prefetch", worker.fulfilment.max_prefetch.into(), least)?;
    at_least("worker.expiry.interval_ms", worker.expiry.interval_ms, 10)?;
    at_least("worker.expiry.batch", worker.expiry.batch.into(), 1)?;
    at_least("worker.import.interval_ms", worker.import.interval_ms, 10)?;
    within("worker.relay.lanes", worker.relay.lanes.into(), 1..=16)?;
    at_least("worker.relay.window", worker.relay.window.into(), 1)?;
    at_least("worker.relay.poll_interval_ms", worker.relay.poll_interval_ms, 1)?;
    at_least("worker.relay.lease_seconds", worker.relay.lease_seconds, 2)?;
    at_least("worker.retention.interval_ms", worker.retention.interval_ms, 10)?;
    at_least("bus.rabbitmq.confirm_timeout_ms", config.bus.rabbitmq.confirm_timeout_ms, 100)?;
    at_least("bus.rabbitmq.delivery_limit", config.bus.rabbitmq.delivery_limit.into(), 1)?;
    check_prefix(&config.bus.rabbitmq.prefix)
}

/// It begins the names of exchanges and queues, which the broker keeps within 255 bytes, and the patterns of policies.
fn check_prefix(prefix: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if prefix.is_empty() || prefix.len() > 100 || !prefix.chars().all(is_plain) || prefix.starts_with("amq.")
    {
        return Err(format!(
            "bus.rabbitmq.prefix is {prefix:?}: must be 1 to 100 letters, digits, \".\", \"_\" or \"-\", and not begin with \
             \"amq.\", which is the broker's own"
        ));
    }
    Ok(())
}
