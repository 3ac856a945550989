//! Every job knows the zones that its callee may be in, and its own earliest and latest moment.

use rollcall::stores::MIGRATOR;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::runs_harness::Desk;

impl Desk {
    async fn job_named(&self, external_id: &str) -> Value {
        self.get(&format!("/v1/jobs?external_id={external_id}")).await.body["data"][0].clone()
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_has_all_zones_of_its_number_but_only_the_one_that_the_list_names(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let desk = Desk::open(pg).await;
    let run = desk.run(json!({})).await;
    let file = "to,external_id,time_zone,priority,not_before,not_after\n\
        +12125550137,new-york,,7,2030-05-31T09:00:00-04:00,2030-06-30T20:00:00-04:00\n\
        +351912345670,portugal,,,,\n\
        +18002345032,toll-free,,,,\n\
        +18002345033,told,America/Denver,,,\n\
        +80012345678,nowhere,,,,\n\
        +80012345679,somewhere,Europe/Paris,,,\n\
        +12125550138,mars,Mars/Base,,,\n\
        +12125550139,never,,,2030-05-31T09:00:00Z,2030-05-31T08:00:00Z\n";
    let told = desk.csv(run, file).await.body;
    assert_eq!((&told["accepted"], &told["rejected"]), (&json!(5), &json!(3)), "{told}");
    let errors: Vec<_> =
        told["errors"].as_array().unwrap().iter().map(|e| (e["line"].clone(), e["code"].clone())).collect();
    let expected =
        [(8, "unknown_time_zone"), (9, "empty_period"), (6, "no_time_zone")].map(|(l, c)| (json!(l), json!(c)));
    assert_eq!(errors, expected);
    let first = desk.job_named("new-york").await;
    assert_eq!(first["time_zones"], json!(["America/New_York"]));
    assert_eq!((&first["priority"], first["not_before"].as_str()), (&json!(7), Some("2030-05-31T13:00:00.000Z")));
    assert_eq!(first["not_after"].as_str(), Some("2030-07-01T00:00:00.000Z"));
    let portugal = desk.job_named("portugal").await;
    assert_eq!(portugal["time_zones"], json!(["Atlantic/Azores", "Europe/Lisbon"]));
    assert_eq!((&portugal["not_before"], &portugal["not_after"]), (&Value::Null, &Value::Null));
    assert_eq!(desk.job_named("toll-free").await["time_zones"].as_array().unwrap().len(), 42);
    assert_eq!(desk.job_named("told").await["time_zones"], json!(["America/Denver"]));
    assert_eq!(desk.job_named("somewhere").await["time_zones"], json!(["Europe/Paris"]));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn leads_with_every_field_are_added_to_a_run_that_is_running(_: PgPoolOptions, pg: PgConnectOptions) {
    let desk = Desk::open(pg).await;
    let run = desk.running(1).await;
    let lead = json!({"to": "+12125550137", "external_id": "late", "variables": {"name": "Ada"}, "time_zone": "America/Denver",
        "priority": 3, "not_before": "2030-05-31T09:00:00Z", "not_after": "2030-05-31T10:00:00Z"});
    let added = desk.post(&format!("/v1/runs/{run}/leads"), json!([lead])).await;
    assert_eq!((added.status.as_u16(), &added.body["accepted"]), (200, &json!(1)), "{}", added.body);
    let job = desk.job_named("late").await;
    for (field, value) in [
        ("state", json!("queued")),
        ("time_zones", json!(["America/Denver"])),
        ("priority", json!(3)),
        ("not_before", json!("2030-05-31T09:00:00.000Z")),
        ("not_after", json!("2030-05-31T10:00:00.000Z")),
    ] {
        assert_eq!(job[field], value, "{field}");
    }
    assert_eq!(desk.get(&format!("/v1/runs/{run}")).await.body["progress"]["total"], 2);
}
