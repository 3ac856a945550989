//! The bench as a client of the api, of the calls program's own figures, of Redis and of the sandbox.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use rollcall::{ops::installation::Installation, sim::Figures};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    place::DELAYS,
    script::{ANSWER, GREETING},
};

/// Between two looks at something that comes to its end.
const LOOK: Duration = Duration::from_millis(20);

/// Sessions that are being made at once: each is flushed to the disk by the api, and it is not the api that is measured.
const MAKING: usize = 8;

/// Knows where everything is, and who may ask.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    api: String,
    calls: String,
    carrier: String,
    redis: String,
    key: String,
    business: String,
    agent: String,
    making: Arc<Semaphore>,
}

/// What is left of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// By the calls program's own word.
    pub(crate) conversations: u64,
    /// Leases in Redis.
    pub(crate) leases: u64,
    /// Sockets and answers that are open at the sandbox's providers.
    pub(crate) upstream: u64,
}

impl Left {
    pub(crate) const NOTHING: Self = Self { conversations: 0, leases: 0, upstream: 0 };
}

impl Client {
    /// Makes a business with an agent, and tells the model what to answer.
    pub(crate) async fn of(all: &Installation) -> anyhow::Result<Self> {
        let mut client = Self {
            http: all.http().clone(),
            api: all.api_url(),
            calls: all.calls_admin_url(),
            carrier: all.carrier_url(),
            redis: all.redis_url(),
            key: all.operator_key.clone(),
            business: String::new(),
            agent: String::new(),
            making: Arc::new(Semaphore::new(MAKING)),
        };
        let business = json!({"name": "Bench", "max_concurrent_calls": 1, "default_region": "GB"});
        client.business = client.make("/v1/businesses", &business, "id").await?;
        let agent = json!({
            "name": "Bench", "prompt": "You know everything about it, and tell it.", "greeting": GREETING,
            "turns": {"endpointing_ms": DELAYS.endpointing, "silence_secs": 60},
        });
        client.agent = client.make("/v1/agents", &agent, "id").await?;
        client.carrier(Method::PUT, "/_answers", Some(json!([{"says": ANSWER}]))).await?;
        Ok(client)
    }

    /// A session; where its stream is to be opened.
    pub(crate) async fn session(&self) -> anyhow::Result<String> {
        let _one = self.making.acquire().await?;
        self.make("/v1/sessions", &json!({"agent_id": self.agent, "frames": "twilio"}), "ws_url").await
    }

    /// What is left now.
    pub(crate) async fn left(&self) -> anyhow::Result<Left> {
        Ok(Left {
            conversations: self.conversations().await?,
            leases: self.leases().await?,
            upstream: self.upstream().await?,
        })
    }

    /// Waits until nothing is left, at most so long; what is left then, and how long it took.
    pub(crate) async fn settles(&self, limit: Duration) -> anyhow::Result<(Left, Duration)> {
        let begun = Instant::now();
        loop {
            let left = self.left().await?;
            if left == Left::NOTHING || begun.elapsed() > limit {
                return Ok((left, begun.elapsed()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Answered calls that wait for a session, as Redis has them.
    pub(crate) async fn waiting(&self) -> anyhow::Result<u64> {
        let mut redis = redis::Client::open(self.redis.as_str())?.get_multiplexed_async_connection().await?;
        Ok(redis::cmd("LLEN").arg("voice_sessions").query_async(&mut redis).await?)
    }

    /// Asks the sandbox.
    pub(crate) async fn carrier(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let mut request = self.http.request(method, format!("{}{path}", self.carrier));
        if let Some(body) = body {
            request = request.json(&body);
        }
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    async fn upstream(&self) -> anyhow::Result<u64> {
        let figures: Figures = serde_json::from_value(self.carrier(Method::GET, "/_figures", None).await?)?;
        Ok(figures.providers.values().map(|provider| provider.live).sum())
    }

    async fn conversations(&self) -> anyhow::Result<u64> {
        let text = self.http.get(format!("{}/metrics", self.calls)).send().await?.error_for_status()?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix("rollcall_sessions "));
        Ok(line.context("the calls program does not say how many conversations it has")?.parse::<f64>()? as u64)
    }

    async fn leases(&self) -> anyhow::Result<u64> {
        let mut redis = redis::Client::open(self.redis.as_str())?.get_multiplexed_async_connection().await?;
        let leases: Vec<String> = redis::cmd("KEYS").arg("calls:lease:*").query_async(&mut redis).await?;
        Ok(leases.len() as u64)
    }

    /// Posts a thing; one field of what comes back.
    async fn make(&self, path: &str, body: &Value, field: &str) -> anyhow::Result<String> {
        let request = self.http.post(format!("{}{path}", self.api)).bearer_auth(&self.key);
        let request = request.header("Idempotency-Key", Uuid::new_v4().to_string());
        let request =
            if self.business.is_empty() { request } else { request.header("Rollcall-Business", &self.business) };
        let answer = request.json(body).send().await?;
        let status = answer.status();
        let body = answer.text().await?;
        ensure!(status.is_success(), "{path}: {status}: {body}");
        let made: Value = serde_json::from_str(&body)?;
        Ok(made[field].as_str().with_context(|| format!("{path}: no {field}: {body}"))?.to_owned())
    }
}
