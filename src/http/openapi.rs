//! What the API says of itself: OpenAPI 3.1, made from the handlers. It is also the only place that says which scope an
//! operation asks for, and that is what `auth` enforces.

use std::collections::HashMap;

use axum::{
    extract::State,
    http::{Method, header},
    response::IntoResponse,
};
use utoipa::{
    OpenApi,
    openapi::{
        path::{Operation, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::ApiState;
use crate::domain::access::Scope;

/// The name of the security scheme.
const API_KEY: &str = "api_key";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "Order processing that does not oversell, does not charge twice and does not lose an event."
    ),
    modifiers(&Bearer)
)]
struct Document;

/// The API keys.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("hf_…")).build();
        openapi.components.get_or_insert_default().add_security_scheme(API_KEY, SecurityScheme::Http(scheme));
    }
}

/// The document without operations.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// What the API is: this document.
#[utoipa::path(get, path = "/openapi.json", tag = "operation", security(()), responses((status = 200)))]
pub(super) async fn read(State(state): State<ApiState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], state.document.to_string())
}

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
            let access = |(method, operation): (Method, &Option<Operation>)| {
                Some((method, access(operation.as_ref()?)?))
            };
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
fn access(operation: &Operation) -> Option<Access> {
    let requirements = serde_json::to_value(operation.security.as_ref()?).ok()?;
    let [requirement] = requirements.as_array()?.as_slice() else { return None };
    let Some(scopes) = requirement.get(API_KEY) else {
        return requirement.as_object()?.is_empty().then_some(Access::Public);
    };
    let [scope] = scopes.as_array()?.as_slice() else { return None };
    scope.as_str()?.parse().ok().map(Access::Key)
}
