//! What every client of HTTP may rely on: problem documents for all errors, `Allow`, HEAD, OPTIONS, `Expect`.

use super::{BODY, LIVEZ, Served};

fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: api\r\n{headers}\r\n")
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_allowed_is_a_problem() {
    let served = Served::start(|_| {}).await;
    let key = format!("Authorization: {}\r\n", served.test.api.authorization());
    let mut client = served.connect().await;
    for (line, status, code, allow) in [
        ("GET /", 404, "unknown_route", None),
        ("GET /v1", 404, "unknown_route", None),
        ("GET /v1/orders/", 404, "unknown_route", None),
        ("GET //v1/orders", 404, "unknown_route", None),
        ("GET /v1/../livez", 404, "unknown_route", None),
        ("GET /%2e%2e/%00%0d%0a%1b[31m", 404, "unknown_route", None),
        ("GET /%ff", 404, "unknown_route", None),
        ("GET /v1/orders/%ff", 404, "not_found", None),
        ("GET /problems/none", 404, "not_found", None),
        ("GET /problems/%ff", 404, "not_found", None),
        ("POST /v1/provider-webhooks/%ff", 404, "not_found", None),
        ("GET /v1/payments/%ff", 404, "not_found", None),
        ("GET /v1/inventory/%ff/main", 422, "validation_failed", None),
        ("GET /v1/inventory/a/%ff", 422, "validation_failed", None),
        ("GET /docs/nothing", 404, "unknown_route", None),
        ("GET /docs/%ff", 404, "unknown_route", None),
        ("OPTIONS *", 404, "unknown_route", None),
        ("DELETE /v1/orders", 405, "method_not_allowed", Some("post,get,head")),
        ("OPTIONS /v1/orders", 405, "method_not_allowed", Some("post,get,head")),
        ("PATCH /v1/orders/x", 405, "method_not_allowed", Some("get,head")),
        ("GET /v1/orders/x/cancel", 405, "method_not_allowed", Some("post")),
        ("BREW /v1/inventory/a/main", 405, "method_not_allowed", Some("put,get,head")),
        ("POST /livez", 405, "method_not_allowed", Some("get,head")),
        ("POST /docs/", 405, "method_not_allowed", Some("get,head")),
        ("DELETE /problems/%ff", 405, "method_not_allowed", Some("get,head")),
        ("TRACE /metrics", 405, "method_not_allowed", Some("get,head")),
    ] {
        client.send(request(line, &key)).await;
        let answer = client.answer().await;
        let problem = answer.problem(status, code);
        assert_eq!(answer.header("allow"), allow, "{line}: {answer:?}");
        // The query and the method are no part of it.
        assert_eq!(problem["instance"], line.split(' ').nth(1).unwrap(), "{line}");
    }
    served.finish().await;
}

#[tokio::test]
async fn head_is_answered_as_get_without_the_body() {
    let served = Served::start(|_| {}).await;
    let mut client = served.connect().await;
    for (path, status) in
        [("/livez", 200), ("/nothing", 404), ("/v1/orders", 401), ("/v1/orders/x/cancel", 405)]
    {
        client.send(request(&format!("HEAD {path}"), "")).await;
        assert_eq!(client.answer_to_head().await.status, status, "{path}");
    }
    // Had a body come, it would stand before this answer.
    client.send(LIVEZ).await;
    assert_eq!(client.answer().await.body, r#"{"status":"ok"}"#);
    served.finish().await;
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_the_body_is_asked_only_if_it_is_wanted() {
    let served = Served::start(|_| {}).await;
    let length = format!("Content-Length: {}\r\nExpect: 100-continue", BODY.len());
    let mut client = served.connect().await;
    client.send(served.put("asked", &length)).await;
    let interim = client.answer_to_head().await;
    assert_eq!(interim.status, 100);
    client.send(BODY).await;
    assert_eq!(client.answer().await.status, 200);

    // Refused by its headers alone: the first answer is the last.
    let wrong_key = served.put("refused", &length).replace("Bearer hf_", "Bearer xx_");
    let wrong_type = served.put("refused", &length).replace("application/json", "text/plain");
    let too_large = served.put("refused", "Content-Length: 9999999\r\nExpect: 100-continue");
    for (request, status, code) in [
        (wrong_key, 401, "unauthenticated"),
        (wrong_type, 415, "unsupported_media_type"),
        (too_large, 413, "body_too_large"),
    ] {
        let mut client = served.connect().await;
        client.send(request).await;
        client.answer().await.problem(status, code);
        // A client that waits has sent no body, so where the next request begins is in doubt: there is none.
        assert_eq!(client.rest().await.0, "", "{code}");
    }
    assert_eq!(served.levels().await, 1);
    served.finish().await;
}
