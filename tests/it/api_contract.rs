//! What the API says of itself is complete, and is what it does. That every answer is one that is documented is checked
//! wherever a test gets one through its client: see `support::contract`.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{api::send, app::TestApp, contract};

async fn document(test: &TestApp) -> Value {
    send(test.api.bare(Method::GET, "/openapi.json")).await.expect(200)
}

/// `(path, method, operation)` of every operation.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    });
    operations.collect()
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|field| references(field, found));
        }
        _ => {}
    }
}

#[tokio::test]
async fn every_operation_is_described_whole() {
    let test = TestApp::start().await;
    let document = document(&test).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let what = format!("{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{what}");
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{what}");
        assert!(operation["tags"][0].is_string() && operation["security"].is_array(), "{what}");
        assert!(operation.get("x-problems").is_none(), "{what}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{what}");
        for status in ["400", "408", "414", "431", "500", "503"] {
            assert!(responses.contains_key(status), "{what} {status}");
        }
        for (status, response) in responses {
            let response = contract::resolved(&document, response);
            assert!(!response["description"].as_str().unwrap().is_empty(), "{what} {status}");
            assert!(response["headers"]["X-Request-Id"].is_object(), "{what} {status}");
            let examples = response["content"]["application/problem+json"]["examples"].as_object();
            assert_eq!(examples.is_some(), status.as_str() >= "400", "{what} {status}");
            let is_limited =
                operation["security"] != json!([{}]) && !["401", "414", "431"].contains(&&status[..]);
            for name in ["RateLimit", "RateLimit-Policy"] {
                assert_eq!(response["headers"][name].is_object(), is_limited, "{what} {status} {name}");
            }
        }
        if let Some(body) = operation.get("requestBody") {
            let (_, content) = body["content"].as_object().unwrap().iter().next().unwrap();
            let named = content["schema"]["$ref"].as_str().and_then(|name| document.pointer(&name[1..]));
            let example = named.map_or(&content["example"], |schema| &schema["example"]);
            assert!(example.is_object() || example.is_string(), "{what} has no example");
        }
    }
    // Some are of requests that no operation takes.
    let all = send(test.api.bare(Method::GET, "/problems")).await.expect(200);
    let text = document.to_string();
    for code in all.as_array().unwrap().iter().map(|code| code["code"].as_str().unwrap()) {
        assert!(text.contains(&format!("\"summary\":\"{code}\"")), "{code} is in no answer");
    }
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    test.finish().await;
}

#[tokio::test]
async fn the_codes_are_explained_where_a_problem_points() {
    let test = TestApp::start().await;
    let problem = test.api.get("/v1/nothing").await.problem(404, "unknown_route");
    let kind = problem["type"].as_str().unwrap();
    let code = send(test.api.bare(Method::GET, kind)).await.expect(200);
    assert_eq!((&code["code"], &code["status"]), (&problem["code"], &problem["status"]));
    let all = send(test.api.bare(Method::GET, "/problems")).await.expect(200);
    assert!(all.as_array().unwrap().contains(&code));
    send(test.api.bare(Method::GET, "/problems/none")).await.problem(404, "not_found");
    test.finish().await;
}

#[tokio::test]
async fn the_page_to_try_it_needs_nothing_from_elsewhere() {
    let test = TestApp::start().await;
    let page = test.api.bare(Method::GET, "/docs/").send().await.unwrap();
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    for (_, rest) in page.match_indices("=\"./").map(|(at, found)| page.split_at(at + found.len())) {
        let asset = rest.split('"').next().unwrap();
        let answer = test.api.bare(Method::GET, &format!("/docs/{asset}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{asset}");
    }
    let initializer = test.api.bare(Method::GET, "/docs/swagger-initializer.js").send().await.unwrap();
    assert!(initializer.text().await.unwrap().contains("/openapi.json"));
    test.finish().await;
}

#[tokio::test]
async fn an_operation_is_found_by_its_path() {
    let test = TestApp::start().await;
    let document = document(&test).await;
    let adjust = contract::operation(&document, &Method::POST, "/v1/inventory/adjustments").unwrap();
    assert_eq!(adjust["operationId"], "adjust_inventory");
    assert!(contract::operation(&document, &Method::POST, "/v1/nothing").is_none());
    test.finish().await;
}

#[tokio::test]
async fn the_document_says_what_is_sent_and_taken() {
    let test = TestApp::start().await;
    let document = document(&test).await;
    let schemas = &document["components"]["schemas"];
    let words = |schema: &str| schemas[schema]["enum"].as_array().unwrap().clone();
    assert!(words("Scope").contains(&"orders:read".into()));
    assert!(words("EventType").contains(&"order.created.v1".into()));
    assert!(words("Currency").contains(&"USD".into()));
    // What the deployment allows, not what any may.
    assert_eq!(schemas["HoldSeconds"]["maximum"], 86_400);
    for (path, method, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let schema = parameter["schema"].to_string();
            assert!(!schema.contains("null"), "{method} {path} {parameter}");
        }
        for link in operation["responses"].as_object().unwrap().values().filter_map(|to| to.get("links")) {
            for link in link.as_object().unwrap().values() {
                let known =
                    operations(&document).iter().any(|(.., to)| to["operationId"] == link["operationId"]);
                assert!(known, "{link}");
            }
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn a_request_belongs_to_the_trace_of_its_client() {
    let test = TestApp::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let ask = |path: &str, parent: String| {
        let request = test.api.request(Method::GET, path).header("traceparent", parent);
        async { send(request).await.header("traceresponse").to_owned() }
    };
    for path in ["/livez", "/v1/orders", "/v1/nothing"] {
        let answered = ask(path, format!("00-{trace}-00f067aa0ba902b7-01")).await;
        assert!(answered.starts_with(&format!("00-{trace}-")) && answered.ends_with("-01"), "{answered}");
        assert!(!answered.contains("00f067aa0ba902b7"), "{answered}");
        let new = ask(path, format!("00-{trace}-0000000000000000-01")).await;
        assert!(new.len() == 55 && !new.contains(trace), "{new}");
        assert_ne!(new, ask(path, "nonsense".into()).await);
    }
    test.finish().await;
}
