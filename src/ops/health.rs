//! Asks a program whether it is ready, for the health checks of containers, whose image has no curl.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use url::Url;

use crate::ops::print::Form;

/// Longer than `/readyz` gives its stores (1 s each, at once), shorter than a container's own limit.
const LIMIT: Duration = Duration::from_secs(3);

/// Whom to ask.
#[derive(Debug, Args)]
pub(super) struct Health {
    /// The admin listener of the program.
    #[arg(default_value = "http://127.0.0.1:9090")]
    base_url: Url,
    #[command(flatten)]
    form: Form,
}

/// What was answered.
#[derive(Debug, Serialize)]
struct Answer {
    url: String,
    ready: bool,
    status: u16,
    said: String,
}

/// Succeeds where `/readyz` answers 2xx.
///
/// # Errors
/// Where it answers anything else, or nothing within 3 s. With `--json` the answer is printed all the same.
pub(super) async fn health(health: &Health) -> anyhow::Result<()> {
    let url = health.base_url.join("readyz")?;
    let answer = http_client(LIMIT)?.get(url.clone()).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    let answer = Answer {
        url: url.to_string(),
        ready: status.is_success(),
        status: status.as_u16(),
        said: body.trim().to_owned(),
    };
    if answer.ready || health.form.json {
        health.form.print(&answer, |_| "ready".into())?;
    }
    ensure!(answer.ready, "{} says {status}: {}", answer.url, answer.said);
    Ok(())
}

/// A client for our own programs: no proxy from the environment, no redirects, `limit` for a whole exchange.
///
/// # Errors
/// Where TLS cannot be set up.
pub(in crate::ops) fn http_client(limit: Duration) -> anyhow::Result<reqwest::Client> {
    // Fails only where this process has a provider already, which is then used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    Ok(builder.timeout(limit).build()?)
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};

    use super::*;

    async fn asked(answer: StatusCode) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/readyz", get(move || async move { (answer, "redis: down") }));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let verdict = health(&Health { base_url, form: Form { json: false } }).await;
        server.abort();
        verdict
    }

    #[tokio::test]
    async fn a_ready_program_is_healthy() {
        assert!(asked(StatusCode::OK).await.is_ok());
    }

    #[tokio::test]
    async fn a_program_without_its_stores_is_not_and_says_why() {
        let why = asked(StatusCode::SERVICE_UNAVAILABLE).await.unwrap_err().to_string();
        assert!(why.contains("503") && why.contains("redis: down"), "{why}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_not_healthy() {
        let [address] = crate::ops::private::free_addresses().unwrap();
        let base_url = format!("http://{address}").parse().unwrap();
        assert!(health(&Health { base_url, form: Form { json: false } }).await.is_err());
    }
}
