//! Bearer API keys: who calls, and whether the key allows what the operation asks for. Nothing else.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    ApiState,
    access::Access,
    problem::{self, Problem},
};
use crate::{
    app::hash_secret,
    store::api_keys::{self, Caller},
};

/// How long a key that was found valid is not looked up again: also how long a revoked key still works.
const REMEMBER: Duration = Duration::from_secs(5);

/// More keys than this at a time means that somebody tries many: start over instead of growing.
const CACHE_LIMIT: usize = 10_000;

/// Keys that were valid a moment ago, by hash.
#[derive(Debug, Default)]
pub(super) struct KeyCache(Mutex<HashMap<[u8; 32], (Caller, Instant)>>);

impl KeyCache {
    fn get(&self, hash: &[u8; 32]) -> Option<Caller> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(hash).filter(|(_, since)| since.elapsed() < REMEMBER).map(|(caller, _)| *caller)
    }

    fn insert(&self, hash: [u8; 32], caller: Caller) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= CACHE_LIMIT {
            keys.clear();
        }
        keys.insert(hash, (caller, Instant::now()));
    }
}

pub(super) async fn authorize(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let needed = match state.access.find(path, request.method()) {
        Some(Access::Key(scope)) => scope,
        Some(Access::Public) => return next.run(request).await,
        None => return problem::method_not_allowed().await.into_response(),
    };
    let Some(secret) = bearer(&request) else {
        return unauthenticated("send an API key: Authorization: Bearer hf_…");
    };
    let hash = hash_secret(secret);
    let caller = match state.keys.get(&hash) {
        Some(caller) => caller,
        None => match find_key(&state, &hash).await {
            Ok(Some(caller)) => caller,
            Ok(None) => return unauthenticated("the API key is unknown or revoked"),
            Err(error) => return Problem::from(error).into_response(),
        },
    };
    if !caller.scopes.allow(needed) {
        let detail = format!("the API key needs the scope {needed}");
        return Problem::new(StatusCode::FORBIDDEN, "insufficient_scope", detail).into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

async fn find_key(state: &ApiState, hash: &[u8; 32]) -> Result<Option<Caller>, crate::store::Error> {
    let found = api_keys::find_by_hash(&mut *state.app.store.conn().await?, hash).await?;
    if let Some(caller) = found {
        state.keys.insert(*hash, caller);
    }
    Ok(found)
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim()).filter(|secret| !secret.is_empty())
}

fn unauthenticated(detail: &str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}
