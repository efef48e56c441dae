//! `If-Match` (RFC 9110, section 13.1.1): the request is to take effect only on a version that its client has seen.
//!
//! The entity tag of a resource is its version, always strong: `"7"`. A weak tag, or one that no version has, matches
//! nothing, but is no error.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
};

use utoipa::ToSchema;

use super::problem::Problem;
use crate::app::ExpectedVersion;

/// The header, as the document describes it: the reader also takes what the standard allows beside.
#[derive(ToSchema)]
#[schema(value_type = String, example = "\"7\"", pattern = r#"^(\*|(W/)?"[!#-~]*"(, (W/)?"[!#-~]*")*)$"#)]
pub(super) struct EntityTags(#[expect(dead_code, reason = "a description")] String);

/// What the header asks for, if there is one.
#[derive(Debug)]
pub(super) struct IfMatch(pub(super) Option<ExpectedVersion>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(text) = joined(&parts.headers) else { return Ok(Self(None)) };
        let detail = "must be * or a list of entity tags such as \"7\"";
        let wrong = || Problem::field(StatusCode::BAD_REQUEST, "if_match_invalid", "If-Match", detail);
        parse(&text).map(|expected| Self(Some(expected))).ok_or_else(wrong)
    }
}

/// The entity tag of a version, as a header of the answer.
pub(super) fn etag(version: i64) -> [(HeaderName, HeaderValue); 1] {
    let tag = HeaderValue::from_str(&format!("\"{version}\""));
    // Invariant: digits in quotes are a header value.
    [(header::ETAG, tag.unwrap_or_else(|_| HeaderValue::from_static("\"0\"")))]
}

/// A list may come in several lines, which mean what one line with all of them means.
fn joined(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::IF_MATCH).iter();
    lines
        .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
        .reduce(|all, line| all + "," + &line)
}

fn parse(text: &str) -> Option<ExpectedVersion> {
    let blank = [' ', '\t'];
    let mut rest = text.trim_matches(blank);
    if rest == "*" {
        return Some(ExpectedVersion::Any);
    }
    let (mut versions, mut tags) = (Vec::new(), 0);
    loop {
        // Elements of a list may be empty.
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return (tags > 0).then_some(ExpectedVersion::OneOf(versions));
        }
        let strong = rest.strip_prefix("W/");
        let (tag, after) = strong.unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        if tag.chars().any(|c| c <= ' ' || c == '\x7f') {
            return None;
        }
        tags += 1;
        if strong.is_none() {
            versions.extend(tag.parse::<i64>().ok().filter(|version| version.to_string() == tag));
        }
        rest = after.trim_start_matches(blank);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_as_the_standard_says() {
        let one_of = |versions: &[i64]| Some(ExpectedVersion::OneOf(versions.to_vec()));
        for (text, expected) in [
            ("\"7\"", one_of(&[7])),
            (" \"7\" ", one_of(&[7])),
            ("\"7\",\"8\"", one_of(&[7, 8])),
            (", \"7\" ,, \t\"8\",", one_of(&[7, 8])),
            ("*", Some(ExpectedVersion::Any)),
            ("W/\"7\"", one_of(&[])),
            ("W/\"7\", \"8\"", one_of(&[8])),
            // Strong tags of something else.
            ("\"07\", \"+7\", \"x,y\", \"\", \"é\"", one_of(&[])),
            ("7", None),
            ("\"7", None),
            ("\"7\" \"8\"", None),
            ("w/\"7\"", None),
            ("\"7\", *", None),
            ("\"a b\"", None),
            ("", None),
            (",", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let mut headers = HeaderMap::new();
        assert_eq!(joined(&headers), None);
        for tag in ["\"7\"", "\"8\""] {
            headers.append(header::IF_MATCH, HeaderValue::from_static(tag));
        }
        assert_eq!(joined(&headers).as_deref(), Some("\"7\",\"8\""));
    }
}
