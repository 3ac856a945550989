//! The bench as a client of the API and of the sandbox carrier's figures.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use reqwest::{Method, RequestBuilder, header::CONTENT_TYPE};
use rollcall::{ops::installation::Installation, sim::Figures};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

/// The API with the operator's key, and the carrier.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    api: String,
    carrier: String,
    key: String,
}

/// A business that may dial.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Business(pub(crate) Uuid);

/// A run of a business.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) business: Business,
    pub(crate) id: Uuid,
}

impl Client {
    pub(crate) fn of(all: &Installation) -> Self {
        Self { http: all.http().clone(), api: all.api_url(), carrier: all.carrier_url(), key: all.operator_key.clone() }
    }

    /// A business with so many slots and an account of its own at the carrier, which allows 10,000 calls per second.
    pub(crate) async fn business(&self, n: usize, slots: u32) -> anyhow::Result<Business> {
        let body = json!({"name": format!("Bench {n}"), "max_concurrent_calls": slots, "default_region": "GB"});
        let business: Value = self.ask(self.operator(Method::POST, "/v1/businesses").json(&body)).await?;
        let id: Uuid = business["id"].as_str().context("a business without an id")?.parse()?;
        // The carrier pairs ends and creates by caller id.
        self.account(Business(id), &[format!("+1202555{:04}", 100 + n % 100)]).await?;
        Ok(Business(id))
    }

    /// An account of its own at the carrier with these caller ids, in place of the one that the business had.
    pub(crate) async fn account(&self, business: Business, caller_ids: &[String]) -> anyhow::Result<()> {
        let account = json!({
            "account_sid": format!("AC{}", Uuid::new_v4().simple()), "auth_token": Uuid::new_v4().simple().to_string(),
            "caller_ids": caller_ids, "calls_per_second": 10_000.0, "api_base_url": self.carrier,
        });
        let path = format!("/v1/businesses/{}/carriers/twilio", business.0);
        let _: Value = self.ask(self.operator(Method::PUT, &path).json(&account)).await?;
        Ok(())
    }

    /// Changes what a business says for all its runs.
    pub(crate) async fn patch(&self, business: Business, path: &str, body: &Value) -> anyhow::Result<()> {
        let _: Value = self.ask(self.of_business(Method::PATCH, path, business).json(body)).await?;
        Ok(())
    }

    /// Puts numbers and prefixes of a CSV on a business's suppression list.
    pub(crate) async fn suppress(&self, business: Business, csv: String) -> anyhow::Result<()> {
        let upload = self.of_business(Method::POST, "/v1/suppressions", business);
        let _: Value = self.ask(upload.header(CONTENT_TYPE, "text/csv").body(csv)).await?;
        Ok(())
    }

    /// Changes how many slots a business has.
    pub(crate) async fn limit(&self, business: Business, slots: u32) -> anyhow::Result<()> {
        let path = format!("/v1/businesses/{}", business.0);
        let body = json!({"max_concurrent_calls": slots});
        let _: Value = self.ask(self.operator(Method::PATCH, &path).json(&body)).await?;
        Ok(())
    }

    /// ms from the start of a run to its first intent, by the ledger.
    pub(crate) async fn first_dial_ms(&self, run: Run) -> anyhow::Result<f64> {
        let started = moment(&self.run(run).await?["started_at"])?;
        let jobs = self.read(run, &format!("/v1/runs/{}/jobs?limit=500", run.id)).await?;
        let mut first = None;
        for job in jobs["data"].as_array().context("no list of jobs")? {
            let job =
                self.read(run, &format!("/v1/jobs/{}", job["id"].as_str().context("a job without an id")?)).await?;
            for attempt in job["attempts"].as_array().into_iter().flatten() {
                let at = moment(&attempt["intent_at"])?;
                first = Some(first.map_or(at, |first: DateTime<Utc>| first.min(at)));
            }
        }
        let waited = first.context("nothing of the run was dialed")? - started;
        Ok(waited.num_microseconds().context("a wait of years")? as f64 / 1000.0)
    }

    /// A draft of a run with `jobs` numbers.
    pub(crate) async fn draft(&self, business: Business, jobs: usize) -> anyhow::Result<Run> {
        self.draft_by(business, jobs, json!({})).await
    }

    /// The same with `rules`, which are fields of a run.
    pub(crate) async fn draft_by(&self, business: Business, jobs: usize, rules: Value) -> anyhow::Result<Run> {
        let mut body = json!({"name": "bench", "default_region": "GB", "message": {"text": "Hello."}});
        for (field, value) in rules.as_object().into_iter().flatten() {
            body[field] = value.clone();
        }
        let run: Value = self.ask(self.of_business(Method::POST, "/v1/runs", business).json(&body)).await?;
        let run = Run { business, id: run["id"].as_str().context("a run without an id")?.parse()? };
        self.upload(run, list(jobs)).await?;
        Ok(run)
    }

    /// A draft of a run with few numbers, in one request.
    pub(crate) async fn short_draft(&self, business: Business, jobs: Range<usize>) -> anyhow::Result<Run> {
        let leads: Vec<Value> = jobs.map(|n| json!({"to": number(n)})).collect();
        let body = json!({"name": "bench", "default_region": "GB", "message": {"text": "Hello."}, "leads": leads});
        let run: Value = self.ask(self.of_business(Method::POST, "/v1/runs", business).json(&body)).await?;
        Ok(Run { business, id: run["id"].as_str().context("a run without an id")?.parse()? })
    }

    /// Uploads a CSV; returns the api's answer.
    pub(crate) async fn upload(&self, run: Run, csv: String) -> anyhow::Result<Value> {
        let path = format!("/v1/runs/{}/leads", run.id);
        let upload = self.of_business(Method::POST, &path, run.business);
        self.ask(upload.header(CONTENT_TYPE, "text/csv").body(csv)).await
    }

    pub(crate) async fn start(&self, run: Run) -> anyhow::Result<()> {
        let path = format!("/v1/runs/{}/start", run.id);
        let _: Value = self.ask(self.of_business(Method::POST, &path, run.business)).await?;
        Ok(())
    }

    /// Anything that a business may read.
    pub(crate) async fn read(&self, run: Run, path: &str) -> anyhow::Result<Value> {
        self.ask(self.of_business(Method::GET, path, run.business)).await
    }

    pub(crate) async fn run(&self, run: Run) -> anyhow::Result<Value> {
        self.read(run, &format!("/v1/runs/{}", run.id)).await
    }

    /// Waits until the run has ended; true if it did within `limit`.
    pub(crate) async fn ended(&self, run: Run, limit: Duration) -> anyhow::Result<bool> {
        let begun = Instant::now();
        loop {
            if matches!(self.run(run).await?["state"].as_str(), Some("completed" | "cancelled")) {
                return Ok(true);
            }
            if begun.elapsed() > limit {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the carrier counted.
    pub(crate) async fn figures(&self) -> anyhow::Result<Figures> {
        self.ask(self.http.get(format!("{}/_figures", self.carrier))).await
    }

    pub(crate) async fn reset_figures(&self) -> anyhow::Result<()> {
        let _: Value = self.ask(self.http.delete(format!("{}/_figures", self.carrier))).await?;
        Ok(())
    }

    /// Waits at the carrier, e.g. for `ended=2000`.
    pub(crate) async fn wait(&self, what: &str, limit: Duration) -> anyhow::Result<()> {
        let url = format!("{}/_wait?{what}&timeout_ms={}", self.carrier, limit.as_millis());
        let _: Value = self.ask(self.http.get(url)).await?;
        Ok(())
    }

    fn operator(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.api)).bearer_auth(&self.key);
        request.header("Idempotency-Key", Uuid::new_v4().to_string())
    }

    fn of_business(&self, method: Method, path: &str, business: Business) -> RequestBuilder {
        self.operator(method, path).header("Rollcall-Business", business.0.to_string())
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let answer = request.send().await?;
        let status = answer.status();
        let body = answer.text().await?;
        if !status.is_success() {
            bail!("{status}: {body}");
        }
        let body = if body.is_empty() { "null" } else { body.as_str() };
        serde_json::from_str(body).with_context(|| format!("another shape: {body}"))
    }
}

/// A list of so many numbers that libphonenumber calls valid. No number leaves this machine: the only carrier is the
/// sandbox on loopback.
pub(crate) fn list(jobs: usize) -> String {
    let mut csv = String::with_capacity(jobs * 14 + 6);
    csv.push_str("phone\n");
    for n in 0..jobs {
        csv.push_str(&number(n));
        csv.push('\n');
    }
    csv
}

fn moment(text: &Value) -> anyhow::Result<DateTime<Utc>> {
    Ok(text.as_str().context("no time")?.parse()?)
}

fn number(n: usize) -> String {
    format!("+4474{n:08}")
}
