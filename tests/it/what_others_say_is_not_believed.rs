//! A carrier that gives one call id twice, a Redis that somebody else wrote into, and requests that are too much.

use reqwest::Method;
use rollcall::attempts::{
    AttemptState, Disposition, events,
    ledger::{self, Closing, JobThen, Said},
    state::Source,
};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    api_harness::{App, answer},
    by_hand::client,
    house::{House, Options, numbers},
    scripted_carrier::{Fake, Reply},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_id_that_the_carrier_gives_twice_is_one_call_and_the_other_stays_in_doubt() {
    let house = House::open(Options::default()).await;
    let business = house.business(2).await;
    let sid = "CA0123456789abcdef0123456789abcdef";
    let taken = || Reply::Json(201, json!({"sid": sid, "status": "queued"}).to_string());
    let fake = Fake::start([taken(), taken()]).await;
    let pg = &house.ctx.stores.pg;
    let base = fake.base.to_string();
    sqlx::query!("UPDATE carrier_account SET api_base_url = $1", base.trim_end_matches('/')).execute(pg).await.unwrap();
    house.run(business, &numbers(2)).await;
    let first = house.claim_and_send(business, 1).await;
    let second = house.claim_and_send(business, 2).await;
    assert_eq!(fake.requests().len(), 2, "each was sent once");
    let state = async |attempt: rollcall::ids::AttemptId| {
        sqlx::query!(
            r#"SELECT state AS "state!: String", carrier_call_id FROM attempt WHERE attempt_id = $1"#,
            attempt.0
        )
        .fetch_one(pg)
        .await
        .unwrap()
    };
    let (one, other) = (state(first).await, state(second).await);
    assert_eq!((one.state.as_str(), one.carrier_call_id.as_deref()), ("placed", Some(sid)));
    assert_eq!(
        (other.state.as_str(), other.carrier_call_id),
        ("intent", None),
        "it holds its slot until the carrier is asked"
    );

    let said = Said { call_id: Some(sid), ..Said::default() };
    let ended = (AttemptState::Ended, Some(Disposition::Answered));
    events::apply(pg, (business, first), Source::Reconcile, ended, &said).await.unwrap();
    let closing = Closing { job: JobThen::Fail, ..Closing::NOT_PLACED };
    ledger::close(pg, second, Source::Reconcile, closing).await.unwrap();
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_somebody_writes_into_redis_dials_nobody_and_stops_no_run() {
    let mut house = House::open(Options { workers: 1, ..Options::default() }).await;
    let (business, other) = (house.business(2).await, house.business(1).await);
    house.until("the gate is open", || async { house.ctx.gate.is_ready().await.unwrap() }).await;
    let keys = house.ctx.stores.keys.clone();
    let mut redis = house.ctx.stores.redis.clone();
    let mut junk = redis::pipe();
    // Keys of another kind, holders of nobody, a count that is none, bells for nobody.
    junk.set(keys.key(format!("slots:{{{business}}}:held")), "not a set")
        .hset(keys.key("gate:holders"), "not an id", "not a holder")
        .hset(keys.key("gate:holders"), rollcall::ids::AttemptId::new().to_string(), format!("0:{other}:1:1"))
        .set(keys.key("calls:active_count"), "many")
        .set(keys.key("pace:x"), "x".repeat(1024 * 1024))
        .set(keys.key("lines:held"), "neither")
        .set(keys.key("bells:not-a-business"), "1")
        .set(keys.key(format!("bells:{}", rollcall::ids::BusinessId::new())), "1");
    junk.query_async::<()>(&mut redis).await.unwrap();
    house.ctx.ring(rollcall::ids::BusinessId::new()).await;
    assert!(house.sim.calls().is_empty(), "no intent, no call");
    let run = house.started(business, &numbers(6)).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.sim.calls().len(), 6);
    house.start_worker();
    house.close().await;
}

#[sqlx::test(migrator = "rollcall::stores::MIGRATOR")]
async fn what_is_too_much_is_refused_and_the_next_request_is_answered(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let (_, key) = app.managed().await;
    for (path, status) in [
        ("/v1/runs?limit=1000000000", 422),
        ("/v1/runs?limit=-1", 422),
        ("/v1/runs?limit=9223372036854775808", 422),
        ("/v1/runs?limit=NaN", 422),
        ("/v1/runs?cursor=%00", 422),
        ("/v1/jobs?to=%2B1%27%20OR%201%3D1--", 422),
        ("/v1/jobs?external_id=%27%20OR%201%3D1--", 200),
    ] {
        let seen = app.ask(Method::GET, path, &key, serde_json::Value::Null).await;
        assert!(
            seen.status == status || (path.contains("to=") && seen.status == 200),
            "{path}: {} {}",
            seen.status,
            seen.body
        );
        assert!(seen.body["data"].as_array().is_none_or(Vec::is_empty), "{path}: {}", seen.body);
    }
    let url = format!("{}/v1/runs", app.base);
    let bomb = app.http.post(&url).bearer_auth(&key).header("content-type", "application/json");
    let bomb = answer(bomb.header("content-encoding", "gzip").body(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0])).await;
    assert!(bomb.status.is_client_error(), "nothing is unpacked: {}", bomb.body);
    let long = app.http.get(&url).bearer_auth(&key).header("x-long", "x".repeat(1 << 20)).send().await;
    assert!(long.is_err() || long.unwrap().status().is_client_error(), "a header of a megabyte");
    for number in [json!(-1), json!(1e308), json!(9_223_372_036_854_775_807_i64), json!("3")] {
        let body = json!({"name": "x", "message": {"text": "x"}, "ring_timeout_secs": number});
        let made = app.ask(Method::POST, "/v1/runs", &key, body).await;
        assert_eq!((made.status.as_u16(), made.slug()), (422, "validation"), "{number}: {}", made.body);
    }
    assert_eq!(app.ask(Method::GET, "/v1/runs", &key, serde_json::Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_webhook_that_cannot_be_read_at_all_is_answered_with_a_problem_too() {
    let house = House::open(Options::default()).await;
    let told = async |path: &str, body: Vec<u8>| {
        let refused = answer(client().post(format!("http://{}{path}", house.addr)).body(body)).await;
        (refused.status.as_u16(), refused.body["type"].as_str().unwrap_or_default().to_owned())
    };
    for path in
        ["/webhooks/twilio/status/x", "/webhooks/twilio/stream/x", "/webhooks/telnyx/x", "/webhooks/telnyx/inbound/x"]
    {
        assert_eq!(told(path, vec![b'x'; 70 * 1024]).await, (413, "/problems/too-large".to_owned()), "{path}");
    }
    for path in ["/webhooks/twilio/status/%ff", "/webhooks/telnyx/%ff", "/webhooks/telnyx/inbound/%ff"] {
        assert_eq!(told(path, Vec::new()).await, (404, "/problems/not-found".to_owned()), "{path}");
    }
    house.close().await;
}
