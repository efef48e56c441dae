//! Every operation, called in every way that is not allowed, and in those that are. The list is the API's own document, so
//! nobody can forget one.

use holdfast::domain::access::Scope;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    api::{Api, send},
    app::TestApp,
};

/// What needs no key. Whoever adds to this list says why it may be public.
const PUBLIC: [&str; 7] = [
    "GET /livez",
    "GET /metrics",
    "GET /openapi.json",
    "GET /problems",
    "GET /problems/{code}",
    "GET /readyz",
    "POST /v1/provider-webhooks/{provider}",
];

/// An operation of the document.
#[derive(Debug)]
struct Operation {
    method: Method,
    /// As the document has it.
    template: String,
    /// With something for each parameter.
    path: String,
    /// `None`: public.
    scope: Option<String>,
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }

    fn request(&self, api: &Api, query: &str) -> RequestBuilder {
        self.dress(api.bare(self.method.clone(), &format!("{}{query}", self.path)))
    }

    fn request_with(&self, api: &Api, secret: &str) -> RequestBuilder {
        self.request(api, "").bearer_auth(secret)
    }

    /// With everything that a write needs but a sensible body.
    fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        if self.method == Method::GET {
            return request;
        }
        request.header("Idempotency-Key", Uuid::now_v7().to_string()).json(&json!({}))
    }
}

async fn operations(api: &Api) -> Vec<Operation> {
    let document = send(api.bare(Method::GET, "/openapi.json")).await.expect(200);
    let mut operations = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let [requirement] = operation["security"].as_array().unwrap().as_slice() else {
                panic!("{method} {template} says more than one thing of its security");
            };
            let scope = requirement.as_object().unwrap().values().next().map(|scopes| {
                let [scope] = scopes.as_array().unwrap().as_slice() else { panic!("{template}: {scopes}") };
                scope.as_str().unwrap().to_owned()
            });
            let parts = template.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                template: template.clone(),
                path: parts.collect::<Vec<_>>().join("/"),
                scope,
            });
        }
    }
    assert!(operations.len() > 15, "{operations:?}");
    operations
}

#[tokio::test]
async fn every_operation_but_the_known_public_ones_needs_a_scope() {
    let test = TestApp::start().await;
    let mut public = Vec::new();
    for operation in operations(&test.api).await {
        match &operation.scope {
            None => public.push(operation.name()),
            Some(scope) => assert!(scope.parse::<Scope>().is_ok(), "{operation:?}"),
        }
        let about_keys = operation.template.starts_with("/v1/api-keys");
        assert_eq!(operation.scope.as_deref() == Some("admin"), about_keys, "{operation:?}");
        let is_read = operation.scope.as_deref() == Some("orders:read");
        assert!(!is_read || operation.method == Method::GET, "{operation:?} writes");
    }
    public.sort();
    assert_eq!(public, PUBLIC);
    for public in PUBLIC.iter().filter_map(|public| public.strip_prefix("GET ")) {
        let path = public.replace("{code}", "not_found");
        assert_eq!(test.api.bare(Method::GET, &path).send().await.unwrap().status(), 200, "{path}");
    }
    test.finish().await;
}

#[tokio::test]
async fn whoever_may_not_is_refused_everywhere_and_nothing_is_written() {
    let test = TestApp::start().await;
    let mut scoped = Vec::new();
    for &scope in Scope::ALL {
        scoped.push((scope.as_str(), test.new_key(scope.as_str(), &[scope]).await.secret));
    }
    let revoked = test.new_key("revoked", &[Scope::Admin]).await;
    test.app.revoke_api_key(revoked.key.id, None).await.unwrap();
    let admin = &scoped.last().unwrap().1;
    let operations = operations(&test.api).await;
    let before = test.snapshot().await;
    for operation in operations.iter().filter(|operation| operation.scope.is_some()) {
        let name = operation.name();
        for request in [
            operation.request(&test.api, ""),
            operation.request_with(&test.api, "hf_wrong"),
            operation.request_with(&test.api, &revoked.secret),
            operation.request(&test.api, &format!("?api_key={admin}&key={admin}&access_token={admin}")),
            operation.request(&test.api, "").basic_auth(admin, None::<&str>),
        ] {
            let answer = send(request).await;
            assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "{name}: {}", answer.text);
        }
        let needed = operation.scope.as_deref().unwrap();
        for (scope, secret) in scoped.iter().filter(|(scope, _)| ![needed, "admin"].contains(scope)) {
            let answer = send(operation.request_with(&test.api, secret)).await;
            assert_eq!((answer.status, answer.code()), (403, "insufficient_scope"), "{name} with {scope}");
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.ends_with(needed), "{name} with {scope}: {detail}");
        }
    }
    assert_eq!(test.snapshot().await, before);
    // The same requests of those who may: whatever becomes of them, they get in.
    for operation in operations.iter().filter(|operation| operation.scope.is_some()) {
        let needed = operation.scope.as_deref().unwrap();
        for (scope, secret) in scoped.iter().filter(|(scope, _)| [needed, "admin"].contains(scope)) {
            let answer = send(operation.request_with(&test.api, secret)).await;
            assert!(
                ![401, 403, 500].contains(&answer.status),
                "{} with {scope}: {}",
                operation.name(),
                answer.text
            );
        }
    }
    test.finish().await;
}

/// A refused request leaves its key to who may use it: the answer of one client is never another's.
#[tokio::test]
async fn an_idempotency_key_is_of_its_client_on_every_post() {
    let test = TestApp::start().await;
    test.stock("a", 9).await;
    let shop = test.new_key("shop", &[Scope::Admin]).await;
    let shop = test.api.with_secret(&shop.secret);
    let order = json!({ "currency": "USD", "lines": [{ "sku": "a", "quantity": 1, "unit_amount": 1000 }] });
    let adjustment = json!({ "items": [{ "sku": "a", "delta": 1 }] });
    let key = json!({ "name": "n", "scopes": ["orders:read"] });
    for (path, body) in
        [("/v1/orders", &order), ("/v1/inventory/adjustments", &adjustment), ("/v1/api-keys", &key)]
    {
        let (first, others) = (test.api.post_as("k", path, body).await, shop.post_as("k", path, body).await);
        assert_eq!((first.status, others.status, others.replayed()), (201, 201, false), "{path}");
        assert!(
            test.api.post_as("k", path, body).await.replayed()
                && shop.post_as("k", path, body).await.replayed()
        );
    }
    let ids: Value = test.api.get("/v1/orders").await.expect(200);
    assert_eq!(ids["data"].as_array().unwrap().len(), 2);
    test.finish().await;
}
