//! Answers to requests that count once, stored in the transaction of their effect.

use serde::Serialize;

use super::{App, Error};
use crate::{
    planted::{self, Fault},
    store::{
        self, Conn,
        idempotency::{self, IdempotentRequest, StoredAnswer},
    },
};

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body, JSON.
    pub body: String,
    /// Whether the request had taken effect before.
    pub replayed: bool,
}

impl Answer {
    /// The answer to a request that took effect just now.
    pub(super) const fn now(request: &IdempotentRequest, body: String) -> Self {
        Self { status: request.success_status, body, replayed: false }
    }
}

/// What became of a request: it was done now, or before, under its idempotency key.
#[derive(Debug, Clone)]
pub enum Once<T> {
    /// Done now.
    Now(T),
    /// What was answered when it was done.
    Before(Answer),
}

/// What [`find`] gives, for a request that may have no key: of the command line.
pub(super) async fn find_if_keyed(
    conn: &mut Conn,
    request: Option<&IdempotentRequest>,
) -> Result<Option<Answer>, Error> {
    match request {
        Some(request) => find(conn, request).await,
        None => Ok(None),
    }
}

/// The answer that this request has got before, if it took effect; an error if the key belongs to another request.
pub(super) async fn find(conn: &mut Conn, request: &IdempotentRequest) -> Result<Option<Answer>, Error> {
    let stored = idempotency::find(conn, request).await?;
    stored.map(|stored| replay(request, stored)).transpose()
}

/// The stored answer, if it was the answer to this request.
pub(super) fn replay(request: &IdempotentRequest, stored: StoredAnswer) -> Result<Answer, Error> {
    if stored.fingerprint != request.fingerprint {
        return Err(Error::IdempotencyKeyReused);
    }
    Ok(Answer { status: stored.status, body: stored.body, replayed: true })
}

/// Stores the answer as the last write of the transaction.
///
/// Where another transaction took effect with this key first, this one must not commit: the error makes the caller roll
/// back and try again, and then [`find`] gives it the other's answer.
pub(super) async fn store(
    conn: &mut Conn,
    request: &IdempotentRequest,
    body: &impl Serialize,
) -> Result<Answer, Error> {
    let body = to_json(body)?;
    if !planted::is_on(Fault::NoIdempotencyRow) && !idempotency::insert(conn, request, &body).await? {
        return Err(took_effect_elsewhere());
    }
    Ok(Answer::now(request, body))
}

/// The same for several requests, none twice, with the body of each.
pub(super) async fn store_all(
    conn: &mut Conn,
    answers: &[(&IdempotentRequest, String)],
) -> Result<(), Error> {
    if !planted::is_on(Fault::NoIdempotencyRow) && !idempotency::insert_all(conn, answers).await? {
        return Err(took_effect_elsewhere());
    }
    Ok(())
}

fn took_effect_elsewhere() -> Error {
    store::Error::Aborted("the idempotency key took effect in another transaction".into()).into()
}

impl App {
    /// Stores the refusal of a request that changed nothing, so that its repetition is refused too. One that took effect
    /// meanwhile keeps its answer.
    pub async fn record_refusal(&self, request: &IdempotentRequest, body: &str) -> Result<(), Error> {
        idempotency::insert(&mut *self.store.conn_by_key().await?, request, body).await?;
        Ok(())
    }
}

pub(super) fn to_json(body: &impl Serialize) -> Result<String, Error> {
    // An order of one line has 700 bytes: not one reallocation for most.
    let mut text = Vec::with_capacity(1024);
    let written = serde_json::to_writer(&mut text, body).map_err(|error| error.to_string());
    written
        .and_then(|()| String::from_utf8(text).map_err(|error| error.to_string()))
        .map_err(|error| store::Error::Inconsistent(format!("an answer does not serialize: {error}")).into())
}
