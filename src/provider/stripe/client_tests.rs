//! Options are checked, the key is never shown, and no reference leaves its place.

use super::*;

fn options(base_url: &str, secret_key: &str) -> StripeOptions {
    StripeOptions {
        base_url: base_url.into(),
        secret_key: secret_key.into(),
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
    }
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
