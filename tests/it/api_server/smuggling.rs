//! Request smuggling: what could end at two places is refused, and what follows is never taken for a request.

use super::{BODY, LIVEZ, Served};
use crate::support::raw_http::RawHttp;

#[tokio::test]
async fn what_could_end_at_two_places_is_refused_and_the_connection_closed() {
    let served = Served::start(|_| {}).await;
    let smuggled = served.whole_put("smuggled");
    let length = format!("Content-Length: {}", BODY.len());
    let (both, coding) = (
        "Content-Length and Transfer-Encoding must not be given together",
        "Transfer-Encoding must be chunked",
    );
    let line = "a header line is malformed";
    for (headers, detail) in [
        (format!("{length}\r\nTransfer-Encoding: chunked"), both),
        (format!("Transfer-Encoding: chunked\r\n{length}"), both),
        (format!("Transfer-Encoding: identity\r\n{length}"), both),
        (format!("{length}\r\nContent-Length: 0"), "Content-Length must be given once"),
        (format!("{length}\r\n{length}"), "Content-Length must be given once"),
        (format!("{length}, {}", BODY.len()), "Content-Length must be a number of bytes"),
        ("Content-Length: +13".into(), "Content-Length must be a number of bytes"),
        ("Transfer-Encoding: chunked, identity".into(), coding),
        ("Transfer-Encoding: identity, chunked".into(), coding),
        ("Transfer-Encoding: xchunked".into(), coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x".into(), "Transfer-Encoding must be given once"),
        ("Transfer-Encoding:\r\n chunked".into(), line),
        ("Transfer-Encoding : chunked".into(), line),
        (format!("{length}\r\nX-Bad: a\0b"), line),
        (format!("{length}\r\nX-Bad: a\rb"), line),
        (format!("{length}\r\nX-Bad: a\nTransfer-Encoding: chunked"), "a line must end with CR LF"),
        (format!("{length}\r\nHost: other"), "Host must be given once"),
    ] {
        let request = served.put("first", &headers);
        // As a body in chunks, and as one with a length: neither reading finds a request behind it.
        for rest in [format!("{BODY}{smuggled}"), format!("0\r\n\r\n{smuggled}")] {
            let answer = RawHttp::last_answer(served.address, format!("{request}{rest}").as_bytes()).await;
            assert_eq!(answer.problem(400, "malformed_request")["detail"], detail, "{headers:?}");
        }
    }
    assert_eq!(served.levels().await, 0);
    served.finish().await;
}

#[tokio::test]
async fn the_request_line_and_the_host_are_held_to_the_letter() {
    let served = Served::start(|_| {}).await;
    let smuggled = served.whole_put("smuggled");
    let target = "the request target must be a path, percent-encoded";
    for (head, detail) in [
        ("GET /livez HTTP/1.1\r\n", "Host is missing"),
        ("GET /livez HTTP/1.1\r\nHost: a b\r\n", "Host must be host or host:port"),
        ("POST /v1/orders HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", "HTTP/1.0 knows no Transfer-Encoding"),
        (
            "GET http://other/livez HTTP/1.1\r\nHost: api\r\n",
            "Host and the host of the request target must be the same",
        ),
        ("GET /livez HTTP/1.1\nHost: api\r\n", "a line must end with CR LF"),
        ("GET /livez HTTP/2.0\r\nHost: api\r\n", "the version must be HTTP/1.1 or HTTP/1.0"),
        ("PRI * HTTP/2.0\r\n", "the version must be HTTP/1.1 or HTTP/1.0"),
        ("GET /livez\r\n", "the request line is malformed"),
        ("GET  /livez HTTP/1.1\r\nHost: api\r\n", "the request line is malformed"),
        ("CONNECT api:80 HTTP/1.1\r\nHost: api\r\n", target),
        ("GET * HTTP/1.1\r\nHost: api\r\n", target),
        ("GET /livez#top HTTP/1.1\r\nHost: api\r\n", target),
        ("GET /v1/orders/\u{f6} HTTP/1.1\r\nHost: api\r\n", target),
    ] {
        let answer = RawHttp::last_answer(served.address, format!("{head}\r\n{smuggled}").as_bytes()).await;
        assert_eq!(answer.problem(400, "malformed_request")["detail"], detail, "{head:?}");
    }
    // The same host in both places is what a proxy may send.
    let mut client = served.connect().await;
    client.send("GET http://API/livez HTTP/1.1\r\nHost: api\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET /livez HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(served.levels().await, 0);
    served.finish().await;
}

#[tokio::test]
async fn a_body_in_chunks_is_taken_and_is_the_last_of_its_connection() {
    let served = Served::start(|_| {}).await;
    let chunked = served.put("chunked", "Transfer-Encoding: chunked");
    let smuggled = served.whole_put("smuggled");
    for (sku, chunks) in [
        ("one", format!("d\r\n{BODY}\r\n0\r\n\r\n")),
        ("two", format!("1\r\n{}\r\nC;x=y\r\n{}\r\n0\r\nTrailer: z\r\n\r\n", &BODY[..1], &BODY[1..])),
    ] {
        let request = chunked.replace("/chunked/", &format!("/{sku}/"));
        let answer =
            RawHttp::last_answer(served.address, format!("{request}{chunks}{smuggled}").as_bytes()).await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
    }
    assert_eq!(served.levels().await, 2);
    for chunks in [
        format!("d \t x\r\n{BODY}\r\n0\r\n\r\n"),
        format!("0x1\r\n{BODY}\r\n0\r\n\r\n"),
        format!("+d\r\n{BODY}\r\n0\r\n\r\n"),
        format!("-1\r\n{BODY}\r\n0\r\n\r\n"),
        format!("d\n{BODY}\n0\n\n"),
        format!("c\r\n{BODY}\r\n0\r\n\r\n"),
        format!("fffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n"),
        format!("\r\nd\r\n{BODY}\r\n0\r\n\r\n"),
        format!("d;x=\ny\r\n{BODY}\r\n0\r\n\r\n"),
        format!("d\r\n{BODY}0\r\n\r\n"),
    ] {
        let bytes = format!("{chunked}{chunks}{smuggled}");
        let answer = RawHttp::last_answer(served.address, bytes.as_bytes()).await;
        answer.problem(400, "malformed_request");
    }
    assert_eq!(served.levels().await, 2);
    served.finish().await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_not_the_next_request() {
    let served = Served::start(|_| {}).await;
    let smuggled = served.whole_put("smuggled");
    // Small ones are passed over; what follows is answered in its turn.
    let with_body = |line: &str| {
        let length = smuggled.len();
        format!("{line} HTTP/1.1\r\nHost: api\r\nContent-Length: {length}\r\n\r\n{smuggled}")
    };
    for (line, status) in [("GET /livez", 200), ("POST /v1/orders", 401), ("DELETE /x", 404)] {
        let mut client = served.connect().await;
        client.send(format!("{}{LIVEZ}", with_body(line))).await;
        assert_eq!(client.answer().await.status, status, "{line}");
        assert_eq!(client.answer().await.body, r#"{"status":"ok"}"#, "{line}");
    }
    assert_eq!(served.levels().await, 0);
    served.finish().await;
}
