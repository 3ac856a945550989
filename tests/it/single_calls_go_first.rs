//! `POST /v1/calls`: one call, admitted only where it has a slot and a line now, ahead of lists, never late.

use reqwest::Method;
use rollcall::{
    attempts::{
        ledger::{self, Closing},
        state::Source,
    },
    ids::{AttemptId, BusinessId},
    sim,
    slots::{Ask, Taken},
};
use serde_json::{Value, json};

use crate::house::{House, OPERATOR_KEY, Options, numbers};

pub(crate) async fn ask(
    house: &House,
    business: BusinessId,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let mut request = rollcall::carriers::http_client(&rollcall::carriers::HttpLimits::default())
        .unwrap()
        .request(method, format!("http://{}{path}", house.addr))
        .bearer_auth(OPERATOR_KEY)
        .header("Rollcall-Business", business.to_string());
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

fn call(to: &str) -> Value {
    json!({ "to": to, "message": { "text": "Hi {{name}}", "language": "en-US" }, "variables": { "name": "Bo" } })
}

async fn state(house: &House, business: BusinessId, id: &str) -> (String, Value) {
    let (_, shown) = ask(house, business, Method::GET, &format!("/v1/calls/{id}"), None).await;
    (shown["state"].as_str().unwrap().to_owned(), shown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_is_dialed_speaks_and_ends() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.business(2).await;
    house.until("the gate is open", || async { house.ctx.gate.is_ready().await.unwrap() }).await;
    let (status, made) = ask(&house, business, Method::POST, "/v1/calls", Some(call("+12125550101"))).await;
    // The worker may have taken it before the answer was read.
    assert!(status == 201 && made["session"].is_null() && made["state"].is_string(), "{made}");
    let id = made["id"].as_str().unwrap().to_owned();
    house.until("the call has ended", || async { state(&house, business, &id).await.0 == "ended" }).await;
    assert_eq!(state(&house, business, &id).await.1["disposition"], "answered");
    assert_eq!(house.sim.calls()[0].heard, ["Hi Bo"]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_without_a_free_slot_is_refused_and_counted() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.business(1).await;
    let run = house.started(business, &["+12125550194".to_owned()]).await;
    house.until("the slot is taken", || async { house.open_attempts().await == 1 }).await;
    let (status, problem) = ask(&house, business, Method::POST, "/v1/calls", Some(call("+12125550101"))).await;
    assert_eq!((status, problem["type"].as_str()), (503, Some("/problems/at-capacity")), "{problem}");
    let rejected: i64 = redis::cmd("GET")
        .arg(house.ctx.stores.keys.key("metrics:calls_rejected_max_concurrent"))
        .query_async(&mut house.ctx.stores.redis.clone())
        .await
        .unwrap();
    assert_eq!(rejected, 1);
    house.until("the call is answered", || async { house.attempts_in("answered").await == 1 }).await;
    house.sim.end(&house.sim.calls()[0].sid, sim::Status::Completed).unwrap();
    house.until_run_is(run, "completed").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_that_no_worker_takes_expires_and_never_rings() {
    let mut house = House::open(Options::default()).await;
    let business = house.business(2).await;
    house.ctx.gate.open().await.unwrap();
    let body = {
        let mut body = call("+12125550101");
        body["max_wait_secs"] = json!(1);
        body
    };
    let (status, made) = ask(&house, business, Method::POST, "/v1/calls", Some(body)).await;
    assert_eq!(status, 201, "{made}");
    house
        .until("its time is over", || async {
            sqlx::query_scalar!(r#"SELECT dial_by < clock_timestamp() AS "over!" FROM attempt"#)
                .fetch_one(&house.ctx.stores.pg)
                .await
                .unwrap()
        })
        .await;
    let id = made["id"].as_str().unwrap().to_owned();
    let (word, shown) = state(&house, business, &id).await;
    assert_eq!((word.as_str(), &shown["reason"]), ("ended", &json!("expired")), "no worker was there to say so");
    assert_eq!(house.open_attempts().await, 0, "and it holds no slot");
    house.start_worker();
    house.until("the worker has swept", || async { house.ctx.heartbeats.own().sweep.is_some() }).await;
    assert_eq!(house.sim.figures().total.requests, 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_waits_out_a_worker_that_only_looks() {
    let mut house = House::open(Options::default()).await;
    let business = house.business(2).await;
    house.ctx.gate.open().await.unwrap();
    let account = format!("AC{}", business.0.simple());
    // As a worker does before it sees that nothing is due.
    let look =
        Ask { business, slot_limit: 2, lines: 50, talks: None, account: &account, calls_per_second: 10_000.0, most: 2 };
    let Taken::Some { held, .. } = house.ctx.gate.take(&look).await.unwrap() else { panic!("the gate is open") };
    let held: Vec<_> = held.iter().map(|held| held.attempt).collect();
    assert_eq!(held.len(), 2);
    let asked_at = async || {
        let mut redis = house.ctx.stores.redis.clone();
        let pace = house.ctx.stores.keys.key(format_args!("pace:{account}"));
        redis::cmd("HGET").arg(pace).arg("at_us").query_async::<Option<String>>(&mut redis).await.unwrap()
    };
    let looked = asked_at().await;
    let given_back = async {
        house.until("the call has asked the gate", || async { asked_at().await != looked }).await;
        let _ = house.ctx.gate.nothing_due(business, &account, &held).await.unwrap();
    };
    let asked = ask(&house, business, Method::POST, "/v1/calls", Some(call("+12125550101")));
    let ((status, made), ()) = tokio::join!(asked, given_back);
    assert_eq!(status, 201, "{made}");
    house.start_worker();
    let id = made["id"].as_str().unwrap().to_owned();
    house.until("the call has ended", || async { state(&house, business, &id).await.0 == "ended" }).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_goes_ahead_of_a_list() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let business = house.business(2).await;
    let list = house.run(business, &numbers(300)).await;
    house.until("the list is being called", || async { house.sim.figures().total.created > 5 }).await;
    let id = loop {
        let (status, made) = ask(&house, business, Method::POST, "/v1/calls", Some(call("+12135550101"))).await;
        if status == 201 {
            break made["id"].as_str().unwrap().to_owned();
        }
        assert_eq!(status, 503, "{made}");
    };
    house.until("the call has ended", || async { state(&house, business, &id).await.0 == "ended" }).await;
    assert!(house.jobs_in(list, "queued").await > 0, "the list was still waiting");
    house.stop_dialing(list).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_that_does_not_fit_is_refused_with_pointers() {
    let house = House::open(Options::default()).await;
    let business = house.business(2).await;
    let wrong = [
        (json!({ "to": "12", "message": { "text": "Hi" } }), "/to"),
        (json!({ "to": "+12125550101" }), "/message"),
        (json!({ "to": "+12125550101", "message": { "text": "Hi {{name}}" } }), "/message/text"),
        (json!({ "to": "+12125550101", "message": { "text": "Hi" }, "from": "+15005550006" }), "/from"),
        (json!({ "to": "+12125550101", "message": { "text": "Hi" }, "machine": {} }), "/machine/detect"),
        (
            json!({ "to": "+12125550101", "message": { "text": "Hi" }, "machine": { "detect": "sync", "then": "leave_message",
                "message": { "text": "Hi {{name}}" } } }),
            "/machine/message/text",
        ),
        (json!({ "to": "+12125550101", "message": { "text": "Hi" }, "max_wait_secs": 0 }), "/max_wait_secs"),
        (json!({ "to": "+12125550101", "message": { "text": "Hi" }, "surprise": 1 }), "/surprise"),
    ];
    for (body, pointer) in wrong {
        let (status, problem) = ask(&house, business, Method::POST, "/v1/calls", Some(body)).await;
        assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (422, Some(pointer)), "{problem}");
    }
    assert_eq!(house.open_attempts().await, 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_that_the_carrier_refused_is_never_sent_again() {
    let house = House::open(Options { workers: 1, ..Options::default() }).await;
    let create = vec![sim::Rule::next(sim::CreateFault::Http429, 1)];
    house.sim.set_faults(sim::Faults { create, ..sim::Faults::default() }).unwrap();
    let business = house.business(2).await;
    house.until("the gate is open", || async { house.ctx.gate.is_ready().await.unwrap() }).await;
    let (status, made) = ask(&house, business, Method::POST, "/v1/calls", Some(call("+12125550101"))).await;
    assert_eq!(status, 201, "{made}");
    let id = made["id"].as_str().unwrap().to_owned();
    house.until("it is over", || async { state(&house, business, &id).await.0 == "ended" }).await;
    let shown = state(&house, business, &id).await.1;
    assert_eq!((&shown["disposition"], &shown["reason"]), (&json!("refused"), &json!("refused")));
    assert_eq!(house.sim.figures().total.requests, 1, "one POST per attempt");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_account_is_tried_with_one_single_call_and_works_again_when_that_is_placed() {
    let mut house = House::open(Options::default()).await;
    let business = house.business(2).await;
    house.ctx.gate.open().await.unwrap();
    let pg = house.ctx.stores.pg.clone();
    sqlx::query!(
        "UPDATE carrier_account SET health = 'refused', hold_until = clock_timestamp() - interval '1 s' WHERE business_id = $1",
        business.0
    )
    .execute(&pg)
    .await
    .unwrap();
    let (status, made) = ask(&house, business, Method::POST, "/v1/calls", Some(call("+12125550101"))).await;
    assert_eq!(status, 201, "{made}");
    let (status, problem) = ask(&house, business, Method::POST, "/v1/calls", Some(call("+12125550102"))).await;
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("holds this account back"), "{problem}");
    house.start_worker();
    let id = made["id"].as_str().unwrap().to_owned();
    house.until("the call has ended", || async { state(&house, business, &id).await.0 == "ended" }).await;
    house
        .until("the account is well", || async {
            let health = sqlx::query_scalar!("SELECT health FROM carrier_account WHERE business_id = $1", business.0);
            health.fetch_one(&pg).await.unwrap() == "ok"
        })
        .await;
    let (status, made) = ask(&house, business, Method::POST, "/v1/calls", Some(call("+12125550103"))).await;
    assert_eq!(status, 201, "{made}");
    house.close().await;
}

#[tokio::test]
async fn a_claim_that_takes_a_single_call_of_a_refused_account_holds_the_account_again() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    house.ctx.gate.open().await.unwrap();
    let pg = &house.ctx.stores.pg;
    for to in ["+12125550101", "+12125550102"] {
        assert_eq!(ask(&house, business, Method::POST, "/v1/calls", Some(call(to))).await.0, 201);
    }
    // Both were admitted before the carrier refused.
    sqlx::query!("UPDATE carrier_account SET health = 'refused' WHERE business_id = $1", business.0)
        .execute(pg)
        .await
        .unwrap();
    let claimed = async || {
        let claimed = sqlx::query_scalar!(
            r#"SELECT count(*) AS "n!" FROM claim_jobs(ARRAY[$1::uuid], ARRAY['twilio'], ARRAY['w'], '{}', '{}', '{}', '{}', 60000, 60000, 45000)
               WHERE attempt_id IS NOT NULL"#,
            business.0
        );
        claimed.fetch_one(pg).await.unwrap()
    };
    assert_eq!((claimed().await, claimed().await), (1, 0), "the second waits for what becomes of the first");
    sqlx::query!("UPDATE carrier_account SET health = 'ok', hold_until = NULL WHERE business_id = $1", business.0)
        .execute(pg)
        .await
        .unwrap();
    assert_eq!(claimed().await, 1);
    for attempt in sqlx::query_scalar!("SELECT attempt_id FROM attempt WHERE open").fetch_all(pg).await.unwrap() {
        ledger::close(pg, AttemptId(attempt), Source::Reconcile, Closing::NOT_PLACED).await.unwrap();
        drop(house.ctx.gate.give_back(business, "", &[AttemptId(attempt)]).await.unwrap());
    }
    house.close().await;
}
