//! Bearer API keys: who may call, and nothing else.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{ApiState, problem::Problem};
use crate::{app::hash_secret, domain::ids::ApiKeyId, store::api_keys};

/// How long a key that was found valid is not looked up again: also how long a revoked key still works.
const REMEMBER: Duration = Duration::from_secs(5);

/// More keys than this at a time means that somebody tries many: start over instead of growing.
const CACHE_LIMIT: usize = 10_000;

/// Keys that were valid a moment ago, by hash.
#[derive(Debug, Default)]
pub(super) struct KeyCache(Mutex<HashMap<[u8; 32], (ApiKeyId, Instant)>>);

impl KeyCache {
    fn get(&self, hash: &[u8; 32]) -> Option<ApiKeyId> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(hash).filter(|(_, since)| since.elapsed() < REMEMBER).map(|(id, _)| *id)
    }

    fn insert(&self, hash: [u8; 32], id: ApiKeyId) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= CACHE_LIMIT {
            keys.clear();
        }
        keys.insert(hash, (id, Instant::now()));
    }
}

/// The key that a request was sent with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) ApiKeyId);

pub(super) async fn require_key(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let Some(secret) = bearer(&request) else {
        return unauthenticated("send an API key: Authorization: Bearer hf_…");
    };
    let hash = hash_secret(secret);
    let caller = match state.keys.get(&hash) {
        Some(id) => id,
        None => match find_key(&state, &hash).await {
            Ok(Some(id)) => id,
            Ok(None) => return unauthenticated("the API key is unknown or revoked"),
            Err(error) => return Problem::from(error).into_response(),
        },
    };
    request.extensions_mut().insert(Caller(caller));
    next.run(request).await
}

async fn find_key(state: &ApiState, hash: &[u8; 32]) -> Result<Option<ApiKeyId>, crate::store::Error> {
    let found = api_keys::find_by_hash(&mut *state.app.store.conn().await?, hash).await?;
    if let Some(id) = found {
        state.keys.insert(*hash, id);
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
