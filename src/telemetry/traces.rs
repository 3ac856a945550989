//! Traces: one call from the bell to its final webhook, over all processes, by OTLP to a collector. Off by default.
//!
//! The trace id is the attempt's id, and the root span's id its second half: whoever knows the attempt, and a webhook's
//! token names it, adds to the same trace, and nothing has to be carried along. When off, a span is one look at a flag.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor},
};
use rand::RngExt;

use crate::{
    config::Settings,
    ids::{AttemptId, BusinessId},
};

/// A collector that does not answer for so long is not waited for.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// Spans leave this often.
const PAUSE: Duration = Duration::from_secs(1);
/// Spans kept while the collector is slow; what comes above is dropped, never waited for.
const MOST_WAITING: usize = 20_000;
/// How long the end of the program may wait for the last spans.
const LAST_SPANS: Duration = Duration::from_secs(2);

static SINK: OnceLock<Sink> = OnceLock::new();

#[derive(Debug)]
struct Sink {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

/// Sends what is left when it is dropped, at the end of a program.
#[derive(Debug)]
pub struct LastSpans(());

impl Drop for LastSpans {
    fn drop(&mut self) {
        if let Some(sink) = SINK.get()
            && let Err(error) = sink.processor.shutdown_with_timeout(LAST_SPANS)
        {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

/// Starts traces where an endpoint is set: OTLP over HTTP at `{endpoint}/v1/traces`, in protobuf. Call it in a runtime.
///
/// # Errors
/// Where no client can be made for the endpoint.
pub fn start(settings: &Settings, program: &'static str) -> anyhow::Result<LastSpans> {
    let Some(endpoint) = &settings.otel_exporter_otlp_endpoint else { return Ok(LastSpans(())) };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Sender::new()?)
        .with_endpoint(format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')))
        .with_timeout(EXPORT_LIMIT)
        .build()?;
    let config = BatchConfigBuilder::default().with_scheduled_delay(PAUSE).with_max_queue_size(MOST_WAITING).build();
    let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let about = [KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))];
    processor.set_resource(&Resource::builder_empty().with_service_name(program).with_attributes(about).build());
    let scope = InstrumentationScope::builder("rollcall").with_version(env!("CARGO_PKG_VERSION")).build();
    // A second start in one process (tests) keeps the first.
    let _ = SINK.set(Sink { processor, scope });
    tracing::info!(collector = endpoint.host_str(), "[STARTUP] traces are sent");
    Ok(LastSpans(()))
}

/// A step of a call that is under way; it is written down when it is dropped. Without traces it is nothing.
#[derive(Debug)]
#[must_use = "a step ends when it is dropped"]
pub struct Step(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    sink: &'static Sink,
    attempt: AttemptId,
    name: &'static str,
    kind: SpanKind,
    start: SystemTime,
    /// None: when it is dropped.
    end: Option<SystemTime>,
    attributes: Vec<KeyValue>,
    failed: Option<&'static str>,
}

/// A step of this attempt begins: work of our own.
pub fn step(attempt: AttemptId, name: &'static str) -> Step {
    begun(attempt, name, SpanKind::Internal, Duration::ZERO)
}

/// A step that is over.
pub fn between(attempt: AttemptId, name: &'static str, begin: Instant, end: Instant) {
    let mut step = begun(attempt, name, SpanKind::Internal, begin.elapsed());
    if let Some(open) = &mut step.0 {
        let now = SystemTime::now();
        open.end = now.checked_sub(end.elapsed());
    }
}

/// A request of ours to a carrier begins.
pub fn asking(attempt: AttemptId, name: &'static str) -> Step {
    begun(attempt, name, SpanKind::Client, Duration::ZERO)
}

/// A carrier's request to us, which began earlier, by the steady clock.
pub fn asked_since(attempt: AttemptId, name: &'static str, begin: Instant) -> Step {
    begun(attempt, name, SpanKind::Server, begin.elapsed())
}

fn begun(attempt: AttemptId, name: &'static str, kind: SpanKind, ago: Duration) -> Step {
    Step(SINK.get().map(|sink| {
        let now = SystemTime::now();
        let start = now.checked_sub(ago).unwrap_or(now);
        Box::new(Open { sink, attempt, name, kind, start, end: None, attributes: Vec::new(), failed: None })
    }))
}

impl Step {
    /// Says something of the step: a word from a short list, never a number or a secret.
    pub fn says(&mut self, name: &'static str, word: &'static str) {
        if let Some(open) = &mut self.0 {
            open.attributes.push(KeyValue::new(name, word));
        }
    }

    /// The step did not do what it is for.
    pub fn failed(&mut self, why: &'static str) {
        if let Some(open) = &mut self.0 {
            open.failed = Some(why);
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let Some(open) = self.0.take() else { return };
        let status = open.failed.map_or(Status::Unset, Status::error);
        let id = SpanId::from_bytes(rand::rng().random::<u64>().max(1).to_be_bytes());
        let mut span = span(open.sink, open.attempt, id, open.name, open.start);
        span.end_time = open.end.unwrap_or(span.end_time).max(open.start);
        span.parent_span_id = root(open.attempt);
        span.parent_span_is_remote = true;
        (span.span_kind, span.attributes, span.status) = (open.kind, open.attributes, status);
        open.sink.processor.on_end(span);
    }
}

/// The whole of a call, from the making of its attempt's id to now: the root of its trace. Written by whoever closes it.
pub fn whole(attempt: AttemptId, business: BusinessId, disposition: &'static str) {
    let Some(sink) = SINK.get() else { return };
    let made = attempt.0.get_timestamp().map_or_else(SystemTime::now, |made| {
        let (secs, nanos) = made.to_unix();
        SystemTime::UNIX_EPOCH + Duration::new(secs, nanos)
    });
    let mut span = span(sink, attempt, root(attempt), "call", made);
    span.attributes = vec![
        KeyValue::new("attempt.id", attempt.to_string()),
        KeyValue::new("business.id", business.to_string()),
        KeyValue::new("disposition", disposition),
    ];
    sink.processor.on_end(span);
}

fn span(sink: &Sink, attempt: AttemptId, id: SpanId, name: &'static str, start: SystemTime) -> SpanData {
    let trace = TraceId::from_bytes(*attempt.0.as_bytes());
    SpanData {
        span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: start,
        end_time: SystemTime::now().max(start),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: sink.scope.clone(),
    }
}

/// The id of the span that all others of an attempt lie under: the half of its id that is random.
fn root(attempt: AttemptId) -> SpanId {
    let (_, half) = attempt.0.as_u64_pair();
    SpanId::from_bytes(half.to_be_bytes())
}

/// Sends on the program's own runtime: the processor's thread has none.
#[derive(Debug)]
struct Sender {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
    /// True while the collector does not take spans: said once, not for every batch.
    failing: AtomicBool,
}

impl Sender {
    fn new() -> anyhow::Result<Self> {
        // Fails only where this process has a provider already, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let runtime = tokio::runtime::Handle::try_current()?;
        Ok(Self { http: builder.timeout(EXPORT_LIMIT).build()?, runtime, failing: AtomicBool::new(false) })
    }

    fn took(&self, trouble: Option<String>) {
        let failed_before = self.failing.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(error) if !failed_before => tracing::warn!(error, "the collector does not take spans; they are lost"),
            None if failed_before => tracing::info!("the collector takes spans again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?;
            let status = answer.status();
            let mut response = Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            reqwest::Result::Ok(response)
        });
        let sent = sent.await?;
        self.took(match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status())),
            Err(error) => Some(error.to_string()),
        });
        Ok(sent?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_collector_a_step_is_nothing() {
        let mut step = step(AttemptId::new(), "dial");
        step.says("outcome", "placed");
        assert!(step.0.is_none());
    }

    #[test]
    fn every_process_derives_the_same_trace_from_an_attempt() {
        let attempt: AttemptId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(root(attempt).to_string(), "bcceb302099a8057");
        assert_eq!(TraceId::from_bytes(*attempt.0.as_bytes()).to_string(), "01890a5dac96774bbcceb302099a8057");
    }
}
