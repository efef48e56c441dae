//! Everything that needs more than one module, or a server. One binary, so that it is linked once.
#![allow(clippy::unwrap_used, reason = "what a test cannot go on without fails it here")]

mod api_access;
mod api_batches;
mod api_contract;
mod api_events;
mod api_health;
mod api_idempotency;
mod api_input;
mod api_inventory;
mod api_life_cycle;
mod api_metrics;
mod api_orders;
mod api_provider_webhooks;
mod api_purchase_limits;
mod api_races;
mod api_server;
mod api_wait;
mod app_late_money;
mod app_live_payments;
mod app_payments;
mod app_reconciliation;
mod app_reservations;
mod app_verify;
mod bench;
mod cli;
mod contract;
mod failure;
mod sandbox;
mod support;
mod tidy;
mod worker_breaker;
mod worker_imports;
mod worker_orders;
mod worker_races;
mod worker_webhooks;
