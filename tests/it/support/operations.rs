//! The operations of the API's own document, so that a test of all of them can forget none.

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use uuid::Uuid;

use super::api::{Api, send};

/// An operation of the document.
#[derive(Debug)]
pub(crate) struct Operation {
    /// `operationId`.
    pub(crate) id: String,
    pub(crate) method: Method,
    /// As the document has it.
    pub(crate) template: String,
    /// With something for each parameter.
    pub(crate) path: String,
    /// `None`: public.
    pub(crate) scope: Option<String>,
}

impl Operation {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }

    pub(crate) fn request(&self, api: &Api, query: &str) -> RequestBuilder {
        self.dress(api.bare(self.method.clone(), &format!("{}{query}", self.path)))
    }

    pub(crate) fn request_with(&self, api: &Api, secret: &str) -> RequestBuilder {
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

/// Every operation of the API.
pub(crate) async fn operations(api: &Api) -> Vec<Operation> {
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
                id: operation["operationId"].as_str().unwrap().to_owned(),
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

/// Those that need an idempotency key.
pub(crate) async fn posts(api: &Api) -> Vec<Operation> {
    let mut posts = operations(api).await;
    posts.retain(|operation| operation.method == Method::POST && operation.scope.is_some());
    assert!(posts.len() > 15, "{posts:?}");
    posts
}
