//! What holds for every operation that takes a body: the list is the API's own document, so nobody can forget one.

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use reqwest::{
    Method, RequestBuilder,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ORDER, pointers, prepared};
use crate::support::{
    api::{Api, send},
    app::TestApp,
};

/// An operation that takes a JSON body.
#[derive(Debug)]
struct Operation {
    method: Method,
    path: String,
    /// The body that the document shows.
    example: Value,
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn request(&self, api: &Api) -> RequestBuilder {
        let request = api.request(self.method.clone(), &self.path);
        request.header("Idempotency-Key", Uuid::now_v7().to_string())
    }

    fn json(&self, api: &Api, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.request(api).header(CONTENT_TYPE, "application/json").body(body)
    }
}

/// Every operation with a JSON body, its path with ids of nothing.
async fn operations(api: &Api) -> Vec<Operation> {
    let document = send(api.bare(Method::GET, "/openapi.json")).await.expect(200);
    let schema = |schema: &Value| match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).unwrap().clone(),
        None => schema.clone(),
    };
    let mut operations = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            if operation["security"][0].as_object().is_none_or(serde_json::Map::is_empty) || body.is_null() {
                continue;
            }
            let mut path = template.clone();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let shown = schema(&parameter["schema"])["example"].as_str().unwrap_or("x").to_owned();
                path = path.replace(&format!("{{{}}}", parameter["name"].as_str().unwrap()), &shown);
            }
            let example = schema(body)["example"].clone();
            assert!(example.is_object() && !path.contains('{'), "{method} {path}: {example}");
            operations.push(Operation { method: method.to_uppercase().parse().unwrap(), path, example });
        }
    }
    assert!(operations.len() > 15, "{operations:?}");
    operations
}

#[tokio::test]
async fn no_operation_takes_a_field_that_it_does_not_know() {
    let (test, before) = prepared().await;
    for operation in operations(&test.api).await {
        // What somebody would set who wants to be another client, or to have paid.
        for field in
            ["api_key_id", "client_id", "version", "created_at", "price", "constructor", "a\u{202e}b"]
        {
            let mut body = operation.example.clone();
            body[field] = json!("x");
            let answer = send(operation.json(&test.api, body.to_string())).await;
            let name = operation.name();
            assert_eq!((answer.status, answer.code()), (422, "validation_failed"), "{name}: {}", answer.text);
            assert_eq!(pointers(&answer), [format!("/{field}")], "{name}");
        }
    }
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}

#[tokio::test]
async fn every_operation_refuses_what_is_no_object_of_json() {
    let (test, before) = prepared().await;
    for operation in operations(&test.api).await {
        let name = operation.name();
        let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
        for body in ["{", "{}{}", "{\"a\":1e400}", "{'a':1}", "\u{feff}{}", "\0", &deep] {
            let answer = send(operation.json(&test.api, body.to_owned())).await;
            let shown: String = body.chars().take(20).collect();
            assert_eq!(
                (answer.status, answer.code()),
                (400, "malformed_json"),
                "{name} {shown}: {}",
                answer.text
            );
        }
        for body in ["[]", "null", "7", "\"x\"", "true"] {
            let answer = send(operation.json(&test.api, body)).await;
            assert_eq!(
                (answer.status, answer.code()),
                (422, "validation_failed"),
                "{name} {body}: {}",
                answer.text
            );
        }
        for media_type in ["text/plain", "application/xml", "multipart/form-data"] {
            let typed = operation.request(&test.api).header(CONTENT_TYPE, media_type);
            send(typed.body(operation.example.to_string())).await.problem(415, "unsupported_media_type");
        }
        let large = format!("{}{}", " ".repeat(64 * 1024), operation.example);
        send(operation.json(&test.api, large)).await.problem(413, "body_too_large");
        if operation.method == Method::POST {
            let bare = || test.api.request(Method::POST, &operation.path).json(&operation.example);
            send(bare()).await.problem(400, "idempotency_key_missing");
            for key in [&b"\xe2\x80\xae"[..], b"a\tb", &[b'k'; 256]] {
                let key = HeaderValue::from_bytes(key).unwrap();
                send(bare().header("Idempotency-Key", key)).await.problem(400, "idempotency_key_invalid");
            }
        }
    }
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}

/// Bytes of a good order, changed at random. Whatever comes out is an order or a problem, and never the fault of the service.
#[tokio::test]
async fn an_order_with_any_bytes_changed_is_placed_or_refused() {
    let test = TestApp::start().await;
    test.stock("a", 1_000_000).await;
    let mut random = SmallRng::seed_from_u64(4711);
    let alphabet = b"\"\\{}[]:,0-.eEu/ \n\t\x00\x7f\xc3\xff'<%";
    let (mut placed, mut refused) = (0, 0);
    for _ in 0..400 {
        let mut body = ORDER.as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            if body.is_empty() {
                break;
            }
            let at = random.random_range(0..body.len());
            let byte = alphabet[random.random_range(0..alphabet.len())];
            match random.random_range(0..4) {
                0 => body.insert(at, byte),
                1 => drop(body.remove(at)),
                2 => body.truncate(at + 1),
                _ => body[at] = byte,
            }
        }
        let shown = String::from_utf8_lossy(&body).into_owned();
        let request = test.api.request(Method::POST, "/v1/orders").header(CONTENT_TYPE, "application/json");
        let answer = send(request.header("Idempotency-Key", Uuid::now_v7().to_string()).body(body)).await;
        match (answer.status, answer.code()) {
            (201, "") => placed += 1,
            (400, "malformed_json") | (422, "validation_failed" | "unknown_sku") => refused += 1,
            _ => panic!("{shown:?}: {}", answer.text),
        }
    }
    assert!(placed > 0 && refused > 200, "{placed} placed, {refused} refused");
    assert_eq!(test.count("SELECT count(*) FROM orders").await, placed);
    assert_eq!(test.count("SELECT count(*) FROM idempotency_key").await, placed);
    test.finish().await;
}

#[tokio::test]
async fn characters_that_change_how_a_text_looks_are_refused_in_names() {
    let (test, before) = prepared().await;
    for text in ["a\u{202e}b", "a\u{1b}[31m", "a\r\nb", "a\u{200b}", "\u{feff}a"] {
        let body = ORDER.replace(r#""sku":"a""#, &format!(r#""sku":{}"#, json!(text)));
        let answer = test.api.post_text("/v1/orders", body).await;
        assert_eq!(pointers(&answer), ["/lines/0/sku"], "{text:?}: {}", answer.text);
        answer.problem(422, "validation_failed");
        let path = url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let answer = test.api.put(&format!("/v1/inventory/{path}/main"), &json!({ "on_hand": 1 })).await;
        answer.problem(422, "validation_failed");
    }
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}
