//! Somebody rings a number of ours: they talk to its agent, hold a slot and a line, or hear why not; nobody else can ring.

use reqwest::Method;
use rollcall::{
    businesses::answering,
    ids::BusinessId,
    sim::{Callee, Status, Then, Until, sign},
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    by_hand::client,
    house::{House, Options, caller_id, numbers},
    runs_harness::Desk,
    voice_house::{SOON, lines_of, script},
};

/// The auth token of a house's businesses.
const TOKEN: &str = "secret token of the account";
const THEIRS: &str = "+12125550177";

struct Street {
    house: House,
    business: BusinessId,
}

impl Street {
    /// A business with so many slots, on whose number an agent talks.
    async fn open(slots: i32) -> Self {
        let house = House::open(Options { workers: 1, ..Options::default() }).await;
        let business = house.business(slots).await;
        let greeting = "Hello {{from}}, you have rung {{to}}.";
        let tools = json!([{"type": "end_call"}]);
        let agent = house.agent(business, json!({"greeting": greeting, "prompt": "Answer.", "tools": tools})).await;
        let answers = Some((agent, Some("All our lines are busy.")));
        assert!(answering::set(&house.ctx.stores.pg, business, &caller_id(business), answers).await.unwrap());
        Self { house, business }
    }

    fn url(&self) -> String {
        format!("http://{}/webhooks/twilio/inbound/{}", self.house.addr, self.house.ctx.tokens.inbound(self.business))
    }

    fn account(&self) -> String {
        format!("AC{}", self.business.0.simple())
    }

    fn ring(&self, from: &str) -> String {
        self.house.sim.ring((&self.account(), TOKEN), from, &caller_id(self.business), &self.url()).unwrap()
    }

    async fn rows(&self) -> Vec<Value> {
        let rows = sqlx::query_scalar!(
            r#"SELECT to_jsonb(a) AS "row!" FROM attempt a WHERE direction = 'inbound' ORDER BY attempt_id"#
        );
        rows.fetch_all(&self.house.ctx.stores.pg).await.unwrap()
    }

    async fn over(&self, sid: &str) {
        let over = || async { self.house.sim.calls().iter().any(|call| call.sid == *sid && call.status.is_final()) };
        self.house.until("the call is over", over).await;
    }

    /// Posts what Twilio would about a call that rings, signed with `token`; the status and the document.
    async fn told(&self, url: &str, token: &str, call_id: &str) -> (u16, String) {
        let account = self.account();
        let ours = caller_id(self.business);
        let form = [
            ("CallSid", call_id),
            ("AccountSid", account.as_str()),
            ("CallStatus", "ringing"),
            ("From", THEIRS),
            ("To", ours.as_str()),
        ];
        let request = client().post(url).header("X-Twilio-Signature", sign(token, url, &form)).form(&form);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_rings_back_talks_to_the_numbers_agent_and_holds_a_slot_until_the_end() {
    let street = Street::open(2).await;
    let media = street.house.media().await;
    let lines = script(&["I am {tag}.", "Goodbye then."]);
    street.house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
    let sid = street.ring(THEIRS);
    street.house.until("it has its row", || async { street.rows().await.len() == 1 }).await;
    street.over(&sid).await;
    street.house.silent().await;
    street.house.until("its slot is free", || async { street.house.open_attempts().await == 0 }).await;
    let row = &street.rows().await[0];
    assert_eq!((&row["carrier_call_id"], &row["disposition"]), (&json!(sid), &json!("answered")), "{row}");
    let attempt = serde_json::from_value(row["attempt_id"].clone()).unwrap();
    let pg = &street.house.ctx.stores.pg;
    let shown = rollcall::attempts::store::list(pg, street.business, Some(attempt), None).await.unwrap().remove(0);
    assert_eq!((shown.from, shown.to), (THEIRS.to_owned(), caller_id(street.business)), "as people know it");
    let said = rollcall::calls::conversation::of(pg, street.business, attempt).await.unwrap().unwrap();
    let lines = lines_of(&said);
    assert_eq!(lines[0], format!("agent: Hello {THEIRS}, you have rung {}.", caller_id(street.business)));
    assert!(said.end_reason == "ended_by_agent" && lines.len() > 3, "{said:?}");
    let call = street.house.sim.calls().remove(0);
    assert_eq!((call.status, street.house.updates_of(&call)), (Status::Completed, 1), "hung up once");
    media.close().await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_room_it_hears_so_is_counted_and_leaves_nothing() {
    let street = Street::open(1).await;
    let media = street.house.media().await;
    let lines = script(&["Wait, says {tag}."]);
    street.house.sim.set_callees(vec![Callee { lines, repeats: true, then: Then::Stays, ..Callee::default() }]);
    let first = street.ring(&numbers(2)[0]);
    street.house.until("the first talks", || async { media.sessions.count() == 1 }).await;
    let second = street.ring(&numbers(2)[1]);
    street.over(&second).await;
    let calls = street.house.sim.calls();
    assert_eq!(calls[1].heard, ["All our lines are busy."], "{:?}", calls[1]);
    assert_eq!(street.rows().await.len(), 1);
    let key = street.house.ctx.stores.keys.key("metrics:calls_rejected_max_concurrent");
    let mut redis = street.house.ctx.stores.redis.clone();
    let counted: i64 = redis::cmd("GET").arg(key).query_async(&mut redis).await.unwrap();
    assert_eq!(counted, 1);
    assert!(street.house.sim.figures().total.most_live <= 2);
    street.house.sim.end(&first, Status::Completed).unwrap();
    street.house.sim.wait(Until::Sessions(0), SOON).await.unwrap();
    media.close().await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_twice_is_one_call_and_a_forged_one_none() {
    let street = Street::open(2).await;
    let media = street.house.media().await;
    let (url, call_id) = (street.url(), "CAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_eq!(street.told(&url, "another token", call_id).await.0, 403);
    let of_attempt = street.house.ctx.tokens.make(street.business, rollcall::ids::AttemptId::new());
    let crossed = url.replace(&street.house.ctx.tokens.inbound(street.business), &of_attempt);
    assert_eq!(street.told(&crossed, TOKEN, call_id).await.0, 403, "the token of an attempt");
    let crossed = url.replace("/inbound/", "/status/");
    assert_eq!(street.told(&crossed, TOKEN, call_id).await.0, 403, "the token of a number");
    assert_eq!(street.rows().await.len(), 0);
    let (status, document) = street.told(&url, TOKEN, call_id).await;
    assert!(status == 200 && document.contains("<Stream url="), "{document}");
    let (status, again) = street.told(&url, TOKEN, call_id).await;
    assert!(status == 200 && again.contains("<Stream url=") && again != document, "{again}");
    let rows = street.rows().await;
    assert_eq!((rows.len(), &rows[0]["state"]), (1, &json!("answered")), "{rows:?}");
    let gone = sqlx::query!(
        "UPDATE attempt SET state = 'ended', disposition = 'answered', ended_at = now() WHERE direction = 'inbound'"
    );
    gone.execute(&street.house.ctx.stores.pg).await.unwrap();
    media.close().await;
    street.house.close().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_number_is_given_an_agent_that_has_words_for_whoever_rings(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let agent = |prompt: &str| json!({"name": "A", "prompt": prompt});
    let fits = desk.post("/v1/agents", agent("You talk to {{from}}.")).await.body["id"].clone();
    let other = desk.post("/v1/agents", agent("You talk to {{name}}.")).await.body["id"].clone();
    let listed = desk.get("/v1/caller-ids").await.body;
    let row = &listed["data"][0];
    assert_eq!((&row["agent_id"], &row["fallback"], &row["carrier"]), (&json!(null), &json!(null), &json!("twilio")));
    assert!(row["inbound_url"].as_str().unwrap().contains("/webhooks/twilio/inbound/"), "{row}");
    let number = row["number"].clone();
    let change = async |body: Value| desk.app.ask(Method::PATCH, "/v1/caller-ids", &desk.key, body).await;
    for (body, pointer, code) in [
        (json!({"number": "+19995550100", "agent_id": fits}), "/number", "unknown_caller_id"),
        (json!({"number": "12", "agent_id": fits}), "/number", "invalid_number"),
        (json!({"number": number, "agent_id": other}), "/agent_id", "missing_variable"),
        (json!({"number": number, "agent_id": uuid::Uuid::nil()}), "/agent_id", "unknown_agent"),
        (json!({"number": number, "fallback": "Later."}), "/agent_id", "missing"),
    ] {
        let answer = change(body).await;
        assert_eq!((answer.status.as_u16(), answer.fault()), (422, (pointer, code)), "{}", answer.body);
    }
    let set = change(json!({"number": number, "agent_id": fits, "fallback": "Later."})).await;
    assert_eq!((set.status.as_u16(), &set.body["agent_id"], &set.body["fallback"]), (200, &fits, &json!("Later.")));
    let kept = change(json!({"number": number})).await.body;
    assert_eq!((&kept["agent_id"], &kept["fallback"]), (&fits, &json!("Later.")));
    let none = change(json!({"number": number, "agent_id": null, "fallback": null})).await;
    assert_eq!((none.status.as_u16(), &none.body["agent_id"]), (200, &json!(null)));
}
