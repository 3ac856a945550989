//! Lists of jobs: each state, number and name, whole, in the order of the list, page by page.

use rollcall::{ids::RunId, stores::MIGRATOR};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::runs_harness::{Desk, event, number};

const LEADS: usize = 9;

impl Desk {
    /// The numbers of a list, read two by two to its end.
    async fn pages(&self, path: &str) -> Vec<String> {
        let (mut told, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{path}&limit=2{cursor}")).await;
            assert_eq!(page.status, 200, "{}", page.body);
            told.extend(page.body["data"].as_array().unwrap().iter().map(|job| job["to"].as_str().unwrap().to_owned()));
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return told,
            }
        }
    }

    async fn in_state(&self, run: RunId, state: &str) -> Vec<String> {
        self.pages(&format!("/v1/runs/{run}/jobs?state={state}")).await
    }
}

fn numbers(which: &[usize]) -> Vec<String> {
    which.iter().map(|i| number(*i)).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_state_is_listed_whole_and_in_the_order_of_the_list(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    // Three priorities, mixed: claims go 2, 5, 8 first, then 1, 4, 7.
    let lead = |i: usize| json!({"to": number(i), "priority": ([-4, 0, 7][i % 3])});
    let leads: Vec<Value> = (0..LEADS).map(lead).collect();
    let run = desk.run(json!({"message": {"text": "Hello"}, "leads": leads})).await;
    assert_eq!(desk.in_state(run, "queued").await, numbers(&[0, 1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!(desk.act(run, "start").await.status, 200);

    for (slot, disposition) in [(1, "answered"), (2, "busy"), (3, "answered")] {
        let attempt = desk.claim(slot).await.unwrap();
        event(desk.pg(), desk.business, attempt, "initiated", None).await;
        event(desk.pg(), desk.business, attempt, "ended", Some(disposition)).await;
    }
    for slot in [1, 2] {
        desk.claim(slot).await.unwrap();
    }
    for (state, which) in [
        ("queued", &[0, 3, 6, 7][..]),
        ("dialing", &[1, 4]),
        ("completed", &[2, 8]),
        ("unreached", &[5]),
        ("waiting", &[]),
        ("failed", &[]),
    ] {
        assert_eq!(desk.in_state(run, state).await, numbers(which), "{state}");
    }
    assert_eq!(desk.pages(&format!("/v1/runs/{run}/jobs?")).await, numbers(&[0, 1, 2, 3, 4, 5, 6, 7, 8]));

    let (_, other) = desk.app.managed().await;
    for path in [format!("/v1/runs/{run}/jobs"), format!("/v1/runs/{run}/jobs?state=completed")] {
        let told = desk.app.ask(reqwest::Method::GET, &path, &other, Value::Null).await;
        assert_eq!(told.status, 404, "another business' run: {}", told.body);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn jobs_are_found_by_number_and_by_name_newest_first(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let leads = |n: usize| (0..n).map(|i| json!({"to": number(i), "external_id": "spring"})).collect::<Vec<_>>();
    let (first, second) = (desk.run(json!({"leads": leads(3)})).await, desk.run(json!({"leads": leads(2)})).await);
    let to = number(1).replace('+', "%2B");
    for path in [format!("/v1/jobs?to={to}"), format!("/v1/jobs?to={to}&external_id=spring&state=queued")] {
        let told = desk.get(&path).await.body;
        let runs: Vec<_> = told["data"].as_array().unwrap().iter().map(|job| job["run_id"].as_str().unwrap()).collect();
        assert_eq!(runs, [second.to_string(), first.to_string()], "{path}");
    }
    assert_eq!(desk.pages("/v1/jobs?external_id=spring").await, numbers(&[1, 0, 2, 1, 0]));
    for nothing in [format!("/v1/jobs?to={to}&external_id=autumn"), "/v1/jobs?external_id=spring&state=failed".into()] {
        assert_eq!(desk.get(&nothing).await.body["data"], json!([]), "{nothing}");
    }
}
