//! One trace from the request to the shipment, through real processes; and that nobody waits for a collector.

use std::{collections::BTreeMap, fmt::Write as _};

use devstack::Signal;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use crate::support::{
    canned::Canned,
    collector::{Collector, Recorded},
    eventually,
    system::{PATIENCE, Servers, System},
};

const CLIENT: &str = "00f067aa0ba902b7";

/// A trace that a client has begun.
fn new_trace() -> String {
    format!("{:032x}", rand::random::<u128>() | 1)
}

async fn traced(collector: &str) -> System {
    let system = System::start(Servers::RabbitMq, &[("HOLDFAST__TELEMETRY__OTLP_ENDPOINT", collector)]).await;
    system.import_stock("sku,on_hand\na,9\n").await;
    system.start_roles().await;
    system
}

/// Sends a request that belongs to a trace; gives its answer, and what it says of the trace.
async fn post(system: &System, path: &str, key: &str, traceparent: &str, body: &Value) -> (Value, String) {
    let request = system.http.post(format!("{}{path}", system.url("api"))).bearer_auth(&system.key);
    let request = request.header("Idempotency-Key", key).header("traceparent", traceparent);
    let answer = request.json(body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let response = answer.headers()["traceresponse"].to_str().unwrap().to_owned();
    (answer.json().await.unwrap(), response)
}

/// Places an order and has it paid, both in one trace. Gives its id, and what the answers say of the trace.
async fn order(system: &System, key: &str, traceparent: &str) -> (String, [String; 2]) {
    let body = json!({ "currency": "USD", "lines": [{ "sku": "a", "quantity": 1, "unit_amount": 1000 }] });
    let (order, placed) = post(system, "/v1/orders", key, traceparent, &body).await;
    let id = order["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/orders/{id}/payments");
    let body = json!({ "method": "card", "payment_token": "pm_card_visa" });
    let (_, paid) = post(system, &path, key, traceparent, &body).await;
    system.wait_for_order("api", &id, "fulfilled").await;
    system.wait_for_empty_outbox().await;
    (id, [placed, paid])
}

/// The trace as people read it: children below their parents, with what they took.
fn tree(spans: &[Recorded], parent: &str, depth: usize) -> String {
    let mut children: Vec<_> = spans.iter().filter(|span| span.parent == parent).collect();
    children.sort_by_key(|span| span.began_ns);
    children.into_iter().fold(String::new(), |mut text, span| {
        #[expect(clippy::cast_precision_loss, reason = "some seconds")]
        let took = (span.ended_ns - span.began_ns) as f64 / 1e6;
        let (name, service, kind) = (&span.name, &span.service, span.kind);
        writeln!(text, "{:1$}{name}  [{service}, {kind:?}, {took:.1} ms]", "", depth * 2).unwrap();
        text + &tree(spans, &span.id, depth + 1)
    })
}

/// The one span of this name.
fn one<'a>(spans: &'a [Recorded], name: &str) -> &'a Recorded {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let [span] = found.as_slice() else { panic!("{name}: {found:?}") };
    span
}

const PAYMENTS: &str = "POST /v1/orders/{id}/payments";

/// Names of spans, each with its parent, its process and its kind.
const STORY: &[(&str, &str, &str, SpanKind)] = &[
    ("acquire_locks", "POST /v1/orders", "holdfast-api", SpanKind::Internal),
    ("place_in_batch", "POST /v1/orders", "holdfast-api", SpanKind::Internal),
    ("publish order.created.v1", "POST /v1/orders", "holdfast-worker-relay", SpanKind::Producer),
    ("start_payments", PAYMENTS, "holdfast-api", SpanKind::Internal),
    ("publish payment.created.v1", PAYMENTS, "holdfast-worker-relay", SpanKind::Producer),
    (
        "process payment.created.v1",
        "publish payment.created.v1",
        "holdfast-worker-payment",
        SpanKind::Consumer,
    ),
    ("POST /v1/payment_intents", "process payment.created.v1", "holdfast-worker-payment", SpanKind::Client),
    (
        "publish payment.authorized.v1",
        "process payment.created.v1",
        "holdfast-worker-relay",
        SpanKind::Producer,
    ),
    ("publish order.confirmed.v1", "process payment.created.v1", "holdfast-worker-relay", SpanKind::Producer),
    (
        "process payment.authorized.v1",
        "publish payment.authorized.v1",
        "holdfast-worker-payment",
        SpanKind::Consumer,
    ),
    (
        "POST /v1/payment_intents/{id}/capture",
        "process payment.authorized.v1",
        "holdfast-worker-payment",
        SpanKind::Client,
    ),
    (
        "publish payment.captured.v1",
        "process payment.authorized.v1",
        "holdfast-worker-relay",
        SpanKind::Producer,
    ),
    (
        "process order.confirmed.v1",
        "publish order.confirmed.v1",
        "holdfast-worker-fulfilment",
        SpanKind::Consumer,
    ),
];

/// Who ships depends on which of two events comes first; shipped it is once, in either case.
const ONCE: &[&str] =
    &["publish shipment.created.v1", "publish shipment.shipped.v1", "publish order.fulfilled.v1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_one_trace_from_its_request_to_its_shipment() {
    let collector = Collector::start().await;
    let system = traced(&collector.url).await;
    let trace = new_trace();
    let (order_id, responses) = order(&system, "traced", &format!("00-{trace}-{CLIENT}-01")).await;
    let complete = async || {
        let (spans, orphaned) = collector.trace(&trace, CLIENT);
        let has = |name: &&str| spans.iter().any(|span| span.name == *name);
        orphaned.is_empty()
            && STORY.iter().all(|(name, ..)| has(name))
            && ONCE.iter().all(has)
            && has(&"process payment.captured.v1")
    };
    eventually("the trace is complete", PATIENCE, complete).await;
    let (spans, _) = collector.trace(&trace, CLIENT);
    println!("{}", tree(&spans, CLIENT, 0));

    // The two requests are the client's own children, by the ids that the answers told.
    let roots: BTreeMap<&str, &Recorded> =
        spans.iter().filter(|span| span.parent == CLIENT).map(|span| (span.name.as_str(), span)).collect();
    for (name, response) in ["POST /v1/orders", PAYMENTS].into_iter().zip(&responses) {
        assert_eq!(*response, format!("00-{trace}-{}-01", roots[name].id));
        assert_eq!(roots[name].attributes["http.response.status_code"], "201");
        assert_eq!(roots[name].attributes["http.route"], name.trim_start_matches("POST "));
        assert_eq!((roots[name].kind, roots[name].service.as_str()), (SpanKind::Server, "holdfast-api"));
    }
    assert_eq!(roots.len(), 2);
    for (name, parent, service, kind) in STORY {
        let span = one(&spans, name);
        assert_eq!(span.parent, one(&spans, parent).id, "{name}");
        assert_eq!((span.service.as_str(), span.kind), (*service, *kind), "{name}");
        assert!(!span.is_error, "{span:?}");
        // Nothing begins before what it follows from, on one machine.
        assert!(span.began_ns >= one(&spans, parent).began_ns, "{name}");
    }
    for name in ONCE {
        assert_eq!(one(&spans, name).kind, SpanKind::Producer);
    }
    let consumed = one(&spans, "process payment.created.v1");
    assert_eq!(consumed.attributes["messaging.system"], "rabbitmq");
    assert_eq!(consumed.attributes["messaging.consumer.group.name"], "payment");
    assert_eq!(consumed.attributes["holdfast.subject"], format!("order/{order_id}"));
    let recorded = spans.iter().filter(|span| span.name == "record_payments");
    let parents: Vec<&str> = recorded.map(|span| span.parent.as_str()).collect();
    assert_eq!(parents.len(), 2, "authorized and captured");
    assert!(parents.contains(&consumed.id.as_str()));
    let called = one(&spans, "POST /v1/payment_intents");
    assert_eq!(called.attributes["http.response.status_code"], "200");
    // Nobody traces the questions whether a process is ready.
    assert!(collector.spans().iter().all(|span| !span.name.contains("/readyz")));
    // What tells of a customer or opens a door is in none.
    let text = format!("{spans:?}");
    for secret in [&system.key, "pm_card_visa", "sk_test_of_the_tests"] {
        assert!(!text.contains(secret), "{secret}");
    }

    // An event says in which trace it was made, to who reads the feed too.
    let events = format!("{}/v1/orders/{order_id}/events", system.url("api"));
    let events: Value =
        system.http.get(events).bearer_auth(&system.key).send().await.unwrap().json().await.unwrap();
    for event in events["data"].as_array().unwrap() {
        assert!(event["traceparent"].as_str().unwrap().starts_with(&format!("00-{trace}-")), "{event}");
    }
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_client_does_not_record_is_recorded_nowhere() {
    let collector = Collector::start().await;
    let system = traced(&collector.url).await;
    let (silent, told) = (new_trace(), new_trace());
    let (_, responses) = order(&system, "silent", &format!("00-{silent}-{CLIENT}-00")).await;
    for response in responses {
        assert!(response.starts_with(&format!("00-{silent}-")) && response.ends_with("-00"), "{response}");
    }
    let kept = "SELECT (SELECT count(*) FROM outbox_sent WHERE trace_parent IS NOT NULL)
                     + (SELECT count(*) FROM outbox WHERE trace_parent IS NOT NULL)";
    assert_eq!(system.count(kept).await, 0);
    // What comes after it is there; so it would be, if it was.
    let told_by = format!("00-{told}-{CLIENT}-01");
    order(&system, "told", &told_by).await;
    let body = json!({ "items": [{ "sku": "a", "delta": 1 }] });
    post(&system, "/v1/inventory/adjustments", "adjusted", &told_by, &body).await;
    let complete = async || {
        let (spans, orphaned) = collector.trace(&told, CLIENT);
        let has = |name: &str| spans.iter().any(|span| span.name == name);
        orphaned.is_empty() && has("publish order.fulfilled.v1") && has("adjust_inventory")
    };
    eventually("the other trace is there", PATIENCE, complete).await;
    // What is written for one request alone is a span of its own.
    let (spans, _) = collector.trace(&told, CLIENT);
    let written = one(&spans, "adjust_inventory");
    assert_eq!((written.kind, &*written.attributes["db.system.name"]), (SpanKind::Client, "postgresql"));
    assert!(collector.spans().iter().all(|span| span.trace != silent));
    assert!(system.count(kept).await > 0);
    system.assert_clean().await;
}

/// One that refuses connections, and one that takes a request and never answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_or_silent_holds_nobody_up() {
    let silent = format!("http://{}", Canned::Nothing.serve().await);
    for collector in ["http://127.0.0.1:1", &silent] {
        let system = traced(collector).await;
        order(&system, "order", &format!("00-{}-{CLIENT}-01", new_trace())).await;
        if collector.ends_with(":1") {
            for name in ["api", "worker-payment"] {
                system.wait_for_log(name, "traces are not sent").await;
                assert_eq!(
                    system.log(name).matches("traces are not sent").count(),
                    1,
                    "{}",
                    system.log(name)
                );
            }
            let url = format!("{}/metrics", system.url("api"));
            let metrics = system.http.get(url).send().await.unwrap().text().await.unwrap();
            let dropped = "holdfast_trace_spans_total{outcome=\"dropped\"} ";
            let dropped = metrics.lines().find_map(|line| line.strip_prefix(dropped));
            assert!(dropped.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
        }
        // The last spans delay the end of a process by two seconds at most.
        let stopped = std::time::Instant::now();
        system.stack.signal("api", Signal::TERM).unwrap();
        assert!(system.wait_exit("api", PATIENCE).await);
        assert!(stopped.elapsed().as_secs() < 10, "{:?}", stopped.elapsed());
        system.assert_clean().await;
    }
}
