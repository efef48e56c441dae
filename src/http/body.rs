//! Reading the body of a request, within the limits of its route.
//!
//! Every route has the limits of the configuration. A route that takes more, the import of a stock file, says so in the
//! table of routes, by an `Extension` of its own.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody as _},
    http::request::Parts,
};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::problem::Problem;
use crate::config::Http;

/// How much a body may be, and how long all of it may take to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

impl BodyLimits {
    pub(super) fn new(settings: &Http) -> Self {
        Self { bytes: settings.max_body_bytes, time: Duration::from_millis(settings.body_timeout_ms) }
    }
}

/// Why a body was not read. What is left of it stays unread, so the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFailure {
    TooLarge {
        most: usize,
    },
    TooSlow,
    /// The connection broke, or the chunks are malformed.
    Broken,
}

/// Reads the whole body. One that announces too much is refused before a byte of it is asked for, so a client that waits
/// for `100 Continue` sends nothing.
pub(super) async fn read(parts: &Parts, body: Body) -> Result<Vec<u8>, Problem> {
    // Invariant: the router gives every request limits.
    let limits = *parts.extensions.get::<BodyLimits>().ok_or_else(Problem::internal)?;
    let announced = body.size_hint().lower();
    if announced > limits.bytes as u64 {
        return Err(BodyFailure::TooLarge { most: limits.bytes }.into());
    }
    let read = timeout(limits.time, collect(body, limits.bytes)).await;
    Ok(read.unwrap_or(Err(BodyFailure::TooSlow))?)
}

async fn collect(body: Body, most: usize) -> Result<Vec<u8>, BodyFailure> {
    let mut bytes = Vec::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| BodyFailure::Broken)?;
        if piece.len() > most - bytes.len() {
            return Err(BodyFailure::TooLarge { most });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
