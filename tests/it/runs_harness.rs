//! A business with an account and a manager's key, and hands to move its jobs as a worker and a carrier would.

use reqwest::Method;
use rollcall::{
    attempts::{
        events,
        ledger::{Said, Verdict},
        state::{AttemptState, Source},
    },
    ids::{AttemptId, BusinessId, RunId},
};
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgConnectOptions};

use crate::{
    api_harness::{Answer, App, answer},
    database,
};

/// A business at its desk.
pub(crate) struct Desk {
    pub(crate) app: App,
    pub(crate) business: BusinessId,
    pub(crate) key: String,
}

impl Desk {
    /// With an account at the carrier.
    pub(crate) async fn open(pg: PgConnectOptions) -> Self {
        let app = App::start(pg).await;
        let (business, key) = app.managed().await;
        assert!(app.account(business).await.status.is_success());
        Self { app, business, key }
    }

    pub(crate) fn pg(&self) -> &PgPool {
        &self.app.ctx.stores.pg
    }

    /// Does to the database what nobody can ask the api for.
    pub(crate) async fn by_hand(&self, statement: &str) {
        database::run(&mut self.pg().acquire().await.unwrap(), statement).await;
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.app.ask(Method::GET, path, &self.key, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.app.ask(Method::POST, path, &self.key, body).await
    }

    /// Makes a run of `body`, which needs no name, and gives back its id.
    pub(crate) async fn run(&self, mut body: Value) -> RunId {
        body["name"] = json!("Test");
        let made = self.post("/v1/runs", body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.body["id"].as_str().unwrap().parse().unwrap()
    }

    /// Makes a run that calls `n` numbers and says the same to each.
    pub(crate) async fn run_of(&self, n: usize) -> RunId {
        let leads: Vec<Value> = (0..n).map(|i| json!({"to": number(i)})).collect();
        self.run(json!({"message": {"text": "Hello"}, "leads": leads})).await
    }

    /// Makes such a run and starts it.
    pub(crate) async fn running(&self, n: usize) -> RunId {
        let run = self.run_of(n).await;
        let started = self.act(run, "start").await;
        assert_eq!(started.status, 200, "{}", started.body);
        run
    }

    pub(crate) async fn act(&self, run: RunId, action: &str) -> Answer {
        self.post(&format!("/v1/runs/{run}/{action}"), Value::Null).await
    }

    pub(crate) async fn state(&self, run: RunId) -> String {
        self.get(&format!("/v1/runs/{run}")).await.body["state"].as_str().unwrap().to_owned()
    }

    /// Uploads a CSV file.
    pub(crate) async fn csv(&self, run: RunId, file: impl Into<reqwest::Body>) -> Answer {
        let path = format!("{}/v1/runs/{run}/leads", self.app.base);
        answer(self.app.http.post(path).bearer_auth(&self.key).header("content-type", "text/csv").body(file)).await
    }

    /// The rows of a CSV file that the api gives, its header first.
    pub(crate) async fn download(&self, path: &str) -> Vec<Vec<String>> {
        let response =
            self.app.http.get(format!("{}{path}", self.app.base)).bearer_auth(&self.key).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let text = response.text().await.unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    /// Claims a job as a worker would; `slot` is also the line.
    pub(crate) async fn claim(&self, slot: i32) -> Option<AttemptId> {
        claim(self.pg(), self.business, slot).await
    }
}

/// Claims a job as a worker would; `slot` is also the line.
pub(crate) async fn claim(pg: &PgPool, business: BusinessId, slot: i32) -> Option<AttemptId> {
    let claimed = sqlx::query_scalar!(
        "SELECT attempt_id FROM claim_jobs(ARRAY[$1::uuid], '{twilio}', '{worker}', ARRAY[$1], $2, $3, $3, 60000, 60000, 45000)",
        business.0,
        &[AttemptId::new().0],
        &[slot]
    );
    claimed.fetch_optional(pg).await.unwrap().flatten().map(AttemptId)
}

/// Tells of a call as the carrier would.
pub(crate) async fn event(
    pg: &PgPool,
    business: BusinessId,
    attempt: AttemptId,
    state: &str,
    disposition: Option<&str>,
) {
    let state = serde_json::from_value(Value::from(state)).unwrap();
    let disposition = disposition.map(|word| serde_json::from_value(Value::from(word)).unwrap());
    let call_id = format!("CA{attempt}");
    let said =
        Said { call_id: Some(&call_id), duration_secs: (state == AttemptState::Ended).then_some(7), ..Said::default() };
    let change = events::apply(pg, (business, attempt), Source::Webhook, (state, disposition), &said).await.unwrap();
    assert_eq!(change.unwrap().verdict, Verdict::Applied);
}

/// The `i`th fictional number of the United States (555-0100 to 555-0199 in every area code).
pub(crate) fn number(i: usize) -> String {
    const AREAS: [u16; 24] = [
        201, 202, 203, 205, 206, 207, 208, 209, 210, 212, 213, 214, 215, 216, 217, 218, 219, 224, 225, 228, 229, 231,
        234, 239,
    ];
    format!("+1{}55501{:02}", AREAS[i / 100], i % 100)
}
