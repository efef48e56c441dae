//! Every operation, called in every way that is not allowed, and in those that are. The list is the API's own document, so
//! nobody can forget one.

use holdfast::domain::access::Scope;
use reqwest::Method;

use crate::support::{api::send, app::TestApp, operations::operations};

/// What needs no key. Whoever adds to this list says why it may be public.
const PUBLIC: [&str; 9] = [
    "GET /asyncapi.json",
    "GET /livez",
    "GET /metrics",
    "GET /openapi.json",
    "GET /problems",
    "GET /problems/{code}",
    "GET /readyz",
    "GET /schemas/{name}",
    "POST /v1/provider-webhooks/{provider}",
];

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
        let path = public.replace("{code}", "not_found").replace("{name}", "order.created.v1.json");
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
