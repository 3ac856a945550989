//! I4, I8: the place in a list that claims begin at is a hint, and no job is lost before it.

use rollcall::{
    attempts::{
        ledger::{self, Closing, JobThen},
        state::{AttemptState, Disposition, Source},
    },
    dialing::import::{self, Upload},
    ids::{AttemptId, BusinessId, JobId, RunId},
    jobs::claim::Claimed,
};
use serde_json::json;
use uuid::Uuid;

use crate::house::{House, Options, numbers};

impl House {
    /// Moves the place up to the first queued job, as a claim does now and then, and says which job that is.
    async fn moved_place(&self, run: RunId) -> JobId {
        let pg = &self.ctx.stores.pg;
        sqlx::query!("SELECT begin_claims_at($1, NULL) IS NULL AS told", run.0).fetch_one(pg).await.unwrap();
        let place = sqlx::query_scalar!(r#"SELECT first_job FROM run_zone WHERE run_id = $1"#, run.0);
        let place = place.fetch_one(pg).await.unwrap();
        assert_ne!(place, Uuid::nil(), "the place was not moved");
        JobId(place)
    }

    /// Gives the job of an attempt back: no byte of it left.
    async fn give_back(&self, attempt: AttemptId) {
        let closing = Closing {
            state: AttemptState::NotSent,
            job: JobThen::Requeue,
            disposition: None::<Disposition>,
            reason: None,
            carrier_status: None,
            carrier_code: None,
        };
        let change = ledger::close(&self.ctx.stores.pg, attempt, Source::Response, closing).await.unwrap();
        assert!(change.unwrap().closed);
    }
}

/// A run of four numbers, two of them claimed and the place behind both.
async fn half_claimed(house: &House, business: BusinessId) -> (RunId, Vec<Claimed>) {
    let run = house.run(business, &numbers(4)).await;
    let claimed = house.claim(business, 2).await;
    let place = house.moved_place(run).await;
    assert!(claimed.iter().all(|one| one.job.unwrap().0 < place.0), "both stand before the place");
    (run, claimed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_given_back_before_the_place_is_the_next_one_dialed() {
    let mut house = House::open(Options::default()).await;
    let business = house.business(2).await;
    let (run, claimed) = half_claimed(&house, business).await;
    house.give_back(claimed[0].attempt).await;
    let next = house.claim(business, 2).await;
    assert_eq!(next[0].job, claimed[0].job, "the first of the list comes first again");
    for one in [&claimed[1], &next[0]] {
        house.give_back(one.attempt).await;
    }
    house.start_worker();
    house.ctx.ring(business).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.jobs_in(run, "completed").await, 4);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_comes_back_while_the_place_cannot_be_moved_is_dialed_all_the_same() {
    let mut house = House::open(Options::default()).await;
    let business = house.business(2).await;
    let (run, claimed) = half_claimed(&house, business).await;
    // Whoever holds the row keeps the place where it is: giving back does not wait for that.
    let mut holder = house.ctx.stores.pg.begin().await.unwrap();
    sqlx::query!("SELECT 1 AS one FROM run_zone WHERE run_id = $1 FOR UPDATE", run.0)
        .fetch_one(&mut *holder)
        .await
        .unwrap();
    for one in &claimed {
        house.give_back(one.attempt).await;
    }
    holder.commit().await.unwrap();
    let stands = sqlx::query_scalar!("SELECT first_job FROM run_zone WHERE run_id = $1", run.0);
    assert!(claimed[1].job.unwrap().0 < stands.fetch_one(&house.ctx.stores.pg).await.unwrap(), "the place is too late");

    house.start_worker();
    house.ctx.ring(business).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.jobs_in(run, "completed").await, 4);
    assert_eq!(house.sim.figures().total.created, 4);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_lead_of_higher_priority_is_the_next_one_dialed() {
    let mut house = House::open(Options::default()).await;
    let business = house.business(3).await;
    let (run, claimed) = half_claimed(&house, business).await;
    let late = json!({"to": "+13125550177", "variables": {"name": "Ada"}, "priority": 5});
    let upload = Upload::<&[u8]>::Json(vec![late]);
    import::into_run(&house.ctx.stores.pg, business, run, upload).await.unwrap();
    let next = house.claim_at(business, 3, 3).await;
    let to = sqlx::query_scalar!("SELECT to_number FROM attempt WHERE attempt_id = $1", next.0);
    assert_eq!(to.fetch_one(&house.ctx.stores.pg).await.unwrap(), "+13125550177");
    for attempt in claimed.iter().map(|one| one.attempt).chain([next]) {
        house.give_back(attempt).await;
    }
    house.start_worker();
    house.ctx.ring(business).await;
    house.until_run_is(run, "completed").await;
    assert_eq!(house.jobs_in(run, "completed").await, 5);
    house.close().await;
}
