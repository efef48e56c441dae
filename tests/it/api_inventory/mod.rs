//! Inventory at the API: locations, levels, the ledger, stock events, imports.

mod imports;
mod levels;
mod locations;
mod movements;
mod stock_events;
mod transfers;

use reqwest::Method;
use serde_json::Value;

use crate::support::{
    api::{Answer, send},
    app::TestApp,
};

/// Sets something with an `If-Match` header.
async fn put_if(test: &TestApp, path: &str, tag: &str, body: Value) -> Answer {
    send(test.api.request(Method::PUT, path).header("If-Match", tag).json(&body)).await
}
