//! Whatever comes in, the answer says what is wrong with it, and nothing is stored by half.

use rollcall::stores::MIGRATOR;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    api_harness::{Answer, answer},
    runs_harness::Desk,
};

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_file_that_is_no_list_is_refused_and_nothing_of_it_stored(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run(json!({})).await;
    for (file, code) in [
        (Vec::new(), "empty"),
        (b"name,city\nAda,Rome\n".to_vec(), "no_phone_column"),
        (b"to;name\n+12025550101;Ada\n".to_vec(), "wrong_delimiter"),
        (b"\xff\xfet\0o\0\n\0".to_vec(), "utf16"),
        (b"t\0o\0,\0n\0\n\0".to_vec(), "utf16"),
        (b"\0t\0o\0,\0n\0\n".to_vec(), "utf16"),
        (b"to,first\0name\n+12025550101,Ada\n".to_vec(), "nul_character"),
        (b"PK\x03\x04rest".to_vec(), "spreadsheet"),
        (b"t\xe9l\xff,to\n".to_vec(), "invalid_utf8"),
        (b"to,phone\n1,2\n".to_vec(), "ambiguous_phone_column"),
    ] {
        let refused = desk.csv(run, file.clone()).await;
        assert_eq!(fault(&refused), (422, "validation", ("", code)), "{file:?}");
    }
    let shown = desk.get(&format!("/v1/runs/{run}")).await.body;
    assert_eq!((&shown["leads"]["rows"], &shown["progress"]["total"]), (&json!(0), &json!(0)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_file_with_bad_rows_loses_only_those_rows(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run(json!({})).await;
    let header_only = desk.csv(run, "to,name\n").await;
    assert_eq!((header_only.status.as_u16(), &header_only.body["rows"]), (200, &json!(0)));

    let mut file = b"\xef\xbb\xbfto,name\r\n\"+1 202 555 0101\",\"Ada, \"\"the first\"\"\r\nof Rome\"\r\n".to_vec();
    file.extend_from_slice(b"+12025550102,\xff\xfe\r\n+12025550103,");
    file.extend(std::iter::repeat_n(b'x', 1_000_000));
    file.extend_from_slice(b"\r\n");
    file.extend(std::iter::repeat_n(b'1', 10_000_000));
    file.extend_from_slice(b",long\r\n+12025550104,a,b,c\r\n+12025550105,fine\r\n");
    let answer = desk.csv(run, file).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((&answer.body["accepted"], &answer.body["rejected"]), (&json!(2), &json!(4)));
    let jobs = desk.get("/v1/jobs?to=%2B12025550101").await.body;
    assert_eq!(jobs["data"][0]["variables"]["name"], "Ada, \"the first\"\r\nof Rome");
}

fn fault(answer: &Answer) -> (u16, &str, (&str, &str)) {
    (answer.status.as_u16(), answer.slug(), answer.fault())
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_that_does_not_fit_is_refused_with_a_pointer(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let validation = |pointer, code| (422, "validation", (pointer, code));
    let with = |field: &str, value: Value| json!({"name": "x", field: value});
    let leave = |message: Value| json!({"detect": "async", "then": "leave_message", "message": message});
    for (body, pointer, code) in [
        (json!({}), "/name", "required"),
        (json!({"name": 7}), "/name", "wrong_type"),
        (json!({"name": " "}), "/name", "empty"),
        (json!({"name": "x".repeat(201)}), "/name", "too_long"),
        (with("colour", json!("red")), "/colour", "unknown_field"),
        (with("ring_timeout_secs", json!(4)), "/ring_timeout_secs", "out_of_range"),
        (with("ring_timeout_secs", json!(-30)), "/ring_timeout_secs", "out_of_range"),
        (with("call_time_limit_secs", json!(0)), "/call_time_limit_secs", "out_of_range"),
        (with("call_time_limit_secs", json!(9_000_000_000_000_i64)), "/call_time_limit_secs", "out_of_range"),
        (with("weight", json!(0)), "/weight", "out_of_range"),
        (with("retry", json!({"max_attempts": 0})), "/retry/max_attempts", "out_of_range"),
        (with("weight", json!(1001)), "/weight", "out_of_range"),
        (with("max_concurrent_calls", json!(0)), "/max_concurrent_calls", "out_of_range"),
        (with("retry", json!({"max_tries": 1})), "/retry/max_tries", "unknown_field"),
        (
            with("retry", json!({"max_attempts": 2, "rules": {"busy": {"delay_secs": 0}}})),
            "/retry/rules/busy/delay_secs",
            "out_of_range",
        ),
        (
            with("retry", json!({"max_attempts": 2, "rules": {"busy": {"delay_secs": 9, "jitter_pct": 51}}})),
            "/retry/rules/busy/jitter_pct",
            "out_of_range",
        ),
        (
            with("retry", json!({"max_attempts": 2, "rules": {"answered": {"delay_secs": 9}}})),
            "/retry/rules/answered",
            "unknown_disposition",
        ),
        (with("window", json!({"hours": []})), "/window/hours", "empty"),
        (
            with("window", json!({"hours": [{"days": [], "from": "09:00", "to": "20:00"}]})),
            "/window/hours/0/days",
            "empty",
        ),
        (
            with("window", json!({"hours": [{"days": ["mon"], "from": "9:00", "to": "20:00"}]})),
            "/window/hours/0/from",
            "invalid_time",
        ),
        (
            with("window", json!({"hours": [{"days": ["mon"], "from": "09:00", "to": "24:01"}]})),
            "/window/hours/0/to",
            "invalid_time",
        ),
        (
            with("window", json!({"hours": [{"days": ["mon"], "from": "20:00", "to": "09:00"}]})),
            "/window/hours/0/to",
            "invalid_window",
        ),
        (
            with("window", json!({"hours": [{"days": ["monday"], "from": "09:00", "to": "20:00"}]})),
            "/window/hours/0/days/0",
            "invalid_value",
        ),
        (
            with("window", json!({"hours": [{"days": ["mon"], "from": "09:00", "to": "20:00"}], "zone": "Mars/Base"})),
            "/window/zone",
            "invalid_time_zone",
        ),
        (
            with(
                "window",
                json!({"hours": [{"days": ["mon"], "from": "09:00", "to": "20:00"}], "calendars": ["none"]}),
            ),
            "/window/calendars/0",
            "unknown_calendar",
        ),
        (
            with(
                "window",
                json!({"hours": [{"days": ["mon"], "from": "09:00", "to": "20:00"}], "blackout_dates": ["25 December"]}),
            ),
            "/window/blackout_dates/0",
            "invalid_value",
        ),
        (with("breaker", json!({})), "/breaker/max_failed_pct", "required"),
        (with("breaker", json!({"max_failed_pct": 100})), "/breaker/max_failed_pct", "out_of_range"),
        (with("budget", json!({})), "/budget", "empty"),
        (with("budget", json!({"max_attempts": 0})), "/budget/max_attempts", "out_of_range"),
        (
            with("abandon_guard", json!({"max_pct": 3, "min_answered": 9})),
            "/abandon_guard/min_answered",
            "out_of_range",
        ),
        (with("local_presence", json!("near")), "/local_presence", "invalid_value"),
        (with("start_at", json!("tomorrow")), "/start_at", "invalid_value"),
        (
            json!({"name": "x", "start_at": "2030-01-02T00:00:00Z", "end_at": "2030-01-01T00:00:00Z"}),
            "/end_at",
            "conflict",
        ),
        (with("carriers", json!([])), "/carriers", "empty"),
        (with("carriers", json!(["vonage"])), "/carriers/0", "invalid_value"),
        (with("caller_ids", json!(["+12025550199"])), "/caller_ids/0", "unknown_caller_id"),
        (with("default_region", json!("us")), "/default_region", "unknown_region"),
        (with("message", json!({"text": ""})), "/message/text", "empty"),
        (with("message", json!({"text": "Hello {{ name"})), "/message/text", "invalid_template"),
        (with("message", json!({"text": "{% for x in y %}"})), "/message/text", "invalid_template"),
        (with("message", json!({"text": "Hi", "language": "English!"})), "/message/language", "invalid_language"),
        (with("message", json!({"text": "Hi", "voice": "<b>"})), "/message/voice", "invalid_voice"),
        (with("message", json!({"text": "a\u{0}b"})), "/message/text", "nul"),
        (with("leads", json!([{"to": "+12025550101"}, {"to": 5}])), "/leads/1/to", "wrong_type"),
        (with("leads", json!([{"too": "+12025550101"}])), "/leads/0/too", "unknown_field"),
        (with("leads", json!({"to": "+12025550101"})), "/leads", "wrong_type"),
        (with("carriers", json!(["twilio", "telnyx"])), "/carriers/1", "unknown_carrier"),
        (with("carriers", json!(["twilio", "twilio"])), "/carriers/1", "duplicate"),
        (with("machine", json!({"detect": "off", "then": "continue"})), "/machine/then", "conflict"),
        (with("machine", json!({"detect": "sync", "message": {"text": "Hi"}})), "/machine/message", "conflict"),
        (with("machine", leave(json!({"text": " "}))), "/machine/message/text", "empty"),
        (with("machine", leave(json!({"text": "{{"}))), "/machine/message/text", "invalid_template"),
        (
            with("machine", leave(json!({"text": "Hi", "language": "?"}))),
            "/machine/message/language",
            "invalid_language",
        ),
        (with("carriers", json!([])), "/carriers", "empty"),
    ] {
        assert_eq!(fault(&desk.post("/v1/runs", body.clone()).await), validation(pointer, code), "{body}");
    }
    assert_eq!(desk.get("/v1/runs").await.body["data"], json!([]), "nothing was stored");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_time_a_day_or_a_limit_that_does_not_fit_is_told_what_form_is_wanted(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let hours = json!([{"days": ["mon"], "from": "09:00", "to": "20:00"}]);
    let window = json!({"name": "x", "window": {"hours": hours, "blackout_dates": ["2026-12-25", "2026-02-30"]}});
    for (method, path, body, pointer, form) in [
        ("POST", "/v1/runs", json!({"name": "x", "start_at": "2026-12-24T09:00:00"}), "/start_at", "offset"),
        ("POST", "/v1/runs", json!({"name": "x", "end_at": "2026-12-24"}), "/end_at", "offset"),
        ("POST", "/v1/runs", json!({"name": "x", "end_at": "2026-02-30T09:00:00Z"}), "/end_at", "2026-12-24T09:00:00Z"),
        ("POST", "/v1/runs", window, "/window/blackout_dates/1", "2026-12-24"),
        ("PUT", "/v1/calendars/feasts", json!({"dates": ["2026-02-30"]}), "/dates/0", "2026-12-24"),
        ("PUT", "/v1/suppressions/+12025550150", json!({"expires_at": "2027-02-30"}), "/expires_at", "2026-11-22"),
        ("PUT", "/v1/suppressions/+12025550150", json!({"expires_at": "-9999-01-01"}), "/expires_at", "2026-11-22"),
        ("PUT", "/v1/calendars/feasts", json!({"dates": ["-9999-01-01"]}), "/dates/0", "2026-12-24"),
        ("PATCH", "/v1/calling-rules", json!({"attempt_caps": null}), "/attempt_caps", "an object"),
    ] {
        let answer = desk.app.ask(method.parse().unwrap(), path, &desk.key, body).await;
        let (status, _, (at, _)) = fault(&answer);
        assert_eq!((status, at), (422, pointer), "{}", answer.body);
        let detail = answer.body["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(form) && !detail.contains("struct"), "{path} {pointer}: {detail}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_field_comes_back_as_it_was_sent_and_none_is_absent(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let defaults = json!({"name": "x", "external_id": null, "carriers": ["twilio"], "caller_ids": [], "agent_id": null,
        "message": {"text": "Hello {{first_name}}", "language": "en-US", "voice": null}, "default_region": "US",
        "max_concurrent_calls": null, "weight": 1, "ring_timeout_secs": 30, "call_time_limit_secs": 600, "record": false,
        "machine": {"detect": "off", "then": "hang_up", "message": null}, "window": null,
        "retry": {"max_attempts": 1, "rules": {}}, "breaker": null, "budget": null, "abandon_guard": null, "local_presence": "off", "start_at": null, "end_at": null, "skip_called_within_days": null});
    let made = desk.post("/v1/runs", defaults.clone()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    for (field, value) in defaults.as_object().unwrap() {
        assert_eq!(&made.body[field], value, "{field} comes back as it was sent");
    }
    for field in [
        "id",
        "business_id",
        "state",
        "pause",
        "leads",
        "progress",
        "created_at",
        "started_at",
        "ended_at",
        "archived_at",
    ] {
        assert!(made.body.get(field).is_some(), "{field} is never absent");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_body_that_cannot_be_read_is_a_clear_problem(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run(json!({})).await;
    let deep = format!("[{}{}]", "[".repeat(50_000), "]".repeat(50_000));
    let huge = format!("[\"{}\"]", "x".repeat(33 * 1024 * 1024));
    let leads = format!("/v1/runs/{run}/leads");
    for (path, kind, body, status, slug) in [
        (leads.as_str(), "application/json", deep, 422, "validation"),
        (&leads, "application/json", huge, 413, "too-large"),
        (&leads, "application/json", "{\"to\":".into(), 422, "validation"),
        (&leads, "application/json", "{}".into(), 422, "validation"),
        (&leads, "application/json", "[1, null, \"x\"]".into(), 422, "validation"),
        (&leads, "application/xml", "<a/>".into(), 415, "unsupported-media-type"),
        ("/v1/runs", "text/plain", "name=x".into(), 415, "unsupported-media-type"),
        ("/v1/runs", "application/json", "\u{feff}{}".into(), 422, "validation"),
    ] {
        let request = desk.app.http.post(format!("{}{path}", desk.app.base)).bearer_auth(&desk.key);
        let refused = answer(request.header("content-type", kind).body(body)).await;
        assert_eq!((refused.status.as_u16(), refused.slug()), (status, slug));
    }
    for path in [
        "/v1/runs?limit=0",
        "/v1/runs?limit=-1",
        "/v1/runs?limit=9999999999",
        "/v1/runs?cursor=%00",
        "/v1/runs?sort=x",
        "/v1/jobs",
    ] {
        assert_eq!(desk.get(path).await.slug(), "validation", "{path}");
    }
    assert_eq!(desk.get(&format!("/v1/runs/{run}/jobs?state=done")).await.slug(), "validation");
    assert_eq!(desk.get("/v1/runs/not-an-id").await.status, 404);
    assert_eq!(desk.get("/v1/jobs?external_id=%00").await.slug(), "validation");
}
