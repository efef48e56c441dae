//! Bearer API keys: who calls, and whether the key allows what the operation asks for. Who may pass is handed on, a POST to
//! be answered once ([`idempotency`]).
//!
//! A key counts in the header `Authorization`, once, and nowhere else. Whatever is wrong with it, the answer is the same.
//! An answer that goes on for long looks again from time to time: see [`revoked`].

use std::time::Duration;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::{sleep, timeout};

use super::{
    ApiState,
    access::Access,
    idempotency,
    key_cache::Known,
    problem::{self, Problem},
    rate_limit::{self, Allowance},
};
use crate::{
    app::hash_secret,
    store::{
        self,
        api_keys::{self, Caller},
    },
};

/// How often the key of an answer that goes on is looked at again. Most looks find it in memory.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How many keys are looked up at a time: few enough to leave the connections of the pool to others.
pub(super) const LOOK_UPS: usize = 4;

/// The layer of every route of the document: who may pass is answered, a POST once.
pub(super) async fn authorize(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let needed = match state.access.find(path, request.method()) {
        Some(Access::Key(scope)) => scope,
        Some(Access::Public) => return next.run(request).await,
        None => return problem::method_not_allowed().await.into_response(),
    };
    let caller = match authenticate(&state, request.headers(), request.extensions()).await {
        Ok(caller) => caller,
        Err(refusal) => return refusal,
    };
    let allowance = state.limits.take(caller.client_id);
    let mut response = if let Allowance::Spent(wait) = allowance {
        rate_limit::spent(wait)
    } else if caller.scopes.allow(needed) {
        request.extensions_mut().insert(caller);
        idempotency::answer_once(&state, caller, request, next).await
    } else {
        let detail = format!("the API key needs the scope {needed}");
        Problem::new(StatusCode::FORBIDDEN, "insufficient_scope", detail).into_response()
    };
    state.limits.describe(&allowance, &mut response);
    response
}

async fn authenticate(
    state: &ApiState,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Caller, Response> {
    let refuse = || {
        state.limits.record_failure(extensions);
        unauthenticated()
    };
    let Some(secret) = bearer(headers) else {
        state.limits.admit_address(extensions)?;
        return Err(refuse());
    };
    let hash = hash_secret(secret);
    if let Known::Valid(caller) = state.keys.find(&hash) {
        return Ok(caller);
    }
    // Boxed: few requests come here, and all would carry what it needs.
    Box::pin(look_up(state, &hash, extensions)).await?.ok_or_else(refuse)
}

/// Looks a key up that is not known to be valid.
async fn look_up(
    state: &ApiState,
    hash: &[u8; 32],
    extensions: &Extensions,
) -> Result<Option<Caller>, Response> {
    // Those before it wait for the database at most this long each.
    let turn = timeout(state.app.store.patience(), state.look_ups.acquire());
    let Ok(Ok(_turn)) = turn.await else {
        let error = store::Error::Unavailable("too many API keys wait to be looked up".into());
        return Err(Problem::from(error).into_response());
    };
    // Of many requests under one key that come at once, the first has looked it up for all of them.
    match state.keys.find(hash) {
        Known::Valid(caller) => return Ok(Some(caller)),
        Known::Stale => {}
        Known::Nothing => state.limits.admit_address(extensions)?,
    }
    find_key(state, hash).await.map_err(|error| Problem::from(error).into_response())
}

/// The hash of the key that a request came with.
pub(super) fn key_hash(headers: &HeaderMap) -> Option<[u8; 32]> {
    bearer(headers).map(hash_secret)
}

/// Ends when the key is found to be valid no more. While the database does not say, it is as valid as it was.
pub(super) async fn revoked(state: ApiState, hash: [u8; 32]) {
    loop {
        sleep(LOOK_AGAIN).await;
        let is_known = || matches!(state.keys.find(&hash), Known::Valid(_));
        if is_known() {
            continue;
        }
        let Ok(_turn) = state.look_ups.acquire().await else { return };
        if !is_known() && matches!(find_key(&state, &hash).await, Ok(None)) {
            return;
        }
    }
}

async fn find_key(state: &ApiState, hash: &[u8; 32]) -> Result<Option<Caller>, store::Error> {
    let found = api_keys::find_by_hash(&mut *state.app.store.conn().await?, hash).await?;
    match found {
        Some(caller) => state.keys.insert(*hash, caller),
        None => state.keys.remove(hash),
    }
    Ok(found)
}

/// The secret: after the scheme, whose case does not matter, and one space.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    let is_one_word = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && is_one_word).then_some(secret)
}

fn unauthenticated() -> Response {
    let detail = "send a valid API key: Authorization: Bearer hf_…";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
