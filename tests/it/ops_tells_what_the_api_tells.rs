//! The command line shows what the API shows, and a list goes in by either door with the same result.

use rollcall::{businesses::store::set_max_lines, ids::RunId};
use serde_json::{Value, json};

use crate::{
    api_harness::{Answer, answer},
    by_hand::client,
    house::{House, OPERATOR_KEY, Options, numbers},
    ops_harness::run,
};

/// Good rows, a duplicate, a suppressed number and two that cannot be called.
const FILE: &str = "phone,name,external_id\n(202) 555-0123,Ada,a\n+12025550124,Bob,b\n202.555.0123,Ada again,c\n\
                    +12025550188,Never,d\ncall me,Eve,e\n123,Mal,f\n";

impl House {
    async fn asked(&self, method: reqwest::Method, path: &str, body: Option<&str>, business: Option<&str>) -> Answer {
        let mut request = client().request(method, format!("http://{}{path}", self.addr)).bearer_auth(OPERATOR_KEY);
        if let Some(business) = business {
            request = request.header("Rollcall-Business", business);
        }
        let media = if body.is_some_and(|body| body.starts_with('{')) { "application/json" } else { "text/csv" };
        if let Some(body) = body {
            request = request.header("content-type", media).body(body.to_owned());
        }
        answer(request).await
    }
}

/// Every job and rejected row of a run but for ids and times, and the run's counts.
async fn content(house: &House, run: RunId) -> Value {
    sqlx::query_scalar!(
        r#"SELECT jsonb_build_object(
               'jobs', (SELECT jsonb_agg(to_jsonb(j) - 'job_id' - 'run_id' - 'created_at' ORDER BY line) FROM job j WHERE run_id = $1),
               'rejected', (SELECT jsonb_agg(to_jsonb(r) - 'run_id' - 'import_id' ORDER BY line) FROM rejected_lead r WHERE run_id = $1),
               'run', (SELECT to_jsonb(r) - 'run_id' - 'created_at' FROM run r WHERE run_id = $1)) AS "all!""#,
        run.0
    )
    .fetch_one(&house.ctx.stores.pg)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_goes_in_by_either_door_with_the_same_result() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    let owner = business.to_string();
    let suppressed = json!({"source": "test"}).to_string();
    house.asked(reqwest::Method::PUT, "/v1/suppressions/+12025550188", Some(&suppressed), Some(&owner)).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        let made = house.asked(reqwest::Method::POST, "/v1/runs", Some(r#"{"name":"Test"}"#), Some(&owner)).await;
        runs.push(made.body["id"].as_str().unwrap().parse::<RunId>().unwrap());
    }
    let told =
        house.asked(reqwest::Method::POST, &format!("/v1/runs/{}/leads", runs[0]), Some(FILE), Some(&owner)).await;
    assert_eq!(told.status, 200, "{}", told.body);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), FILE).unwrap();
    let by_file = house.ops(&["import", &runs[1].to_string(), file.path().to_str().unwrap(), "--json"]).await;
    let settings: Vec<&str> = house.args[1..].iter().map(String::as_str).collect();
    let third = runs[2].to_string();
    let by_input = run(&[&["import", &third, "-", "--json"], &settings[..]].concat(), Some(FILE)).await;
    for printed in [&by_file, &by_input] {
        assert_eq!(printed.code, 3, "rows were rejected: {}", printed.err);
        let body = printed.json();
        for name in ["rows", "accepted", "duplicates", "suppressed", "rejected", "errors", "errors_truncated"] {
            assert_eq!(body[name], told.body[name], "{name}");
        }
    }
    assert_eq!((&told.body["rows"], &told.body["accepted"], &told.body["rejected"]), (&json!(6), &json!(2), &json!(2)));
    let same = content(&house, runs[0]).await;
    assert_eq!((content(&house, runs[1]).await, content(&house, runs[2]).await), (same.clone(), same));

    std::fs::write(file.path(), "to\n+12025550130\n").unwrap();
    let good = house.ops(&["import", &runs[1].to_string(), file.path().to_str().unwrap()]).await;
    assert_eq!(good.code, 0, "{}", good.err);
    assert!(good.out.contains("accepted") && !good.out.contains("12025550130"), "{}", good.out);
    std::fs::write(file.path(), "name\nAda\n").unwrap();
    let none = house.ops(&["import", &runs[1].to_string(), file.path().to_str().unwrap()]).await;
    assert_eq!(none.code, 1);
    assert!(none.err.contains("phone"), "{}", none.err);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_jobs_and_why_are_the_apis() {
    let house = House::open(Options::default()).await;
    let (business, other) = (house.business(2).await, house.business(2).await);
    let run = house.run(business, &numbers(3)).await;
    house.run(other, &numbers(4)[3..]).await;
    house.claim(business, 1).await;
    let (owner, id) = (business.to_string(), run.to_string());
    let get = async |path: String| house.asked(reqwest::Method::GET, &path, None, Some(&owner)).await.body;
    let still = |mut value: Value| {
        for moment in ["/at", "/progress/at", "/next_possible_at"] {
            if let Some(place) = value.pointer_mut(moment) {
                *place = Value::Null;
            }
        }
        value
    };

    let runs = house.ops(&["runs", "--json", "--business", &owner]).await.json();
    assert_eq!(runs["data"].as_array().unwrap().len(), 1);
    assert_eq!(still(runs["data"][0].clone()), still(get(format!("/v1/runs/{run}")).await));
    assert_eq!(house.ops(&["runs", "--json"]).await.json()["data"].as_array().unwrap().len(), 2);
    let paused = house.ops(&["runs", "--json", "--state", "paused"]).await.json();
    assert_eq!(paused, json!({"data": [], "next_cursor": null}));
    assert_eq!(still(house.ops(&["why", &id, "--json"]).await.json()), still(get(format!("/v1/runs/{run}/why")).await));

    let page = house.ops(&["jobs", "--run", &id, "--json", "--limit", "2"]).await.json();
    let told = get(format!("/v1/runs/{run}/jobs")).await;
    let after = page["next_cursor"].as_str().unwrap();
    let rest = house.ops(&["jobs", "--run", &id, "--json", "--after", after]).await.json();
    let ids: Vec<&Value> =
        [&page, &rest].iter().flat_map(|p| p["data"].as_array().unwrap()).map(|j| &j["id"]).collect();
    assert_eq!(ids, told["data"].as_array().unwrap().iter().map(|job| &job["id"]).collect::<Vec<_>>());
    assert!(page["data"].as_array().unwrap().iter().all(|job| job["to"].as_str().unwrap().contains("*****")));
    let dialing = house.ops(&["jobs", "--run", &id, "--json", "--state", "dialing"]).await.json();
    let job = dialing["data"][0]["id"].as_str().unwrap();
    let one = house.ops(&["jobs", "--job", job, "--json"]).await.json();
    assert_eq!(one, get(format!("/v1/jobs/{job}")).await);

    let slots = house.ops(&["slots", "--json"]).await.json();
    let slot = &slots["data"][0]["slots"][0];
    assert_eq!((&slots["data"][0]["held"], &slots["data"][0]["limit"]), (&json!(1), &json!(2)));
    assert_eq!((&slot["job_id"], &slot["state"], &slot["gate_ms"]), (&json!(job), &json!("intent"), &Value::Null));
    for (command, table) in [("slots", "not held"), ("runs", "running"), ("workers", "No worker")] {
        let printed = house.ops(&[command]).await;
        assert!(printed.code == 0 && printed.out.contains(table), "{command}: {}", printed.out);
        assert!(!printed.out.contains(&numbers(1)[0]), "{command} shows a whole number");
    }
    for nobody in [["why", owner.as_str()], ["import", owner.as_str()]] {
        let args = if nobody[0] == "import" { vec!["import", nobody[1], "-"] } else { nobody.to_vec() };
        assert_eq!(house.ops(&args).await.code, 1, "{nobody:?}");
    }

    let attempt: String = slot["attempt_id"].as_str().unwrap().to_owned();
    rollcall::dialing::send::not_sent(&house.ctx, attempt.parse().unwrap(), "the test is over").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_made_here_opens_the_api_until_it_is_revoked_here() {
    let house = House::open(Options::default()).await;
    let owner = house.business(3).await.to_string();
    set_max_lines(&house.ctx.stores.pg, 50).await.unwrap();
    let made = house.ops(&["keys", "create", &owner, "--role", "viewer", "--name", "night", "--json"]).await;
    let (made, id) = (made.json(), made.json()["id"].as_str().unwrap().to_owned());
    let key = made["key"].as_str().unwrap();
    let me =
        async || answer(client().get(format!("http://{}/v1/me", house.addr)).bearer_auth(key)).await.status.as_u16();
    assert_eq!(me().await, 200);
    let listed = house.ops(&["keys", "list", &owner, "--json"]).await;
    assert_eq!((&listed.json()["data"][0]["name"], listed.json()["data"][0].get("key")), (&json!("night"), None));
    assert!(!listed.out.contains(key), "a key is shown twice");
    assert_eq!(house.ops(&["keys", "revoke", &owner, "--key", &id]).await.code, 0);
    house.until("the key is dead", || async { me().await == 401 }).await;
    assert!(!house.ops(&["keys", "list", &owner, "--json"]).await.json()["data"][0]["revoked_at"].is_null());
    assert_eq!(house.ops(&["keys", "revoke", &owner, "--key", &owner]).await.code, 1);
    let written = sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM audit WHERE actor = 'rollcall-ops'"#);
    assert_eq!(written.fetch_one(&house.ctx.stores.pg).await.unwrap(), 2);
    house.close().await;
}
