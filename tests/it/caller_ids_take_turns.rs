//! Which number a call comes from: turns, limits by day and at once, and the nearest first.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use rollcall::{
    attempts::{
        ledger::{self, Closing, JobThen},
        state::{AttemptState, Source},
    },
    ids::{AttemptId, BusinessId},
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::{
    PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    api_harness::OPERATOR,
    runs_harness::{Desk, number},
};

/// A pool over two area codes and two countries.
const POOL: [&str; 5] = ["+12025550100", "+12025550101", "+12125550100", "+442071838750", "+441611838750"];

/// A business with the pool.
async fn desk(pg: PgConnectOptions) -> Desk {
    let desk = Desk::open(pg).await;
    let path = format!("/v1/businesses/{}/carriers/twilio", desk.business);
    let set = desk.app.ask(Method::PATCH, &path, OPERATOR, json!({ "caller_ids": POOL })).await;
    assert_eq!(set.status, 200, "{}", set.body);
    desk
}

async fn patch(desk: &Desk, number: &str, settings: Value) -> Value {
    let mut body = settings;
    body["number"] = json!(number);
    let set = desk.app.ask(Method::PATCH, "/v1/caller-ids", &desk.key, body).await;
    assert_eq!(set.status, 200, "{}", set.body);
    set.body
}

/// What a claim is given for the `dial`th call of this number.
async fn pick(db: &mut PgConnection, business: BusinessId, to: &str, local: &str, dial: i32) -> Option<String> {
    let pool: Vec<String> = POOL.iter().map(ToString::to_string).collect();
    sqlx::query_scalar!("SELECT pick_caller($1, '{}', $2, $3, $4, $5)", business.0, &pool, to, local, dial)
        .fetch_one(db)
        .await
        .unwrap()
}

/// Callers of many calls, each in a transaction of its own, and how often each was taken.
async fn many(
    pg: &PgPool,
    business: BusinessId,
    local: &str,
    to: impl Fn(i32) -> String,
) -> BTreeMap<Option<String>, i32> {
    let mut taken = BTreeMap::new();
    let mut db = pg.acquire().await.unwrap();
    for i in 0..60 {
        *taken.entry(pick(&mut db, business, &to(i), local, 0).await).or_default() += 1;
    }
    taken
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn numbers_take_turns_and_those_near_the_callee_come_first(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = desk(pg).await;
    let (pg, business) = (desk.pg(), desk.business);
    let callers = async |local, to: fn(i32) -> String| -> BTreeSet<String> {
        many(pg, business, local, to).await.into_keys().map(Option::unwrap).collect()
    };
    let set = |numbers: &[&str]| numbers.iter().map(ToString::to_string).collect::<BTreeSet<String>>();
    let washington = |i: i32| format!("+1202555{:04}", 200 + i);
    assert_eq!(callers("off", washington).await, set(&POOL));
    assert_eq!(callers("area_code", washington).await, set(&POOL[..2]));
    assert_eq!(callers("country", washington).await, set(&POOL[..3]));
    assert_eq!(
        callers("area_code", |i| format!("+1305555{:04}", 200 + i)).await,
        set(&POOL[..3]),
        "no such area: the country"
    );
    assert_eq!(callers("area_code", |i| format!("+4420794{:05}", 60000 + i)).await, set(&POOL[3..4]));
    assert_eq!(callers("area_code", |i| format!("+49301234{:04}", i)).await, set(&POOL), "nothing near: all");
    // A number that is dialed again comes from the next one, and one whose row says nothing keeps its turn.
    let mut db = pg.acquire().await.unwrap();
    patch(&desk, POOL[0], json!({"label": "front desk"})).await;
    for local in ["off", "country"] {
        let mut seen = BTreeSet::new();
        for dial in 0..5 {
            seen.insert(pick(&mut db, business, "+12025550199", local, dial).await.unwrap());
        }
        assert_eq!(seen.len(), if local == "off" { 5 } else { 3 }, "{local}");
    }
    patch(&desk, POOL[0], json!({"enabled": false})).await;
    assert_eq!(callers("area_code", washington).await, set(&POOL[1..2]));
    let body = json!({"number": "+19995550100", "label": "x"});
    assert_eq!(
        desk.app.ask(Method::PATCH, "/v1/caller-ids", &desk.key, body).await.fault(),
        ("/number", "unknown_caller_id")
    );
    for (field, pointer) in [("max_per_day", "/max_per_day"), ("max_at_once", "/max_at_once")] {
        let refused =
            desk.app.ask(Method::PATCH, "/v1/caller-ids", &desk.key, json!({"number": POOL[0], field: 0})).await;
        assert_eq!(refused.fault(), (pointer, "out_of_range"));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_number_is_taken_no_more_often_in_a_day_than_it_may_be(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = desk(pg).await;
    let (pg, business) = (desk.pg(), desk.business);
    let shown = patch(&desk, POOL[0], json!({"max_per_day": 7, "label": " main "})).await;
    assert_eq!((&shown["label"], &shown["max_per_day"], &shown["dials_today"]), (&json!("main"), &json!(7), &json!(0)));
    patch(&desk, POOL[1], json!({"max_per_day": 2})).await;
    let washington = |i: i32| format!("+1202555{:04}", 200 + i);
    let taken = many(pg, business, "area_code", washington).await;
    assert_eq!(
        (taken[&Some(POOL[0].into())], taken[&Some(POOL[1].into())], taken[&Some(POOL[2].into())]),
        (7, 2, 51),
        "then the next nearest"
    );
    for number in &POOL[2..] {
        patch(&desk, number, json!({"max_per_day": 1})).await;
    }
    assert!(many(pg, business, "off", washington).await.contains_key(&None), "nobody has room");
    let mut db = pg.acquire().await.unwrap();
    assert_eq!(pick(&mut db, business, "+12025550199", "off", 0).await, None);
    let listed = desk.get("/v1/caller-ids").await.body;
    let today: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|row| row["dials_today"].as_i64().unwrap()).collect();
    assert_eq!(today, [7, 2, 1, 1, 1]);
    // The next day of the business's zone all have room again.
    sqlx::query!("UPDATE caller_id SET day = day - 1").execute(pg).await.unwrap();
    assert!(pick(&mut db, business, "+12025550199", "off", 0).await.is_some());
    let other = desk.app.business().await;
    assert!(pick(&mut db, other, "+12025550199", "off", 0).await.is_some(), "another business has settings of its own");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_number_has_no_more_calls_at_once_than_it_may_also_within_one_claim(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = desk(pg).await;
    let (pg, business) = (desk.pg(), desk.business);
    for number in POOL {
        patch(&desk, number, json!({"max_at_once": 2})).await;
    }
    // One statement, as a claim does it: whatever the order of its steps, each number is taken twice.
    let pool: Vec<String> = POOL.iter().map(ToString::to_string).collect();
    let insert = |from: i32, to: i32| {
        sqlx::query_scalar!(
            r#"INSERT INTO attempt (attempt_id, business_id, carrier, account, from_number, to_number, slot, line, ring_timeout_secs,
                                  call_time_limit_secs, owner)
               SELECT gen_random_uuid(), $1, 'twilio', 'AC1', c.caller, j.number, j.i, j.i, 30, 600, 'w'
               FROM (SELECT i, '+1202555' || (2000 + i) AS number FROM generate_series($3::int, $4::int) i) j
                   CROSS JOIN LATERAL (SELECT pick_caller($1, '{}', $2, j.number, 'off', 0) AS caller OFFSET 0) c
               WHERE c.caller IS NOT NULL RETURNING from_number"#,
            business.0,
            &pool,
            from,
            to
        )
    };
    let taken = insert(1, 40).fetch_all(pg).await.unwrap();
    assert_eq!(taken.len(), 10);
    for number in POOL {
        assert_eq!(taken.iter().filter(|from| *from == number).count(), 2, "{number}");
    }
    let mut db = pg.acquire().await.unwrap();
    assert_eq!(pick(&mut db, business, "+12025550199", "off", 0).await, None);
    let over = sqlx::query_scalar!(
        r#"SELECT attempt_id AS "attempt: AttemptId" FROM attempt WHERE from_number = $1 LIMIT 1"#,
        POOL[3]
    );
    let over = over.fetch_one(pg).await.unwrap();
    sqlx::query!("UPDATE attempt SET state = 'not_sent', ended_at = now() WHERE attempt_id = $1", over.0)
        .execute(pg)
        .await
        .unwrap();
    assert_eq!(insert(50, 60).fetch_all(pg).await.unwrap(), [POOL[3]], "one came free, and one is taken");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_single_call_that_a_claim_takes_is_one_of_the_calls_that_its_number_has_at_once(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = desk(pg).await;
    patch(&desk, POOL[0], json!({"max_at_once": 1})).await;
    for number in &POOL[1..] {
        patch(&desk, number, json!({"enabled": false})).await;
    }
    let admitted = sqlx::query_scalar!(
        r#"SELECT admit_call($1, $2, 1, 1, 'twilio', ARRAY[$3::text], NULL, '+12025550199', NULL, '{}', '{"text": "Hello"}', 30, 600, 60, false, '{}', 0)"#,
        desk.business.0,
        AttemptId::new().0,
        POOL[0]
    );
    assert_eq!(admitted.fetch_one(desk.pg()).await.unwrap().as_deref(), Some("admitted"));
    desk.running(2).await;
    assert!(desk.claim(2).await.is_some(), "the single call is taken");
    let open = sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM attempt WHERE open AND from_number = $1"#, POOL[0]);
    assert_eq!(open.fetch_one(desk.pg()).await.unwrap(), 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_call_that_was_never_made_takes_nothing_from_the_day_of_its_number(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = desk(pg).await;
    for number in POOL {
        patch(&desk, number, json!({"max_per_day": 1})).await;
    }
    desk.running(1).await;
    for _ in 0..=POOL.len() {
        let attempt = desk.claim(1).await.expect("no number was called from yet");
        let closing = Closing { state: AttemptState::NotSent, job: JobThen::Requeue, ..Closing::NOT_PLACED };
        assert!(ledger::close(desk.pg(), attempt, Source::Response, closing).await.unwrap().unwrap().closed);
    }
    let listed = desk.get("/v1/caller-ids").await.body;
    assert!(listed["data"].as_array().unwrap().iter().all(|row| row["dials_today"] == 0), "{listed}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_that_no_number_may_be_called_for_takes_no_turn_from_the_others(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = desk(pg).await;
    let mut runs = Vec::new();
    for (i, caller) in POOL[..2].iter().enumerate() {
        let leads: Vec<Value> = (0..6).map(|n| json!({"to": number(i * 6 + n)})).collect();
        let run = desk.run(json!({"message": {"text": "Hello"}, "caller_ids": [caller], "leads": leads})).await;
        assert_eq!(desk.act(run, "start").await.status, 200);
        runs.push(run);
    }
    patch(&desk, POOL[0], json!({"enabled": false})).await;
    for slot in 1..=3 {
        let attempt = desk.claim(slot).await.expect("the other run has numbers to call from");
        let run = sqlx::query_scalar!(r#"SELECT run_id AS "run!" FROM attempt WHERE attempt_id = $1"#, attempt.0);
        assert_eq!(run.fetch_one(desk.pg()).await.unwrap(), runs[1].0);
    }
}
