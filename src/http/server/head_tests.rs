//! Which heads pass, and where their requests end.

use super::*;

const LIMIT: usize = 32 * 1024;

fn look(head: &str) -> Option<Result<End, Refusal>> {
    look_at(head.as_bytes())
}

fn look_at(head: &[u8]) -> Option<Result<End, Refusal>> {
    examine(head, &mut 0, LIMIT)
}

/// What is wrong with a head.
fn malformed(head: &str) -> &'static str {
    match look(head) {
        Some(Err(Malformed(detail))) => detail,
        other => panic!("{head:?}: {other:?}"),
    }
}

#[test]
fn a_request_ends_where_its_length_says() {
    let head = "POST / HTTP/1.1\r\nHost: a:80\r\ncontent-LENGTH:  12 \r\n\r\n";
    let end = |body: u64| Some(Ok(End::After(head.len() as u64 + body)));
    assert_eq!(look(head), end(12));
    assert_eq!(look(&format!("{head}GET /other")), end(12));
    assert_eq!(look(&head[..head.len() - 1]), None);
    assert_eq!(look("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Ok(End::After(27))));
    assert_eq!(look("GET / HTTP/1.0\r\n\r\n"), Some(Ok(End::After(18))));
    // One empty line before a request is allowed.
    assert_eq!(look("\r\nGET / HTTP/1.0\r\n\r\n"), Some(Ok(End::After(20))));
    assert_eq!(
        look("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"),
        Some(Ok(End::OfChunks))
    );
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let with = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
    let together = "Content-Length and Transfer-Encoding must not be given together";
    let length = "Content-Length must be a number of bytes";
    let coding = "Transfer-Encoding must be chunked";
    for (lines, detail) in [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", together),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3", together),
        ("Transfer-Encoding: chunked\r\nContent-Length: x", together),
        ("Content-Length: 3\r\nContent-Length: 4", "Content-Length must be given once"),
        ("Content-Length: 3\r\nContent-Length: 3", "Content-Length must be given once"),
        ("Content-Length: 3, 3", length),
        ("Content-Length: +3", length),
        ("Content-Length: -3", length),
        ("Content-Length: 0x3", length),
        ("Content-Length: 3 4", length),
        ("Content-Length:", length),
        ("Content-Length: 18446744073709551616", length),
        ("Transfer-Encoding: chunked, identity", coding),
        ("Transfer-Encoding: identity, chunked", coding),
        ("Transfer-Encoding: chunked, chunked", coding),
        ("Transfer-Encoding: xchunked", coding),
        ("Transfer-Encoding: \"chunked\"", coding),
        ("Transfer-Encoding:", coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding must be given once"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "Transfer-Encoding must be given once"),
        ("Transfer-Encoding:\u{b}chunked", "a header line is malformed"),
        ("Transfer-Encoding : chunked", "a header line is malformed"),
        ("Transfer-Encoding:\r\n chunked", "a header line is malformed"),
        (" Transfer-Encoding: chunked", "a header line is malformed"),
        ("X: a\r\n b", "a header line is malformed"),
        ("X: a\0b", "a header line is malformed"),
        ("X: a\rb", "a header line is malformed"),
        ("X\0: a", "a header line is malformed"),
        ("no colon", "a header line is malformed"),
        (": a", "a header line is malformed"),
        ("X: a\nY: b", "a line must end with CR LF"),
        ("Host: a", "Host must be given once"),
        ("Host: b", "Host must be given once"),
    ] {
        assert_eq!(malformed(&with(lines)), detail, "{lines:?}");
    }
    assert_eq!(malformed("GET / HTTP/1.1\nHost: a\r\n\r\n"), "a line must end with CR LF");
    assert_eq!(malformed("GET / HTTP/1.1\r\nHost: a\n\n"), "a line must end with CR LF");
    assert_eq!(malformed("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), "a line must end with CR LF");
    assert_eq!(
        malformed("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "HTTP/1.0 knows no Transfer-Encoding"
    );
}

#[test]
fn the_host_is_one_and_the_target_is_of_it() {
    assert_eq!(malformed("GET / HTTP/1.1\r\n\r\n"), "Host is missing");
    let host = "Host must be host or host:port";
    for value in ["a b", "a/b", "u@a", "a,b", "a\"", "h\u{f6}st"] {
        assert_eq!(malformed(&format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n")), host, "{value}");
    }
    let to = |method: &str, target: &str| format!("{method} {target} HTTP/1.1\r\nHost: a:80\r\n\r\n");
    let target = "the request target must be a path, percent-encoded";
    for (method, path) in [
        ("GET", "*"),
        ("GET", "a:80"),
        ("GET", "orders"),
        ("CONNECT", "a:80"),
        ("CONNECT", "http://a:80/"),
        ("GET", "ftp://a:80/"),
        ("GET", "/a#b"),
        ("GET", "/\u{f6}"),
        ("GET", "//a:80/ö"),
        ("GET", "http://"),
    ] {
        assert_eq!(malformed(&to(method, path)), target, "{path}");
    }
    for (method, path) in [("GET", "http://A:80/x"), ("GET", "/?a[]=b"), ("GET", "//x"), ("OPTIONS", "*")] {
        assert!(matches!(look(&to(method, path)), Some(Ok(End::After(_)))), "{path}");
    }
    for other in ["http://b:80/x", "http://a/x", "http://u@a:80/x", "http://a:80.b/"] {
        let same = "Host and the host of the request target must be the same";
        assert_eq!(malformed(&to("GET", other)), same, "{other}");
    }
    assert!(matches!(look("GET http://b/ HTTP/1.0\r\n\r\n"), Some(Ok(_))));
}

#[test]
fn what_is_no_http_is_refused_before_it_ends() {
    let version = "the version must be HTTP/1.1 or HTTP/1.0";
    let line = "the request line is malformed";
    for (start, detail) in [
        ("PRI * HTTP/2.0\r\n", version),
        ("GET / HTTP/3.0\r\n", version),
        ("GET / http/1.1\r\n", version),
        ("GET  / HTTP/1.1\r\n", line),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}", line),
        ("G\0T / HTTP/1.1\r\n", line),
        ("GET /a\u{7f}b HTTP/1.1\r\n", line),
        ("GET /a\tb HTTP/1.1\r\n", line),
    ] {
        assert_eq!(malformed(start), detail, "{start:?}");
    }
}

#[test]
fn what_is_too_much_is_told_apart() {
    let headers = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert!(matches!(look(&headers(100)), Some(Ok(_))));
    assert_eq!(look(&headers(101)), Some(Err(TooManyHeaders)));

    let of_length = |length: usize| {
        let begin = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{begin}{}\r\n\r\n", "x".repeat(length - begin.len() - 4))
    };
    assert!(matches!(look(&of_length(LIMIT)), Some(Ok(_))));
    assert_eq!(look(&of_length(LIMIT + 1)), Some(Err(HeadTooLarge)));
    assert_eq!(look(&of_length(2 * LIMIT)[..LIMIT]), Some(Err(HeadTooLarge)));

    let to = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));
    assert!(matches!(look(&to(TARGET)), Some(Ok(_))));
    assert_eq!(look(&to(TARGET + 1)), Some(Err(TargetTooLong)));
    assert_eq!(look(&to(2 * LIMIT)), Some(Err(TargetTooLong)));
    assert_eq!(look(&to(2 * LIMIT)[..LIMIT]), Some(Err(TargetTooLong)));
}

#[test]
fn a_head_that_comes_byte_by_byte_is_seen_when_it_is_whole() {
    for head in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut looked_at = 0;
        for length in 1..head.len() {
            assert_eq!(examine(&head.as_bytes()[..length], &mut looked_at, LIMIT), None, "{length}");
        }
        let whole = examine(head.as_bytes(), &mut looked_at, LIMIT);
        assert_eq!(whole, Some(Ok(End::After(head.len() as u64))));
    }
}
