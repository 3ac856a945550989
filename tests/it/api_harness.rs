//! The api on a free port over a database and a Redis prefix of its own.

use std::sync::Once;

use clap::Parser;
use reqwest::{Client, Method, StatusCode, header::HeaderMap};
use rollcall::{api, businesses::store, config::Settings, context::Context, ids::BusinessId, server};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, postgres::PgConnectOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The operator's key in every test.
pub(crate) const OPERATOR: &str = "the operator's key of tests";
/// An account that passes as Twilio's.
pub(crate) const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";

static PROVIDER: Once = Once::new();

/// The api, served; it stops when this is dropped.
pub(crate) struct App {
    pub(crate) ctx: Context,
    pub(crate) base: String,
    pub(crate) http: Client,
    _stop: DropGuard,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The problem's slug; empty where it is none.
    pub(crate) fn slug(&self) -> &str {
        self.body["type"].as_str().and_then(|kind| kind.strip_prefix("/problems/")).unwrap_or_default()
    }

    /// Pointer and code of the first field that does not fit.
    pub(crate) fn fault(&self) -> (&str, &str) {
        let first = &self.body["errors"][0];
        (first["pointer"].as_str().unwrap_or_default(), first["code"].as_str().unwrap_or_default())
    }

    /// A header's text; empty where it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl App {
    pub(crate) async fn start(pg: PgConnectOptions) -> Self {
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let settings = Settings::parse_from([
            "test",
            "--database-url",
            pg.to_url_lossy().as_str(),
            "--redis-prefix",
            &format!("test:{}:", BusinessId::new()),
            "--rollcall-operator-key",
            OPERATOR,
            "--rollcall-sealing-key",
            "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        ]);
        let ctx = Context::open(settings, "test").await.unwrap();
        store::set_max_lines(&ctx.stores.pg, 50).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let router = api::router(ctx.clone()).merge(api::admin::health(ctx.clone()));
        tokio::spawn(server::serve(listener, router, stop.clone()));
        let http = Client::builder().no_proxy().build().unwrap();
        Self { ctx, base, http, _stop: stop.drop_guard() }
    }

    /// Asks with this key; without a body where it is null.
    pub(crate) async fn ask(&self, method: Method, path: &str, key: &str, body: Value) -> Answer {
        self.ask_with(method, path, key, body, &[]).await
    }

    /// Asks with further headers.
    pub(crate) async fn ask_with(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !key.is_empty() {
            request = request.bearer_auth(key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// Makes a business and gives back its id.
    pub(crate) async fn business(&self) -> BusinessId {
        let made = self.ask(Method::POST, "/v1/businesses", OPERATOR, json!({"name": "Test"})).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        made.body["id"].as_str().unwrap().parse().unwrap()
    }

    /// Makes a key of this role and gives back its id and text.
    pub(crate) async fn key(&self, business: BusinessId, role: &str) -> (String, String) {
        let made =
            self.ask(Method::POST, &format!("/v1/businesses/{business}/keys"), OPERATOR, json!({ "role": role })).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        let text = |name: &str| made.body[name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }

    /// Makes a business with a manager key.
    pub(crate) async fn managed(&self) -> (BusinessId, String) {
        let business = self.business().await;
        (business, self.key(business, "manager").await.1)
    }

    /// Sets the business's account at Twilio.
    pub(crate) async fn account(&self, business: BusinessId) -> Answer {
        let body = json!({"account_sid": ACCOUNT_SID, "auth_token": "a-secret-token", "caller_ids": ["+12025550100"]});
        self.ask(Method::PUT, &format!("/v1/businesses/{business}/carriers/twilio"), OPERATOR, body).await
    }
}

/// Sends any request and reads its answer.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.unwrap();
    Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}
