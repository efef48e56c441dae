//! What operators see: traces, metrics, and the rules and dashboards that are made of them.

mod documents;
mod endpoints;
mod ids;
mod metrics;
mod traces;
