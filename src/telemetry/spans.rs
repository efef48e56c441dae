//! What is traced, by the names that the semantic conventions of OpenTelemetry have for it.
//!
//! A trace begins with a request and goes on through everything that follows from it: the outbox keeps the span that wrote an
//! event, its message carries the span that published it, and the span of its consumer is a child of that. Children, not
//! links: an order is one story, which no message of another order is part of.
//!
//! Where nothing is recorded, nothing is made: a [`Span`] is empty then, and asking for one reads one static. Within one
//! process the span of a request or of a delivery is current while it is worked on ([`Span::within`]), so that what is done for it
//! need not be told of it.

use std::{borrow::Cow, sync::OnceLock};

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId, Value,
    context::FutureExt as _,
    trace::{SpanContext, SpanKind, Status, TraceContextExt as _, TraceState, Tracer as _},
};
use opentelemetry_sdk::trace::SdkTracer;

use crate::domain::trace_parent::TraceParent;

/// The broker, as the conventions name it.
const BROKER: &str = "rabbitmq";

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// From here on spans are made.
pub(super) fn install(tracer: SdkTracer) {
    // Only the first one counts: spans of one process go to one collector.
    let _ = TRACER.set(tracer);
}

/// A piece of work that is recorded, or nothing. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Context>);

impl Span {
    /// Where its children stand, if it is recorded.
    pub fn trace_parent(&self) -> Option<TraceParent> {
        self.0.as_ref().map(|context| named(context.span().span_context()))
    }

    /// Whether it is recorded.
    pub const fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Does this work within it: what it asks for a span gets a child of this one.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> T {
        match &self.0 {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }

    /// Notes something that is known of it.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Notes that the work failed, and what of many things went wrong.
    pub fn fail(&self, what: impl Into<Cow<'static, str>>) {
        if let Some(context) = &self.0 {
            let what = what.into();
            context.span().set_attribute(KeyValue::new("error.type", what.clone()));
            context.span().set_status(Status::error(what));
        }
    }

    /// Notes what a server or a client of HTTP was answered, and whether that is a failure of the one who asks.
    pub fn answered(&self, status: u16, is_failure: bool) {
        self.set("http.response.status_code", i64::from(status));
        if is_failure {
            self.fail(status.to_string());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// A request that is to be answered.
#[derive(Debug)]
pub struct Request<'a> {
    /// `GET`
    pub method: &'static str,
    /// The route that it matched.
    pub route: Option<&'a str>,
    /// Its path.
    pub path: &'a str,
    /// Its id.
    pub id: &'a str,
}

/// A request begins, as a child of what its client names. Gives where it stands in its trace, recorded or not; `None` where
/// nothing is traced.
pub fn serve(request: &Request<'_>, parent: Option<TraceParent>) -> Option<(TraceParent, Span)> {
    let tracer = TRACER.get()?;
    let name: Cow<'static, str> = match request.route {
        Some(route) => format!("{} {route}", request.method).into(),
        None => request.method.into(),
    };
    let span =
        tracer.span_builder(name).with_kind(SpanKind::Server).start_with_context(tracer, &remote(parent));
    let context = Context::new().with_span(span);
    let place = named(context.span().span_context());
    if !place.is_sampled {
        return Some((place, Span::default()));
    }
    let span = Span(Some(context));
    span.set("http.request.method", request.method);
    span.set("url.path", request.path.to_owned());
    span.set("holdfast.request_id", request.id.to_owned());
    if let Some(route) = request.route {
        span.set("http.route", route.to_owned());
    }
    Some((place, span))
}

/// An event on its way to the broker, as a child of what wrote it.
pub fn publish(exchange: &str, event_type: &'static str, id: &str, parent: Option<TraceParent>) -> Span {
    let span = of_message("publish", event_type, SpanKind::Producer, parent);
    if span.is_recorded() {
        span.set("messaging.operation.type", "send");
        span.set("messaging.destination.name", exchange.to_owned());
        span.set("messaging.rabbitmq.destination.routing_key", event_type);
        span.set("messaging.message.id", id.to_owned());
    }
    span
}

/// An event that a consumer handles, as a child of what published it.
#[derive(Debug)]
pub struct Handled<'a> {
    /// Who handles it.
    pub consumer: &'static str,
    /// Its type.
    pub event_type: &'static str,
    /// Its id.
    pub id: &'a str,
    /// Whose history it belongs to.
    pub subject: &'a str,
    /// Which time it is.
    pub attempt: u32,
    /// What published it.
    pub parent: Option<TraceParent>,
}

/// A consumer begins to handle an event.
pub fn process(handled: &Handled<'_>) -> Span {
    let span = of_message("process", handled.event_type, SpanKind::Consumer, handled.parent);
    if span.is_recorded() {
        span.set("messaging.operation.type", "process");
        span.set("messaging.consumer.group.name", handled.consumer);
        span.set("messaging.destination.name", handled.event_type);
        span.set("messaging.message.id", handled.id.to_owned());
        span.set("holdfast.subject", handled.subject.to_owned());
        span.set("holdfast.attempt", i64::from(handled.attempt));
    }
    span
}

fn of_message(
    operation: &'static str,
    event_type: &'static str,
    kind: SpanKind,
    parent: Option<TraceParent>,
) -> Span {
    // Who is not recorded has no children that are.
    let Some(parent) = parent.filter(|parent| parent.is_sampled) else { return Span::default() };
    let span = child(&remote(Some(parent)), kind, || format!("{operation} {event_type}").into());
    span.set("messaging.system", BROKER);
    span.set("messaging.operation.name", operation);
    span
}

/// A request to somebody else, as a child of what is current. `template` is the path without ids.
pub fn call(method: &str, template: &str, host: &str) -> Span {
    let span = of_current(SpanKind::Client, || format!("{method} {template}").into());
    if span.is_recorded() {
        span.set("http.request.method", method.to_owned());
        span.set("url.template", template.to_owned());
        span.set("server.address", host.to_owned());
    }
    span
}

/// A transaction of PostgreSQL, as a child of what is current.
pub fn transaction(name: &'static str) -> Span {
    let span = of_current(SpanKind::Client, || name.into());
    span.set("db.system.name", "postgresql");
    span.set("db.operation.name", "transaction");
    span
}

/// A part of the work, as a child of what is current.
pub fn step(name: &'static str) -> Span {
    of_current(SpanKind::Internal, || name.into())
}

/// Where what is current stands, if it is recorded.
pub fn current() -> Option<TraceParent> {
    TRACER.get()?;
    Context::map_current(|current| {
        let is_recorded = current.has_active_span() && current.span().is_recording();
        is_recorded.then(|| named(current.span().span_context()))
    })
}

fn of_current(kind: SpanKind, name: impl FnOnce() -> Cow<'static, str>) -> Span {
    if TRACER.get().is_none() {
        return Span::default();
    }
    let current = Context::current();
    if current.has_active_span() && current.span().is_recording() {
        child(&current, kind, name)
    } else {
        Span::default()
    }
}

fn child(parent: &Context, kind: SpanKind, name: impl FnOnce() -> Cow<'static, str>) -> Span {
    let Some(tracer) = TRACER.get() else { return Span::default() };
    let span = tracer.span_builder(name()).with_kind(kind).start_with_context(tracer, parent);
    Span(Some(Context::new().with_span(span)))
}

/// The context of a span of another process.
fn remote(parent: Option<TraceParent>) -> Context {
    let Some(parent) = parent else { return Context::new() };
    let flags = if parent.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from(parent.trace_id), SpanId::from(parent.span_id));
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    Context::new().with_remote_span_context(context)
}

fn named(context: &SpanContext) -> TraceParent {
    TraceParent {
        trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(context.span_id().to_bytes()),
        is_sampled: context.is_sampled(),
    }
}
