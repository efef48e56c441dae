//! Each status and body, and what it says about the effect.

use super::*;

/// The outcome by its first letter: Unknown, Available not, Rejected.
fn outcome(status: u16, body: &str) -> char {
    let status = StatusCode::from_u16(status).unwrap();
    match classify(status, body.as_bytes(), "POST /x").into() {
        ProviderError::Unknown(_) => 'U',
        ProviderError::Unavailable(_) => 'A',
        ProviderError::Rejected { .. } => 'R',
    }
}

#[test]
fn each_failure_says_whether_it_took_effect() {
    let invalid = r#"{"error":{"type":"invalid_request_error","code":"amount_too_small","message":"m"}}"#;
    let in_use =
        r#"{"error":{"type":"invalid_request_error","code":"idempotency_key_in_use","message":"m"}}"#;
    let other_parameters = r#"{"error":{"type":"idempotency_error","message":"m"}}"#;
    let locked = r#"{"error":{"type":"invalid_request_error","code":"lock_timeout","message":"m"}}"#;
    let expected = [
        (400, invalid, 'R'),
        (404, invalid, 'R'),
        (403, invalid, 'A'),
        (401, invalid, 'A'),
        (401, "", 'A'),
        (400, other_parameters, 'U'),
        (409, other_parameters, 'U'),
        (409, in_use, 'U'),
        (400, "<html>", 'U'),
        (404, "", 'U'),
        (302, "", 'U'),
        (424, invalid, 'U'),
        (408, "", 'U'),
        (429, locked, 'A'),
        (429, "", 'A'),
        (500, r#"{"error":{"type":"api_error"}}"#, 'U'),
        (502, "bad gateway", 'U'),
        (503, "", 'U'),
    ];
    for (status, body, kind) in expected {
        assert_eq!(outcome(status, body), kind, "{status} {body}");
    }
}

#[test]
fn a_refused_key_is_named_but_not_shown() {
    let body =
        br#"{"error":{"type":"invalid_request_error","message":"Invalid API Key provided: sk_test_abc"}}"#;
    let text = ProviderError::from(classify(StatusCode::UNAUTHORIZED, body, "GET /x")).to_string();
    assert!(text.contains("the configured secret key") && !text.contains("sk_test_abc"), "{text}");
}
