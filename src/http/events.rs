//! `/v1/events` and `/v1/orders/{id}/events`: pages of JSON, or Server-Sent Events for who accepts them.
//!
//! The id of a streamed event is its place: the sequence in the history of an order, the position in the feed of all
//! events. A client that comes back with it as `Last-Event-ID` misses nothing and gets nothing twice. Where no event of a
//! type came for long, an id is sent without one: browsers keep it too, and come back there.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{StatusCode, header, request::Parts},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use serde::Serialize;
use tokio::{sync::OwnedSemaphorePermit, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use utoipa::ToSchema;

use super::{
    ApiState, auth,
    extract::{IdPath, Query},
    orders,
    problem::Problem,
};
use crate::{
    app::{EventPage, Followed, Follower, Step},
    domain::{
        bounds::{EventPlace, PageSize},
        event::{Envelope, EventType},
        ids::OrderId,
    },
    store::events::PlacedEvent,
};

/// A stream ends then, and its client comes back: wherever a balancer sends it by then.
const LONGEST_STREAM: Duration = Duration::from_hours(1);

/// A comment is sent when nothing else was for so long: proxies keep the connection, and a client that has gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a client waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);

/// An event with its place.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventView {
    /// Reading goes on after this: `starting_after`, or `Last-Event-ID`.
    place: i64,
    #[serde(flatten)]
    event: Envelope,
}

impl From<PlacedEvent> for EventView {
    fn from(event: PlacedEvent) -> Self {
        Self { place: event.place, event: event.envelope }
    }
}

/// A page of events. `next` is the `starting_after` of the next page. While `has_more` is true there is one, also after a page
/// that is empty: for one type, a request looks through 50,000 events at most.
#[derive(Debug, Serialize, ToSchema)]
struct EventsPage {
    data: Vec<EventView>,
    has_more: bool,
    next: i64,
}

impl From<EventPage> for EventsPage {
    fn from(page: EventPage) -> Self {
        let EventPage { events, has_more, next } = page;
        Self { data: events.into_iter().map(EventView::from).collect(), has_more, next }
    }
}

/// How the client wants to read.
pub(super) struct Reading {
    /// As a stream, under the key with this hash; `None`: a page.
    streamed_to: Option<[u8; 32]>,
    last_event_id: Option<i64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Reading {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let accepted = text(header::ACCEPT.as_str()).unwrap_or_default();
        let is_stream = accepted.split(',').any(|media_type| {
            media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
        });
        let last = text("last-event-id")
            .map(|text| text.parse().ok().filter(|place| EventPlace::RANGE.contains(place)));
        if last == Some(None) {
            let detail = "must be the id of an event of this stream";
            return Err(Problem::field(
                StatusCode::UNPROCESSABLE_ENTITY,
                "validation_failed",
                "Last-Event-ID",
                detail,
            ));
        }
        // Invariant: every route of events needs a key.
        let key = || auth::key_hash(&parts.headers).ok_or_else(Problem::internal);
        let streamed_to = is_stream.then(key).transpose()?;
        Ok(Self { streamed_to, last_event_id: last.flatten() })
    }
}

/// The history of an order: every event of the order, its payments and its shipments.
///
/// The attributes are those of CloudEvents 1.0; `dataschema` leads to the JSON Schema of the data, `/schemas/{name}`.
/// Pages of JSON, or with `Accept: text/event-stream` a stream that goes on with what happens next. Of an old order, the events
/// that are kept; their sequence says how many there were before.
#[utoipa::path(
    get, operation_id = "list_events_of_order", path = "/v1/orders/{id}/events", tag = "events",
    security(("api_key" = ["orders:read"])),
    params(("id" = OrderId, Path), ("starting_after" = Option<EventPlace>, Query),
        ("limit" = Option<PageSize>, Query),
        ("Last-Event-ID" = Option<EventPlace>, Header)),
    responses((status = 200, content((EventsPage = "application/json"), (String = "text/event-stream")))),
    extensions(("x-problems" = json!(["not_found", "too_many_streams"])))
)]
pub(super) async fn list_of_order(
    State(state): State<ApiState>,
    IdPath(id): IdPath<OrderId>,
    reading: Reading,
    query: Query,
) -> Result<Response, Problem> {
    orders::require(&mut *state.app.store.conn().await?, id).await?;
    read(&state, Followed::Order(id), &reading, query).await
}

/// All events, in the order in which the broker confirmed them.
///
/// The attributes are those of CloudEvents 1.0; `dataschema` leads to the JSON Schema of the data, `/schemas/{name}`.
/// Pages of JSON from the first event that is kept, or with `Accept: text/event-stream` a stream: from `Last-Event-ID` or
/// `starting_after` on, or without either from now on. A place after which events are no longer kept is answered 410.
#[utoipa::path(
    get, operation_id = "list_events", path = "/v1/events", tag = "events",
    security(("api_key" = ["orders:read"])),
    params(("type" = Option<EventType>, Query), ("starting_after" = Option<EventPlace>, Query),
        ("limit" = Option<PageSize>, Query),
        ("Last-Event-ID" = Option<EventPlace>, Header)),
    responses((status = 200, content((EventsPage = "application/json"), (String = "text/event-stream")))),
    extensions(("x-problems" = json!(["too_many_streams", "events_no_longer_kept"])))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    reading: Reading,
    mut query: Query,
) -> Result<Response, Problem> {
    let event_type = query.take("type")?;
    read(&state, Followed::All(event_type), &reading, query).await
}

async fn read(
    state: &ApiState,
    followed: Followed,
    reading: &Reading,
    mut query: Query,
) -> Result<Response, Problem> {
    let starting_after = query.take_number("starting_after", &EventPlace::RANGE)?;
    let limit = query.take_limit()?;
    query.finish()?;
    if let Some(key) = reading.streamed_to {
        return stream(state, key, followed, reading.last_event_id.or(starting_after)).await;
    }
    let page = state.app.list_events(followed, starting_after, limit).await?;
    Ok(Json(EventsPage::from(page)).into_response())
}

/// A stream and what it lasts for.
struct Streaming {
    follower: Follower,
    /// Ends when the stream is to. In a task of its own: a stream that its client does not read stands still wherever it is, and
    /// what it has taken meanwhile, a turn or a connection, would be kept from others.
    over: AbortOnDropHandle<()>,
    _room: OwnedSemaphorePermit,
}

async fn stream(
    state: &ApiState,
    key: [u8; 32],
    followed: Followed,
    after: Option<i64>,
) -> Result<Response, Problem> {
    let room = Arc::clone(&state.streams).try_acquire_owned().map_err(|_| {
        let detail = "as many streams are open as there may be";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", detail).retry_after(1)
    })?;
    let streaming = Streaming {
        follower: state.app.follow_events(followed, after).await?,
        over: AbortOnDropHandle::new(tokio::spawn(over(state.clone(), key))),
        _room: room,
    };
    let begin = stream::once(async { Ok(Event::default().retry(RETRY).comment("from here on")) });
    let events = stream::StreamExt::chain(begin, stream::unfold(streaming, next));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Ends when a stream under this key has to: the process stops, it was open for long, or the key is valid no more.
async fn over(state: ApiState, key: [u8; 32]) {
    tokio::select! {
        () = state.stopping.cancelled() => {}
        () = sleep(LONGEST_STREAM) => {}
        () = auth::revoked(state.clone(), key) => {}
    }
}

/// The next event, or the end of the stream.
async fn next(mut streaming: Streaming) -> Option<(Result<Event, Infallible>, Streaming)> {
    let event = tokio::select! {
        event = streaming.follower.next() => event,
        _ = &mut streaming.over => return None,
    };
    let event = match event.inspect_err(|error| tracing::warn!(%error, "a stream of events ends")).ok()? {
        Step::Event(event) => event,
        Step::Passed(place) => return Some((Ok(Event::default().id(place.to_string())), streaming)),
    };
    let sent = Event::default().id(event.place.to_string()).event(event.envelope.event_type.as_str());
    // Invariant: an envelope serializes, and JSON has no line breaks.
    let sent = sent.json_data(&event.envelope).ok()?;
    Some((Ok(sent), streaming))
}
