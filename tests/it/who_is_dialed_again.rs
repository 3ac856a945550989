//! Who is dialed again, and who is not: after a cancel, a carrier's outage, a change of the rules, or the end of a run.

use rollcall::{
    attempts::{
        events,
        ledger::{self, Closing, JobThen, Said},
        speech,
        state::{AttemptState, Disposition, Source},
        store::want_ended,
    },
    ids::{AttemptId, RunId},
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    campaign_rules::one_lead,
    runs_harness::{Desk, event, number},
};

impl Desk {
    /// Claims the next job with slot 1 and has somebody pick up.
    async fn answered(&self) -> AttemptId {
        let attempt = self.claim(1).await.expect("something is due");
        event(self.pg(), self.business, attempt, "answered", None).await;
        attempt
    }

    /// They agree on four in the afternoon.
    async fn agree(&self, attempt: AttemptId) {
        assert!(speech::call_back(self.pg(), attempt, "2026-11-23T16:00:00Z".parse().unwrap()).await.unwrap());
    }

    /// No byte of this attempt left.
    async fn not_sent(&self, attempt: AttemptId) {
        let closing = Closing { state: AttemptState::NotSent, job: JobThen::Requeue, ..Closing::NOT_PLACED };
        assert!(ledger::close(self.pg(), attempt, Source::Response, closing).await.unwrap().unwrap().closed);
    }
}

fn tried(most: u32, ended_as: &str) -> Value {
    json!({"retry": {"max_attempts": most, "rules": {ended_as: {"delay_secs": 60, "jitter_pct": 0}}}})
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_somebody_cancelled_is_not_dialed_again_whoever_picks_up_and_whatever_is_agreed(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    for (ended_as, agrees) in [("machine", false), ("answered", true)] {
        let run = desk.started(one_lead(&tried(3, "machine"))).await;
        let attempt = desk.answered().await;
        if agrees {
            desk.agree(attempt).await;
        }
        let job = desk.jobs(run).await[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(desk.post(&format!("/v1/jobs/{job}/cancel"), Value::Null).await.status, 200);
        event(desk.pg(), desk.business, attempt, "ended", Some(ended_as)).await;
        let job = &desk.jobs(run).await[0];
        assert_eq!((&job["state"], &job["disposition"]), (&json!("completed"), &json!(ended_as)));
        assert_eq!(desk.state(run).await, "completed");
    }
    // What is hung up because its session broke was cancelled by nobody: what was agreed holds.
    let run = desk.started(one_lead(&json!({}))).await;
    let attempt = desk.answered().await;
    desk.agree(attempt).await;
    assert!(want_ended(desk.pg(), attempt).await.unwrap());
    event(desk.pg(), desk.business, attempt, "ended", Some("answered")).await;
    assert_eq!(desk.jobs(run).await[0]["state"], "waiting");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_call_that_left_the_carriers_queue_without_ringing_counts_as_no_dial(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let caps = json!({"attempt_caps": {"per_24h": 1}});
    assert_eq!(desk.patch("/v1/calling-rules", caps).await.status, 200);
    desk.started(one_lead(&json!({}))).await;
    let queued = desk.claim(1).await.unwrap();
    event(desk.pg(), desk.business, queued, "placed", None).await;
    sqlx::query!("UPDATE attempt SET queue_cancelled_at = clock_timestamp() WHERE attempt_id = $1", queued.0)
        .execute(desk.pg())
        .await
        .unwrap();
    event(desk.pg(), desk.business, queued, "ended", Some("cancelled")).await;
    let again = desk.claim(1).await.expect("nobody's phone rang");
    desk.not_sent(again).await;
    let later = desk.run(one_lead(&json!({"skip_called_within_days": 7}))).await;
    assert_eq!(desk.jobs(later).await.len(), 1, "nor was anybody called lately");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_outage_of_the_carrier_breaks_no_agreement(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    let run = desk.started(one_lead(&json!({}))).await;
    for _ in 0..10 {
        let attempt = desk.claim(1).await.expect("it comes back uncharged");
        desk.not_sent(attempt).await;
    }
    let attempt = desk.answered().await;
    desk.agree(attempt).await;
    event(desk.pg(), desk.business, attempt, "ended", Some("answered")).await;
    let job = &desk.jobs(run).await[0];
    assert_eq!((&job["state"], &job["next_at"]), (&json!("waiting"), &json!("2026-11-23T16:00:00.000Z")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_that_tries_less_often_from_now_on_ends_what_waits_for_more_but_for_what_was_agreed(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    desk.at("2026-11-23T15:00:00Z").await;
    let mut body = tried(5, "busy");
    body["message"] = json!({"text": "Hello"});
    body["leads"] = json!([{"to": number(0)}, {"to": number(1)}]);
    let run = desk.started(body).await;
    desk.dial("busy").await;
    let attempt = desk.answered().await;
    desk.agree(attempt).await;
    event(desk.pg(), desk.business, attempt, "ended", Some("answered")).await;
    assert_eq!(desk.patch(&format!("/v1/runs/{run}"), json!({"retry": {"max_attempts": 1}})).await.status, 200);
    desk.at("2026-11-23T16:00:00Z").await;
    desk.sweep().await;
    let agreed = desk.claim(1).await.expect("the other one was promised a call");
    assert_eq!(desk.claim(2).await, None);
    let jobs = desk.jobs(run).await;
    assert_eq!(
        [&jobs[0]["state"], &jobs[0]["reason"], &jobs[0]["disposition"]],
        [&json!("unreached"), &json!("attempts_used"), &json!("busy")]
    );
    assert_eq!(jobs[1]["state"], "dialing");
    event(desk.pg(), desk.business, agreed, "ended", Some("answered")).await;
    desk.sweep().await;
    assert_eq!(desk.state(run).await, "completed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_copy_for_those_that_nobody_reached_has_those_that_were_never_dialed(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.running(7).await;
    let rules = ["run_ended", "window_ended", "expired", "attempt_cap", "suppressed"];
    for (i, rule) in rules.into_iter().enumerate() {
        let skipped = sqlx::query_scalar!(
            r#"SELECT n AS "n!" FROM skip_jobs(ARRAY (SELECT job_id FROM job WHERE run_id = $1 AND to_number = $2), $3, 'By hand.')"#,
            run.0,
            number(i),
            rule
        );
        assert_eq!(skipped.fetch_one(desk.pg()).await.unwrap(), 1);
    }
    for reason in ["not_placed", "invalid_at_carrier"] {
        let attempt = desk.claim(1).await.unwrap();
        let closing = Closing { job: JobThen::Fail, reason: Some(reason), ..Closing::NOT_PLACED };
        assert!(ledger::close(desk.pg(), attempt, Source::Ops, closing).await.unwrap().unwrap().closed);
    }
    let copy = desk.post(&format!("/v1/runs/{run}/clone"), json!({"name": "Again", "leads": "unreached"})).await;
    let copy: RunId = copy.body["id"].as_str().unwrap().parse().unwrap();
    let to: Vec<_> = desk.jobs(copy).await.iter().map(|job| job["to"].clone()).collect();
    assert_eq!(to, [0, 1, 2, 3, 5].map(|i| json!(number(i))), "but not who is suppressed, or a number that is none");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_given_up_as_expired_is_never_dialed_again(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let mut body = json!({"message": {"text": "Hello"}, "leads": [{"to": number(0)}]});
    body.as_object_mut().unwrap().extend(tried(3, "failed").as_object().unwrap().clone());
    let run = desk.started(body).await;
    let attempt = desk.answered().await;
    let said = Said { carrier_status: Some("expired"), ..Said::default() };
    let failed = (AttemptState::Ended, Some(Disposition::Failed));
    events::apply(desk.pg(), (desk.business, attempt), Source::Reconcile, failed, &said).await.unwrap().unwrap();
    let job = &desk.jobs(run).await[0];
    assert_eq!((&job["state"], &job["reason"]), (&json!("unreached"), &json!("expired")), "{job}");
    assert_eq!(desk.state(run).await, "completed");
}
