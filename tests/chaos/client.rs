//! The client of a trial: tenants, runs, pauses, cancels, suppressions, single calls; and the log of what it was answered.
//!
//! It repeats what was not answered under the same idempotency key, as the API asks of every client.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::site::{OPERATOR_KEY, Site};

/// What the sandbox's Telnyx signs with: the key of RFC 8032, section 7.1, test 1.
const TELNYX_KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
/// Between two tries of what was not answered.
const AGAIN: Duration = Duration::from_millis(300);
/// A business as its client knows it.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) id: Uuid,
    pub(crate) key: String,
    pub(crate) account: String,
    /// Of the account: Twilio's token, which signs, or Telnyx's key.
    pub(crate) secret: String,
    pub(crate) limit: usize,
    pub(crate) telnyx: bool,
}

/// Something that the client was told, or saw.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    /// A run was made under this key, from these numbers.
    Made { key: String, run: Uuid, tenant: usize, numbers: Vec<String> },
    /// A run was stopped: the answer was there then and listed these attempts.
    Stopped { run: Uuid, how: Stop, at_ms: i64, listed: Vec<Uuid>, total: u64 },
    /// A run is being resumed.
    Resumed { run: Uuid, at_ms: i64 },
    /// The progress of a run.
    Progress { run: Uuid, total: u64, sum: u64, finals: u64 },
    /// A number may not be called from now on.
    Suppressed { tenant: usize, number: String, at_ms: i64 },
    /// A single call was admitted.
    Called { tenant: usize, call: Uuid, to: String },
    /// Another tenant's run was asked for.
    Foreign { status: u16 },
    /// A callback that no carrier signed was sent.
    Forged { status: u16 },
}

/// How a run was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Pause,
    Cancel,
}

impl Stop {
    fn path(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Cancel => "cancel",
        }
    }
}

/// The log of the client, and what the api's answers were like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    said: Arc<Mutex<Vec<Said>>>,
    answers: Arc<Mutex<Answers>>,
}

/// Answers of the api by kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answers {
    pub(crate) all: u64,
    /// 5xx but 503.
    pub(crate) broken: u64,
    /// 503: not now.
    pub(crate) not_now: u64,
    /// Of these, those that do not say when.
    pub(crate) without_retry_after: u64,
    /// The connection broke off or nobody took it.
    pub(crate) none: u64,
}

impl Log {
    pub(crate) fn say(&self, said: Said) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    }

    pub(crate) fn all(&self) -> Vec<Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn answers(&self) -> Answers {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, answer: &reqwest::Result<reqwest::Response>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.all += 1;
        match answer {
            Err(_) => answers.none += 1,
            Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {
                answers.not_now += 1;
                answers.without_retry_after += u64::from(!answer.headers().contains_key("retry-after"));
            }
            Ok(answer) => answers.broken += u64::from(answer.status().is_server_error()),
        }
    }
}

/// Unix time, ms. Everything of a trial is on one machine and reads one clock, but for a replica whose clock is a fault.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Where the numbers of long lists begin.
pub(crate) const LONG_LIST: usize = 90_000_000;

/// The number of this place. libphonenumber calls it valid; it never leaves this machine,
/// because the only carrier is the sandbox on loopback.
pub(crate) fn number(place: usize) -> String {
    format!("+4474{place:08}")
}

/// The api with a key.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    door: String,
    pub(crate) log: Log,
}

impl Client {
    pub(crate) fn of(site: &Site) -> Self {
        Self { http: site.http.clone(), door: format!("http://{}", site.door.addr), log: Log::default() }
    }

    /// A business with so many slots, an account of its own at the carrier and a manager's key, that calls nobody twice.
    pub(crate) async fn tenant(&self, site: &Site, n: usize, limit: usize, telnyx: bool) -> anyhow::Result<Tenant> {
        let operator = |method: Method, path: &str| self.request(method, path, OPERATOR_KEY);
        let carrier = if telnyx { "telnyx" } else { "twilio" };
        let body = json!({
            "name": format!("Tenant {n}"), "max_concurrent_calls": limit, "default_region": "GB", "carriers": [carrier],
        });
        let business = json_of(operator(Method::POST, "/v1/businesses").json(&body)).await?;
        let id: Uuid = business["id"].as_str().context("a business without an id")?.parse()?;
        let secret = Uuid::new_v4().simple().to_string();
        let account = if telnyx { (id.as_u128() % 10_u128.pow(19)).to_string() } else { format!("AC{}", id.simple()) };
        let mut terms = json!({
            "caller_ids": [format!("+1202555{:04}", 100 + n)], "calls_per_second": 1_000.0,
            "api_base_url": format!("http://{}", site.to_carrier.addr),
        });
        let own = if telnyx {
            json!({"connection_id": account, "api_key": secret, "public_key": TELNYX_KEY})
        } else {
            json!({"account_sid": account, "auth_token": secret})
        };
        terms.as_object_mut().into_iter().zip(own.as_object()).for_each(|(terms, own)| terms.extend(own.clone()));
        json_of(operator(Method::PUT, &format!("/v1/businesses/{id}/carriers/{carrier}")).json(&terms)).await?;
        let key = json!({"name": "trial", "role": "manager"});
        let key = json_of(operator(Method::POST, &format!("/v1/businesses/{id}/keys")).json(&key)).await?;
        let key = key["key"].as_str().context("a key without its text")?.to_owned();
        let once = json!({"attempt_caps": {"lifetime": 1}});
        json_of(self.request(Method::PATCH, "/v1/calling-rules", &key).json(&once)).await?;
        Ok(Tenant { id, key, account, secret, limit, telnyx })
    }

    /// Makes a run of these numbers and starts it, however often that must be said.
    pub(crate) async fn run(
        &self,
        tenants: &[Tenant],
        tenant: usize,
        numbers: Vec<String>,
        until: Instant,
    ) -> anyhow::Result<Uuid> {
        let key = Uuid::new_v4().to_string();
        let of = &tenants[tenant];
        let leads: Vec<Value> = numbers.iter().map(|to| json!({"to": to})).collect();
        let body = json!({"name": key, "default_region": "GB", "message": {"text": "Hello."}, "leads": leads});
        let make = || self.request(Method::POST, "/v1/runs", &of.key).header("Idempotency-Key", &key).json(&body);
        let (status, made) = self.insist(make, until).await?;
        ensure!(status == 201, "a run was not made: {status}: {made}");
        let run: Uuid = made["id"].as_str().context("a run without an id")?.parse()?;
        self.log.say(Said::Made { key, run, tenant, numbers });
        let start = Uuid::new_v4().to_string();
        let path = format!("/v1/runs/{run}/start");
        let start = || self.request(Method::POST, &path, &of.key).header("Idempotency-Key", &start);
        let (status, answer) = self.insist(start, until).await?;
        // A start whose answer was lost is a conflict where its key was not kept.
        ensure!(matches!(status, 200 | 409), "a run was not started: {status}: {answer}");
        Ok(run)
    }

    /// Makes an empty draft; for long lists.
    pub(crate) async fn draft(&self, tenant: &Tenant) -> anyhow::Result<Uuid> {
        let body = json!({"name": "long", "default_region": "GB", "message": {"text": "Hello."}});
        let run = json_of(self.request(Method::POST, "/v1/runs", &tenant.key).json(&body)).await?;
        Ok(run["id"].as_str().context("a run without an id")?.parse()?)
    }

    /// Uploads a CSV into a draft.
    pub(crate) async fn upload(&self, tenant: &Tenant, run: Uuid, csv: String) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, &format!("/v1/runs/{run}/leads"), &tenant.key);
        json_of(request.header("content-type", "text/csv").timeout(Duration::from_secs(120)).body(csv)).await
    }

    /// Starts a run.
    pub(crate) async fn start(&self, tenant: &Tenant, run: Uuid) -> anyhow::Result<()> {
        json_of(self.request(Method::POST, &format!("/v1/runs/{run}/start"), &tenant.key)).await?;
        Ok(())
    }

    /// Pauses or cancels a run, and writes down what the api said of it where it did.
    pub(crate) async fn stop(&self, tenant: &Tenant, run: Uuid, how: Stop, until: Instant) -> anyhow::Result<()> {
        let (key, path) = (Uuid::new_v4().to_string(), format!("/v1/runs/{run}/{}", how.path()));
        let ask = || self.request(Method::POST, &path, &tenant.key).header("Idempotency-Key", &key);
        let (status, answer) = self.insist(ask, until).await?;
        if status != 200 {
            return Ok(());
        }
        let listed = answer["in_flight"].as_array().into_iter().flatten();
        let listed = listed.filter_map(|one| one["attempt_id"].as_str()?.parse().ok()).collect();
        let total = answer["in_flight_total"].as_u64().unwrap_or_default();
        self.log.say(Said::Stopped { run, how, at_ms: now_ms(), listed, total });
        Ok(())
    }

    /// Resumes a run.
    pub(crate) async fn resume(&self, tenant: &Tenant, run: Uuid, until: Instant) -> anyhow::Result<()> {
        self.log.say(Said::Resumed { run, at_ms: now_ms() });
        let (key, path) = (Uuid::new_v4().to_string(), format!("/v1/runs/{run}/resume"));
        self.insist(|| self.request(Method::POST, &path, &tenant.key).header("Idempotency-Key", &key), until).await?;
        Ok(())
    }

    /// Suppresses a number.
    pub(crate) async fn suppress(
        &self,
        tenants: &[Tenant],
        tenant: usize,
        number: &str,
        until: Instant,
    ) -> anyhow::Result<()> {
        let path = format!("/v1/suppressions/{number}");
        let ask = || self.request(Method::PUT, &path, &tenants[tenant].key).json(&json!({"source": "trial"}));
        let (status, _) = self.insist(ask, until).await?;
        if status < 300 {
            self.log.say(Said::Suppressed { tenant, number: number.to_owned(), at_ms: now_ms() });
        }
        Ok(())
    }

    /// Asks for a single call, once.
    pub(crate) async fn call(&self, tenants: &[Tenant], tenant: usize, to: &str) {
        let body = json!({"to": to, "message": {"text": "Hello."}, "max_wait_secs": 5});
        let key = Uuid::new_v4().to_string();
        let request = self.request(Method::POST, "/v1/calls", &tenants[tenant].key).header("Idempotency-Key", key);
        let answer = request.json(&body).send().await;
        self.log.count(&answer);
        let Ok(answer) = answer else { return };
        if answer.status() == StatusCode::CREATED
            && let Ok(body) = answer.json::<Value>().await
            && let Some(call) = body["id"].as_str().and_then(|id| id.parse().ok())
        {
            self.log.say(Said::Called { tenant, call, to: to.to_owned() });
        }
    }

    /// Reads a run's progress, once; its state where it was told.
    pub(crate) async fn progress(&self, tenant: &Tenant, run: Uuid) -> Option<String> {
        let answer = self.request(Method::GET, &format!("/v1/runs/{run}"), &tenant.key).send().await;
        self.log.count(&answer);
        let body: Value = answer.ok()?.error_for_status().ok()?.json().await.ok()?;
        let states = body["progress"]["states"].as_object()?;
        let of = |name: &str| states.get(name).and_then(Value::as_u64).unwrap_or_default();
        let finals = ["completed", "unreached", "failed", "skipped", "cancelled"].into_iter().map(of).sum();
        let sum = states.values().filter_map(Value::as_u64).sum();
        let total = body["progress"]["total"].as_u64()?;
        self.log.say(Said::Progress { run, total, sum, finals });
        Some(body["state"].as_str()?.to_owned())
    }

    /// Asks for another tenant's run.
    pub(crate) async fn foreign(&self, stranger: &Tenant, run: Uuid) {
        let answer = self.request(Method::GET, &format!("/v1/runs/{run}"), &stranger.key).send().await;
        self.log.count(&answer);
        if let Ok(answer) = answer.map(|answer| answer.status())
            && !answer.is_server_error()
        {
            self.log.say(Said::Foreign { status: answer.as_u16() });
        }
    }

    /// Asks so much at once; how many answers there were by status.
    pub(crate) async fn crowd(&self, tenant: &Tenant, count: usize) {
        let one = async || {
            let answer = self.request(Method::GET, "/v1/runs", &tenant.key).send().await;
            self.log.count(&answer);
        };
        futures::future::join_all((0..count).map(|_| one())).await;
    }

    /// Repeats a request until it is answered for good.
    async fn insist(&self, ask: impl Fn() -> RequestBuilder, until: Instant) -> anyhow::Result<(u16, Value)> {
        loop {
            let answer = ask().send().await;
            self.log.count(&answer);
            if let Ok(answer) = answer {
                let status = answer.status();
                let body = answer.json::<Value>().await;
                let under_way = body.as_ref().is_ok_and(|body| body["type"] == "/problems/idempotency-in-progress");
                let later = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || under_way;
                if let Ok(body) = body
                    && !later
                {
                    return Ok((status.as_u16(), body));
                }
            }
            if Instant::now() > until {
                bail!("the api never answered");
            }
            tokio::time::sleep_until(Instant::now() + AGAIN).await;
        }
    }

    fn request(&self, method: Method, path: &str, key: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.door)).bearer_auth(key)
    }
}

async fn json_of(request: RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    let status = answer.status();
    let body = answer.text().await?;
    ensure!(status.is_success(), "{status}: {body}");
    Ok(serde_json::from_str(if body.is_empty() { "null" } else { &body })?)
}
