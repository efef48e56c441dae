//! What OpenAPI promises: every answer that a test gets through `support::api` is held to it.

use reqwest::Method;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::sandbox::http_client;

static DOCUMENT: OnceCell<Value> = OnceCell::const_new();

/// The document of the API at this address. All that a test run starts serve the same.
pub(crate) async fn document(url: &str) -> &'static Value {
    let fetch = async || {
        let answer = http_client().get(format!("{url}/openapi.json")).send().await.unwrap();
        answer.json().await.unwrap()
    };
    DOCUMENT.get_or_init(fetch).await
}

/// The document, once a test has read it.
pub(crate) fn known() -> &'static Value {
    DOCUMENT.get().expect("a test that sends raw bytes has the document read before")
}

/// What stands here, or where it is referred to.
pub(crate) fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    document.pointer(reference.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{reference} is nothing"))
}

/// The operation of a request, if there is one.
pub(crate) fn operation<'a>(document: &'a Value, method: &Method, path: &str) -> Option<&'a Value> {
    let paths = document["paths"].as_object().unwrap();
    // Of several that match the one with the fewest parameters: `/v1/inventory/movements` before `/v1/inventory/{sku}`.
    let matching = paths.iter().filter(|(template, _)| matches(template, path));
    let (_, item) = matching.min_by_key(|(template, _)| template.matches('{').count())?;
    item.get(method.as_str().to_ascii_lowercase())
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        // A parameter is never empty.
        && template.iter().zip(&path).all(|(part, given)| part == given || part.starts_with('{') && !given.is_empty())
}

/// Fails unless the operation lists this status, and for a problem its code.
pub(crate) fn assert_documented(
    document: &Value,
    (method, path): (&Method, &str),
    status: u16,
    code: Option<&str>,
) {
    let Some(operation) = operation(document, method, path) else { return };
    let response = resolved(document, &operation["responses"][status.to_string()]);
    assert!(response.is_object(), "{method} {path} answers {status} {code:?}, which is not documented");
    if let Some(code) = code {
        let example = &response["content"]["application/problem+json"]["examples"][code];
        assert!(example.is_object(), "{method} {path} answers {status} {code}, which is not documented");
    }
}
