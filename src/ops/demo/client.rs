//! What the demo asks of the API, as any client would.

use anyhow::{Context, bail};
use reqwest::{Method, header::CONTENT_TYPE};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ops::installation::{Installation, ensure_loopback};

/// Fictional numbers in the spelling of real lists, with duplicates, suppressed and invalid rows.
const LEADS: &[u8] = include_bytes!("../../../examples/leads.csv");
/// The people of that list who do not want to be called.
const SUPPRESSED: &str = include_str!("../../../examples/suppressed.csv");
/// Most calls at once of the demo's business.
pub(super) const SLOTS: u32 = 25;
/// Jobs that are looked at to show a conversation.
const LOOKED_AT: u32 = 20;
/// Calls per second that the demo's carrier account allows.
const PACE: f64 = 50.0;

/// The API, seen with one key.
pub(super) struct Client {
    http: reqwest::Client,
    base_url: String,
    /// The business's own key.
    pub(super) key: String,
}

/// A run as the demo reads it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Run {
    pub(super) id: Uuid,
    pub(super) state: String,
    pub(super) leads: LeadCounts,
    pub(super) progress: Progress,
}

/// What became of the rows of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) struct LeadCounts {
    pub(super) rows: u64,
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) suppressed: u64,
    pub(super) rejected: u64,
}

/// How far the run is.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Progress {
    pub(super) total: u64,
    pub(super) states: States,
    #[serde(default)]
    pub(super) dispositions: std::collections::BTreeMap<String, u64>,
    pub(super) attempts: u64,
    pub(super) attempts_open: u64,
    pub(super) calls_live: u64,
    pub(super) slots: Slots,
}

/// Jobs by state.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct States {
    pub(super) queued: u64,
    pub(super) waiting: u64,
    pub(super) dialing: u64,
    pub(super) completed: u64,
    pub(super) unreached: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    pub(super) cancelled: u64,
}

impl States {
    /// Jobs that are over.
    pub(super) fn finished(&self) -> u64 {
        self.completed + self.unreached + self.failed + self.skipped + self.cancelled
    }

    /// Jobs that are not.
    pub(super) fn open(&self) -> u64 {
        self.queued + self.waiting + self.dialing
    }
}

/// Slots of the business.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Slots {
    pub(super) held: u64,
    pub(super) limit: u64,
}

/// What has been made or is listed.
#[derive(Deserialize)]
struct Made {
    id: Uuid,
}

#[derive(Deserialize)]
struct Listed {
    data: Vec<Made>,
}

#[derive(Deserialize)]
struct Job {
    attempts: Vec<Made>,
}

#[derive(Deserialize)]
struct Said {
    transcript: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    who: String,
    text: String,
    at_ms: u64,
    #[serde(default)]
    cut: bool,
}

impl Line {
    fn shown(&self) -> String {
        let Self { who, text, at_ms, cut } = self;
        format!("{at_ms:>6} ms  {who:<6}  {text}{}", if *cut { " … (the callee breaks in)" } else { "" })
    }
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

#[derive(Deserialize)]
struct Account {
    api_base_url: Option<String>,
}

impl Client {
    /// Makes a business with a key, the sandbox as its carrier, and its suppressed numbers.
    pub(super) async fn set_up(parts: &Installation) -> anyhow::Result<Self> {
        let mut client =
            Self { http: parts.http().clone(), base_url: parts.api_url(), key: parts.operator_key.clone() };
        let business = json!({
            "name": "Demo", "max_concurrent_calls": SLOTS, "default_region": "US", "allowed_countries": ["US", "CA", "GB"],
        });
        let business: Made = client.ask(Method::POST, "/v1/businesses", business).await?;
        let account = json!({
            "account_sid": format!("AC{}", Uuid::new_v4().simple()), "auth_token": Uuid::new_v4().simple().to_string(),
            "caller_ids": ["+12025550100"], "calls_per_second": PACE, "api_base_url": parts.carrier_url(),
        });
        let path = format!("/v1/businesses/{}", business.id);
        let account: Account = client.ask(Method::PUT, &format!("{path}/carriers/twilio"), account).await?;
        ensure_loopback(account.api_base_url.as_deref().context("the account names no carrier address")?)?;
        let key = json!({"name": "demo", "role": "manager"});
        let key: Key = client.ask(Method::POST, &format!("{path}/keys"), key).await?;
        client.key = key.key;
        for (number, source) in SUPPRESSED.lines().skip(1).filter_map(|line| line.split_once(',')) {
            let terms = json!({"source": source});
            let _: Value = client.ask(Method::PUT, &format!("/v1/suppressions/{number}"), terms).await?;
        }
        Ok(client)
    }

    /// Makes an agent and the run that it talks in, gives the run the list, and starts it.
    pub(super) async fn start_run(&self) -> anyhow::Result<Run> {
        let agent = json!({
            "name": "Demo", "prompt": "You call {{first_name}} for the Rollcall demo. Be brief.",
            "greeting": "Hello {{first_name}}, this is a call from the Rollcall demo.",
            "goodbye": "Goodbye.", "voicemail": "Hello {{first_name}}, the Rollcall demo has called you.",
            "tools": [{"type": "end_call"}],
        });
        let agent: Made = self.ask(Method::POST, "/v1/agents", agent).await?;
        let run = json!({ "name": "Demo", "default_region": "US", "agent_id": agent.id });
        let run: Run = self.ask(Method::POST, "/v1/runs", run).await?;
        let path = format!("/v1/runs/{}", run.id);
        let leads = self.request(Method::POST, &format!("{path}/leads")).header(CONTENT_TYPE, "text/csv").body(LEADS);
        let _: Value = answer_of("the list", leads).await?;
        let _: Value = answer_of("start", self.request(Method::POST, &format!("{path}/start"))).await?;
        self.run(run.id).await
    }

    /// The run as it is now.
    pub(super) async fn run(&self, id: Uuid) -> anyhow::Result<Run> {
        answer_of("the run", self.request(Method::GET, &format!("/v1/runs/{id}"))).await
    }

    /// A conversation of this run, preferably one in which the callee broke in; its lines. `None` where nobody answered.
    pub(super) async fn a_conversation(&self, run: &Run) -> anyhow::Result<Option<Vec<String>>> {
        let path = format!("/v1/runs/{}/jobs?state=completed&limit={LOOKED_AT}", run.id);
        let jobs: Listed = answer_of("the jobs", self.request(Method::GET, &path)).await?;
        let mut shown = None;
        for job in jobs.data {
            let job: Job = answer_of("a job", self.request(Method::GET, &format!("/v1/jobs/{}", job.id))).await?;
            let Some(call) = job.attempts.last() else { continue };
            let path = format!("/v1/calls/{}/transcript", call.id);
            let said: Said = answer_of("a transcript", self.request(Method::GET, &path)).await?;
            let broken_in = said.transcript.iter().any(|line| line.cut);
            if broken_in || shown.is_none() {
                shown = Some(said.transcript.iter().map(Line::shown).collect());
            }
            if broken_in {
                break;
            }
        }
        Ok(shown)
    }

    /// What keeps the run from dialing, as the API says it.
    pub(super) async fn why(&self, id: Uuid) -> anyhow::Result<Value> {
        answer_of("why", self.request(Method::GET, &format!("/v1/runs/{id}/why"))).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Value) -> anyhow::Result<T> {
        answer_of(path, self.request(method, path).json(&body)).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base_url)).bearer_auth(&self.key);
        request.header("Idempotency-Key", Uuid::new_v4().to_string())
    }
}

async fn answer_of<T: DeserializeOwned>(what: &str, request: reqwest::RequestBuilder) -> anyhow::Result<T> {
    let answer = request.send().await.with_context(|| format!("{what}: the api does not answer"))?;
    let status = answer.status();
    let body = answer.text().await?;
    if !status.is_success() {
        bail!("{what}: the api says {status}: {body}");
    }
    // A PUT may answer 204 without a body.
    let body = if body.is_empty() { "null" } else { body.as_str() };
    serde_json::from_str(body).with_context(|| format!("{what}: the api's answer has another shape: {body}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_from_the_shape_that_the_api_documents() {
        let run: Run = serde_json::from_value(json!({
            "id": "019a0000-0000-7000-8000-000000000000", "state": "running", "name": "Demo", "pause": null,
            "leads": {"rows": 5, "accepted": 2, "duplicates": 1, "suppressed": 1, "rejected": 1},
            "progress": {"sequence": 8, "at": "2026-01-01T00:00:00.000Z", "total": 2,
                "states": {"queued": 1, "waiting": 0, "dialing": 0, "completed": 1, "unreached": 0, "failed": 0,
                           "skipped": 0, "cancelled": 0},
                "dispositions": {"answered": 1}, "attempts": 1, "attempts_open": 0, "calls_live": 0,
                "slots": {"held": 0, "limit": 25}, "eta": null},
        }))
        .unwrap();
        assert_eq!((run.progress.states.finished(), run.progress.states.open()), (1, 1));
        assert_eq!(run.leads.rows, 5);
    }
}
