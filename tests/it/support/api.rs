//! A client of the API that holds every answer to the contract: an error is a problem document that names its code and
//! the request.

use std::{collections::BTreeMap, sync::Arc};

use reqwest::{
    Method, RequestBuilder, Response,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{contract, sandbox::http_client};

/// What no error may tell a client: of the code, of the database, of whoever else there is.
const INNER: [&str; 11] = [
    "panicked",
    ".rs:",
    "src/",
    "SELECT ",
    "INSERT ",
    "UPDATE ",
    "sqlx",
    "constraint",
    "whsec_",
    "sk_test",
    "@example",
];

/// Calls one API process with one key.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    url: Arc<str>,
    secret: Arc<str>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Api {
    pub(crate) fn new(url: &str, secret: &str) -> Self {
        Self { http: http_client(), url: url.into(), secret: secret.into() }
    }

    /// The same API, called with another key.
    pub(crate) fn with_secret(&self, secret: &str) -> Self {
        Self { secret: secret.into(), ..self.clone() }
    }

    /// The value of `Authorization`.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.secret)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// A request without headers.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// A request with the key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.secret)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::PUT, path).json(body)).await
    }

    /// Posts under a new idempotency key.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(&Uuid::now_v7().to_string(), path, body).await
    }

    /// Posts under this idempotency key.
    pub(crate) async fn post_as(&self, key: &str, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }

    /// Posts under this idempotency key, and again for as long as the first request with it is being answered.
    pub(crate) async fn post_until_answered(&self, key: &str, path: &str, body: &Value) -> Answer {
        loop {
            let answer = self.post_as(key, path, body).await;
            if answer.code() != "idempotency_key_in_use" {
                return answer;
            }
            assert_eq!((answer.status, answer.header("retry-after")), (409, "1"));
        }
    }

    /// Posts these bytes as JSON under a new idempotency key.
    pub(crate) async fn post_text(&self, path: &str, body: impl Into<String>) -> Answer {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/json");
        send(request.header("Idempotency-Key", Uuid::now_v7().to_string()).body(body.into())).await
    }

    /// Posts a file of this type under this idempotency key.
    pub(crate) async fn post_file(&self, key: &str, path: &str, media_type: &str, file: &str) -> Answer {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, media_type);
        send(request.header("Idempotency-Key", key).body(file.to_owned())).await
    }

    /// Imports a stock file (CSV), which must be accepted. Gives the import's id.
    pub(crate) async fn import(&self, parameters: &str, file: &str) -> String {
        let path = format!("/v1/inventory/imports?{parameters}");
        id(&self.post_file(&Uuid::now_v7().to_string(), &path, "text/csv", file).await.expect(202))
    }

    /// Places an order of these quantities at 10.00 each.
    pub(crate) async fn place(&self, lines: &[(&str, i64)]) -> Answer {
        self.post("/v1/orders", &order(lines)).await
    }

    /// Starts a payment of an order.
    pub(crate) async fn pay(&self, order_id: &str, token: &str) -> Answer {
        self.post(&format!("/v1/orders/{order_id}/payments"), &payment(token)).await
    }

    pub(crate) async fn cancel(&self, order_id: &str) -> Answer {
        self.post(&format!("/v1/orders/{order_id}/cancel"), &json!({ "reason": "test" })).await
    }

    /// An order with its payments and shipments.
    pub(crate) async fn order(&self, order_id: &str) -> Value {
        self.get(&format!("/v1/orders/{order_id}")).await.expect(200)
    }

    /// `(on_hand, reserved, committed)` of a SKU at the default location.
    pub(crate) async fn level(&self, sku: &str) -> (i64, i64, i64) {
        let level = self.get(&format!("/v1/inventory/{sku}/main")).await.expect(200);
        let count = |name: &str| level[name].as_i64().unwrap();
        (count("on_hand"), count("reserved"), count("committed"))
    }
}

/// The body of an order of these quantities at 10.00 each.
pub(crate) fn order(lines: &[(&str, i64)]) -> Value {
    let line =
        |&(sku, quantity): &(&str, i64)| json!({ "sku": sku, "quantity": quantity, "unit_amount": 1000 });
    json!({ "currency": "USD", "lines": lines.iter().map(line).collect::<Vec<_>>() })
}

/// The body of a payment.
pub(crate) fn payment(token: &str) -> Value {
    json!({ "method": "card", "payment_token": token })
}

/// Sends a request and reads the answer.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let (http, request) = request.build_split();
    let request = request.unwrap();
    let (method, url) = (request.method().clone(), request.url().clone());
    let answer = Answer::read(http.execute(request).await.unwrap()).await;
    let document = contract::document(&url.origin().ascii_serialization()).await;
    let code = (answer.status >= 400).then(|| answer.code());
    contract::assert_documented(document, (&method, url.path()), answer.status, code);
    answer
}

impl Answer {
    async fn read(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or_default();
        let answer = Self { status, headers, text, body };
        answer.keeps_the_contract();
        answer
    }

    fn keeps_the_contract(&self) {
        let request_id = self.header("x-request-id");
        assert!(!request_id.is_empty(), "{self:?}");
        if self.status == 204 {
            return assert_eq!(self.text, "", "{self:?}");
        }
        if self.status < 400 {
            let types = ["application/json", "application/schema+json"];
            return assert!(types.contains(&self.header("content-type")), "{self:?}");
        }
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        // A stored answer names the request that was carried out.
        assert!(self.replayed() || self.body["request_id"] == request_id, "{self:?}");
        for field in ["code", "type", "title", "detail", "instance"] {
            assert!(self.body[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {self:?}");
        }
        assert!(self.body["retryable"].is_boolean(), "{self:?}");
        for inner in INNER {
            assert!(!self.text.contains(inner), "{inner:?}: {self:?}");
        }
    }

    /// The body, of an answer with this status.
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// The problem, of an answer with this status and code.
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.text);
        self.body
    }

    /// The problem's code; empty for an answer that is none.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn replayed(&self) -> bool {
        self.header("idempotent-replayed") == "true"
    }
}

/// How many answers there were of each status and code.
pub(crate) fn tally(answers: &[Answer]) -> BTreeMap<(u16, &str), usize> {
    let mut tally = BTreeMap::new();
    for answer in answers {
        *tally.entry((answer.status, answer.code())).or_default() += 1;
    }
    tally
}

/// The id in a body.
pub(crate) fn id(body: &Value) -> String {
    body["id"].as_str().unwrap_or_else(|| panic!("no id in {body}")).to_owned()
}
