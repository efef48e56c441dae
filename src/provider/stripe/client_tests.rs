//! What failures mean, and that options are checked and the key is never shown.

use super::*;

fn options(base_url: &str, secret_key: &str) -> StripeOptions {
    StripeOptions {
        base_url: base_url.into(),
        secret_key: secret_key.into(),
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
    }
}

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
        (403, invalid, 'R'),
        (401, invalid, 'R'),
        (401, "", 'R'),
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
    assert!(text.contains("invalid_secret_key") && !text.contains("sk_test_abc"), "{text}");
}

#[test]
fn wrong_options_are_refused() {
    for (url, key) in [
        ("", "sk_test_x"),
        ("ftp://127.0.0.1", "sk_test_x"),
        ("http://user:secret@127.0.0.1", "sk_test_x"),
        ("http://127.0.0.1/?a=b", "sk_test_x"),
        ("http://127.0.0.1", ""),
        ("http://127.0.0.1", "sk test"),
        ("http://127.0.0.1", "sk_live_x"),
    ] {
        let result = Client::new(&options(url, key)).map(|_| ());
        assert!(matches!(result, Err(ProviderError::Rejected { .. })), "{url} {key}");
    }
    assert!(Client::new(&options("https://api.stripe.com", "sk_live_x")).is_ok());
    assert!(Client::new(&options("http://127.0.0.1:1/", "sk_test_x")).is_ok());
}

#[test]
fn debug_does_not_show_the_key() {
    let text = format!("{:?}", options("http://127.0.0.1:1", "sk_test_secret"));
    assert!(text.contains("127.0.0.1:1") && !text.contains("secret"), "{text}");
}

#[test]
fn a_reference_stays_one_path_segment() {
    assert!(segment("pi_3MtwBwLkdIwHu7ix28a3tqPa").is_ok());
    for wrong in ["", "..", "a/b", "a?b", "%2e%2e", "ä"] {
        assert!(segment(wrong).is_err(), "{wrong}");
    }
}
