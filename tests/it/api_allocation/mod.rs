//! Orders over several locations: from where each line is taken, at the API of real processes on real servers.

mod choice;
mod locking;
mod races;
mod splits;

use serde_json::{Value, json};

use crate::support::{
    api::Api,
    app::{Setup, TestApp},
};

/// A test with or without locks in ZooKeeper.
async fn start(zookeeper: bool) -> TestApp {
    TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await
}

/// Sets what is on hand of a SKU at a location.
async fn stock_at(test: &TestApp, sku: &str, location: &str, on_hand: i64) {
    let path = format!("/v1/inventory/{sku}/{location}");
    test.api.put(&path, &json!({ "on_hand": on_hand })).await.expect(200);
}

/// Sets priority of a location, and whether it is active.
async fn set_location(test: &TestApp, location: &str, priority: i32, is_active: bool) {
    let set = json!({ "priority": priority, "is_active": is_active });
    test.api.put(&format!("/v1/locations/{location}"), &set).await.expect(200);
}

/// `north` before `south` before the default location, which has nothing.
pub(crate) async fn north_and_south(test: &TestApp, sku: &str, north: i64, south: i64) {
    set_location(test, "north", 1, true).await;
    set_location(test, "south", 2, true).await;
    stock_at(test, sku, "south", south).await;
    stock_at(test, sku, "north", north).await;
    stock_at(test, sku, "main", 0).await;
}

/// What is reserved of a SKU at a location.
async fn reserved(api: &Api, sku: &str, location: &str) -> i64 {
    let level = api.get(&format!("/v1/inventory/{sku}/{location}")).await.expect(200);
    level["reserved"].as_i64().unwrap()
}

/// From where each line of an order is taken, whatever became of it since.
fn sources(order: &Value) -> Vec<[&Value; 4]> {
    let lines = order["lines"].as_array().unwrap().iter();
    lines.map(|line| ["id", "quantity", "location_id", "allocations"].map(|name| &line[name])).collect()
}

/// An order of one line.
pub(crate) fn order_of(sku: &str, quantity: i64) -> Value {
    json!({ "currency": "USD", "lines": [{ "sku": sku, "quantity": quantity, "unit_amount": 1000 }] })
}

/// The same order, whose lines may be split.
pub(crate) fn splittable(mut order: Value) -> Value {
    order["allow_split"] = json!(true);
    order
}

/// The same order, with its first line from this location.
fn named(mut order: Value, location: &str) -> Value {
    order["lines"][0]["location_id"] = json!(location);
    order
}
