//! Holdfast: an order-processing service that does not oversell, does not charge twice and does not lose an event.
//!
//! Modules in reading order. A module imports only what stands below it here; a test enforces that.
//!
//! - [`cli`]: the commands of the binary; the only place that builds things and passes them on.
//! - [`mod@bench`]: measures all of this from outside, as processes.
//! - [`http`]: the API. [`worker`]: the processes behind the queues.
//! - [`app`]: the use cases, one file each. Every change of state is made by one of them, in one transaction.
//! - [`members`]: which relays there are. [`lock`]: who may work on a SKU. [`provider`]: who moves the money. [`bus`]: how
//!   events travel; only the workers know it. [`webhook`]: how a message is posted to a merchant. [`store`]: the only SQL.
//! - [`sandbox`]: a payment provider for tests and demos; met over HTTP only, like a real one.
//! - [`config`], [`telemetry`], [`lifecycle`]: what a process needs to run.
//! - [`planted`]: faults for the tests of the tests; never in a release.
//! - [`domain`]: the words and the rules, pure.

pub mod app;
pub mod bench;
pub mod bus;
pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod lifecycle;
pub mod lock;
pub mod members;
pub mod planted;
pub mod provider;
pub mod sandbox;
pub mod store;
pub mod telemetry;
pub mod webhook;
pub mod worker;
