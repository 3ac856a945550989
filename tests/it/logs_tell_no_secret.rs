//! I14: at the loudest log level, through calls that go well and badly, no line and no figure holds a number or a secret.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::Method;
use rollcall::{
    ids::{AttemptId, BusinessId},
    ops::private::free_addresses,
    sim::{ApiFault, CallbackFault, CreateFault, Faults, Rule},
};
use serde_json::{Value, json};

use crate::{
    api_harness::{Answer, answer},
    by_hand,
    house::{House, OPERATOR_KEY, Options, SEALING_KEY, numbers},
};

const AUTH_TOKEN: &str = "4f3c0ffee5ec2e7a11d0deadbeef9b7d";
const ACCOUNT: &str = "AC5f0c1d2e3b4a59687706f5e4d3c2b1a0";
const CALLER_ID: &str = "+12025550177";
const SUPPRESSED: &str = "+12025550188";

/// A program of its own, killed where the test fails.
struct Program {
    child: Child,
    log: PathBuf,
    /// Where health and figures are.
    admin: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Harmless where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts it with the house's settings, as loud as it can be.
    fn start(house: &House, exe: &str, role: &str, format: &str, folder: &Path, api: &str) -> Self {
        let (log, [admin]) = (folder.join(role), free_addresses().unwrap());
        let admin = admin.to_string();
        let mut args = house.args[1..].to_vec();
        let base = args.iter().position(|arg| arg == "--public-base-url").unwrap() + 1;
        args[base] = format!("http://{api}");
        let own = [
            "--service-role",
            role,
            "--log-level",
            "trace",
            "--log-format",
            format,
            "--api-addr",
            api,
            "--admin-addr",
            &admin,
        ];
        let child = Command::new(exe)
            .args(args)
            .args(own)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(File::create(log.with_extension("out")).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log, admin }
    }

    /// Ends it as an operator would, and gives back all that it wrote.
    fn end(mut self) -> String {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        std::fs::read_to_string(&self.log).unwrap() + &std::fs::read_to_string(self.log.with_extension("out")).unwrap()
    }
}

/// A client of one api.
struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    async fn ask(&self, method: Method, path: &str, key: &str, body: Value) -> Answer {
        let request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(key);
        answer(if body.is_null() { request } else { request.json(&body) }).await
    }

    async fn post(&self, path: &str, key: &str, body: Value) -> Value {
        let answer = self.ask(Method::POST, path, key, body).await;
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.body);
        answer.body
    }
}

fn faults() -> Faults {
    let after = |kind| Rule::next(kind, 1);
    Faults {
        create: vec![
            after(CreateFault::Http429),
            after(CreateFault::Http500AfterAccept),
            after(CreateFault::ResetAfterAccept),
            after(CreateFault::GarbageAfterAccept),
            Rule { code: Some(29_999), ..after(CreateFault::Refuse) },
        ],
        callback: vec![Rule::share(CallbackFault::Lost, 0.2), Rule::share(CallbackFault::Doubled, 0.2)],
        list: vec![Rule::next(ApiFault::Unavailable, 2)],
        fetch: vec![Rule::next(ApiFault::Unavailable, 2)],
        ..Faults::default()
    }
}

/// Requests that are refused, each with something in it that must not be logged.
async fn refused_requests(house: &House, client: &Client, business: BusinessId, key: &str) {
    let hook = house.hook("status", business, AttemptId::new());
    for (path, signature) in
        [(hook.as_str(), "wrong"), (hook.as_str(), ""), ("/webhooks/twilio/status/+12125550190", "wrong")]
    {
        let form = [
            ("CallSid", "CA0123456789abcdef0123456789abcdef"),
            ("AccountSid", ACCOUNT),
            ("CallStatus", "busy"),
            ("To", "+12125550190"),
        ];
        let request =
            client.http.post(format!("{}{path}", client.base)).header("X-Twilio-Signature", signature).form(&form);
        assert!(request.send().await.unwrap().status().is_client_error());
    }
    for (path, key, body) in [
        ("/v1/runs", key, json!({"name": "+12125550190", "message": 5})),
        ("/v1/runs", "no key of ours 12125550190", json!({})),
        ("/v1/calls", key, json!({"to": "+1212555019", "auth_token": AUTH_TOKEN})),
        ("/v1/nothing/+12125550190", key, json!({})),
    ] {
        assert!(client.ask(Method::POST, path, key, body).await.status.is_client_error(), "{path}");
    }
    client.ask(Method::GET, &format!("/v1/suppressions/{SUPPRESSED}"), key, Value::Null).await;
    client.ask(Method::GET, "/v1/jobs?to=%2B12125550190", key, Value::Null).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_line_and_no_figure_holds_a_number_a_token_or_a_key() {
    let house = House::open(Options::default()).await;
    house.sim.set_faults(faults()).unwrap();
    let (folder, [api_addr]) = (tempfile::tempdir().unwrap(), free_addresses().unwrap());
    let api_addr = api_addr.to_string();
    let start = |exe, role, format| Program::start(&house, exe, role, format, folder.path(), &api_addr);
    let programs = [
        start(env!("CARGO_BIN_EXE_rollcall-api"), "api", "json"),
        start(env!("CARGO_BIN_EXE_rollcall-worker"), "worker", "text"),
    ];
    let client = Client { http: by_hand::client(), base: format!("http://{api_addr}") };
    for program in &programs {
        let ready = format!("http://{}/readyz", program.admin);
        house
            .until("it is ready", || async {
                client.http.get(&ready).send().await.is_ok_and(|answer| answer.status() == 200)
            })
            .await;
    }

    let made = client.post("/v1/businesses", OPERATOR_KEY, json!({"name": "Test"})).await;
    let business: BusinessId = made["id"].as_str().unwrap().parse().unwrap();
    let made = client.post(&format!("/v1/businesses/{business}/keys"), OPERATOR_KEY, json!({"role": "manager"})).await;
    let key = made["key"].as_str().unwrap().to_owned();
    let account =
        json!({"account_sid": ACCOUNT, "auth_token": AUTH_TOKEN, "caller_ids": [CALLER_ID], "calls_per_second": 200});
    let put =
        client.ask(Method::PUT, &format!("/v1/businesses/{business}/carriers/twilio"), OPERATOR_KEY, account).await;
    assert!(put.status.is_success(), "{}", put.body);
    client.post("/v1/suppressions", &key, json!({"number": SUPPRESSED, "note": "asked"})).await;

    let mut called = numbers(12);
    called.extend(
        ["5550190", "5550191", "5550192", "5550193", "5550195", "5550197", "5550199"]
            .map(|magic| format!("+1212{magic}")),
    );
    let leads: Vec<_> = called.iter().map(String::as_str).chain([SUPPRESSED, "+1212555"]).collect();
    let leads: Vec<_> = leads.iter().map(|to| json!({"to": to, "variables": {"name": "Ada"}})).collect();
    let run = json!({"name": "Test", "message": {"text": "Hello {{name}}"}, "leads": leads});
    let run = client.post("/v1/runs", &key, run).await["id"].as_str().unwrap().to_owned();
    client.post(&format!("/v1/runs/{run}/start"), &key, Value::Null).await;
    refused_requests(&house, &client, business, &key).await;
    house.until_run_is(run.parse().unwrap(), "completed").await;

    let mut written = Vec::new();
    for program in programs {
        for path in ["metrics", "metrics.json", "status", "status/workers", "dashboard"] {
            let figures = client.http.get(format!("http://{}/{path}", program.admin)).send().await.unwrap();
            assert_eq!(figures.status(), 200, "{path}");
            written.push((format!("{} {path}", program.log.display()), figures.text().await.unwrap()));
        }
        written.push((program.log.display().to_string(), program.end()));
    }
    let attempts = sqlx::query_scalar!(r#"SELECT attempt_id AS "id: AttemptId" FROM attempt"#)
        .fetch_all(&house.ctx.stores.pg)
        .await
        .unwrap();
    assert!(attempts.len() >= called.len());
    called.extend([CALLER_ID.to_owned(), SUPPRESSED.to_owned()]);
    let mut secrets: Vec<String> = called.iter().map(|number| number[2..].to_owned()).collect();
    secrets.extend([AUTH_TOKEN, SEALING_KEY, OPERATOR_KEY, &key].map(str::to_owned));
    secrets.push(BASE64_STANDARD.encode(format!("{ACCOUNT}:{AUTH_TOKEN}")));
    secrets.extend(attempts.iter().map(|attempt| house.ctx.tokens.make(business, *attempt)));
    for (place, text) in &written {
        for secret in &secrets {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{place} holds {secret}");
        }
    }
    // The canary is worth something only where these lines were written.
    let all: String = written.iter().map(|(_, text)| text.as_str()).collect();
    for said in [
        "callback applied",
        "[ProcessNext]",
        "the carrier refused",
        "a webhook was refused",
        "rollcall_calls_placed_total",
        "[STARTUP]",
    ] {
        assert!(all.contains(said), "{said:?} is nowhere");
    }
    house.close().await;
}
