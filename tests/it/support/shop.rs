//! A merchant's backend: orders and payments over HTTP, each sent again under its key until an answer counts.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::system::{PATIENCE, System};

/// An answer that sending the request again would not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Answer {
    /// The id of what was made.
    pub(crate) fn id(&self) -> &str {
        assert_eq!(self.status, StatusCode::CREATED, "{}", self.body);
        self.body["id"].as_str().unwrap()
    }
}

impl System {
    /// Places an order for `quantity` of one SKU at this API, with `reference` as its key.
    pub(crate) async fn place(&self, api: &str, reference: &str, sku: &str, quantity: i64) -> Answer {
        let body = json!({
            "client_reference": reference,
            "currency": "USD",
            "lines": [{ "sku": sku, "quantity": quantity, "unit_amount": 500 }],
        });
        self.post(api, "/v1/orders", reference, &body).await
    }

    /// Starts the payment of an order.
    pub(crate) async fn pay(&self, api: &str, order_id: &str, token: &str) -> Answer {
        let body = json!({ "method": "card", "payment_token": token });
        self.post(api, &format!("/v1/orders/{order_id}/payments"), order_id, &body).await
    }

    /// Waits until an order has this status.
    pub(crate) async fn wait_for_order(&self, api: &str, order_id: &str, status: &str) -> Value {
        let url = format!("{}/v1/orders/{order_id}", self.url(api));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.http.get(&url).bearer_auth(&self.key).send().await;
            if let Ok(answer) = answer
                && let Ok(order) = answer.json::<Value>().await
            {
                if order["status"] == status {
                    return order;
                }
                assert!(Instant::now() < deadline, "the order did not become {status}: {order}");
            }
            assert!(Instant::now() < deadline, "the order did not become {status}: no answer");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a request until its answer counts.
    pub(crate) async fn post(&self, api: &str, path: &str, key: &str, body: &Value) -> Answer {
        let url = format!("{}{path}", self.url(api));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = self.http.post(&url).bearer_auth(&self.key).header("Idempotency-Key", key);
            if let Ok(response) = request.json(body).send().await {
                let status = response.status();
                if let Ok(body) = response.json::<Value>().await
                    && !status.is_server_error()
                    && body["retryable"] != true
                {
                    return Answer { status, body };
                }
            }
            assert!(Instant::now() < deadline, "no answer that counts to {path} under {key}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}
