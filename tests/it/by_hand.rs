//! Hands that move an attempt without a worker: claim it, send it, read the whole ledger, sign as the carrier would.

use rollcall::{
    dialing::{
        next::Owner,
        send::{self, ClaimedAt},
    },
    ids::{AttemptId, BusinessId, Carrier, Held, RunId},
    jobs::claim::{self, Claimed},
    sim,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api_harness::answer,
    house::{House, OPERATOR_KEY},
};

/// The auth token of every account that `House::business` makes.
pub(crate) const AUTH_TOKEN: &str = "secret token of the account";

/// A client that asks nobody on the way.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

impl House {
    /// Claims up to `count` due jobs; `i`th slot and line for the `i`th. The gate is not asked.
    pub(crate) async fn claim(&self, business: BusinessId, count: i32) -> Vec<Claimed> {
        let held: Vec<_> = (1..=count).map(|i| Held { attempt: AttemptId::new(), slot: i, line: i }).collect();
        claim::claim(
            &self.ctx.stores.pg,
            self.first_carrier(business).await,
            "by hand",
            &held,
            &self.ctx.settings.times,
        )
        .await
        .unwrap()
    }

    /// A business and the first of its carriers.
    async fn first_carrier(&self, business: BusinessId) -> (BusinessId, Carrier) {
        let first = sqlx::query_scalar!(
            r#"SELECT carriers[1] AS "first!: Carrier" FROM business WHERE business_id = $1"#,
            business.0
        );
        (business, first.fetch_one(&self.ctx.stores.pg).await.unwrap())
    }

    /// Claims one job with this slot and line.
    pub(crate) async fn claim_at(&self, business: BusinessId, slot: i32, line: i32) -> AttemptId {
        let held = Held { attempt: AttemptId::new(), slot, line };
        let claimed = claim::claim(
            &self.ctx.stores.pg,
            self.first_carrier(business).await,
            "by hand",
            &[held],
            &self.ctx.settings.times,
        )
        .await
        .unwrap();
        claimed[0].attempt
    }

    /// Claims one job and sends it, as a worker does.
    pub(crate) async fn dialed(&self, business: BusinessId) -> Claimed {
        let claimed = self.claim(business, 1).await.pop().unwrap();
        let owner = Owner::new("by hand", CancellationToken::new());
        send::send(self.ctx.clone(), owner, business, claimed.clone(), ClaimedAt::now()).await;
        claimed
    }

    /// The same with this slot and line; it is not asked what became of it.
    pub(crate) async fn claim_and_send(&self, business: BusinessId, place: i32) -> AttemptId {
        let held = Held { attempt: AttemptId::new(), slot: place, line: place };
        let times = &self.ctx.settings.times;
        let whose = self.first_carrier(business).await;
        let claimed = claim::claim(&self.ctx.stores.pg, whose, "by hand", &[held], times).await.unwrap().remove(0);
        let owner = Owner::new("by hand", CancellationToken::new());
        send::send(self.ctx.clone(), owner, business, claimed, ClaimedAt::now()).await;
        held.attempt
    }

    /// The one call that the sandbox has for this number.
    pub(crate) fn only_call(&self, to: &str) -> sim::CallReport {
        let mut calls = self.sim.calls_to(to);
        assert_eq!(calls.len(), 1, "calls to {to}");
        calls.remove(0)
    }

    /// Every row that a carrier's word may move, with the transaction that wrote it: an update that changes nothing shows.
    pub(crate) async fn ledger(&self) -> String {
        sqlx::query_scalar!(
            r#"SELECT string_agg(line, E'\n' ORDER BY line) AS "all!" FROM (
                   SELECT 'attempt ' || xmin::text || to_jsonb(t)::text AS line FROM attempt t
                   UNION ALL SELECT 'job ' || xmin::text || to_jsonb(t)::text FROM job t
                   UNION ALL SELECT 'run ' || xmin::text || to_jsonb(t)::text FROM run t
                   UNION ALL SELECT 'tally ' || xmin::text || to_jsonb(t)::text FROM tally_shard t
                   UNION ALL SELECT 'stray ' || xmin::text || to_jsonb(t)::text FROM stray_call t) lines"#
        )
        .fetch_one(&self.ctx.stores.pg)
        .await
        .unwrap()
    }

    /// State, disposition and reason of the run's jobs in the order of their numbers.
    pub(crate) async fn jobs(&self, run: RunId) -> Vec<(String, Option<String>, Option<String>)> {
        let rows =
            sqlx::query!("SELECT state, disposition, reason FROM job WHERE run_id = $1 ORDER BY to_number", run.0)
                .fetch_all(&self.ctx.stores.pg)
                .await
                .unwrap();
        rows.into_iter().map(|job| (job.state, job.disposition, job.reason)).collect()
    }

    /// Asks the api, as the operator, to move a run: `start`, `pause`, `resume` or `cancel`.
    pub(crate) async fn act(&self, business: BusinessId, run: RunId, action: &str) -> serde_json::Value {
        self.act_by(&client(), business, run, action).await
    }

    /// The same by a client that is there already: making one takes long enough to miss a moment.
    pub(crate) async fn act_by(
        &self,
        http: &reqwest::Client,
        business: BusinessId,
        run: RunId,
        action: &str,
    ) -> serde_json::Value {
        let request = http.post(format!("http://{}/v1/runs/{run}/{action}", self.addr)).bearer_auth(OPERATOR_KEY);
        let answer = answer(request.header("Rollcall-Business", business.to_string())).await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.body);
        answer.body
    }

    /// The path of one of our carrier routes for an attempt.
    pub(crate) fn hook(&self, route: &str, business: BusinessId, attempt: AttemptId) -> String {
        format!("/webhooks/twilio/{route}/{}", self.ctx.tokens.make(business, attempt))
    }
}
