//! What makes every POST count once: the one place that reads `Idempotency-Key`, for all routes that need an API key.
//!
//! A request that takes effect stores its answer in the transaction of its effect, and its repetition finds it there
//! (`app::answer`). This does the rest: it refuses a POST without a key; it refuses a key whose first request is still
//! being answered by this process (one that another process answers is waited for, under the row locks of what it
//! changes); and it stores a refusal that is final, so that its repetition is refused too, whatever has changed since.
//!
//! Not stored: what fails before anything is decided (authentication, validation), what may succeed later without a change
//! (see [`crate::app::Conflict::is_final`]), and every 5xx.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use axum::{
    body::{Body, to_bytes},
    extract::{MatchedPath, Request},
    http::{HeaderMap, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use super::{ApiState, problem::Problem, request_id::RequestId};
use crate::store::{
    api_keys::Caller,
    idempotency::{IdempotencyKey, IdempotentRequest},
};

const HEADER: &str = "idempotency-key";

/// What the header may hold: a key, bare or as a quoted string.
pub(super) const KEY_PATTERN: &str = r#"^([!#-~]{1,255}|"[!#-~]{1,255}")$"#;

/// The keys that this process is answering.
#[derive(Debug, Default)]
pub(super) struct InProgress(Mutex<HashSet<Uuid>>);

impl InProgress {
    fn begin(self: &Arc<Self>, digest: Uuid) -> Option<Running> {
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        is_new.then(|| Running { keys: self.clone(), digest })
    }
}

/// Takes the key out when its request is answered, or its client has gone.
struct Running {
    keys: Arc<InProgress>,
    digest: Uuid,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.keys.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

/// A request under its key. Its fingerprint is known once its body was read.
#[derive(Debug)]
pub(super) struct Keyed {
    key: Arc<IdempotencyKey>,
    fingerprint: OnceLock<[u8; 32]>,
}

impl Keyed {
    /// Notes what the request asks for.
    pub(super) fn set_fingerprint(&self, fingerprint: [u8; 32]) {
        // A body is read once.
        let _ = self.fingerprint.set(fingerprint);
    }

    /// The request as one that counts once, if it is answered with `status`. `None` before its body was read.
    pub(super) fn request(&self, status: StatusCode) -> Option<IdempotentRequest> {
        Some(IdempotentRequest {
            key: self.key.clone(),
            fingerprint: *self.fingerprint.get()?,
            success_status: status.as_u16(),
        })
    }
}

/// Answers the request of a caller that may make it: a POST counts once.
pub(super) async fn answer_once(
    state: &ApiState,
    caller: Caller,
    mut request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let header = match header(request.headers()) {
        Ok(header) => header,
        Err(problem) => return problem.into_response(),
    };
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let key = Arc::new(IdempotencyKey::new(caller.client_id, format!("POST {path}"), header));
    let Some(_running) = state.in_progress.begin(key.digest()) else {
        let detail = "the first request with this key is still being answered: ask again for its answer";
        return Problem::new(StatusCode::CONFLICT, "idempotency_key_in_use", detail)
            .retry_after(1)
            .into_response();
    };
    let keyed = Arc::new(Keyed { key, fingerprint: OnceLock::new() });
    request.extensions_mut().insert(keyed.clone());
    let (uri, request_id) = (request.uri().clone(), request.extensions().get::<RequestId>().cloned());
    let response = next.run(request).await;
    let is_final = response.extensions().get::<Problem>().is_some_and(Problem::is_final);
    match keyed.request(response.status()) {
        Some(refused) if is_final => {
            let request_id = request_id.as_ref().map_or("", |id| &id.id);
            let response = super::problem::render(response, request_id, uri.path());
            Box::pin(store_refusal(state, &refused, response)).await
        }
        _ => response,
    }
}

/// Nothing happened, so an answer that cannot be stored is one that a repetition finds anew.
async fn store_refusal(state: &ApiState, refused: &IdempotentRequest, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else { return Problem::internal().into_response() };
    if let Err(error) = state.app.record_refusal(refused, &String::from_utf8_lossy(&bytes)).await {
        tracing::warn!(%error, "a refusal was not stored under its idempotency key");
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// The header's value, bare or as a quoted string.
fn header(headers: &HeaderMap) -> Result<String, Problem> {
    let allowed = "1 to 255 visible ASCII characters without quotes";
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        let detail = format!("is missing: send {allowed} that are new for each new request");
        return Err(Problem::field(
            StatusCode::BAD_REQUEST,
            "idempotency_key_missing",
            "Idempotency-Key",
            detail,
        ));
    };
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let allows = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
    let is_valid = (1..=255).contains(&key.len()) && key.bytes().all(allows);
    if is_valid && values.next().is_none() {
        return Ok(key.to_owned());
    }
    let detail = format!("must be given once, {allowed}");
    Err(Problem::field(StatusCode::BAD_REQUEST, "idempotency_key_invalid", "Idempotency-Key", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_bare_or_quoted() {
        let read = |text: &str| {
            let value = axum::http::HeaderValue::from_str(text).expect("a header");
            header(&HeaderMap::from_iter([(axum::http::HeaderName::from_static(HEADER), value)])).ok()
        };
        let long = "k".repeat(255);
        for (text, expected) in [
            ("a-1", Some("a-1")),
            ("\"a-1\"", Some("a-1")),
            (long.as_str(), Some(long.as_str())),
            (" a ", Some("a")),
            ("", None),
            ("\"\"", None),
            ("\"", None),
            ("\"a", None),
            ("a\"b", None),
            ("a b", None),
            ("é", None),
            (&format!("{long}k"), None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_key_is_in_progress_until_its_request_is_answered() {
        let (keys, digest) = (Arc::<InProgress>::default(), Uuid::now_v7());
        let first = keys.begin(digest);
        assert!(first.is_some());
        assert!(keys.begin(digest).is_none());
        assert!(keys.begin(Uuid::now_v7()).is_some());
        drop(first);
        assert!(keys.begin(digest).is_some());
    }
}
