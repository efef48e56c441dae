//! A write whose body is a stock file: read to its end, within limits of its own, and left as it is.

use std::sync::Arc;

use axum::{
    extract::{FromRequest, Request},
    http::request::Parts,
};
use sha2::{Digest as _, Sha256};

use super::{
    body::{self, BodyLimits},
    extract::{Write, WriteContext, media_type, require_not_encoded, unsupported},
    idempotency::Keyed,
    problem::Problem,
};
use crate::domain::stock_file::StockFormat;

/// The limits of a file, by those of other bodies: 16 MiB, for which there are two minutes where they have ten seconds.
pub(super) fn file_limits(bodies: BodyLimits) -> BodyLimits {
    BodyLimits { bytes: 16 * 1024 * 1024, time: bodies.time * 12 }
}

/// A stock file.
pub(super) struct StockFile {
    pub(super) bytes: Vec<u8>,
    pub(super) format: StockFormat,
}

/// See the module.
pub(super) struct WriteFile(pub(super) Write<StockFile>);

impl<S: Send + Sync> FromRequest<S> for WriteFile {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let context = WriteContext::of(&parts)?;
        let format = format(&parts)?;
        require_not_encoded(&parts)?;
        let bytes = body::read(&parts, body).await?;
        if let Some(keyed) = context.keyed() {
            set_fingerprint(keyed, &parts, &bytes);
        }
        Ok(Self(context.write(StockFile { bytes, format })))
    }
}

fn format(parts: &Parts) -> Result<StockFormat, Problem> {
    match media_type(parts).to_ascii_lowercase().as_str() {
        "text/csv" => Ok(StockFormat::Csv),
        "application/x-ndjson" => Ok(StockFormat::Ndjson),
        _ => Err(unsupported("Content-Type", "must be text/csv or application/x-ndjson")),
    }
}

/// Everything that the request asks for: where to, the parameters, and the file to the last byte.
fn set_fingerprint(keyed: &Arc<Keyed>, parts: &Parts, bytes: &[u8]) {
    let mut hash = Sha256::new();
    for part in [parts.uri.path(), parts.uri.query().unwrap_or_default(), media_type(parts)] {
        hash.update(part.as_bytes());
        hash.update(b"\n");
    }
    hash.update(bytes);
    keyed.set_fingerprint(hash.finalize().into());
}
