//! What handlers take from a request: the JSON body, ids in the path, query parameters. Each failure
//! is a problem that names the field and what is allowed.

use std::{collections::BTreeMap, fmt::Write as _, ops::RangeInclusive, sync::Arc};

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, header, request::Parts},
};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{body, distinct::Distinct, idempotency::Keyed, problem::Problem, request_id::RequestId};
use crate::{
    app::Cause,
    domain::{
        bounds::{PageSize, Text},
        inventory::{LevelKey, LocationId, ParseNameError, Sku},
        validation::{Invalid, Validator, escaped, pointer},
    },
    store::{api_keys::Caller, idempotency::IdempotentRequest},
};

/// A place in a body that is no JSON is named up to this length.
const POINTER_MAX: usize = 128;

/// A write: who asks, and the parsed body.
pub(super) struct Write<T> {
    /// The parsed body.
    pub(super) body: T,
    /// Who asks.
    pub(super) caller: Caller,
    request_id: RequestId,
    keyed: Option<Arc<Keyed>>,
}

impl<T> Write<T> {
    /// What the changes of this request follow from.
    pub(super) fn cause(&self) -> Cause {
        self.request_id.cause()
    }

    /// The request as one that counts once, answered with `status` if it takes effect.
    pub(super) fn idempotent(&self, status: StatusCode) -> Result<IdempotentRequest, Problem> {
        self.keyed.as_ref().and_then(|keyed| keyed.request(status)).ok_or_else(Problem::internal)
    }
}

/// A write whose body is not read yet.
pub(super) struct WriteContext(Write<()>);

impl WriteContext {
    /// What the layers have put to the request.
    pub(super) fn of(parts: &Parts) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().copied();
        let request_id = parts.extensions.get::<RequestId>().cloned();
        // Invariant: the layers put both there.
        let (Some(caller), Some(request_id)) = (caller, request_id) else { return Err(Problem::internal()) };
        let keyed = parts.extensions.get::<Arc<Keyed>>().cloned();
        Ok(Self(Write { body: (), caller, request_id, keyed }))
    }

    /// What is to know what the request asks for, if it has a key.
    pub(super) fn keyed(&self) -> Option<&Arc<Keyed>> {
        self.0.keyed.as_ref()
    }

    /// The write, with its body.
    pub(super) fn write<T>(self, body: T) -> Write<T> {
        let Write { caller, request_id, keyed, .. } = self.0;
        Write { body, caller, request_id, keyed }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Write<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let context = WriteContext::of(&parts)?;
        // A write says all that it wants in its body: `?dry_run=true` must not be passed over.
        Query::of(&parts)?.finish()?;
        require_json(&parts)?;
        let bytes = body::read(&parts, body).await?;
        let value = parse_value(&bytes)?;
        if let Some(keyed) = context.keyed() {
            keyed.set_fingerprint(fingerprint(parts.uri.path(), &value));
        }
        Ok(context.write(parse_body(&bytes, &value)?))
    }
}

/// The `Content-Type` without its parameters; empty if there is none.
pub(super) fn media_type(parts: &Parts) -> &str {
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

fn require_json(parts: &Parts) -> Result<(), Problem> {
    if !media_type(parts).eq_ignore_ascii_case("application/json") {
        return Err(unsupported("Content-Type", "must be application/json"));
    }
    require_not_encoded(parts)
}

/// A compressed body would be read as malformed.
pub(super) fn require_not_encoded(parts: &Parts) -> Result<(), Problem> {
    let mut codings = parts.headers.get_all(header::CONTENT_ENCODING).iter();
    if codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    Err(unsupported("Content-Encoding", "must not be given: send the body as it is"))
}

/// The body is of a kind that is not taken, as this header says.
pub(super) fn unsupported(header: &str, detail: &str) -> Problem {
    Problem::field(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", header, detail)
}

/// The body as JSON, whatever it says, but each thing once.
fn parse_value(bytes: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(bytes).map(|Distinct(value)| value).map_err(|error| {
        // Read again, to learn at which field it ends.
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let place = serde_path_to_error::deserialize::<_, Distinct>(&mut deserializer).err();
        let pointer = place.map(|error| pointer(error.path()));
        if error.is_data() {
            let repeated = field_error(pointer.unwrap_or_default(), &without_position(&error));
            return Problem::invalid(repeated);
        }
        let pointer = pointer.filter(|pointer| (1..=POINTER_MAX).contains(&pointer.len()));
        let (line, column) = (error.line(), error.column());
        let detail = format!("is not JSON at line {line}, column {column}: {}", without_position(&error));
        let pointer = pointer.as_deref().unwrap_or("body");
        Problem::field(StatusCode::BAD_REQUEST, "malformed_json", pointer, detail)
    })
}

/// What the body asks for, or which field is wrong and why.
fn parse_body<T: DeserializeOwned>(bytes: &[u8], value: &Value) -> Result<T, Problem> {
    if let Some(pointer) = find_list_for_object(value) {
        return Err(Problem::invalid(Invalid::field(pointer, "must be an object")));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        // Read again, to learn at which field: that costs a copy of each field's name.
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let place = serde_path_to_error::deserialize::<_, T>(&mut deserializer).err();
        let pointer = place.map(|error| pointer(error.path())).unwrap_or_default();
        Problem::invalid(field_error(pointer, &without_position(&error)))
    })
}

/// Serde reads an object also from a list of its fields. Nothing here is a list of lists, and no body is a list.
fn find_list_for_object(value: &Value) -> Option<String> {
    fn nested(value: &Value, in_list: bool, pointer: &mut String) -> bool {
        let mut descend = |name: &dyn std::fmt::Display, child: &Value, in_list: bool| {
            let length = pointer.len();
            // Invariant: writing to a string cannot fail.
            let _ = write!(pointer, "/{name}");
            let found = nested(child, in_list, pointer);
            if !found {
                pointer.truncate(length);
            }
            found
        };
        match value {
            Value::Array(_) if in_list => true,
            Value::Array(items) => items.iter().enumerate().any(|(index, item)| descend(&index, item, true)),
            Value::Object(fields) => fields.iter().any(|(name, field)| descend(name, field, false)),
            _ => false,
        }
    }
    let mut pointer = String::new();
    nested(value, true, &mut pointer).then_some(pointer)
}

/// What is wrong with the value at `pointer`. A field that is missing or repeated is told of its object: named here.
fn field_error(pointer: String, message: &str) -> Invalid {
    let wrong = [("missing field `", "is missing"), ("duplicate field `", "must be given once")];
    let named = wrong.into_iter().find_map(|(prefix, detail)| {
        let name = message.strip_prefix(prefix)?.strip_suffix('`')?;
        Some(Invalid::field(format!("{pointer}/{}", escaped(name)), detail))
    });
    named.unwrap_or_else(|| Invalid::field(pointer, message))
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

/// SHA-256 of the path and the body, the body without regard to spaces and the order of fields.
fn fingerprint(path: &str, body: &Value) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(path.as_bytes());
    hash.update(b"\n");
    let mut text = Vec::with_capacity(512);
    // Invariant: a value serializes, and writing to a vector cannot fail.
    let _ = serde_json::to_writer(&mut text, body);
    hash.update(&text);
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
            let detail = "must be percent-encoded UTF-8";
            return Err(Problem::invalid(Invalid::field("{sku}/{location}", detail)));
        };
        let mut check = Validator::default();
        let sku = check.check(sku.parse(), "{sku}");
        let location_id = check.check(location.parse(), "{location}");
        check.finish().map_err(Problem::invalid)?;
        match (sku, location_id) {
            (Some(sku), Some(location_id)) => Ok(Self(LevelKey { sku, location_id })),
            // Invariant: `finish` fails unless both were parsed.
            _ => Err(Problem::internal()),
        }
    }
}

/// A SKU in the path.
pub(super) struct SkuPath(pub(super) Sku);

impl<S: Send + Sync> FromRequestParts<S> for SkuPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::invalid(Invalid::field("{sku}", detail));
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(invalid("must be percent-encoded UTF-8".into()));
        };
        text.parse().map(Self).map_err(|error: ParseNameError| invalid(error.to_string()))
    }
}

/// A location's id in the path.
pub(super) struct LocationPath(pub(super) LocationId);

impl<S: Send + Sync> FromRequestParts<S> for LocationPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(Path(id)) = Path::<String>::from_request_parts(parts, state).await else {
            let detail = "must be percent-encoded UTF-8";
            return Err(Problem::invalid(Invalid::field("{id}", detail)));
        };
        let wrong = |error: ParseNameError| Problem::invalid(Invalid::field("{id}", error.to_string()));
        id.parse().map(Self).map_err(wrong)
    }
}

/// The query parameters, each at most once.
pub(super) struct Query(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(parts)
    }
}

impl Query {
    fn of(parts: &Parts) -> Result<Self, Problem> {
        let mut parameters = BTreeMap::new();
        for pair in parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
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

    /// Takes a parameter out, parsed.
    pub(super) fn take<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error: T::Err| query_error(name, error.to_string()))
    }

    /// Takes a number out.
    pub(super) fn take_number(
        &mut self,
        name: &str,
        range: &RangeInclusive<i64>,
    ) -> Result<Option<i64>, Problem> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let wrong = || query_error(name, format!("must be {} to {}", range.start(), range.end()));
        number.map(Some).ok_or_else(wrong)
    }

    /// Takes words of the merchant's own out.
    pub(super) fn take_text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let text = self.0.remove(name);
        let mut check = Validator::default();
        Text::require(&mut check, text.as_deref(), format!("?{name}"));
        check.finish().map_err(Problem::invalid)?;
        Ok(text)
    }

    /// Takes a parameter out that must be there; `allowed` says what it may be.
    pub(super) fn take_required<T: std::str::FromStr>(
        &mut self,
        name: &str,
        allowed: &str,
    ) -> Result<T, Problem>
    where
        T::Err: std::fmt::Display,
    {
        self.take(name)?.ok_or_else(|| query_error(name, format!("is missing: must be {allowed}")))
    }

    /// Takes a time out, as RFC 3339 writes it.
    pub(super) fn take_time(&mut self, name: &str) -> Result<Option<DateTime<Utc>>, Problem> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        // A `+` that was not percent-encoded has become a space.
        let time = DateTime::parse_from_rfc3339(&text.replace(' ', "+"));
        let detail = "must be a time (RFC 3339) such as 2026-01-31T12:00:00Z";
        time.map(|time| Some(time.to_utc())).map_err(|_| query_error(name, detail))
    }

    /// Takes the page size out: 50 if absent.
    pub(super) fn take_limit(&mut self) -> Result<i64, Problem> {
        Ok(self.take_number("limit", &PageSize::RANGE)?.unwrap_or(50))
    }

    /// Fails if a parameter is left that nobody took.
    pub(super) fn finish(self) -> Result<(), Problem> {
        self.0.keys().next().map_or(Ok(()), |name| Err(query_error(name, "is not a parameter of this route")))
    }
}

fn query_error(name: &str, detail: impl Into<String>) -> Problem {
    Problem::invalid(Invalid::field(format!("?{name}"), detail))
}
