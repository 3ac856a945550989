//! A request that says something else than the document has is refused with the place of it, never read as something near.

use reqwest::Method;
use rollcall::stores::MIGRATOR;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use uuid::Uuid;

use crate::{
    api_harness::{OPERATOR, answer},
    api_suppressions::upload,
    runs_harness::{Desk, number},
};

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_list_goes_on_only_from_a_cursor_of_its_own(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run_of(2).await;
    for i in 0..2 {
        let put = format!("/v1/suppressions/{}", number(50 + i));
        assert_eq!(desk.app.ask(Method::PUT, &put, &desk.key, json!({})).await.status, 201);
    }
    let page = desk.get("/v1/suppressions?limit=1").await.body;
    let of_suppressions = page["next_cursor"].as_str().unwrap();
    let page = desk.get(&format!("/v1/runs/{run}/jobs?limit=1")).await.body;
    let of_jobs = page["next_cursor"].as_str().unwrap();
    let lists = [
        "/v1/suppressions".to_owned(),
        "/v1/calendars".into(),
        "/v1/caller-ids".into(),
        "/v1/runs".into(),
        "/v1/agents".into(),
        "/v1/calls".into(),
        "/v1/recordings".into(),
        format!("/v1/runs/{run}/jobs"),
        format!("/v1/runs/{run}/imports"),
        format!("/v1/numbers/{}", number(0)),
    ];
    for list in &lists {
        // `AAAA` is three NULs; the last is an id without the name of a list.
        for cursor in
            ["AAAA", "", "%00", "x", of_suppressions, of_jobs, "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAw"]
        {
            let own = (list == "/v1/suppressions" && cursor == of_suppressions)
                || (list.ends_with("/jobs") && cursor == of_jobs);
            let seen = desk.get(&format!("{list}?cursor={cursor}")).await;
            if own {
                assert_eq!(seen.body["data"].as_array().map(Vec::len), Some(1), "{list} {}", seen.body);
            } else {
                assert_eq!((seen.status.as_u16(), seen.fault().0), (422, "?cursor"), "{list} {cursor} {}", seen.body);
            }
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_array_is_no_object_at_any_depth(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run_of(1).await;
    let business = format!("/v1/businesses/{}", desk.business);
    let agent = |tools: Value| json!({"name": "x", "prompt": "y", "tools": tools});
    let (retry, window) =
        (json!({"retry": [3]}), json!({"name": "x", "window": {"hours": [[["mon"], "09:00", "20:00"]]}}));
    let hello = json!({"message": ["Hello", "en-GB"]});
    let call = |part: &str, value: Value| json!({"to": number(9), part: value});
    for (key, method, path, body, pointer) in [
        (&*desk.key, "PATCH", format!("/v1/runs/{run}"), hello, "/message"),
        (&desk.key, "PATCH", format!("/v1/runs/{run}"), retry, "/retry"),
        (&desk.key, "PATCH", format!("/v1/runs/{run}"), json!({"machine": ["off"]}), "/machine"),
        (&desk.key, "POST", "/v1/runs".into(), window, "/window/hours/0"),
        (&desk.key, "POST", "/v1/runs".into(), json!(["x"]), ""),
        (&desk.key, "POST", format!("/v1/runs/{run}/start"), json!([]), ""),
        (&desk.key, "POST", format!("/v1/runs/{run}/cancel"), json!([]), ""),
        (&desk.key, "POST", format!("/v1/runs/{run}/clone"), json!([]), ""),
        (&desk.key, "POST", "/v1/calls".into(), call("message", json!(["Hello"])), "/message"),
        (&desk.key, "POST", "/v1/agents".into(), json!(["x", "cascade", "en-US", "y"]), ""),
        (&desk.key, "POST", "/v1/agents".into(), agent(json!([["end_call"]])), "/tools/0"),
        (
            &desk.key,
            "POST",
            "/v1/agents".into(),
            agent(json!([{"type": "end_call"}, {"type": "record_outcome", "fields": [["a", "string"]]}])),
            "/tools/1/fields/0",
        ),
        (&desk.key, "PUT", format!("/v1/suppressions/{}", number(9)), json!({"evidence": ["said"]}), "/evidence"),
        (OPERATOR, "PATCH", business.clone(), json!(["renamed"]), ""),
        (OPERATOR, "PATCH", business.clone(), json!({"retention": [null]}), "/retention"),
        (OPERATOR, "POST", format!("{business}/keys"), json!(["crm", "viewer"]), ""),
    ] {
        let seen = desk.app.ask(method.parse().unwrap(), &path, key, body.clone()).await;
        assert_eq!(
            (seen.status.as_u16(), seen.fault()),
            (422, (pointer, "wrong_type")),
            "{path} {body}: {}",
            seen.body
        );
        let detail = seen.body["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("object") && !detail.contains("struct"), "{path} {body}: {detail}");
    }
    assert_eq!(desk.state(run).await, "draft");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_field_of_a_tool_is_pointed_at(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    for (tool, pointer, code) in [
        (json!({"type": "transfer", "to": null}), "/tools/1/to", "wrong_type"),
        (json!({"type": "transfer"}), "/tools/1/to", "required"),
        (json!({"type": "end_call", "when": 1}), "/tools/1/when", "unknown_field"),
        (json!({"type": "fly"}), "/tools/1/type", "invalid_value"),
        (json!({"type": 7}), "/tools/1/type", "wrong_type"),
        (json!({}), "/tools/1/type", "required"),
        (
            json!({"type": "record_outcome", "fields": [{"name": "a", "type": "date"}]}),
            "/tools/1/fields/0/type",
            "invalid_value",
        ),
    ] {
        let body = json!({"name": "x", "prompt": "y", "tools": [{"type": "end_call"}, tool]});
        let seen = desk.post("/v1/agents", body.clone()).await;
        assert_eq!((seen.status.as_u16(), seen.fault()), (422, (pointer, code)), "{body}: {}", seen.body);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_time_has_a_year_of_four_digits_in_utc_too(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let (late, early) = ("9999-12-31T23:30:00-05:00", "0000-01-01T00:30:00+05:00");
    let suppression = format!("/v1/suppressions/{}", number(9));
    for (method, path, body, pointer) in [
        ("POST", "/v1/runs", json!({"name": "x", "start_at": late}), "/start_at"),
        ("POST", "/v1/runs", json!({"name": "x", "end_at": early}), "/end_at"),
        ("PUT", &suppression, json!({"expires_at": late}), "/expires_at"),
        ("PUT", &suppression, json!({"evidence": {"at": early}}), "/evidence/at"),
    ] {
        let seen = desk.app.ask(method.parse().unwrap(), path, &desk.key, body.clone()).await;
        assert_eq!((seen.status.as_u16(), seen.fault()), (422, (pointer, "invalid_value")), "{body}: {}", seen.body);
    }
    let last = desk.run(json!({"end_at": "9999-12-31T23:59:59.999Z"})).await;
    assert_eq!(desk.get(&format!("/v1/runs/{last}")).await.body["end_at"], "9999-12-31T23:59:59.999Z");
    let leads = json!([{"to": number(0), "not_after": late}, {"to": number(1), "not_before": early}]);
    let told = desk.post(&format!("/v1/runs/{last}/leads"), leads).await.body;
    assert_eq!((&told["rejected"], &told["errors"][0]["code"]), (&json!(2), &json!("invalid_time")), "{told}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_suppressed_is_a_number_whichever_way_it_comes_in(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    for (text, fits) in
        [("+1900", false), ("+12", false), ("+123456", true), ("+12025550123", true), ("+0123456", false)]
    {
        let path = format!("/v1/suppressions/{text}");
        let put = desk.app.ask(Method::PUT, &path, &desk.key, json!({})).await;
        let post = desk.post("/v1/suppressions", json!({ "number": text })).await;
        let csv = upload(&desk.app, "/v1/suppressions", &desk.key, &format!("number\n{text}\n")).await;
        assert_eq!(desk.get(&path).await.status.is_success(), fits, "{text}");
        if fits {
            assert_eq!((put.status.as_u16(), post.status.as_u16()), (201, 200), "{text}");
            assert_eq!(csv.body["changed"], 1, "{text}: {}", csv.body);
            continue;
        }
        assert_eq!((put.status.as_u16(), put.fault()), (422, ("number", "invalid_number")), "{text}: {}", put.body);
        assert_eq!((post.status.as_u16(), post.fault()), (422, ("/number", "invalid_number")), "{text}: {}", post.body);
        assert_eq!(csv.body["rejected"], 1, "{text}: {}", csv.body);
        let (path, field) = (put.body["errors"][0]["detail"].clone(), post.body["errors"][0]["detail"].clone());
        let hint = format!("{text}* for a prefix");
        assert_eq!(path.as_str().unwrap().contains(&hint), !text.starts_with("+0"), "{path}");
        assert_eq!(path, field);
        assert_eq!(csv.body["errors"][0]["detail"], field, "one reader, one word");
    }
    let bad_prefix = desk.app.ask(Method::PUT, "/v1/suppressions/+0*", &desk.key, json!({})).await;
    assert_eq!(bad_prefix.fault(), ("number", "invalid_prefix"), "{}", bad_prefix.body);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_cannot_be_found_is_told_from_what_there_is_none_of(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let (run, other) = (desk.run_of(1).await, Uuid::now_v7());
    for to in ["2035550191", "(212)+555", "abc", "", "%2B", "%2B0123456", "%2B1900"] {
        let seen = desk.get(&format!("/v1/jobs?to={to}")).await;
        assert_eq!((seen.status.as_u16(), seen.fault()), (422, ("?to", "invalid_number")), "{to}: {}", seen.body);
    }
    for to in [number(0), number(0).replace('+', "%2B")] {
        let seen = desk.get(&format!("/v1/jobs?to={to}")).await;
        assert_eq!(seen.body["data"].as_array().map(Vec::len), Some(1), "{}", seen.body);
    }
    let import = desk.post(&format!("/v1/runs/{run}/leads"), json!([{"to": "12"}])).await.body["import_id"].clone();
    let import = import.as_str().unwrap();
    let elsewhere = desk.run_of(1).await;
    for (path, status) in [
        (format!("/v1/runs/{run}/rejected.csv?import={import}"), 200),
        (format!("/v1/runs/{run}/rejected.csv?import={other}"), 404),
        (format!("/v1/runs/{elsewhere}/rejected.csv?import={import}"), 404),
        (format!("/v1/recordings?run_id={run}"), 200),
        (format!("/v1/recordings?run_id={other}"), 404),
    ] {
        assert_eq!(desk.get(&path).await.status, status, "{path}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_number_that_cannot_be_kept_to_its_last_digit_is_refused(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.run_of(1).await;
    let send = async |path: &str, body: String| {
        let request = desk.app.http.post(format!("{}{path}", desk.app.base)).bearer_auth(&desk.key);
        answer(request.header("content-type", "application/json").body(body)).await
    };
    for (written, fits) in [
        ("12345678901234567890123", false),
        ("-12345678901234567890123", false),
        ("9007199254740993.5", false),
        ("18446744073709551615", true),
        ("-9223372036854775808", true),
        ("0.1", true),
        ("1e3", true),
    ] {
        let leads = format!(r#"[{{"to": "{}", "variables": {{"id": {written}}}}}]"#, number(7));
        let told = send(&format!("/v1/runs/{run}/leads"), leads).await.body;
        let code = if fits { Value::Null } else { json!("inexact_number") };
        assert_eq!(
            (&told["rejected"], &told["errors"][0]["code"]),
            (&json!(i32::from(!fits)), &code),
            "{written}: {told}"
        );
        let call =
            format!(r#"{{"to": "{}", "message": {{"text": "x"}}, "variables": {{"id": {written}}}}}"#, number(8));
        let told = send("/v1/calls", call).await;
        let named =
            told.body["errors"].as_array().is_some_and(|all| all.iter().any(|one| one["code"] == "inexact_number"));
        assert_eq!(named, !fits, "{written}: {}", told.body);
        if !fits {
            assert_eq!(told.fault(), ("/variables/id", "inexact_number"), "{}", told.body);
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_an_agents_tools_leave_out_is_null_in_the_answer(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let tools = json!([
        {"type": "transfer", "to": number(9)},
        {"type": "record_outcome", "fields": [{"name": "a", "type": "string"}]},
    ]);
    let made = desk.post("/v1/agents", json!({"name": "x", "prompt": "y", "tools": tools})).await.body;
    assert_eq!(made["tools"][0], json!({"type": "transfer", "to": number(9), "description": null}), "{made}");
    let field = json!({"name": "a", "type": "string", "description": null, "required": false});
    assert_eq!(made["tools"][1]["fields"], json!([field]));
    assert_eq!(desk.get(&format!("/v1/agents/{}", made["id"].as_str().unwrap())).await.body, made);
}
