//! The document names every operation once, so that clients can be made of it.

use std::collections::BTreeMap;

use reqwest::Method;
use rollcall::stores::MIGRATOR;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    api_harness::App,
    by_hand::client,
    house::{House, Options},
    processes::Process,
};

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_operation_has_a_name_and_no_two_have_the_same(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let document = app.ask(Method::GET, "/openapi.json", "", Value::Null).await.body;
    let mut names = BTreeMap::<String, Vec<String>>::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no name"));
            names.entry(name.to_owned()).or_default().push(format!("{method} {path}"));
        }
    }
    names.retain(|_, operations| operations.len() > 1);
    assert!(names.is_empty(), "{names:#?}");
    for path in [
        "/v1/runs",
        "/v1/runs/{id}/leads",
        "/v1/runs/{id}/results.csv",
        "/v1/jobs/{id}/cancel",
        "/v1/calls/{id}/hangup",
    ] {
        assert!(document["paths"].get(path).is_some(), "{path}");
    }
    let shape = &document["components"]["schemas"]["NewRun"];
    assert_eq!(shape["required"], serde_json::json!(["name"]));
    // In a change, what is absent stays, and null is refused where a setting must be.
    let change = &document["components"]["schemas"]["AgentChange"];
    assert_eq!(change["required"], Value::Null);
    assert_eq!(change["properties"]["name"]["type"], "string");
    assert_eq!(change["properties"]["greeting"]["type"], serde_json::json!(["string", "null"]));
}

/// What stands at a path of the document, asked with no key and a token that is nobody's.
async fn knocks(at: &Process, door: &str, method: &str, path: &str) -> u16 {
    let url = format!("http://{}{}", at.addr(door).await, path.replace("{token}", &"A".repeat(43)));
    let ask = client().request(method.to_uppercase().parse().unwrap(), url);
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    let ask = upgrade.into_iter().filter(|_| door == "calls").fold(ask, |ask, (name, value)| ask.header(name, value));
    ask.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_streams_and_operations_are_in_the_document_and_open_where_it_says() {
    let house = House::open(Options::default()).await;
    let (api, calls) = (house.api(None).await, house.calls().await);
    let url = format!("http://{}/openapi.json", api.addr("api").await);
    let document: Value = client().get(url).send().await.unwrap().json().await.unwrap();
    let mut seen = BTreeMap::<&str, usize>::new();
    for (path, item) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| !path.starts_with("/v1")) {
        for (method, operation) in item.as_object().unwrap() {
            let tag = operation["tags"][0].as_str().unwrap();
            let (at, status) = match tag {
                "twilio" | "telnyx" => (vec![(&api, "api")], 403),
                "media" => (vec![(&calls, "calls")], 403),
                "health" => (vec![(&api, "api"), (&api, "admin"), (&calls, "calls"), (&calls, "admin")], 200),
                "operations" => (vec![(&api, "admin"), (&calls, "admin")], 200),
                tag => panic!("{tag} of {path}"),
            };
            for (process, door) in at {
                assert_eq!(knocks(process, door, method, path).await, status, "{method} {path} at {door}");
            }
            assert!(operation["responses"].get(status.to_string()).is_some(), "{method} {path} has no {status}");
            *seen.entry(tag).or_default() += 1;
        }
    }
    let all = [("health", 2), ("media", 3), ("operations", 6), ("telnyx", 2), ("twilio", 7)];
    assert_eq!(seen, BTreeMap::from(all));
    house.close_with([api, calls]).await;
}

/// Every schema of the document with its path, those within others too.
fn schemas<'a>(at: String, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(members) => {
            found.push((at.clone(), value));
            members.iter().for_each(|(name, member)| schemas(format!("{at}/{name}"), member, found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| schemas(format!("{at}/{i}"), item, found));
        }
        _ => {}
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_document_is_whole_and_its_shapes_can_be_met(_: PgPoolOptions, pg: PgConnectOptions) {
    let app = App::start(pg).await;
    let document = app.ask(Method::GET, "/openapi.json", "", Value::Null).await.body;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let said = answer["$ref"].as_str().or(answer["description"].as_str());
                assert!(said.is_some_and(|text| !text.is_empty()), "{method} {path} {status} has no description");
            }
        }
    }
    let mut all = Vec::new();
    schemas(String::new(), &document["components"]["schemas"], &mut all);
    for (at, schema) in all.iter().filter(|(_, schema)| schema["allOf"].is_array()) {
        for part in schema["allOf"].as_array().unwrap() {
            let named = part["$ref"].as_str().map(|name| document.pointer(name.trim_start_matches('#')).unwrap());
            let closed = &named.unwrap_or(part)["additionalProperties"];
            assert_ne!(closed, false, "{at}: a part that allows nothing beside it");
        }
    }
    let shapes = &document["components"]["schemas"];
    assert!(shapes["Definition"]["additionalProperties"] == false, "what is sent is still closed");
    let held = &shapes["NumberView"]["allOf"][1]["properties"]["suppressions"]["items"]["$ref"];
    assert_eq!(held, "#/components/schemas/NumberSuppression");
    assert_eq!(shapes["Held"]["required"], json!(["held", "limit"]));
    let taken = &document["paths"]["/v1/suppressions"]["post"]["responses"]["200"]["content"]["application/json"];
    let taken = taken["schema"]["$ref"].as_str().unwrap().trim_start_matches('#');
    let one_of: Vec<_> = document.pointer(taken).unwrap()["oneOf"].as_array().unwrap().iter().collect();
    let names = ["Suppression", "ListTaken"].map(|name| json!({"$ref": format!("#/components/schemas/{name}")}));
    assert_eq!(one_of, names.iter().collect::<Vec<_>>());
}
