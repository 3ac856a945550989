//! I9: a list under one `Idempotency-Key` goes in once, whenever the api dies; meanwhile it is told how far it has come.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use reqwest::{Client, Method};
use rollcall::ids::{BusinessId, RunId};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::{
    api_harness::{Answer, answer},
    house::{House, OPERATOR_KEY, Options},
};

/// Rows of a list: three batches and a rest.
const ROWS: usize = 3_500;

/// A house, and a business with a draft in it.
struct Office {
    house: House,
    http: Client,
    business: BusinessId,
    run: RunId,
}

impl Office {
    async fn open() -> Self {
        let house = House::open(Options::default()).await;
        let business = house.business(1).await;
        let mut office =
            Self { house, http: Client::builder().no_proxy().build().unwrap(), business, run: RunId::new() };
        let made = office.ask(Method::POST, "/v1/runs", json!({"name": "Test"})).await;
        office.run = made.body["id"].as_str().unwrap().parse().unwrap();
        office
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Answer {
        let url = format!("http://{}{path}", self.house.addr);
        let request = self.http.request(method, url).bearer_auth(OPERATOR_KEY);
        answer(request.header("rollcall-business", self.business.to_string()).json(&body)).await
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, &format!("/v1/runs/{}{path}", self.run), Value::Null).await.body
    }

    /// A list on its way to the api at this address, always under the same key.
    fn upload(&self, to: impl std::fmt::Display, file: String) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("http://{to}/v1/runs/{}/leads", self.run)).bearer_auth(OPERATOR_KEY);
        let request =
            request.header("rollcall-business", self.business.to_string()).header("idempotency-key", "spring");
        request.header("content-type", "text/csv").body(file)
    }

    /// Sends a list to an api that dies at this killpoint, and waits until Postgres knows.
    async fn dies_at(&self, killpoint: &str) {
        let mut doomed = self.house.api(Some(killpoint)).await;
        let sent = self.upload(doomed.addr("api").await, list(ROWS)).send().await;
        assert!(sent.is_err(), "the api answered");
        assert_eq!(doomed.ended().await.signal(), Some(Signal::SIGABRT as i32));
        self.house
            .until("no list goes in", || async {
                self.get("/why").await["blockers"].as_array().unwrap().iter().all(|b| b["code"] != "importing")
            })
            .await;
        let early = answer(self.upload(self.house.addr, list(ROWS))).await;
        assert_eq!(early.slug(), "idempotency-in-progress", "{}", early.body);
        // A minute without a sign of life later, as the row is then.
        sqlx::query!("UPDATE idempotency SET started_at = started_at - interval '61 s' WHERE answered_at IS NULL")
            .execute(&self.house.ctx.stores.pg)
            .await
            .unwrap();
    }

    /// One import, and every row of it counted once.
    async fn has_it_once(&self, answered: &Answer) {
        assert_eq!((answered.status.as_u16(), &answered.body["rows"]), (200, &json!(ROWS)), "{}", answered.body);
        let run = self.get("").await;
        assert_eq!((&run["leads"]["rows"], &run["leads"]["duplicates"]), (&json!(ROWS), &json!(0)));
        assert_eq!((&run["leads"]["rejected"], &run["progress"]["total"]), (&json!(1), &json!(ROWS - 1)));
        let imports = self.get("/imports").await;
        let expected = (1, &answered.body["import_id"], &json!("done"), &json!(ROWS));
        let first = &imports["data"][0];
        let count = imports["data"].as_array().unwrap().len();
        assert_eq!((count, &first["import_id"], &first["state"], &first["rows"]), expected, "{imports}");
    }
}

/// A list of so many rows, the second of them no number.
fn list(rows: usize) -> String {
    let row = |i: usize| {
        if i == 1 { "nobody\n".to_owned() } else { format!("303{:03}{:04}\n", 200 + i / 10_000, i % 10_000) }
    };
    std::iter::once("to\n".to_owned()).chain((0..rows).map(row)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_dies_while_a_list_goes_in_leaves_nothing_of_it_and_the_same_key_puts_it_in() {
    let office = Office::open().await;
    office.dies_at("K13:abort:3").await;
    let run = office.get("").await;
    assert_eq!((&run["leads"]["rows"], &run["progress"]["total"]), (&json!(0), &json!(0)), "{run}");
    let broken = office.get("/imports").await["data"][0].clone();
    assert_eq!((&broken["state"], &broken["rows"]), (&json!("broken_off"), &json!(1000)), "{broken}");

    let answered = answer(office.upload(office.house.addr, list(ROWS))).await;
    assert_eq!(answered.body["import_id"], broken["import_id"], "a repeated upload keeps its id");
    office.has_it_once(&answered).await;
    let again = answer(office.upload(office.house.addr, list(ROWS))).await;
    assert_eq!((again.header("idempotency-replayed"), &again.body), ("true", &answered.body));
    office.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_whose_api_dies_before_it_can_answer_is_in_and_the_same_key_tells_its_counts() {
    let office = Office::open().await;
    office.dies_at("K14:abort").await;
    let other = answer(office.upload(office.house.addr, list(ROWS - 1))).await;
    assert_eq!((other.status.as_u16(), other.slug()), (422, "idempotency-mismatch"), "{}", other.body);
    let answered = answer(office.upload(office.house.addr, list(ROWS))).await;
    assert_eq!(answered.header("idempotency-replayed"), "", "nobody had kept an answer");
    office.has_it_once(&answered).await;
    assert_eq!((&answered.body["rejected"], &answered.body["errors_truncated"]), (&json!(1), &json!(false)));
    let fault = &answered.body["errors"][0];
    assert_eq!(
        (&fault["line"], &fault["code"], &fault["value"]),
        (&json!(3), &json!("invalid_number"), &json!("nobody"))
    );
    office.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_list_goes_in_its_counts_grow_and_no_row_of_it_is_seen() {
    let office = Office::open().await;
    // Its last batch waits for a number that another transaction is about to store.
    let mut other = PgConnection::connect(&office.house.args[2]).await.unwrap();
    let mut holding = other.begin().await.unwrap();
    let held = sqlx::query!(
        "INSERT INTO job (job_id, run_id, business_id, to_number) VALUES (gen_random_uuid(), $1, $2, '+13032003400')",
        office.run.0,
        office.business.0
    );
    held.execute(&mut *holding).await.unwrap();
    let upload = answer(office.upload(office.house.addr, list(ROWS)));
    let watch = async {
        let seen = || async { office.get("/imports").await["data"].as_array().is_some_and(|all| !all.is_empty()) };
        office.house.until("the list is seen to go in", seen).await;
        let going = office.get("/imports").await["data"][0].clone();
        assert_eq!((&going["state"], &going["rejected"]), (&json!("importing"), &json!(1)), "{going}");
        assert!(going["rows"].as_i64().unwrap() >= 1000 && going["accepted"].as_i64().unwrap() >= 999, "{going}");
        let one = office.get(&format!("/imports/{}", going["import_id"].as_str().unwrap())).await;
        assert_eq!((&one["state"], &one["import_id"]), (&json!("importing"), &going["import_id"]));
        let run = office.get("").await;
        assert_eq!((&run["leads"]["rows"], &run["progress"]["total"]), (&json!(0), &json!(0)), "no part of it counts");
        holding.rollback().await.unwrap();
        going
    };
    let (answered, going) = tokio::join!(upload, watch);
    assert_eq!(answered.body["import_id"], going["import_id"]);
    office.has_it_once(&answered).await;
    office.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_broke_off_is_told_of_until_the_next_one_is_in() {
    let office = Office::open().await;
    let mut doomed = office.house.api(Some("K13:abort:2")).await;
    assert!(office.upload(doomed.addr("api").await, list(ROWS)).send().await.is_err(), "the api answered");
    doomed.ended().await;
    let broken = || async { office.get("/imports").await["data"][0]["state"] == "broken_off" };
    office.house.until("the list broke off", broken).await;
    let path = format!("/v1/runs/{}/leads", office.run);
    let next = office.ask(Method::POST, &path, json!([{"to": "+12025550101"}])).await;
    assert_eq!(next.body["accepted"], 1, "{}", next.body);
    let imports = office.get("/imports").await["data"].clone();
    assert_eq!((imports.as_array().unwrap().len(), &imports[0]["state"]), (1, &json!("done")), "{imports}");
    office.house.close().await;
}
