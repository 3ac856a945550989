//! Agents over the API: made, changed into new versions, kept by a run from its start, refused with a pointer.

use reqwest::Method;
use rollcall::stores::MIGRATOR;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::runs_harness::Desk;

async fn made(desk: &Desk, body: Value) -> Value {
    let made = desk.post("/v1/agents", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.body
}

async fn change(desk: &Desk, id: &str, body: Value) -> crate::api_harness::Answer {
    desk.app.ask(Method::PATCH, &format!("/v1/agents/{id}"), &desk.key, body).await
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_change_makes_a_version_and_a_run_keeps_the_one_of_its_start(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let agent = made(&desk, json!({"name": "A", "prompt": "Talk to {{name}}.", "greeting": "Hello {{name}}"})).await;
    let id = agent["id"].as_str().unwrap();
    assert_eq!(
        (&agent["version"], &agent["pipeline"], &agent["goodbye"]),
        (&json!(1), &json!("cascade"), &Value::Null)
    );
    let run = desk.run(json!({"agent_id": id, "leads": [{"to": "+12015550100", "variables": {"name": "Ada"}}]})).await;
    let started = desk.act(run, "start").await;
    assert_eq!(started.status, 200, "{}", started.body);
    assert_eq!(started.body["agent_id"], *id);
    let changed = change(&desk, id, json!({"greeting": null, "turns": {"endpointing_ms": 500}})).await;
    assert_eq!((changed.status.as_u16(), &changed.body["version"]), (200, &json!(2)), "{}", changed.body);
    assert_eq!((&changed.body["greeting"], &changed.body["prompt"]), (&Value::Null, &json!("Talk to {{name}}.")));
    let same = change(&desk, id, json!({"name": "A"})).await;
    assert_eq!(same.body["version"], 2, "what changes nothing makes no version");
    let pinned = sqlx::query_scalar!("SELECT agent_version FROM run WHERE run_id = $1", run.0);
    assert_eq!(pinned.fetch_one(desk.pg()).await.unwrap(), Some(1));
    let draft = desk.run(json!({"agent_id": id})).await;
    let of_run = async |run| {
        let found = rollcall::agents::store::of_run(desk.pg(), desk.business, run).await.unwrap();
        found.map(|agent| (agent.version, agent.definition.greeting))
    };
    assert_eq!(
        of_run(run).await,
        Some((1, Some("Hello {{name}}".to_owned()))),
        "a call that tries the run is the run's"
    );
    assert_eq!(of_run(draft).await, Some((2, None)));
    let touched = sqlx::query!("UPDATE agent_version SET definition = '{}' WHERE version = 1").execute(desk.pg()).await;
    assert!(touched.unwrap_err().to_string().contains("never changes"));
    let gone = desk.app.ask(Method::DELETE, &format!("/v1/agents/{id}"), &desk.key, Value::Null).await;
    assert_eq!(gone.status, 204);
    assert_eq!(desk.get(&format!("/v1/agents/{id}")).await.status, 404);
    assert_eq!(desk.get("/v1/agents").await.body, json!({"data": [], "next_cursor": null}));
    assert_eq!((of_run(run).await.map(|it| it.0), of_run(draft).await), (Some(1), None));
    let attempt = desk.claim(1).await.unwrap();
    let kept = rollcall::agents::store::of_attempt(desk.pg(), attempt).await.unwrap().unwrap();
    assert_eq!((kept.version, kept.definition.greeting.as_deref()), (1, Some("Hello {{name}}")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn agents_are_listed_in_pages_and_are_their_businesss_own(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    for name in ["A", "B", "C"] {
        made(&desk, json!({"name": name, "prompt": "x"})).await;
    }
    let first = desk.get("/v1/agents?limit=2").await.body;
    let names = |page: &Value| page["data"].as_array().unwrap().iter().map(|a| a["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&first), ["A", "B"]);
    let next = desk.get(&format!("/v1/agents?cursor={}", first["next_cursor"].as_str().unwrap())).await.body;
    assert_eq!((names(&next), &next["next_cursor"]), (vec![json!("C")], &Value::Null));
    let (_, stranger) = desk.app.managed().await;
    let id = first["data"][0]["id"].as_str().unwrap();
    let asked = desk.app.ask(Method::GET, &format!("/v1/agents/{id}"), &stranger, Value::Null).await;
    assert_eq!(asked.status, 404);
    let run = json!({"name": "x", "agent_id": id});
    let theirs = desk.app.ask(Method::POST, "/v1/runs", &stranger, run).await;
    assert_eq!(theirs.fault(), ("/agent_id", "unknown_agent"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_does_not_fit_is_refused_with_a_pointer(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let with = |field: &str, value: Value| json!({"name": "A", "prompt": "x", field: value});
    for (body, pointer, code) in [
        (json!({"name": "A"}), "/prompt", "required"),
        (json!({"name": "A", "prompt": "{{ name"}), "/prompt", "invalid_template"),
        (json!({"name": "A", "prompt": "x".repeat(20_001)}), "/prompt", "too_long"),
        (with("greeting", json!("{% if x %}")), "/greeting", "invalid_template"),
        (with("pipeline", json!("magic")), "/pipeline", "invalid_value"),
        (with("colour", json!("red")), "/colour", "unknown_field"),
        (with("voice", json!({"speed": 9})), "/voice/speed", "out_of_range"),
        (with("turns", json!({"endpointing_ms": 1})), "/turns/endpointing_ms", "out_of_range"),
        (with("turns", json!({"silence_prompts": ["{{"]})), "/turns/silence_prompts/0", "invalid_template"),
        (with("tools", json!([{"type": "transfer", "to": "7"}])), "/tools/0/to", "short_code"),
        (
            with("tools", json!([{"type": "http", "name": "x", "description": "y", "url": "https://localhost./"}])),
            "/tools/0/url",
            "invalid_url",
        ),
        (with("models", json!({"temperature": 2.1})), "/models/temperature", "out_of_range"),
        (
            json!({"name": "A", "prompt": "x", "pipeline": "realtime", "models": {"temperature": 0.5}}),
            "/models/temperature",
            "not_available",
        ),
        (
            with("tools", json!([{"type": "http", "name": "x", "description": "y", "url": "http://127.0.0.1/"}])),
            "/tools/0/url",
            "invalid_url",
        ),
    ] {
        let refused = desk.post("/v1/agents", body.clone()).await;
        assert_eq!((refused.status.as_u16(), refused.fault()), (422, (pointer, code)), "{body}: {}", refused.body);
    }
    let agent = made(&desk, json!({"name": "A", "prompt": "Talk to {{name}}."})).await;
    let id = agent["id"].as_str().unwrap();
    let refused = change(&desk, id, json!({"prompt": null})).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    let both = desk.post("/v1/runs", json!({"name": "x", "agent_id": id, "message": {"text": "Hi"}})).await;
    assert_eq!(both.fault(), ("/message", "conflict"));
    let run = desk.run(json!({"agent_id": id, "leads": [{"to": "+12015550100"}]})).await;
    let refused = desk.act(run, "start").await;
    assert_eq!(refused.fault(), ("/agent_id", "missing_variable"), "{}", refused.body);
    let call = desk.post("/v1/calls", json!({"to": "+12015550101", "agent_id": id})).await;
    assert_eq!(call.fault(), ("/variables", "missing_variable"), "{}", call.body);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_agent_puts_callers_through_only_where_the_business_may_call(_: PgPoolOptions, pg: PgConnectOptions) {
    use crate::api_harness::OPERATOR;
    let desk = Desk::open(pg).await;
    let own = desk.get("/v1/caller-ids").await.body["data"][0]["number"].clone();
    let path = format!("/v1/businesses/{}", desk.business);
    let only_us = desk.app.ask(Method::PATCH, &path, OPERATOR, json!({"allowed_countries": ["US"]})).await;
    assert_eq!(only_us.status, 200, "{}", only_us.body);
    let agent = made(&desk, json!({"name": "A", "prompt": "x"})).await;
    let id = agent["id"].as_str().unwrap();
    for (to, code) in [
        (json!("911"), "emergency_number"),
        (json!("+112"), "emergency_number"),
        (json!("+19005550100"), "premium_number"),
        (json!("+442079460123"), "country_not_allowed"),
        (json!("(212) 555-0177"), "invalid_number"),
        (own, "own_number"),
    ] {
        let tools = json!([{"type": "end_call"}, {"type": "transfer", "to": to}]);
        let new = desk.post("/v1/agents", json!({"name": "B", "prompt": "x", "tools": tools})).await;
        assert_eq!((new.status.as_u16(), new.fault()), (422, ("/tools/1/to", code)), "{to}: {}", new.body);
        let changed = change(&desk, id, json!({"tools": tools})).await;
        assert_eq!((changed.status.as_u16(), changed.fault()), (422, ("/tools/1/to", code)), "{to}: {}", changed.body);
    }
    let fits = change(&desk, id, json!({"tools": [{"type": "transfer", "to": "+12125550177"}]})).await;
    assert_eq!((fits.status.as_u16(), &fits.body["version"]), (200, &json!(2)), "{}", fits.body);
    // What does not fit any more is no reason to refuse a change of something else.
    let path = format!("/v1/businesses/{}", desk.business);
    let none = desk.app.ask(Method::PATCH, &path, OPERATOR, json!({"allowed_countries": ["DE"]})).await;
    assert_eq!(none.status, 200, "{}", none.body);
    let renamed = change(&desk, id, json!({"name": "Renamed"})).await;
    assert_eq!((renamed.status.as_u16(), &renamed.body["version"]), (200, &json!(3)), "{}", renamed.body);
    let other = change(&desk, id, json!({"tools": [{"type": "transfer", "to": "+12125550178"}]})).await;
    assert_eq!((other.status.as_u16(), other.fault()), (422, ("/tools/0/to", "country_not_allowed")), "{}", other.body);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_change_keeps_what_it_does_not_name_inside_of_settings(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let definition = json!({"name": "A", "prompt": "x", "models": {"chat": "gpt-4o", "temperature": 0.5, "max_tokens": 200},
        "voice": {"id": "21m00Tcm4TlvDq8ikWAM", "speed": 1.1}, "turns": {"silence_secs": 20, "interruptible": false},
        "limits": {"call_secs": 90, "turns": 5}});
    let agent = made(&desk, definition).await;
    let id = agent["id"].as_str().unwrap();
    let changed = change(
        &desk,
        id,
        json!({"models": {"temperature": null, "chat": "gpt-4.1"}, "voice": {"speed": 0.9}, "turns": {"endpointing_ms": 500},
            "limits": {"call_secs": 120}}),
    )
    .await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let mut expected = agent.clone();
    (expected["models"]["temperature"], expected["models"]["chat"]) = (Value::Null, json!("gpt-4.1"));
    (expected["voice"]["speed"], expected["turns"]["endpointing_ms"]) = (json!(0.9), json!(500));
    expected["limits"]["call_secs"] = json!(120);
    for settings in ["models", "voice", "turns", "limits"] {
        assert_eq!(changed.body[settings], expected[settings], "{settings}");
    }
    let same = change(&desk, id, json!({"turns": {}, "models": {}})).await;
    assert_eq!(same.body["version"], 2, "what changes nothing makes no version");
    for (body, pointer, code) in [
        (json!({"turns": {"colour": 1}}), "/turns/colour", "unknown_field"),
        (json!({"turns": {"silence_secs": 500}}), "/turns/silence_secs", "out_of_range"),
        (json!({"limits": {"turns": "x"}}), "/limits/turns", "wrong_type"),
        (json!({"turns": {"interruptible": null}}), "/turns/interruptible", "wrong_type"),
    ] {
        let refused = change(&desk, id, body.clone()).await;
        assert_eq!((refused.status.as_u16(), refused.fault()), (422, (pointer, code)), "{body}: {}", refused.body);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_takes_no_more_variables_than_a_call_and_says_what_is_too_long(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let agent = made(&desk, json!({"name": "A", "prompt": "Talk to {{name}}. {{name}}"})).await;
    for (variables, code) in [
        (json!({"name": "x".repeat(16 * 1024)}), "variables_too_large"),
        (json!({"name": "Ada", "other": ["a list"]}), "wrong_type"),
        (json!({"name": "x".repeat(15_000)}), "too_long"),
        (json!({}), "missing_variable"),
    ] {
        for (path, to) in [("/v1/sessions", None), ("/v1/calls", Some("+12015550101"))] {
            let mut body = json!({"agent_id": agent["id"], "variables": variables});
            if let Some(to) = to {
                body["to"] = json!(to);
            }
            let refused = desk.post(path, body).await;
            let fault = (refused.status.as_u16(), refused.fault());
            assert_eq!(fault, (422, ("/variables", code)), "{path}: {}", refused.body);
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_document_names_every_end_that_a_conversation_may_have(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let document = desk.get("/openapi.json").await.body;
    let said = &document["components"]["schemas"]["Conversation"]["properties"]["end_reason"]["description"];
    let said = said.as_str().unwrap();
    for reason in ["stream_broke", "malformed", "lost", "stopped", "dead_stream", "time_limit"] {
        assert!(said.contains(&format!("`{reason}`")), "{reason}: {said}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_business_may_have_its_own_account_at_a_voice_provider(_: PgPoolOptions, pg: PgConnectOptions) {
    use crate::api_harness::OPERATOR;
    use rollcall::models::Provider;
    use secrecy::ExposeSecret;
    let desk = Desk::open(pg).await;
    let path = format!("/v1/businesses/{}/voice/deepgram", desk.business);
    let asked = desk.app.ask(Method::GET, &path, OPERATOR, Value::Null).await;
    assert_eq!(asked.status, 404);
    assert!(desk.app.ctx.login(desk.business, Provider::Deepgram).await.unwrap().is_none(), "no key anywhere");
    let body = json!({"api_key": "their-own-key", "most_at_once": 7});
    let put = desk.app.ask(Method::PUT, &path, OPERATOR, body.clone()).await;
    assert_eq!((put.status.as_u16(), &put.body["api_key"]["set"]), (200, &json!(true)), "{}", put.body);
    assert!(!put.body.to_string().contains("their-own-key"));
    let login = desk.app.ctx.login(desk.business, Provider::Deepgram).await.unwrap().unwrap();
    assert_eq!((login.key.expose_secret(), login.most_at_once), ("their-own-key", 7));
    let secret = sqlx::query_scalar!("SELECT secret FROM voice_account").fetch_one(desk.pg()).await.unwrap();
    assert!(!secret.windows(9).any(|part| part == b"their-own"), "sealed");
    let theirs = desk.app.ask(Method::PUT, &path, &desk.key, body).await;
    assert_eq!(theirs.status, 403, "the operator's route");
    let unknown = desk.app.ask(Method::GET, &path.replace("deepgram", "other"), OPERATOR, Value::Null).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(desk.app.ask(Method::DELETE, &path, OPERATOR, Value::Null).await.status, 204);
}
