//! A carrier that asks Prism what it thinks of each request, and lets the sandbox carrier answer it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use rollcall::carriers::{HttpLimits, http_client};
use url::Url;

/// What Prism says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is as the description of the API says.
    Accepted,
    /// It is not, for these reasons.
    Refused(String),
}

/// One request as its kind, and what Prism said of it.
struct Judged {
    kind: String,
    request: String,
    verdict: Verdict,
}

/// A judge on a port of its own.
pub(crate) struct Judge {
    /// Where the product is to send its requests.
    pub(crate) base: Url,
    bench: Bench,
}

#[derive(Clone)]
struct Bench {
    http: reqwest::Client,
    prism: Url,
    prism_telnyx: Url,
    sandbox: Url,
    judged: Arc<Mutex<Vec<Judged>>>,
}

impl Judge {
    /// Starts one in front of the sandbox carrier at this address.
    pub(crate) async fn start(sandbox: &str) -> Self {
        let bench = Bench {
            http: http_client(&HttpLimits::default()).unwrap(),
            prism: variable("PRISM_URL"),
            prism_telnyx: variable("PRISM_TELNYX_URL"),
            sandbox: sandbox.parse().unwrap(),
            judged: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(hear).with_state(bench.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base, bench }
    }

    /// The kind of every request so far: its method, and its path within the account.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.bench.judged.lock().unwrap().iter().map(|judged| judged.kind.clone()).collect()
    }

    /// Every request that was refused, with the reasons.
    pub(crate) fn refused(&self) -> Vec<String> {
        let judged = self.bench.judged.lock().unwrap();
        let refused = judged.iter().filter_map(|judged| match &judged.verdict {
            Verdict::Accepted => None,
            Verdict::Refused(why) => Some(format!("{}: {why}", judged.request)),
        });
        refused.collect()
    }

    /// What Prism says of this form.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Verdict {
        verdict(self.request(Method::POST, path).form(form).send().await.unwrap()).await
    }

    /// What Prism says of this question.
    pub(crate) async fn get(&self, path: &str) -> Verdict {
        verdict(self.request(Method::GET, path).send().await.unwrap()).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.bench.http.request(method, self.bench.prism.join(path).unwrap()).basic_auth("user", Some("password"))
    }

    /// What Prism says of this JSON, sent to Telnyx.
    pub(crate) async fn post_json(&self, path: &str, body: &serde_json::Value) -> Verdict {
        verdict(self.telnyx(Method::POST, path).json(body).send().await.unwrap()).await
    }

    /// What Prism says of this question to Telnyx.
    pub(crate) async fn get_telnyx(&self, path: &str) -> Verdict {
        verdict(self.telnyx(Method::GET, path).send().await.unwrap()).await
    }

    fn telnyx(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.bench.http.request(method, self.bench.prism_telnyx.join(path).unwrap()).bearer_auth("key")
    }
}

fn variable(name: &str) -> Url {
    #[expect(clippy::disallowed_methods, reason = "prism.sh says where Prism listens")]
    let url = std::env::var(name).unwrap_or_else(|_| panic!("{name} is unset: run this by `make conformance`"));
    url.parse().unwrap()
}

impl Bench {
    /// The same request elsewhere.
    async fn pass(
        &self,
        to: &Url,
        (method, uri, headers): (&Method, &Uri, &HeaderMap),
        body: Bytes,
    ) -> reqwest::Result<reqwest::Response> {
        let path = uri.path_and_query().unwrap().as_str();
        // Telnyx's description has its version in the address of the server.
        let path = if *to == self.prism_telnyx { path.strip_prefix("/v2").unwrap_or(path) } else { path };
        let url = to.join(path).unwrap();
        let mut headers = headers.clone();
        // The client writes its own.
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        self.http.request(method.clone(), url).headers(headers).body(body).send().await
    }
}

async fn hear(State(bench): State<Bench>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if uri.path().starts_with("/webhooks/telnyx/") {
        return StatusCode::OK.into_response();
    }
    if uri.path().starts_with("/webhooks/") {
        return ([(header::CONTENT_TYPE, "text/xml")], "<Response/>").into_response();
    }
    let head = (&method, &uri, &headers);
    let prism = if uri.path().starts_with("/v2/") { &bench.prism_telnyx } else { &bench.prism };
    let verdict = verdict(bench.pass(prism, head, body.clone()).await.unwrap()).await;
    let request = format!("{method} {uri} {}", String::from_utf8_lossy(&body));
    bench.judged.lock().unwrap().push(Judged { kind: kind(&method, &uri), request, verdict });
    let Ok(answer) = bench.pass(&bench.sandbox, head, body).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let octets = header::HeaderValue::from_static("application/octet-stream");
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned().unwrap_or(octets);
    (answer.status(), [(header::CONTENT_TYPE, kind)], answer.bytes().await.unwrap()).into_response()
}

/// Prism answers as the description's examples do where a request fits; where it does not, with a refusal, or with one of the
/// description's error examples and its reasons in a header.
async fn verdict(answer: reqwest::Response) -> Verdict {
    let reasons = answer.headers().get("sl-violations").map(|value| String::from_utf8_lossy(value.as_bytes()).into());
    if answer.status().is_success() && reasons.is_none() {
        return Verdict::Accepted;
    }
    Verdict::Refused(match reasons {
        Some(reasons) => reasons,
        None => answer.text().await.unwrap(),
    })
}

/// `POST /Calls.json`, `GET /Calls/CA….json`, …
fn kind(method: &Method, uri: &Uri) -> String {
    if let Some(path) = uri.path().strip_prefix("/v2/") {
        let id =
            |part: &str| part.starts_with("v3") || part.contains("%3A") || part.bytes().all(|b| b.is_ascii_digit());
        let path: Vec<_> = path.split('/').map(|part| if id(part) { "…" } else { part }).collect();
        return format!("{method} /{}", path.join("/"));
    }
    let within = uri.path().splitn(5, '/').nth(4).unwrap_or_default();
    let path: Vec<_> = within.split('/').map(|part| if part.starts_with("CA") { call(part) } else { part }).collect();
    format!("{method} /{}", path.join("/"))
}

fn call(part: &str) -> &'static str {
    if part.ends_with(".json") { "CA….json" } else { "CA…" }
}
