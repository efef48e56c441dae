//! The check of a request's head as it came, before hyper sees it. Decides where the request ends.
//!
//! hyper takes what can be read one way or another: a bare LF as the end of a line, a `Content-Length` beside a
//! `Transfer-Encoding`, a `Host` that is missing. A proxy in front may read the same bytes the other way, and the rest of
//! one client's request becomes the beginning of another's (request smuggling). So whatever can be read in two ways is
//! refused here, and what is left has one end that every reader agrees on.
//!
//! Invariant: hyper accepts each head that passes, with the same framing. The parser is hyper's own, so both see the same
//! lines; a test of random heads holds them together.

use std::{mem::MaybeUninit, ops::BitOr, str};

use axum::http::{Method, Uri, uri::PathAndQuery};

use super::refusal::Refusal::{self, HeadTooLarge, Malformed, TargetTooLong, TooManyHeaders};

/// The most header lines, which is also hyper's limit.
const HEADERS: usize = 100;

/// The longest request target; RFC 9110 asks for 8,000 at least.
pub(super) const TARGET: usize = 8 * 1024;

/// Where a request whose head was found good ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// After so many bytes, counted from the first of its head.
    After(u64),
    /// Only the decoder of the chunks knows.
    OfChunks,
}

/// Looks at what has been received of a head. `None`: more is needed. `looked_at` is how much of it an earlier look has
/// seen, so that a head that comes byte by byte is not parsed anew for each.
pub(super) fn examine(received: &[u8], looked_at: &mut usize, limit: usize) -> Option<Result<End, Refusal>> {
    let seen = std::mem::replace(looked_at, received.len());
    if seen > 0 && !ends_within(&received[seen.saturating_sub(3)..]) && received.len() <= limit {
        return None;
    }
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(received, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length <= limit => {
            Some(check(&request, &received[..length]))
        }
        Ok(httparse::Status::Partial) if received.len() < limit => None,
        Ok(_) => {
            let target = request.path.map_or_else(|| first_line(received), str::len);
            Some(Err(if target > TARGET { TargetTooLong } else { HeadTooLarge }))
        }
        Err(httparse::Error::TooManyHeaders) => Some(Err(TooManyHeaders)),
        Err(httparse::Error::Version) => Some(Err(Malformed("the version must be HTTP/1.1 or HTTP/1.0"))),
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
            Some(Err(Malformed("a header line is malformed")))
        }
        Err(_) => Some(Err(Malformed("the request line is malformed"))),
    }
}

/// Whether an empty line stands in these bytes.
fn ends_within(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

fn first_line(received: &[u8]) -> usize {
    received.iter().position(|byte| *byte == b'\n').unwrap_or(received.len())
}

/// What the headers say about the body and the host.
#[derive(Default)]
struct Seen<'a> {
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
}

fn check(request: &httparse::Request<'_, '_>, head: &[u8]) -> Result<End, Refusal> {
    // Lines end with CR LF: some readers do not take a bare LF as an end. Without a branch, so that it is done for many
    // bytes at a time.
    let pairs = head.iter().zip(head.get(1..).unwrap_or_default());
    let bare = |(before, byte): (&u8, &u8)| u8::from(*byte == b'\n') & u8::from(*before != b'\r');
    if pairs.map(bare).fold(0, BitOr::bitor) != 0 || head.first() == Some(&b'\n') {
        return Err(Malformed("a line must end with CR LF"));
    }
    let seen = collect(request.headers)?;
    let target = request.path.unwrap_or_default();
    if target.len() > TARGET {
        return Err(TargetTooLong);
    }
    // Invariant: a complete head has a version, 0 or 1.
    let http_11 = request.version == Some(1);
    check_host(seen.host, http_11)?;
    check_target(request.method.unwrap_or_default(), target, seen.host)?;
    match (seen.length, seen.coding) {
        (Some(_), Some(_)) => {
            Err(Malformed("Content-Length and Transfer-Encoding must not be given together"))
        }
        (None, Some(_)) if !http_11 => Err(Malformed("HTTP/1.0 knows no Transfer-Encoding")),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(End::OfChunks),
        (None, Some(_)) => Err(Malformed("Transfer-Encoding must be chunked")),
        (length, None) => {
            let length = length.map_or(Some(0), content_length);
            let length = length.ok_or(Malformed("Content-Length must be a number of bytes"))?;
            Ok(End::After(head.len() as u64 + length))
        }
    }
}

/// The headers that must be given once at most.
fn collect<'a>(headers: &[httparse::Header<'a>]) -> Result<Seen<'a>, Refusal> {
    let mut seen = Seen::default();
    for header in headers {
        // By length first: most headers are none of these.
        let (slot, twice) = match header.name.len() {
            4 if header.name.eq_ignore_ascii_case("host") => (&mut seen.host, "Host must be given once"),
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                (&mut seen.length, "Content-Length must be given once")
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                (&mut seen.coding, "Transfer-Encoding must be given once")
            }
            _ => continue,
        };
        if slot.replace(header.value).is_some() {
            return Err(Malformed(twice));
        }
    }
    Ok(seen)
}

/// Digits alone, and few enough that no sum with them overflows.
fn content_length(value: &[u8]) -> Option<u64> {
    let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(value).ok()?.parse().ok()).flatten()
}

fn check_host(host: Option<&[u8]>, http_11: bool) -> Result<(), Refusal> {
    let Some(host) = host else {
        return if http_11 { Err(Malformed("Host is missing")) } else { Ok(()) };
    };
    let usual = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]%~!$&'()*+;=".contains(byte);
    if host.iter().all(usual) { Ok(()) } else { Err(Malformed("Host must be host or host:port")) }
}

/// A path; or, for the sake of proxies, a whole URL whose host is the one that `Host` names.
fn check_target(method: &str, target: &str, host: Option<&[u8]>) -> Result<(), Refusal> {
    let wrong = Malformed("the request target must be a path, percent-encoded");
    if !target.is_ascii() || target.contains('#') {
        return Err(wrong);
    }
    if target.starts_with('/') {
        return PathAndQuery::try_from(target).map(|_| ()).map_err(|_| wrong);
    }
    if target == "*" && method == Method::OPTIONS.as_str() {
        return Ok(());
    }
    let url = Uri::try_from(target).map_err(|_| wrong)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || method == Method::CONNECT.as_str() {
        return Err(wrong);
    }
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority.as_bytes())) {
        return Err(Malformed("Host and the host of the request target must be the same"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
