//! Somebody rings a number of ours: they talk to its agent, hold a slot and a line, or hear why not; nobody else can ring.

use reqwest::Method;
use rollcall::{
    businesses::answering::{self, Answering},
    ids::{BusinessId, Carrier},
    sim::{Answer, Call, CallReport, Callee, Status, Then, sign},
    stores::MIGRATOR,
};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    by_hand::client,
    house::{House, Options, caller_id},
    runs_harness::Desk,
    telnyx_house::{API_KEY, connection},
    voice_house::{lines_of, script},
};

/// The auth token of a house's businesses.
const TOKEN: &str = "secret token of the account";
/// Somebody who rings.
pub(crate) const THEIRS: &str = "+12125550177";

/// A number that is rung.
pub(crate) struct Street {
    pub(crate) house: House,
    pub(crate) business: BusinessId,
    pub(crate) carrier: Carrier,
}

impl Street {
    /// A business with so many slots at a carrier, on whose number an agent talks.
    pub(crate) async fn open(carrier: Carrier, slots: i32) -> Self {
        let house = House::open(Options { workers: 1, ..Options::default() }).await;
        let business = match carrier {
            Carrier::Twilio => house.business(slots).await,
            Carrier::Telnyx => house.telnyx_business(slots).await,
        };
        let street = Self { house, business, carrier };
        street.answers(Some("All our lines are busy."), None).await;
        street
    }

    /// Has an agent talk, and sets what becomes of people where there is no room.
    pub(crate) async fn answers(&self, fallback: Option<&str>, redirect: Option<&str>) {
        let greeting = "Hello {{from}}, you have rung {{to}}.";
        let tools = json!([{"type": "end_call"}, {"type": "suppress_number"}]);
        let definition = json!({"greeting": greeting, "prompt": "Answer.", "tools": tools});
        let agent = self.house.agent(self.business, definition).await;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let answering = Answering { agent, fallback: owned(fallback), redirect: owned(redirect) };
        assert!(self.set(Some(&answering)).await);
    }

    /// Sets who talks.
    pub(crate) async fn set(&self, answering: Option<&Answering>) -> bool {
        let pg = &self.house.ctx.stores.pg;
        answering::set(pg, self.business, &caller_id(self.business), answering).await.unwrap()
    }

    /// The path that the number's carrier asks or tells.
    pub(crate) fn path(&self) -> String {
        format!("/webhooks/{}/inbound/{}", self.carrier, self.house.ctx.tokens.inbound(self.business))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.house.addr, self.path())
    }

    fn account(&self) -> String {
        match self.carrier {
            Carrier::Twilio => format!("AC{}", self.business.0.simple()),
            Carrier::Telnyx => connection(self.business),
        }
    }

    /// Somebody rings; the carrier's id of the call.
    pub(crate) fn ring(&self, from: &str) -> String {
        let secret = if self.carrier == Carrier::Twilio { TOKEN } else { API_KEY };
        self.house.sim.ring((&self.account(), secret), from, &caller_id(self.business), &self.url()).unwrap()
    }

    /// Callees who say these lines, and then stay.
    pub(crate) fn callers_say(&self, lines: &[&str], repeats: bool) {
        let lines = script(lines);
        self.house.sim.set_callees(vec![Callee { lines, repeats, then: Then::Stays, ..Callee::default() }]);
    }

    /// The ledger's rows of calls that came in.
    pub(crate) async fn rows(&self) -> Vec<Value> {
        let rows = sqlx::query_scalar!(
            r#"SELECT to_jsonb(a) AS "row!" FROM attempt a WHERE direction = 'inbound' ORDER BY attempt_id"#
        );
        rows.fetch_all(&self.house.ctx.stores.pg).await.unwrap()
    }

    /// The call as the sandbox shows it once it is over.
    pub(crate) async fn over(&self, sid: &str) -> CallReport {
        let all = || self.house.sim.calls().into_iter().find(|call| call.sid == *sid).unwrap();
        self.house.until("the call is over", || async { all().status.is_final() }).await;
        all()
    }

    /// The same where no other call talks: a call ends before its stream does, and the sandbox shows what was said with the end of that.
    pub(crate) async fn over_and_silent(&self, sid: &str) -> CallReport {
        self.over(sid).await;
        self.house.silent().await;
        self.over(sid).await
    }

    /// Waits until no slot or line is held.
    pub(crate) async fn free(&self) {
        self.house.until("its slot is free", || async { self.house.open_attempts().await == 0 }).await;
        self.house.until("and its line", || async { self.house.ctx.gate.holders().await.unwrap().is_empty() }).await;
    }

    /// How many calls were turned away because nothing was free.
    pub(crate) async fn turned_away(&self) -> i64 {
        let key = self.house.ctx.stores.keys.key("metrics:calls_rejected_max_concurrent");
        let mut redis = self.house.ctx.stores.redis.clone();
        let counted: Option<i64> = redis::cmd("GET").arg(key).query_async(&mut redis).await.unwrap();
        counted.unwrap_or(0)
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

/// A caller of this carrier talks to the agent, and everything is as before.
async fn talks_and_is_over(carrier: Carrier) {
    let street = Street::open(carrier, 2).await;
    let media = street.house.media().await;
    street.callers_say(&["I am {tag}.", "Goodbye then."], false);
    let sid = street.ring(THEIRS);
    street.house.until("it has its row", || async { street.rows().await.len() == 1 }).await;
    let call = street.over_and_silent(&sid).await;
    street.free().await;
    let row = &street.rows().await[0];
    assert_eq!((&row["carrier_call_id"], &row["disposition"]), (&json!(sid), &json!("answered")), "{row}");
    let attempt: rollcall::ids::AttemptId = serde_json::from_value(row["attempt_id"].clone()).unwrap();
    let pg = &street.house.ctx.stores.pg;
    let shown = rollcall::attempts::store::list(pg, street.business, Some(attempt), None).await.unwrap().remove(0);
    assert_eq!((shown.from, shown.to), (THEIRS.to_owned(), caller_id(street.business)), "as people know it");
    let single = (attempt.0, attempt.0);
    let listed = rollcall::attempts::store::calls(pg, street.business, single, 1).await.unwrap().remove(0);
    assert_eq!((listed.from, listed.direction.as_str()), (THEIRS.to_owned(), "inbound"), "as a single call, too");
    let said = rollcall::calls::conversation::of(pg, street.business, attempt).await.unwrap().unwrap();
    let session = listed.session.unwrap();
    assert_eq!((session.agent_id, session.end_reason), (said.agent_id, said.end_reason.clone()));
    let lines = lines_of(&said);
    assert_eq!(lines[0], format!("agent: Hello {THEIRS}, you have rung {}.", caller_id(street.business)));
    assert!(said.end_reason == "ended_by_agent" && lines.len() > 3, "{said:?}");
    assert_eq!((call.status, call.conversations.len()), (Status::Completed, 1), "{call:?}");
    if carrier == Carrier::Twilio {
        assert_eq!(street.house.updates_of(&call), 1, "hung up once");
    }
    media.close().await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_rings_back_talks_to_the_numbers_agent_and_holds_a_slot_until_the_end() {
    talks_and_is_over(Carrier::Twilio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_rings_back_at_telnyx_talks_to_the_numbers_agent_and_holds_a_slot_until_the_end() {
    talks_and_is_over(Carrier::Telnyx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_a_number_is_shown_as_the_carrier_says_and_the_agent_hears_that_none_can_be_suppressed() {
    let street = Street::open(Carrier::Twilio, 2).await;
    let media = street.house.media().await;
    street.callers_say(&["Never call me again.", "Goodbye then."], false);
    let call = Call { name: "suppress_number".into(), arguments: json!({}) };
    let says = "One moment.".to_owned();
    let answer = Answer { hears: Some("never".into()), says, calls: Some(call), ..Answer::default() };
    street.house.sim.set_answers(vec![answer]);
    let sid = street.ring("anonymous");
    street.over_and_silent(&sid).await;
    street.free().await;
    let attempt: rollcall::ids::AttemptId =
        serde_json::from_value(street.rows().await[0]["attempt_id"].clone()).unwrap();
    let pg = &street.house.ctx.stores.pg;
    let single = (attempt.0, attempt.0);
    let listed = rollcall::attempts::store::calls(pg, street.business, single, 1).await.unwrap().remove(0);
    let dial = rollcall::attempts::store::list(pg, street.business, Some(attempt), None).await.unwrap().remove(0);
    assert_eq!((listed.from.as_str(), dial.from.as_str()), ("anonymous", "anonymous"));
    let said = rollcall::calls::conversation::of(pg, street.business, attempt).await.unwrap().unwrap();
    let tool = said.transcript.as_array().unwrap().iter().find(|one| one["who"] == "tool").unwrap();
    assert!(tool["tool"]["output"]["error"].as_str().unwrap().contains("without a number"), "{tool}");
    assert_eq!(said.outcome, None, "nothing was suppressed");
    media.close().await;
    street.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_twice_is_one_call_and_a_forged_one_none() {
    let street = Street::open(Carrier::Twilio, 2).await;
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
        (json!({"number": number, "redirect": THEIRS}), "/agent_id", "missing"),
        (json!({"number": number, "agent_id": fits, "redirect": "911"}), "/redirect", "emergency_number"),
        (json!({"number": number, "agent_id": fits, "redirect": "+112"}), "/redirect", "emergency_number"),
        (json!({"number": number, "agent_id": fits, "redirect": "+19005550100"}), "/redirect", "premium_number"),
        (json!({"number": number, "agent_id": fits, "redirect": "(212) 555-0177"}), "/redirect", "invalid_number"),
        (json!({"number": number, "agent_id": fits, "redirect": "7"}), "/redirect", "short_code"),
        (json!({"number": number, "agent_id": fits, "redirect": number}), "/redirect", "own_number"),
    ] {
        let answer = change(body).await;
        assert_eq!((answer.status.as_u16(), answer.fault()), (422, (pointer, code)), "{}", answer.body);
    }
    let set = change(json!({"number": number, "agent_id": fits, "fallback": "Later.", "redirect": THEIRS})).await;
    let shown = |body: &Value| (body["agent_id"].clone(), body["fallback"].clone(), body["redirect"].clone());
    assert_eq!((set.status.as_u16(), shown(&set.body)), (200, (fits.clone(), json!("Later."), json!(THEIRS))));
    let kept = change(json!({"number": number, "label": "Front desk"})).await.body;
    assert_eq!(shown(&kept), (fits.clone(), json!("Later."), json!(THEIRS)));
    let without = change(json!({"number": number, "redirect": null})).await.body;
    assert_eq!(shown(&without), (fits.clone(), json!("Later."), json!(null)));
    let none = change(json!({"number": number, "agent_id": null, "fallback": null})).await;
    assert_eq!((none.status.as_u16(), &none.body["agent_id"]), (200, &json!(null)));
}
