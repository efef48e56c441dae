//! How invalid input is reported: every wrong field at once, each by its JSON pointer, with what is allowed.

use serde::Serialize;
use utoipa::ToSchema;

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) of the field in the request body, e.g. `/lines/0/quantity`; or `?limit` for a query
    /// parameter, or the header's name.
    pub pointer: String,
    /// What is wrong with it and what is allowed.
    pub detail: String,
}

/// Collects the wrong fields of one request.
#[derive(Debug, Default)]
pub struct Validator {
    errors: Vec<FieldError>,
}

impl Validator {
    /// Notes that `pointer` is wrong, unless `holds`.
    pub fn require(&mut self, holds: bool, pointer: impl Into<String>, detail: impl Into<String>) {
        if !holds {
            self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        }
    }

    /// The value, or a note of why `pointer` does not hold one.
    pub fn check<T, E: std::fmt::Display>(
        &mut self,
        result: Result<T, E>,
        pointer: impl Into<String>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.require(false, pointer, error.to_string());
                None
            }
        }
    }

    /// `Ok` if nothing was wrong.
    pub fn finish(self) -> Result<(), Vec<FieldError>> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}
