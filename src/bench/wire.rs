//! HTTP/1.1 as the load generator speaks it: requests that were rendered beforehand, and no more of an answer understood
//! than its status and its end.
//!
//! The generator shares its processors with the servers it measures, so each microsecond that it takes per order is one
//! that they lack. A general client would take several times as many. Knows the API of this project only: every answer
//! has a `content-length`.

use std::{net::SocketAddr, ops::Range};

use anyhow::{Context as _, bail, ensure};
use rand::RngExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// 32 hexadecimal digits, which each request gets anew: keys as random as a merchant's.
const NO_KEY: &str = "00000000000000000000000000000000";
const KEY_HEADER: &str = "Idempotency-Key: ";
const HEAD_END: &[u8] = b"\r\n\r\n";
const LENGTH_HEADER: &[u8] = b"content-length:";

/// A request but for its idempotency key.
#[derive(Debug, Clone)]
pub(super) struct Request {
    bytes: Vec<u8>,
    key_at: usize,
}

impl Request {
    /// Renders a POST.
    pub(super) fn post(path: &str, secret: &str, body: &str) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {secret}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n{KEY_HEADER}",
            body.len()
        );
        let key_at = head.len();
        Self { bytes: format!("{head}{NO_KEY}\r\n\r\n{body}").into_bytes(), key_at }
    }
}

/// One connection, kept alive.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    sending: Vec<u8>,
    received: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, sending: Vec::new(), received: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request under a new key and gives the status and body of its answer.
    pub(super) async fn send(&mut self, request: &Request) -> anyhow::Result<(u16, &[u8])> {
        let key = rand::rng().random();
        self.send_as(request, key).await
    }

    /// Sends a POST with this idempotency key.
    pub(super) async fn send_as(&mut self, request: &Request, key: u128) -> anyhow::Result<(u16, &[u8])> {
        self.sending.clear();
        self.sending.extend_from_slice(&request.bytes);
        write_hex(key, &mut self.sending[request.key_at..request.key_at + NO_KEY.len()]);
        self.stream.write_all(&self.sending).await?;
        self.receive().await
    }

    /// Sends a GET without a key.
    pub(super) async fn get(&mut self, path: &str) -> anyhow::Result<u16> {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes()).await?;
        Ok(self.receive().await?.0)
    }

    async fn receive(&mut self) -> anyhow::Result<(u16, &[u8])> {
        self.received.clear();
        let answer = loop {
            if let Some(answer) = parse(&self.received)?
                && self.received.len() >= answer.body.end
            {
                break answer;
            }
            ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the API closed the connection");
        };
        ensure!(self.received.len() == answer.body.end, "the API sent more than the answer");
        Ok((answer.status, &self.received[answer.body]))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// Where the body is, once it has all come.
    body: Range<usize>,
}

/// The answer whose head is at the beginning; `None` while the head is not complete.
fn parse(received: &[u8]) -> anyhow::Result<Option<Answer>> {
    let Some(head_length) = received.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END) else {
        return Ok(None);
    };
    let head = &received[..head_length];
    let number =
        |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse::<usize>().ok());
    let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| number(rest.get(..3)?));
    let Some(status) = status.and_then(|status| u16::try_from(status).ok()) else {
        bail!("the answer is not HTTP/1.1: {}", String::from_utf8_lossy(head));
    };
    let length = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(LENGTH_HEADER.len())?;
        name.eq_ignore_ascii_case(LENGTH_HEADER).then(|| number(value)).flatten()
    });
    let Some(length) = length else {
        bail!("the answer has no content-length: {}", String::from_utf8_lossy(head));
    };
    let start = head_length + HEAD_END.len();
    Ok(Some(Answer { status, body: start..start + length }))
}

fn write_hex(number: u128, digits: &mut [u8]) {
    let mut rest = number;
    for digit in digits {
        // Invariant: below 16.
        *digit = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_parsed_once_its_head_is_complete() {
        let answer =
            b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nContent-Length: 5\r\n\r\nhello";
        let complete = parse(answer).unwrap().unwrap();
        assert_eq!((complete.status, &answer[complete.body]), (201, b"hello".as_slice()));
        assert_eq!(parse(&answer[..30]).unwrap(), None);
        assert_eq!(parse(b"").unwrap(), None);
    }

    #[test]
    fn what_the_client_does_not_understand_is_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn the_key_is_the_only_part_that_changes() {
        let request = Request::post("/v1/orders", "hf_x", "{}");
        let mut bytes = request.bytes.clone();
        write_hex(0x0123_u128 << 112, &mut bytes[request.key_at..request.key_at + NO_KEY.len()]);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with("Idempotency-Key: 00000000000000000000000000003210\r\n\r\n{}"), "{text}");
        assert!(text.contains("Content-Length: 2\r\n"), "{text}");
    }
}
