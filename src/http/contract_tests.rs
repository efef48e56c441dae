//! What holds for every route, shown with routes that the API does not have.

use std::time::Duration;

use axum::{
    Extension,
    body::{Body, to_bytes},
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::*;

const LIMITS: BodyLimits = BodyLimits { bytes: 8, time: Duration::from_millis(50) };

async fn length(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match body::read(&parts, body).await {
        Ok(bytes) => bytes.len().to_string().into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Sends a request; gives status and body of the answer, and whether it closes the connection.
async fn send(path: &str, body: Body) -> (StatusCode, String, bool) {
    let larger = BodyLimits { bytes: 16, ..LIMITS };
    let routes = Router::new()
        .route("/panic", post(async || -> String { panic!("with what nobody must see") }))
        .route("/usual", post(length))
        .route("/import", post(length).layer(Extension(larger)));
    let service = TowerToHyperService::new(with_contract(routes, LIMITS));
    let Ok(answer) = service.call(Request::post(path).body(body).unwrap()).await;
    let closes = answer.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
    let (parts, body) = answer.into_parts();
    let text = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
    (parts.status, text, closes)
}

fn code(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap()["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_handler_that_panics_is_an_internal_error_that_tells_nothing() {
    let (status, text, _) = send("/panic", Body::empty()).await;
    assert_eq!((status, code(&text).as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"));
    assert!(!text.contains("nobody"), "{text}");
}

#[tokio::test]
async fn a_route_may_take_larger_bodies_than_the_others() {
    let long = || Body::from("123456789");
    let (status, text, closes) = send("/usual", long()).await;
    assert_eq!(
        (status, code(&text).as_str(), closes),
        (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", true)
    );
    let (status, text, closes) = send("/import", long()).await;
    assert_eq!((status, text.as_str(), closes), (StatusCode::OK, "9", false));
    let (status, ..) = send("/import", Body::from("12345678901234567")).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_body_whose_end_does_not_come_is_given_up() {
    let never = futures_util::stream::pending::<Result<Vec<u8>, std::convert::Infallible>>();
    let (status, text, closes) = send("/usual", Body::from_stream(never)).await;
    assert_eq!(
        (status, code(&text).as_str(), closes),
        (StatusCode::REQUEST_TIMEOUT, "request_timeout", true)
    );
    let broken = futures_util::stream::iter([Ok(vec![1]), Err(std::io::Error::other("reset"))]);
    let (status, text, closes) = send("/usual", Body::from_stream(broken)).await;
    assert_eq!((status, code(&text).as_str(), closes), (StatusCode::BAD_REQUEST, "malformed_request", true));
}
