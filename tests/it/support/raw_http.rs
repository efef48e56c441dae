//! A client of HTTP that sends exactly the bytes it is told to, and sees how the connection ends. What is answered to a request
//! of the API is held to the API's document.

use std::{collections::VecDeque, io::ErrorKind, net::SocketAddr};

use reqwest::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{PATIENCE, contract};

/// A connection.
#[derive(Debug)]
pub(crate) struct RawHttp<S = TcpStream> {
    stream: S,
    received: Vec<u8>,
    asked: Asked,
}

/// The requests that were sent and are not answered yet.
#[derive(Debug, Default)]
struct Asked {
    requests: VecDeque<(Method, String)>,
    /// The line that is being sent.
    line: Vec<u8>,
}

impl Asked {
    /// Whatever looks like the first line of a request is one. One that does not is refused, and nothing after it is read.
    fn note(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).into_owned();
            self.line.clear();
            let parts: Vec<&str> = line.trim_end().split(' ').collect();
            if let [method, target, version] = parts[..]
                && version.starts_with("HTTP/1.")
                && let Ok(method) = method.parse()
            {
                let path = target.split('?').next().unwrap_or_default();
                self.requests.push_back((method, path.to_owned()));
            }
        }
    }

    /// Holds the answer to the oldest request to the document.
    fn check(&mut self, answer: &RawAnswer) {
        if answer.status < 200 {
            return;
        }
        let Some((method, path)) = self.requests.pop_front() else { return };
        // HEAD is answered as GET.
        let method = if method == Method::HEAD { Method::GET } else { method };
        let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let code = problem["code"].as_str().filter(|_| answer.status >= 400);
        contract::assert_documented(contract::known(), (&method, &path), answer.status, code);
    }
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// How a server ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It says that nothing more will come.
    Closed,
    /// It gives the connection up, and with it what the client has not read.
    Reset,
}

impl RawHttp {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        contract::document(&format!("http://{address}")).await;
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// What a client gets that sends these bytes: one answer, and the end.
    pub(crate) async fn last_answer(address: SocketAddr, bytes: &[u8]) -> RawAnswer {
        let mut client = Self::connect(address).await;
        client.send(bytes).await;
        client.ends_with_answer().await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawHttp<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, received: Vec::new(), asked: Asked::default() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send(bytes).await, "the connection is closed");
    }

    /// Gives whether the connection takes the bytes.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.asked.note(bytes.as_ref());
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("the bytes are taken").is_ok()
    }

    /// The next answer, with a body if it has a length and the request was not HEAD.
    pub(crate) async fn answer(&mut self) -> RawAnswer {
        self.read_answer(true).await
    }

    /// The next answer, to HEAD.
    pub(crate) async fn answer_to_head(&mut self) -> RawAnswer {
        self.read_answer(false).await
    }

    /// The last answer, after which the server closes.
    pub(crate) async fn ends_with_answer(&mut self) -> RawAnswer {
        let answer = self.answer().await;
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        let (rest, ending) = self.rest().await;
        assert_eq!((rest.as_str(), ending), ("", Ending::Closed), "{answer:?}");
        answer
    }

    /// Whatever comes until the end, and how that is.
    pub(crate) async fn rest(&mut self) -> (String, Ending) {
        loop {
            match self.receive().await {
                Ok(0) => break (self.take(self.received.len()), Ending::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    break (self.take(self.received.len()), Ending::Reset);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn receive(&mut self) -> std::io::Result<usize> {
        timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await.expect("an answer or the end")
    }

    async fn read_answer(&mut self, with_body: bool) -> RawAnswer {
        let length = self
            .until(|received| received.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4));
        let length = length.await;
        let head = self.take(length).to_ascii_lowercase();
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer: {head}"));
        let mut answer = RawAnswer { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if with_body {
            let length = self.until(|received| (received.len() >= length).then_some(length)).await;
            answer.body = self.take(length);
        }
        self.asked.check(&answer);
        answer
    }

    /// Reads until `complete` finds the length of what it looks for.
    async fn until(&mut self, complete: impl Fn(&[u8]) -> Option<usize>) -> usize {
        loop {
            if let Some(length) = complete(&self.received) {
                return length;
            }
            let received = self.receive().await.unwrap();
            let sofar = String::from_utf8_lossy(&self.received);
            assert!(received > 0, "the connection ended within an answer: {sofar:?}");
        }
    }

    fn take(&mut self, length: usize) -> String {
        String::from_utf8(self.received.drain(..length).collect()).unwrap()
    }
}

impl RawAnswer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::trim)
    }

    /// The problem document of an answer with this status and code.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        let found = (self.status, problem["status"].as_u64(), problem["code"].as_str());
        assert_eq!(found, (status, Some(status.into()), Some(code)), "{self:?}");
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{self:?}");
        problem
    }
}
