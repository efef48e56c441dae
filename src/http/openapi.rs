//! What the API says of itself: OpenAPI 3.1, made from the handlers. It is also the only place that says which scope an
//! operation asks for, and that is what `auth` enforces ([`access`]).
//!
//! A handler says what is its own: path, scope, body, answers, and by `x-problems` the codes of its refusals. What all
//! operations of a kind have in common is added here ([`complete`]), their answers by [`answers`].

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        RefOr, Required,
        path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Schema, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    ApiState,
    access::{self, Access},
    answers, idempotency,
    if_match::EntityTags,
    inventory::LevelCursor,
    links, problem,
    problem_codes::ProblemCode,
};
use crate::domain::{
    bounds::{EventPlace, HoldSeconds, PageSize, RowNumber},
    new_order::OrderLimits,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "Order processing that does not oversell, does not charge twice and does not lose an event.\n\n\
            Amounts are integers in the minor unit of their currency; no integer is written with a fraction. Every POST takes an `Idempotency-Key` and takes \
            effect once. Every error is a problem document (RFC 9457) whose `code` is stable: see `/problems`. A request may carry \
            `X-Request-Id` and `traceparent` (W3C Trace Context).\n\n\
            A path that is none of these is answered with 404 `unknown_route`, a method that its path does not take with 405 \
            `method_not_allowed`: see the responses of the components.",
        license(name = "MIT", identifier = "MIT")
    ),
    servers((url = "/")),
    tags(
        (name = "orders", description = "Placing, changing and canceling orders"),
        (name = "payments", description = "Paying orders, and sending money back"),
        (name = "shipments", description = "What leaves for the customer, and comes back"),
        (name = "events", description = "What happened: pages, or a stream (Server-Sent Events)"),
        (name = "inventory", description = "Stock: levels, changes, history"),
        (name = "purchase limits", description = "How many units of a SKU one customer may buy over all its orders"),
        (name = "webhooks", description = "Where events are posted to, and what became of them"),
        (name = "API keys", description = "Who may call, and what"),
        (name = "contract", description = "What the API says of itself"),
        (name = "operation", description = "For those who run it"),
    ),
    components(schemas(problem::Document, ProblemCode, EntityTags, EventPlace, LevelCursor, PageSize, RowNumber)),
    modifiers(&Bearer)
)]
struct Description;

/// The API keys.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let description = "An API key: `Authorization: Bearer hf_…`";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme(access::API_KEY, SecurityScheme::Http(scheme));
    }
}

/// The document without operations.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// The document as text, made once.
#[derive(Debug, Clone)]
pub(super) struct Text(Arc<str>);

/// Every operation with its method.
pub(super) fn operations(
    document: &mut utoipa::openapi::OpenApi,
) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    document.paths.paths.values_mut().flat_map(|item| {
        let operations = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Put, &mut item.put),
            (HttpMethod::Delete, &mut item.delete),
        ];
        operations.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
    })
}

/// Adds to each operation what all of its kind have in common, and to the schemas what the deployment decides.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi, limits: &OrderLimits) -> Text {
    for (method, operation) in operations(document) {
        complete_operation(&method, operation);
    }
    answers::add_shared(document);
    links::add(document);
    let hold = document.components.as_mut().and_then(|all| all.schemas.get_mut(HoldSeconds::name().as_ref()));
    if let Some(RefOr::T(Schema::Object(hold))) = hold {
        hold.maximum = Some(limits.max_ttl_seconds.into());
    }
    // Invariant: the document is made of what serializes.
    Text(document.to_json().unwrap_or_default().into())
}

fn complete_operation(method: &HttpMethod, operation: &mut Operation) {
    let needs_key = matches!(access::of(operation), Some(Access::Key(_)));
    let mut codes: Vec<&str> = answers::OF_EVERY_OPERATION.to_vec();
    let own = operation.extensions.as_mut().and_then(|extensions| extensions.remove("x-problems"));
    let own: Vec<String> = own.and_then(|codes| serde_json::from_value(codes).ok()).unwrap_or_default();
    codes.extend(own.iter().map(String::as_str));
    if needs_key {
        codes.extend(["unauthenticated", "insufficient_scope", "rate_limited", "database_unavailable"]);
    }
    if needs_key && *method != HttpMethod::Get {
        codes.push("outcome_unknown");
    }
    if operation.request_body.is_some() {
        codes.extend(["malformed_json", "body_too_large", "unsupported_media_type", "validation_failed"]);
    }
    let parameters = operation.parameters.get_or_insert_default();
    if needs_key && *method == HttpMethod::Post {
        codes.extend(["idempotency_key_missing", "idempotency_key_invalid", "idempotency_key_in_use"]);
        codes.push("idempotency_key_reused");
        parameters.push(RefOr::T(idempotency_key()));
    }
    if parameters.iter().any(is_query) {
        codes.push("validation_failed");
    }
    for parameter in parameters {
        if let RefOr::T(parameter) = parameter {
            parameter.schema = parameter.schema.take().map(without_null);
        }
    }
    answers::add_problems(&mut operation.responses, &codes);
    if needs_key && *method == HttpMethod::Post {
        answers::add_replayed(&mut operation.responses);
    }
    answers::complete(&mut operation.responses, needs_key);
}

/// A parameter may be absent. It is never null, as what is optional in a body may be.
fn without_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    let is_null = |schema: &RefOr<Schema>| matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
    match schema {
        RefOr::T(Schema::OneOf(mut choice)) => {
            choice.items.retain(|item| !is_null(item));
            match choice.items.pop() {
                Some(only) if choice.items.is_empty() => only,
                last => {
                    choice.items.extend(last);
                    RefOr::T(Schema::OneOf(choice))
                }
            }
        }
        RefOr::T(Schema::Object(mut object)) => {
            if let SchemaType::Array(mut types) = object.schema_type.clone() {
                types.retain(|one| *one != Type::Null);
                if let [only] = types.as_slice() {
                    object.schema_type = SchemaType::Type(only.clone());
                }
            }
            RefOr::T(Schema::Object(object))
        }
        other => other,
    }
}

fn is_query(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query)
}

fn idempotency_key() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(idempotency::KEY_PATTERN))
        .build();
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some("New for each new request. The same key and body again get the same answer."))
        .schema(Some(schema))
        .build()
}

/// This document.
#[utoipa::path(
    get, operation_id = "read_openapi", path = "/openapi.json", tag = "contract", security(()),
    responses((status = 200, body = serde_json::Value))
)]
pub(super) async fn read(State(state): State<ApiState>) -> impl IntoResponse {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], state.openapi.0.to_string())
}
