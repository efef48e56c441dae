//! What handlers take from a request: the JSON body, ids in the path, the idempotency key, query parameters. Each failure
//! is a problem that names the field and what is allowed.

use std::collections::BTreeMap;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Path, RawQuery, Request},
    http::{StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{auth::Caller, problem::Problem, request_id::RequestId};
use crate::{
    domain::{
        ids::ApiKeyId,
        inventory::LevelKey,
        validation::{FieldError, Validator},
    },
    store::idempotency::IdempotentRequest,
};

/// The largest body.
const BODY_LIMIT: usize = 64 * 1024;

const INTERNAL: &str = "internal_error";

/// A write: who asks, under which request id, and the parsed body.
pub(super) struct Write<T> {
    /// The parsed body.
    pub(super) body: T,
    /// Who asks.
    pub(super) caller: ApiKeyId,
    /// The request's id.
    pub(super) request_id: RequestId,
    key: Option<String>,
    fingerprint: [u8; 32],
}

impl<T> Write<T> {
    /// The request as one that counts once.
    pub(super) fn idempotent(
        &self,
        route: &'static str,
        status: StatusCode,
    ) -> Result<IdempotentRequest, Problem> {
        let key = self.key.clone().ok_or_else(|| {
            let detail =
                "is missing: send 1 to 255 visible ASCII characters that are new for each new request";
            Problem::field(StatusCode::BAD_REQUEST, "idempotency_key_missing", "Idempotency-Key", detail)
        })?;
        Ok(IdempotentRequest {
            api_key_id: self.caller,
            route,
            key,
            fingerprint: self.fingerprint,
            success_status: status.as_u16(),
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Write<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let caller = parts.extensions.get::<Caller>().copied();
        let request_id = parts.extensions.get::<RequestId>().cloned();
        let (Some(Caller(caller)), Some(request_id)) = (caller, request_id) else {
            return Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                INTERNAL,
                "the request was not identified",
            ));
        };
        let key = idempotency_key(&parts)?;
        require_json(&parts)?;
        let bytes = read_body(body).await?;
        let body = parse_json(&bytes)?;
        let fingerprint = fingerprint(parts.uri.path(), &bytes);
        Ok(Self { body, caller, request_id, key, fingerprint })
    }
}

/// The whole body, if it is not too large.
pub(super) async fn read_body(body: Body) -> Result<Bytes, Problem> {
    to_bytes(body, BODY_LIMIT).await.map_err(|_| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body must be at most 64 KiB")
    })
}

fn require_json(parts: &Parts) -> Result<(), Problem> {
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "must be application/json";
    Err(Problem::field(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Content-Type", detail))
}

/// The header's value, bare or as a quoted string.
fn idempotency_key(parts: &Parts) -> Result<Option<String>, Problem> {
    let Some(value) = parts.headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(key.to_owned()));
    }
    let detail = "must be 1 to 255 visible ASCII characters";
    Err(Problem::field(StatusCode::BAD_REQUEST, "idempotency_key_invalid", "Idempotency-Key", detail))
}

/// Parses a body, or says which field is wrong and why.
fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        let inner = error.into_inner();
        if inner.is_data() {
            return Problem::invalid(vec![field_error(pointer, without_position(&inner))]);
        }
        let (line, column) = (inner.line(), inner.column());
        let detail = format!("is not JSON at line {line}, column {column}: {}", without_position(&inner));
        let name = if pointer.is_empty() { "body" } else { &pointer };
        Problem::field(StatusCode::BAD_REQUEST, "malformed_json", name, detail)
    })?;
    deserializer.end().map_err(|_| {
        Problem::field(
            StatusCode::BAD_REQUEST,
            "malformed_json",
            "body",
            "must be one JSON value and nothing after it",
        )
    })?;
    Ok(parsed)
}

/// What is wrong with the value at `pointer`. A field that is missing or repeated is told of its object: named here.
fn field_error(pointer: String, message: String) -> FieldError {
    let wrong = [("missing field `", "is missing"), ("duplicate field `", "must be given once")];
    let named = wrong.into_iter().find_map(|(prefix, detail)| {
        let name = message.strip_prefix(prefix)?.strip_suffix('`')?;
        Some(FieldError { pointer: format!("{pointer}/{name}"), detail: detail.to_owned() })
    });
    named.unwrap_or(FieldError { pointer, detail: message })
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

/// The JSON pointer (RFC 6901) of a place in the body.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { .. } | Segment::Unknown => String::new(),
        })
        .collect()
}

/// SHA-256 of the path and the body, the body without regard to spaces and the order of fields.
fn fingerprint(path: &str, bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(path.as_bytes());
    hash.update(b"\n");
    match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(value) => hash.update(value.to_string().as_bytes()),
        Err(_) => hash.update(bytes),
    }
    hash.finalize().into()
}

/// An id in the path. One that is not an id is of nothing: 404, like an id that nothing has.
pub(super) struct IdPath<T>(pub(super) T);

impl<S: Send + Sync, T: std::str::FromStr> FromRequestParts<S> for IdPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let not_found = || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing with this id");
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| not_found())?;
        text.parse().map(Self).map_err(|_| not_found())
    }
}

/// A level's SKU and location in the path.
pub(super) struct LevelPath(pub(super) LevelKey);

impl<S: Send + Sync> FromRequestParts<S> for LevelPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Ok(Path((sku, location))) = path else {
            let detail = "must be percent-encoded UTF-8".into();
            return Err(Problem::invalid(vec![FieldError { pointer: "{sku}/{location}".into(), detail }]));
        };
        let mut check = Validator::default();
        let sku = check.check(sku.parse(), "{sku}");
        let location_id = check.check(location.parse(), "{location}");
        check.finish().map_err(Problem::invalid)?;
        match (sku, location_id) {
            (Some(sku), Some(location_id)) => Ok(Self(LevelKey { sku, location_id })),
            // Invariant: `finish` fails unless both were parsed.
            _ => Err(Problem::invalid(Vec::new())),
        }
    }
}

/// The query parameters, each at most once.
pub(super) struct Query(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(RawQuery(query)) = RawQuery::from_request_parts(parts, state).await;
        let mut parameters = BTreeMap::new();
        for pair in query.as_deref().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                let spaced = text.replace('+', " ");
                percent_encoding::percent_decode_str(&spaced).decode_utf8().map(std::borrow::Cow::into_owned)
            };
            let (Ok(name), Ok(value)) = (decode(name), decode(value)) else {
                return Err(query_error(name, "must be percent-encoded UTF-8"));
            };
            if value.chars().any(char::is_control) {
                return Err(query_error(&name, "must not hold control characters"));
            }
            if parameters.insert(name.clone(), value).is_some() {
                return Err(query_error(&name, "must be given once"));
            }
        }
        Ok(Self(parameters))
    }
}

impl Query {
    /// Takes a parameter out, parsed.
    pub(super) fn take<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error: T::Err| query_error(name, error.to_string()))
    }

    /// Takes the page size out: 1 to 100, 50 if absent.
    pub(super) fn take_limit(&mut self) -> Result<i64, Problem> {
        let limit = self.0.remove("limit").map_or(Ok(50), |text| text.parse());
        limit
            .ok()
            .filter(|limit| (1..=100).contains(limit))
            .ok_or_else(|| query_error("limit", "must be 1 to 100"))
    }

    /// Fails if a parameter is left that nobody took.
    pub(super) fn finish(self) -> Result<(), Problem> {
        self.0.keys().next().map_or(Ok(()), |name| Err(query_error(name, "is not a parameter of this route")))
    }
}

fn query_error(name: &str, detail: impl Into<String>) -> Problem {
    Problem::invalid(vec![FieldError { pointer: format!("?{name}"), detail: detail.into() }])
}
