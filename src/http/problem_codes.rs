//! Every code that a problem document can carry: its status, what it means, what to do. Served at `/problems`, and the
//! source of the answers that OpenAPI lists. A code that is not in here is a bug that the tests find.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{extract::IdPath, problem::Problem};

/// A code, as it is explained.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(super) struct ProblemCode {
    /// The code.
    pub(super) code: &'static str,
    /// The status that it comes with.
    pub(super) status: u16,
    /// Whether the same request may succeed later without anybody changing it.
    pub(super) retryable: bool,
    /// What it means, and what to do.
    pub(super) meaning: &'static str,
}

const fn refused(status: u16, code: &'static str, meaning: &'static str) -> ProblemCode {
    ProblemCode { code, status, retryable: false, meaning }
}

const fn retry(status: u16, code: &'static str, meaning: &'static str) -> ProblemCode {
    ProblemCode { code, status, retryable: true, meaning }
}

/// The table, by status.
#[rustfmt::skip]
pub(super) const CODES: &[ProblemCode] = &[
    refused(400, "malformed_request", "What came is not HTTP, or another server might understand it differently."),
    refused(400, "malformed_json", "The body is not JSON. `errors` names the place."),
    refused(400, "idempotency_key_missing", "A POST needs an Idempotency-Key. Send one that is new for each new request."),
    refused(400, "idempotency_key_invalid", "The Idempotency-Key must be given once, 1 to 255 visible ASCII characters without quotes."),
    refused(400, "webhook_signature_invalid", "The signature is missing, wrong, or more than five minutes off."),
    refused(400, "if_match_invalid", "If-Match must be `*` or entity tags as RFC 9110 writes them."),
    refused(401, "unauthenticated", "The API key is missing, unknown or revoked. Send Authorization: Bearer hf_…"),
    refused(402, "payment_declined", "The provider refused the payment, `decline_code` says why. Another may be started."),
    refused(403, "insufficient_scope", "The API key does not have the scope that the operation needs."),
    refused(404, "not_found", "There is nothing with this id."),
    refused(404, "unknown_route", "There is nothing at this path."),
    refused(405, "method_not_allowed", "The path does not take this method; Allow names those that it takes."),
    retry(408, "request_timeout", "The request did not come in time. Nothing was begun; send it again."),
    retry(409, "idempotency_key_in_use", "The first request with this key is still being answered. Ask again."),
    refused(409, "insufficient_stock", "Not every line can be reserved; nothing was. `items` names what is short."),
    refused(409, "duplicate_client_reference", "`order_id` has this client reference already."),
    refused(409, "invalid_state_transition", "`current_status` does not allow it; `allowed` names what may follow it."),
    refused(409, "payment_in_progress", "`payment_id` is not decided yet. Wait for its outcome."),
    refused(409, "payment_already_succeeded", "`payment_id` has paid the order."),
    refused(409, "reservation_expired", "The time to pay the order has run out. Place a new one."),
    refused(409, "extension_limit_reached", "The time to pay was extended `max_extensions` times, which is as often as it may be."),
    refused(409, "order_needs_payment", "The order keeps its stock by this payment. Cancel the order, which voids it."),
    refused(409, "order_not_paid", "The payment of the order is gone, e.g. because its authorization lapsed after a part was shipped. Nothing more ships."),
    refused(409, "refund_exceeds_captured", "The refund asks for more than is left of what was captured, `refundable`."),
    refused(409, "nothing_to_ship", "All units, of the order or at the location, are in a shipment, canceled or shipped."),
    refused(409, "stock_conflict", "The stock is not what was expected: `on_hand` and `version` say what it is."),
    refused(409, "below_committed", "The stock would fall below what is promised to orders, `minimum`."),
    refused(409, "open_order_limit_reached", "`whose` (the customer or the client) has `open` unpaid orders, and may have `limit`."),
    refused(409, "api_key_limit_reached", "The client has as many live keys as it may have. Revoke one first."),
    refused(409, "webhook_endpoint_limit_reached", "There are as many endpoints as there may be, `limit`. Delete one first."),
    refused(409, "webhook_secret_limit_reached", "The endpoint has `limit` secrets that have not ended. Wait, or rotate with `old_secret_expires_in_seconds` 0."),
    refused(410, "events_no_longer_kept", "Events after this place were dropped, because they are old. The first that is kept is `oldest_place`; to read from it, start after the one before."),
    refused(412, "version_conflict", "It has changed since: `current_version` is its version now. Read it again."),
    refused(413, "body_too_large", "The body is larger than the operation takes."),
    refused(414, "uri_too_long", "The path and the query are too long."),
    refused(415, "unsupported_media_type", "The operation does not take a body of this media type or content coding."),
    refused(422, "validation_failed", "Fields are wrong. `errors` names each with what is allowed."),
    refused(422, "inconsistent_fields", "Fields are right by themselves and do not go together. `errors` says which and why."),
    refused(422, "unknown_sku", "Lines name SKUs that are not known. `errors` names them."),
    refused(422, "unknown_location", "Items name locations that do not exist. `errors` names them."),
    refused(422, "location_needed", "Stock lies at several locations. Name the one, `errors` says which there are."),
    refused(422, "customer_needed", "A SKU has a purchase limit, so the order has to name its customer."),
    refused(422, "line_quantity_unavailable", "Lines are of something else, or have fewer units left than are asked for. `errors` says how many."),
    refused(422, "nothing_left_to_pay", "What would be left of the order costs nothing. Cancel all of it."),
    refused(422, "nothing_to_refund", "The units cost nothing."),
    refused(422, "amount_mismatch", "The amount is not what is due for the order. `errors` says what is."),
    refused(422, "amount_exceeds_authorized", "The capture asks for more than is authorized and due. `errors` says how much is."),
    refused(422, "extension_too_long", "No order is held for so long. `errors` says how much longer it may be."),
    refused(422, "on_hand_too_large", "A level would hold more than any may. `errors` names the item."),
    refused(422, "card_number_refused", "This looks like a card number. Send a token made by the payment provider."),
    refused(422, "stock_file_invalid", "The file is wrong as a whole. `errors` says what is."),
    refused(422, "webhook_url_refused", "Nothing is posted to such a URL. `errors` says why: scheme, user, port or address."),
    refused(422, "idempotency_key_reused", "The key was used for another request. Send a new one."),
    refused(422, "purchase_limit_exceeded", "A customer may buy `limit` units of the SKU, and has `already_purchased`."),
    retry(429, "rate_limited", "Too many requests. `Retry-After` and `RateLimit` say when there is room again."),
    refused(431, "headers_too_large", "The headers are too many or too long."),
    refused(500, "internal_error", "A bug of Holdfast. It was logged under the request id."),
    retry(503, "overloaded", "Too many orders wait. Nothing was changed; ask again after Retry-After."),
    retry(503, "events_delayed", "Events wait too long for the broker, or too many do. No order was placed; ask again after Retry-After."),
    retry(503, "lock_unavailable", "The SKUs' locks were not to be had. Nothing was changed; ask again."),
    retry(503, "database_unavailable", "The database is unavailable. Nothing was changed; ask again."),
    retry(503, "outcome_unknown", "It may have taken effect or not. Ask again with the same key to find out; of PUT and DELETE, read first."),
    retry(503, "too_many_streams", "As many streams of events are open as there may be. Ask again."),
    retry(503, "too_many_connections", "There is no room for another connection. Nothing was begun; ask again."),
    retry(503, "not_ready", "A dependency does not answer; `detail` names it."),
];

pub(super) fn find(code: &str) -> Option<&'static ProblemCode> {
    CODES.iter().find(|known| known.code == code)
}

/// Every code that a problem document can carry.
#[utoipa::path(
    get, operation_id = "list_problems", path = "/problems", tag = "contract", security(()),
    responses((status = 200, body = Vec<ProblemCode>))
)]
pub(super) async fn list() -> Json<&'static [ProblemCode]> {
    Json(CODES)
}

/// What a code means: where the `type` of a problem document leads.
#[utoipa::path(
    get, operation_id = "read_problem", path = "/problems/{code}", tag = "contract", security(()),
    params(("code" = String, Path, example = "insufficient_stock")),
    responses((status = 200, body = ProblemCode)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn read(IdPath(code): IdPath<String>) -> Response {
    let missing =
        || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such code").into_response();
    find(&code).map_or_else(missing, |code| Json(code).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_and_only_what_may_end_is_retryable() {
        assert!(CODES.is_sorted_by_key(|code| code.status));
        for (index, code) in CODES.iter().enumerate() {
            assert!(!CODES[..index].iter().any(|other| other.code == code.code), "{}", code.code);
            assert!((400..600).contains(&code.status));
            let may_end = code.status >= 503 || [408, 429].contains(&code.status);
            assert_eq!(code.retryable, may_end || code.code == "idempotency_key_in_use", "{}", code.code);
        }
    }
}
