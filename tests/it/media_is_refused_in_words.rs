//! The media door says what is not built, to those who hold a token of ours; everybody else learns nothing.

use reqwest::{Client, RequestBuilder};
use rollcall::{
    config::Role,
    heartbeats,
    ids::{AttemptId, BusinessId},
};

use crate::{
    api_harness::{Answer, answer},
    house::{House, Options},
};

/// What a WebSocket client sends (RFC 6455, section 1.3).
fn upgrade(request: RequestBuilder) -> RequestBuilder {
    request
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

fn said(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.slug())
}

#[tokio::test]
async fn a_media_stream_is_refused_by_name_and_a_signal_ends_the_program() {
    let house = House::open(Options::default()).await;
    let calls = house.calls().await;
    let http = Client::builder().no_proxy().build().unwrap();
    let base = format!("http://{}", calls.addr("calls").await);
    let ours = house.ctx.tokens.make(BusinessId::new(), AttemptId::new());
    for carrier in ["twilio", "telnyx"] {
        let door = format!("{base}/media/{carrier}");
        let asked = answer(upgrade(http.get(format!("{door}/{ours}")))).await;
        assert_eq!(said(&asked), (422, "not-available"));
        assert_eq!(asked.header("content-type"), "application/problem+json");
        assert_eq!(said(&answer(http.get(format!("{door}/{ours}"))).await), (422, "validation"), "no upgrade");
        assert_eq!(said(&answer(upgrade(http.get(format!("{door}/{}", "A".repeat(66))))).await), (403, "forbidden"));
        assert_eq!(said(&answer(http.post(format!("{door}/{ours}"))).await), (405, "method-not-allowed"));
    }
    assert_eq!(said(&answer(upgrade(http.get(format!("{base}/media/other/{ours}")))).await), (404, "not-found"));
    assert_eq!(said(&answer(http.get(format!("{base}/v1/me"))).await), (404, "not-found"), "the api is elsewhere");
    assert!(!calls.log().contains(&ours), "a token in the log");

    assert_eq!(
        (calls.readiness().await, http.get(format!("{base}/readyz")).send().await.unwrap().status()),
        (200, reqwest::StatusCode::OK)
    );
    let admin = format!("http://{}", calls.addr("admin").await);
    let metrics = http.get(format!("{admin}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("rollcall_media_refused_total{why=\"not available\"} 2"), "{metrics}");
    assert_eq!(answer(http.get(format!("{admin}/status"))).await.status, 200);
    let beating = async || {
        let seen = heartbeats::processes(&house.ctx.stores).await.unwrap();
        seen.iter().filter(|process| process.beat.role == Role::Calls && process.alive()).count()
    };
    house.until("it beats", || async { beating().await == 1 }).await;
    calls.drain().await;
    assert_eq!(beating().await, 0);
    house.close().await;
}
