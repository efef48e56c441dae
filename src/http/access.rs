//! What each operation needs of its caller, read from the OpenAPI document: what it says is what is enforced.

use std::collections::HashMap;

use axum::http::Method;
use utoipa::openapi::path::{Operation, PathItem};

use crate::domain::access::Scope;

/// The name of the security scheme.
pub(super) const API_KEY: &str = "api_key";

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    Public,
    /// A key with this scope.
    Key(Scope),
}

/// What each operation needs, by path template. What is not in here is not allowed.
#[derive(Debug, Default)]
pub(super) struct AccessTable(HashMap<String, Vec<(Method, Access)>>);

impl AccessTable {
    /// Reads the table from the document.
    pub(super) fn new(document: &utoipa::openapi::OpenApi) -> Self {
        let operations = |item: &PathItem| {
            let operations = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::DELETE, &item.delete),
            ];
            let access =
                |(method, operation): (Method, &Option<Operation>)| Some((method, of(operation.as_ref()?)?));
            operations.into_iter().filter_map(access).collect()
        };
        Self(document.paths.paths.iter().map(|(path, item)| (path.clone(), operations(item))).collect())
    }

    /// What this operation needs.
    pub(super) fn find(&self, path: &str, method: &Method) -> Option<Access> {
        // Axum answers HEAD by GET.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.0.get(path)?.iter().find(|(other, _)| other == method).map(|(_, access)| *access)
    }
}

/// `security(())` is public, `security(("api_key" = ["orders:read"]))` needs that scope; anything else is nothing.
pub(super) fn of(operation: &Operation) -> Option<Access> {
    let requirements = serde_json::to_value(operation.security.as_ref()?).ok()?;
    let [requirement] = requirements.as_array()?.as_slice() else { return None };
    let Some(scopes) = requirement.get(API_KEY) else {
        return requirement.as_object()?.is_empty().then_some(Access::Public);
    };
    let [scope] = scopes.as_array()?.as_slice() else { return None };
    scope.as_str()?.parse().ok().map(Access::Key)
}
