//! Two businesses with something of everything, whose every text carries a mark, and every route of the document.
#![expect(
    clippy::disallowed_methods,
    reason = "the tables are read from the catalogue, so that a new one cannot be forgotten"
)]

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use rollcall::{
    attempts::recordings,
    ids::{AttemptId, BusinessId},
};
use serde_json::{Value, json};
use sqlx::{PgPool, Row, postgres::PgConnectOptions};

use crate::{
    api_harness::App,
    database,
    runs_harness::{claim, event},
};

/// A business and something of everything.
pub(crate) struct Tenant {
    pub(crate) business: BusinessId,
    pub(crate) manager: String,
    pub(crate) viewer: String,
    /// What stands in every text of its own.
    pub(crate) mark: String,
    /// What to put where a path names this.
    pub(crate) ids: BTreeMap<&'static str, String>,
    /// Whole numbers of its people.
    pub(crate) numbers: Vec<String>,
}

/// Whose things a route is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// The caller's own business, which its key names.
    Own,
    /// One thing, named in the path: of another business it is 404.
    One,
    /// Something of the operator's: a business's key is refused.
    Operator,
    /// Nothing yet: it is refused by name.
    Unbuilt,
}

/// Every route, and whose things it is about. A route of the document that is not here fails the tests, and so does one that is
/// here and not in the document.
pub(crate) const ROUTES: &[(&str, About)] = &[
    ("GET /v1/agents", About::Own),
    ("POST /v1/agents", About::Own),
    ("GET /v1/caller-ids", About::Own),
    ("PATCH /v1/caller-ids", About::Own),
    ("GET /v1/calendars", About::Own),
    ("PUT /v1/calendars/{name}", About::Own),
    ("DELETE /v1/calendars/{name}", About::One),
    ("GET /v1/calling-rules", About::Own),
    ("PATCH /v1/calling-rules", About::Own),
    ("GET /v1/calls", About::Own),
    ("POST /v1/calls", About::Own),
    ("GET /v1/jobs", About::Own),
    ("GET /v1/me", About::Own),
    ("DELETE /v1/numbers/{number}", About::Own),
    ("GET /v1/numbers/{number}", About::Own),
    ("GET /v1/recordings", About::One),
    ("GET /v1/runs", About::Own),
    ("POST /v1/runs", About::Own),
    ("POST /v1/sessions", About::Own),
    ("GET /v1/suppressions", About::Own),
    ("GET /v1/suppressions.csv", About::Own),
    ("POST /v1/suppressions", About::Own),
    ("PUT /v1/suppressions/{number}", About::Own),
    ("DELETE /v1/agents/{id}", About::One),
    ("GET /v1/agents/{id}", About::One),
    ("PATCH /v1/agents/{id}", About::One),
    ("GET /v1/attempts/{id}", About::One),
    ("GET /v1/calls/{id}", About::One),
    ("POST /v1/calls/{id}/hangup", About::One),
    ("GET /v1/calls/{id}/recording", About::One),
    ("GET /v1/calls/{id}/transcript", About::One),
    ("GET /v1/jobs/{id}", About::One),
    ("POST /v1/jobs/{id}/cancel", About::One),
    ("DELETE /v1/runs/{id}", About::One),
    ("GET /v1/runs/{id}", About::One),
    ("PATCH /v1/runs/{id}", About::One),
    ("POST /v1/runs/{id}/archive", About::One),
    ("POST /v1/runs/{id}/cancel", About::One),
    ("POST /v1/runs/{id}/clone", About::One),
    ("POST /v1/runs/{id}/preview", About::One),
    ("POST /v1/runs/{id}/test", About::One),
    ("GET /v1/runs/{id}/decisions.csv", About::One),
    ("GET /v1/runs/{id}/events", About::One),
    ("GET /v1/runs/{id}/imports", About::One),
    ("GET /v1/runs/{id}/imports/{import_id}", About::One),
    ("GET /v1/runs/{id}/jobs", About::One),
    ("POST /v1/runs/{id}/leads", About::One),
    ("POST /v1/runs/{id}/pause", About::One),
    ("GET /v1/runs/{id}/rejected.csv", About::One),
    ("GET /v1/runs/{id}/results.csv", About::One),
    ("POST /v1/runs/{id}/resume", About::One),
    ("POST /v1/runs/{id}/start", About::One),
    ("GET /v1/runs/{id}/why", About::One),
    ("DELETE /v1/suppressions/{number}", About::One),
    ("GET /v1/suppressions/{number}", About::One),
    ("GET /v1/businesses", About::Operator),
    ("POST /v1/businesses", About::Operator),
    ("GET /v1/businesses/{id}", About::Operator),
    ("PATCH /v1/businesses/{id}", About::Operator),
    ("DELETE /v1/businesses/{id}/carriers/telnyx", About::Operator),
    ("GET /v1/businesses/{id}/carriers/telnyx", About::Operator),
    ("PATCH /v1/businesses/{id}/carriers/telnyx", About::Operator),
    ("PUT /v1/businesses/{id}/carriers/telnyx", About::Operator),
    ("DELETE /v1/businesses/{id}/carriers/twilio", About::Operator),
    ("GET /v1/businesses/{id}/carriers/twilio", About::Operator),
    ("PATCH /v1/businesses/{id}/carriers/twilio", About::Operator),
    ("PUT /v1/businesses/{id}/carriers/twilio", About::Operator),
    ("DELETE /v1/businesses/{id}/voice/{provider}", About::Operator),
    ("GET /v1/businesses/{id}/voice/{provider}", About::Operator),
    ("PUT /v1/businesses/{id}/voice/{provider}", About::Operator),
    ("GET /v1/businesses/{id}/keys", About::Operator),
    ("POST /v1/businesses/{id}/keys", About::Operator),
    ("DELETE /v1/businesses/{id}/keys/{key_id}", About::Operator),
    ("GET /v1/audit", About::Unbuilt),
    ("GET /v1/hooks", About::Unbuilt),
    ("POST /v1/hooks", About::Unbuilt),
    ("DELETE /v1/hooks/{id}", About::Unbuilt),
    ("GET /v1/hooks/{id}", About::Unbuilt),
    ("PATCH /v1/hooks/{id}", About::Unbuilt),
    ("GET /v1/hooks/{id}/deliveries", About::Unbuilt),
    ("POST /v1/hooks/{id}/replay", About::Unbuilt),
];

/// What is sent where a route takes a body.
pub(crate) fn body_of(route: &str, theirs: &Tenant) -> Value {
    let business = theirs.business;
    match route {
        "POST /v1/runs" => {
            json!({"name": "mine", "business_id": business, "state": "running", "message": {"text": "Hi"}})
        }
        "POST /v1/runs/{id}/leads" => json!([{"to": "+12025550177"}]),
        "POST /v1/calls" => {
            json!({"to": "+12025550178", "message": {"text": "Hi"}, "business_id": business, "state": "ended"})
        }
        "POST /v1/agents" => json!({"name": "mine", "prompt": "You talk.", "business_id": business}),
        "PATCH /v1/agents/{id}" => json!({"name": "mine"}),
        "PATCH /v1/caller-ids" => {
            json!({"number": "+12025550100", "agent_id": theirs.ids["agents"], "fallback": "mine", "label": "mine"})
        }
        "POST /v1/sessions" => json!({"agent_id": theirs.ids["agents"]}),
        "PUT /v1/calendars/{name}" => json!({"dates": ["2027-01-01"]}),
        "PATCH /v1/calling-rules" => json!({"attempt_caps": {"per_day": 50}}),
        "POST /v1/runs/{id}/clone" => json!({"name": "mine"}),
        "POST /v1/runs/{id}/test" => json!({"to": "+12025550179"}),
        "PATCH /v1/runs/{id}" => json!({"name": "mine"}),
        "PUT /v1/suppressions/{number}" => json!({"source": "mine", "business_id": business}),
        _ => Value::Null,
    }
}

impl Tenant {
    /// `nth` keeps the two apart.
    pub(crate) async fn new(app: &App, nth: usize) -> Self {
        let mark = format!("canary{nth}x{}", BusinessId::new().0.simple());
        let made = app.ask(Method::POST, "/v1/businesses", crate::api_harness::OPERATOR, json!({"name": mark})).await;
        let business: BusinessId = made.body["id"].as_str().unwrap().parse().unwrap();
        let manager = app.key(business, "manager").await.1;
        let (key_id, viewer) = app.key(business, "viewer").await;
        let account = json!({"account_sid": format!("AC{:032}", nth), "auth_token": "a-secret-token", "caller_ids": ["+12025550100"]});
        let path = format!("/v1/businesses/{business}/carriers/twilio");
        assert!(app.ask(Method::PUT, &path, crate::api_harness::OPERATOR, account).await.status.is_success());
        let number = |i: usize| format!("+1{}55501{i:02}", if nth == 0 { 212 } else { 213 });
        let leads: Vec<Value> =
            (0..4).map(|i| json!({"to": number(i), "external_id": mark, "variables": {"name": mark}})).collect();
        let run = json!({"name": mark, "external_id": mark, "message": {"text": mark}, "leads": leads});
        let made = app.ask(Method::POST, "/v1/runs", &manager, run).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let run = text(&made.body["id"]);
        let more = json!([{"to": mark}, {"to": number(5)}]);
        let import = app.ask(Method::POST, &format!("/v1/runs/{run}/leads"), &manager, more).await;
        assert_eq!(import.body["rejected"], 1, "{}", import.body);
        assert!(
            app.ask(Method::POST, &format!("/v1/runs/{run}/start"), &manager, Value::Null).await.status.is_success()
        );
        let suppression = format!("/v1/suppressions/{}", number(7));
        let put = app.ask(Method::PUT, &suppression, &manager, json!({"source": mark, "note": mark})).await;
        assert!(put.status.is_success(), "{}", put.body);
        let calendar = format!("/v1/calendars/{mark}");
        let put = app.ask(Method::PUT, &calendar, &manager, json!({"dates": ["2027-01-01"]})).await;
        assert!(put.status.is_success(), "{}", put.body);
        let pg = &app.ctx.stores.pg;
        // A slot is also a line here, and lines are of all.
        let slot = i32::try_from(nth).unwrap() + 1;
        let ended = claim(pg, business, slot).await.unwrap();
        event(pg, business, ended, "ended", Some("answered")).await;
        let open = claim(pg, business, slot).await.unwrap();
        let call = AttemptId::new();
        sqlx::query!(
            "INSERT INTO attempt (attempt_id, business_id, external_id, carrier, account, from_number, to_number, slot, line,
                                  ring_timeout_secs, call_time_limit_secs, owner, variables)
             VALUES ($1, $2, $3::text, 'twilio', $3::text, '+12025550100', $4, 3, $5, 30, 600, 'w', jsonb_build_object('name', $3::text))",
            call.0,
            business.0,
            mark,
            number(8),
            slot + 20
        )
        .execute(pg)
        .await
        .unwrap();
        sqlx::query!(
            "INSERT INTO lead_import_progress (run_id, business_id, import_id, rows, accepted, duplicates, suppressed, rejected)
             VALUES ($1, $2, gen_random_uuid(), 9, 9, 0, 0, 0)",
            run.parse::<uuid::Uuid>().unwrap(),
            business.0
        )
        .execute(pg)
        .await
        .unwrap();
        for attempt in [call, open] {
            let key = (business, attempt);
            assert!(recordings::saved(pg, key, &format!("RE{mark}"), Some(2), Some(1)).await.unwrap());
        }
        let agent = json!({"name": mark, "prompt": mark});
        let agent = text(&app.ask(Method::POST, "/v1/agents", &manager, agent).await.body["id"]);
        let answers = json!({"number": "+12025550100", "agent_id": agent, "fallback": mark, "label": mark});
        let set = app.ask(Method::PATCH, "/v1/caller-ids", &manager, answers).await;
        assert!(set.status.is_success(), "{}", set.body);
        sqlx::query!(
            "INSERT INTO conversation (attempt_id, business_id, agent_id, agent_version, end_reason, transcript, turns, usage, started_at)
             VALUES ($1, $2, $3, 1, 'hung_up', jsonb_build_array(jsonb_build_object('who', 'agent', 'text', $4::text)), '[]', '{}', now())",
            call.0,
            business.0,
            agent.parse::<uuid::Uuid>().unwrap(),
            mark
        )
        .execute(pg)
        .await
        .unwrap();
        let job = sqlx::query_scalar!(r#"SELECT job_id AS "job!" FROM attempt WHERE attempt_id = $1"#, open.0);
        let job = job.fetch_one(pg).await.unwrap();
        sqlx::query!(
            "INSERT INTO decision (business_id, run_id, job_id, verdict, rule, detail) VALUES ($1, $2, $3, 'held', 'retry_wait', $4)",
            business.0,
            run.parse::<uuid::Uuid>().unwrap(),
            job,
            mark
        )
        .execute(pg)
        .await
        .unwrap();
        let review = format!("INSERT INTO cap_review (run_id, business_id) VALUES ('{run}', '{business}')");
        database::run(&mut app.ctx.stores.pg.acquire().await.unwrap(), &review).await;
        let hours =
            json!({"window": {"hours": [{"days": ["mon"], "from": "09:00", "to": "20:00"}], "calendars": [mark]}});
        let set = app.ask(Method::PATCH, "/v1/calling-rules", &manager, hours).await;
        assert!(set.status.is_success(), "{}", set.body);
        let ids = BTreeMap::from([
            ("agents", agent),
            ("runs", run),
            ("jobs", job.to_string()),
            ("attempts", open.to_string()),
            ("calls", call.to_string()),
            ("businesses", business.to_string()),
            ("import_id", text(&import.body["import_id"])),
            ("key_id", key_id),
            ("number", number(7)),
        ]);
        Self { business, manager, viewer, mark, ids, numbers: (0..9).map(number).collect() }
    }

    /// The path of this route with this tenant's things in it, and every parameter of its query that names a thing.
    pub(crate) fn path(&self, route: &str, operation: &Value) -> String {
        let path = route.split_once(' ').unwrap().1;
        let kind = path.split('/').nth(2).unwrap();
        let id = self.ids.get(kind).cloned().unwrap_or_else(|| self.business.to_string());
        let mut full = path
            .replace("{provider}", "openai")
            .replace("{id}", &id)
            .replace("{number}", &self.ids["number"])
            .replace("{name}", &self.mark);
        for name in ["import_id", "key_id"] {
            full = full.replace(&format!("{{{name}}}"), &self.ids[name]);
        }
        assert!(!full.contains('{'), "{route}: the matrix does not know what to put into {full}");
        let mut query = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query") {
            let value = match parameter["name"].as_str().unwrap() {
                "to" => self.numbers[0].replace('+', "%2B"),
                "external_id" => self.mark.clone(),
                "import" => self.ids["import_id"].clone(),
                "run_id" => self.ids["runs"].clone(),
                // Pages and states name nothing of anybody's.
                "limit" | "cursor" | "state" | "archived" => continue,
                // An entry that stays would be ours from then on.
                "suppress" => "false".into(),
                other => panic!("{route}: the matrix does not know the parameter {other}"),
            };
            query.push(format!("{}={value}", parameter["name"].as_str().unwrap()));
        }
        if query.is_empty() { full } else { format!("{full}?{}", query.join("&")) }
    }

    /// What of this tenant an answer to `asked` gives away.
    pub(crate) fn given_away(&self, asked: &str, answer: &str) -> Vec<&str> {
        let all = [&self.mark].into_iter().chain(self.ids.values()).chain(&self.numbers);
        let encoded = |text: &str| text.replace('+', "%2B");
        all.filter(|text| {
            answer.contains(text.as_str()) && !asked.contains(text.as_str()) && !asked.contains(&encoded(text))
        })
        .map(String::as_str)
        .collect()
    }

    /// Every row of this tenant, with the transaction that wrote it.
    pub(crate) async fn rows(&self, pg: &PgPool) -> BTreeMap<String, String> {
        let mut rows = BTreeMap::new();
        for table in owned_tables(pg).await {
            let own = match table.as_str() {
                "rejected_lead" | "tally_shard" | "run_zone" => {
                    "run_id IN (SELECT run_id FROM run WHERE business_id = $1)"
                }
                _ => "business_id = $1",
            };
            let query = format!(
                "SELECT coalesce(md5(string_agg(t.xmin || t::text, '|' ORDER BY t::text)), '') || ' ' || count(*) FROM {table} t WHERE {own}"
            );
            let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(self.business.0).fetch_one(pg).await.unwrap();
            rows.insert(table, row.get(0));
        }
        rows
    }
}

/// Every table whose rows belong to a business, by itself or by its run. What people did at the door is no business's own.
pub(crate) async fn owned_tables(pg: &PgPool) -> Vec<String> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT c.relname::text AS "table!" FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND a.attname IN ('business_id', 'run_id')
               AND NOT a.attisdropped ORDER BY 1"#
    )
    .fetch_all(pg)
    .await
    .unwrap()
}

/// Both tenants, and the routes of the document with whose things they are about.
pub(crate) struct Matrix {
    pub(crate) app: App,
    pub(crate) ours: Tenant,
    pub(crate) theirs: Tenant,
    pub(crate) routes: Vec<(String, About, Value)>,
}

impl Matrix {
    pub(crate) async fn new(pg: PgConnectOptions) -> Self {
        let app = App::start(pg).await;
        let (ours, theirs) = (Tenant::new(&app, 0).await, Tenant::new(&app, 1).await);
        let document = app.ask(Method::GET, "/openapi.json", "", Value::Null).await.body;
        let known: BTreeMap<&str, About> = ROUTES.iter().copied().collect();
        let mut routes = Vec::new();
        let mut unknown = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/v1")) {
            for (method, operation) in item.as_object().unwrap() {
                let route = format!("{} {path}", method.to_uppercase());
                match known.get(route.as_str()) {
                    Some(about) => routes.push((route, *about, operation.clone())),
                    None => drop(unknown.insert(route)),
                }
            }
        }
        assert!(unknown.is_empty(), "say in ROUTES whose things these routes are about: {unknown:#?}");
        let gone: Vec<_> = known.keys().filter(|route| routes.iter().all(|(name, ..)| name != *route)).collect();
        assert!(gone.is_empty(), "these routes are not in the document any more: {gone:#?}");
        Self { app, ours, theirs, routes }
    }
}
