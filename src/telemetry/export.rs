//! The way of finished spans to a collector: OTLP, protobuf over HTTP.
//!
//! Owns a bounded queue and one task that empties it. Must not wait for anybody: a span that finds the queue full, or that the
//! collector does not take, is dropped and counted. The log says so once when it begins and once when it ends.

use std::time::Duration;

use metrics::{Counter, Unit, counter, describe_counter};
use opentelemetry::{Context, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::spans;

/// The most finished spans that wait.
const QUEUE: usize = 8192;

/// The most spans of a request, and how long the first of them waits for others.
const BATCH: usize = 512;
const LINGER: Duration = Duration::from_millis(500);

/// How long a collector has to take a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last spans may delay the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

const SPANS: &str = "holdfast_trace_spans_total";

/// Where spans go, and who sends them.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The collector, without the path: `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// How many of the traces that begin here are recorded, 0 to 1. Of the others the client decides.
    pub sample_ratio: f64,
    /// What this process is, e.g. `holdfast-api`.
    pub service: String,
    /// Which of them it is.
    pub instance: String,
}

/// The task that sends spans.
#[derive(Debug)]
pub struct Export {
    task: JoinHandle<()>,
    finish: CancellationToken,
}

/// From here on spans are recorded. Call it once, on a runtime, with metrics recorded and a crypto provider chosen.
///
/// # Errors
/// The endpoint is no URL. Whether anybody is there is not asked.
pub fn start(options: &ExportOptions) -> Result<Export, String> {
    let endpoint = format!("{}/v1/traces", options.endpoint.trim_end_matches('/'));
    let failed = |error: String| format!("telemetry.otlp_endpoint is {:?}: {error}", options.endpoint);
    let client = reqwest::Client::builder().timeout(EXPORT_TIMEOUT).connect_timeout(EXPORT_TIMEOUT).build();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client.map_err(|error| failed(error.to_string()))?)
        .with_endpoint(&endpoint)
        .with_timeout(EXPORT_TIMEOUT);
    let mut exporter = exporter.build().map_err(|error| failed(error.to_string()))?;
    let resource = resource(options);
    exporter.set_resource(&resource);
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (dropped, sent) = counters();
    let queue = Queue { sender, dropped: dropped.clone() };
    let provider = SdkTracerProvider::builder()
        .with_span_processor(queue)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.sample_ratio))))
        .with_resource(resource)
        .build();
    spans::install(provider.tracer("holdfast"));
    let finish = CancellationToken::new();
    let sending = Sending { exporter, endpoint, is_failing: false, dropped, sent };
    Ok(Export { task: tokio::spawn(sending.run(receiver, finish.clone())), finish })
}

impl Export {
    /// Sends what waits, as far as the collector takes it within two seconds.
    pub async fn finish(self) {
        self.finish.cancel();
        if timeout(FLUSH_TIMEOUT, self.task).await.is_err() {
            tracing::warn!("the last spans were not sent: the collector is too slow");
        }
    }
}

fn resource(options: &ExportOptions) -> Resource {
    let attributes = [
        ("service.name", options.service.clone()),
        ("service.namespace", "holdfast".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", options.instance.clone()),
    ];
    let attributes = attributes.map(|(name, value)| KeyValue::new(name, value));
    Resource::builder_empty().with_attributes(attributes).build()
}

/// Of spans that were dropped, and of those that were sent.
fn counters() -> (Counter, Counter) {
    describe_counter!(
        SPANS,
        Unit::Count,
        "Finished spans: sent to the collector, or dropped because it did not take them fast enough, or at all."
    );
    (counter!(SPANS, "outcome" => "dropped"), counter!(SPANS, "outcome" => "sent"))
}

/// Where spans go when they end.
#[derive(Debug)]
struct Queue {
    sender: mpsc::Sender<SpanData>,
    dropped: Counter,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.sender.try_send(span).is_err() {
            self.dropped.increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

struct Sending {
    exporter: opentelemetry_otlp::SpanExporter,
    endpoint: String,
    is_failing: bool,
    dropped: Counter,
    sent: Counter,
}

impl Sending {
    async fn run(mut self, mut spans: mpsc::Receiver<SpanData>, finish: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = finish.cancelled() => break,
                _ = spans.recv_many(&mut batch, BATCH) => {}
            }
            let until = Instant::now() + LINGER;
            while batch.len() < BATCH && !finish.is_cancelled() {
                let room = BATCH - batch.len();
                let more = timeout_at(until, spans.recv_many(&mut batch, room));
                // What ends the wait is looked at by the loop.
                if finish.run_until_cancelled(more).await.is_none_or(|more| more.is_err()) {
                    break;
                }
            }
            self.send(&mut batch).await;
        }
        spans.close();
        while spans.recv_many(&mut batch, BATCH).await > 0 {
            self.send(&mut batch).await;
        }
    }

    async fn send(&mut self, batch: &mut Vec<SpanData>) {
        let count = batch.len() as u64;
        match self.exporter.export(std::mem::take(batch)).await {
            Ok(()) => {
                self.sent.increment(count);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(endpoint = self.endpoint, "traces are sent again");
                }
            }
            Err(error) => {
                self.dropped.increment(count);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(
                        endpoint = self.endpoint, %error,
                        "traces are not sent, and dropped until the collector takes them; nothing else is concerned. Start it, or \
                         set telemetry.otlp_endpoint"
                    );
                }
            }
        }
    }
}
