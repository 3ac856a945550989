//! Traces by OTLP: one call, from the bell to its final webhook, is one trace over the processes; without a collector, none.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message;
use rollcall::{ids::AttemptId, ops::private::free_addresses};
use tokio::net::TcpListener;

use crate::{
    house::{House, Options, caller_id, numbers},
    processes::Door,
};

/// A span and the program that sent it.
type Sent = Arc<Mutex<Vec<(String, Span)>>>;

async fn received(State(sent): State<Sent>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    for resource in request.resource_spans {
        let about = resource.resource.unwrap_or_default().attributes;
        let name = about.into_iter().find(|pair| pair.key == "service.name").and_then(|pair| pair.value?.value);
        let Some(Value::StringValue(program)) = name else { return StatusCode::BAD_REQUEST };
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        sent.lock().unwrap().extend(spans.map(|span| (program.clone(), span)));
    }
    StatusCode::OK
}

/// A collector on a port of its own: what it was sent, and its address.
async fn collector() -> (Sent, String) {
    let sent = Sent::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/traces", post(received)).with_state(Arc::clone(&sent));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (sent, base)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_is_one_trace_from_the_bell_to_its_final_webhook() {
    let mut house = House::open(Options::default()).await;
    let (sent, base) = collector().await;
    house.args.extend(["--otel-exporter-otlp-endpoint".to_owned(), base]);
    let door = Door::open().await;
    house.call_back_at(door.addr);
    let (api, worker) = (house.api(None).await, house.worker().await);
    door.leads_to(&[&api]).await;
    let business = house.business(3).await;
    let called = numbers(4);
    let run = house.started(business, &called).await;
    house.until_run_is(run, "completed").await;
    house.until("the wholes of all calls are in", || async { named(&sent, "call").len() == called.len() }).await;
    // A drain sends what is left.
    house.close_with([api, worker]).await;

    let attempts: Vec<AttemptId> = named(&sent, "call").iter().map(|whole| attempt_of(&whole.1)).collect();
    for attempt in attempts {
        let trace: Vec<(String, Span)> = sent.lock().unwrap().clone();
        let trace: Vec<_> = trace.into_iter().filter(|(_, span)| attempt_of(span) == attempt).collect();
        let (_, whole) = trace.iter().find(|(_, span)| span.name == "call").unwrap();
        assert!(whole.parent_span_id.is_empty(), "the whole has no parent");
        let steps = trace.iter().filter(|(_, span)| span.name != "call");
        assert!(steps.clone().all(|(_, span)| span.parent_span_id == whole.span_id), "all lie under the whole");
        assert!(trace.iter().all(|(_, span)| span.end_time_unix_nano >= span.start_time_unix_nano));
        for (program, name) in [
            ("rollcall-worker", "bell"),
            ("rollcall-worker", "claim"),
            ("rollcall-worker", "dial"),
            ("rollcall-worker", "store answer"),
            ("rollcall-api", "webhook answer"),
            ("rollcall-api", "webhook status"),
        ] {
            let found = trace.iter().any(|(by, span)| by == program && span.name == name);
            assert!(
                found,
                "{program} sent no `{name}`: {:?}",
                steps.clone().map(|(by, s)| (by, &s.name)).collect::<Vec<_>>()
            );
        }
        let closing = trace.iter().find(|(_, span)| span.name == "webhook status" && says(span, "state", "answered"));
        assert!(closing.is_some(), "the final webhook is there");
    }
    let all = format!("{:?}", sent.lock().unwrap());
    for secret in called.iter().map(|number| &number[2..]).chain([&caller_id(business)[2..], "secret token"]) {
        assert!(!all.contains(secret), "a span holds {secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_delays_no_call() {
    let mut house = House::open(Options::default()).await;
    // Nobody listens on a port that was free a moment ago.
    let [away] = free_addresses().unwrap();
    house.args.extend(["--otel-exporter-otlp-endpoint".to_owned(), format!("http://{away}")]);
    let worker = house.worker().await;
    let business = house.business(3).await;
    let run = house.started(business, &numbers(10)).await;
    house.until_run_is(run, "completed").await;
    worker.said("the collector does not take spans").await;
    house.close_with([worker]).await;
}

fn named(sent: &Sent, name: &str) -> Vec<(String, Span)> {
    sent.lock().unwrap().iter().filter(|(_, span)| span.name == name).cloned().collect()
}

fn attempt_of(span: &Span) -> AttemptId {
    AttemptId(uuid::Uuid::from_slice(&span.trace_id).unwrap())
}

fn says(span: &Span, key: &str, word: &str) -> bool {
    let value = |pair: &opentelemetry_proto::tonic::common::v1::KeyValue| pair.value.clone()?.value;
    span.attributes.iter().any(|pair| pair.key == key && value(pair) == Some(Value::StringValue(word.to_owned())))
}
