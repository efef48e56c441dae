//! How much a client may send.

use super::{BODY, LIVEZ, Served};
use crate::support::raw_http::RawHttp;

const KIB: usize = 1024;

#[tokio::test]
async fn a_head_has_a_size_and_a_number_of_headers() {
    let served = Served::start(|_| {}).await;
    let padded = |length: usize| {
        let begin = "GET /livez HTTP/1.1\r\nHost: api\r\nX: ";
        format!("{begin}{}\r\n\r\n", "x".repeat(length - begin.len() - 4))
    };
    let headers =
        |count: usize| format!("GET /livez HTTP/1.1\r\nHost: api\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    let to = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: api\r\n\r\n", "x".repeat(length - 1));

    let mut client = served.connect().await;
    for (request, status) in [(padded(32 * KIB), 200), (headers(100), 200), (to(8 * KIB), 404)] {
        client.send(request).await;
        assert_eq!(client.answer().await.status, status);
    }
    for (request, status, code) in [
        (padded(32 * KIB + 1), 431, "headers_too_large"),
        (headers(101), 431, "headers_too_large"),
        (to(8 * KIB + 1), 414, "uri_too_long"),
        (padded(500 * KIB), 431, "headers_too_large"),
        (to(500 * KIB), 414, "uri_too_long"),
    ] {
        let answer = RawHttp::last_answer(served.address, format!("{request}{LIVEZ}").as_bytes()).await;
        answer.problem(status, code);
    }
    served.finish().await;
}

#[tokio::test]
async fn a_body_has_a_size_whether_it_is_announced_or_not() {
    let served = Served::start(|settings| settings.max_body_bytes = 2 * KIB).await;
    let body = |length: usize| format!("{}{BODY}", " ".repeat(length - BODY.len()));
    let announced = |length: usize| served.put("a", &format!("Content-Length: {length}"));
    let in_chunks = |length: usize| {
        let head = served.put("b", "Transfer-Encoding: chunked");
        format!(
            "{head}400\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            &body(length)[..KIB],
            length - KIB,
            &body(length)[KIB..]
        )
    };
    let mut client = served.connect().await;
    client.send(format!("{}{}", announced(2 * KIB), body(2 * KIB))).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(in_chunks(2 * KIB)).await;
    assert_eq!(client.answer().await.status, 200);
    let before = served.test.snapshot().await;

    for request in [
        format!("{}{}", announced(2 * KIB + 1), body(2 * KIB + 1)),
        // Much more than the buffers of a connection hold: the client is still sending when it is answered.
        format!("{}{}", announced(8_192 * KIB), body(8_192 * KIB)),
        in_chunks(2 * KIB + 1),
    ] {
        let mut client = served.connect().await;
        client.send(format!("{request}{}", served.whole_put("smuggled"))).await;
        let answer = client.ends_with_answer().await;
        let problem = answer.problem(413, "body_too_large");
        assert_eq!(problem["detail"], "the body must be at most 2048 bytes");
    }
    // Who announces too much is told so before a byte of it is sent.
    let mut client = served.connect().await;
    client.send(announced(9_000_000_000_000)).await;
    client.answer().await.problem(413, "body_too_large");
    assert_eq!(served.test.snapshot().await, before);
    served.finish().await;
}
