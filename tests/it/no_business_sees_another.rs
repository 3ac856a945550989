//! I10: whatever route a key is used at, whatever it names there, it neither shows nor moves anything of another business.
#![expect(
    clippy::disallowed_methods,
    reason = "the tables are read from the catalogue, so that a new one cannot be forgotten"
)]

use axum::{body::Body, http::Request};
use reqwest::Method;
use rollcall::{
    api::{self, auth::Caller},
    businesses::keys::{Key, Role},
    ids::{BusinessId, KeyId},
    stores::{MIGRATOR, tenant},
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tower::ServiceExt;

use crate::two_tenants::{About, Matrix, body_of, owned_tables};

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_route_shows_or_moves_what_is_anothers(_: PgPoolOptions, pg: PgConnectOptions) {
    let matrix = Matrix::new(pg).await;
    let (app, ours, theirs) = (&matrix.app, &matrix.ours, &matrix.theirs);
    let before = theirs.rows(&app.ctx.stores.pg).await;
    let named = theirs.business.to_string();
    for (route, about, operation) in &matrix.routes {
        let (method, path) = (route.split_once(' ').unwrap().0, theirs.path(route, operation));
        for key in [&ours.manager, &ours.viewer] {
            // The header is the operator's: with a key it says nothing.
            let headers = [("Rollcall-Business", named.as_str())];
            let method: Method = method.parse().unwrap();
            let request = app.http.request(method, format!("{}{path}", app.base)).bearer_auth(key);
            let body = body_of(route, theirs);
            let request = if body.is_null() { request } else { request.json(&body) };
            let response = request.header(headers[0].0, headers[0].1).send().await.unwrap();
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            let fits = match about {
                About::Own => status < 500 && status != 404,
                About::One => status == 404 || (status == 403 && *key == ours.viewer),
                About::Operator => status == 403,
                About::Unbuilt => status == 422 || status == 403,
            };
            assert!(fits, "{route} is about {about:?} and answered {status}: {text}");
            let asked = format!("{path}{body}{named}");
            assert_eq!(theirs.given_away(&asked, &text), [""; 0], "{route} gave it away: {text}");
        }
    }
    assert_eq!(theirs.rows(&app.ctx.stores.pg).await, before, "a row of the other business was touched");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_route_shows_its_own_business_what_the_others_would_hide(_: PgPoolOptions, pg: PgConnectOptions) {
    let matrix = Matrix::new(pg).await;
    let theirs = &matrix.theirs;
    let shown = matrix.routes.iter().filter(|(route, about, _)| {
        // An event stream of a run that goes on has no end, and the sound of a recording is at the carrier.
        let asked = !route.ends_with("/events") && !route.ends_with("/recording");
        matches!(about, About::Own | About::One) && route.starts_with("GET ") && asked
    });
    let shown: Vec<_> = shown.collect();
    assert!(shown.len() >= 10);
    for (route, _, operation) in shown {
        let path = theirs.path(route, operation);
        let answer = matrix
            .app
            .http
            .get(format!("{}{path}", matrix.app.base))
            .bearer_auth(&theirs.manager)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{route}");
        let text = answer.text().await.unwrap();
        assert!(!theirs.given_away("", &text).is_empty(), "{route} shows nothing to hide: {text}");
    }
}

/// Every handler is told that the caller is of the other business, whose ids are in the path: every `WHERE business_id` lets
/// everything through, as if there were none. The request is bound to its own business, and that must be enough.
#[sqlx::test(migrator = "MIGRATOR")]
async fn with_every_where_clause_gone_the_second_guard_still_hides_the_other_business(
    _: PgPoolOptions,
    pg: PgConnectOptions,
) {
    let matrix = Matrix::new(pg).await;
    let (app, ours, theirs) = (&matrix.app, &matrix.ours, &matrix.theirs);
    let before = theirs.rows(&app.ctx.stores.pg).await;
    let key = Key {
        id: KeyId::new(),
        business: theirs.business,
        prefix: "rk_0000".into(),
        role: Role::Manager,
        name: None,
        created_at: chrono::DateTime::UNIX_EPOCH,
        revoked_at: None,
    };
    for (route, about, operation) in &matrix.routes {
        if !matches!(about, About::Own | About::One) {
            continue;
        }
        let (method, path) = (route.split_once(' ').unwrap().0, theirs.path(route, operation));
        let body = body_of(route, theirs);
        let sent = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let mut request =
            Request::builder().method(method).uri(&path).header("content-type", "application/json").body(sent).unwrap();
        request.extensions_mut().insert(Caller::Key(key.clone()));
        let router = api::router(app.ctx.clone());
        let (status, text) = tenant::request(async move {
            tenant::bind(ours.business);
            let response = router.oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            // A broken transfer is an answer too: nothing came.
            let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
            (status, String::from_utf8_lossy(&bytes).into_owned())
        })
        .await;
        assert!(*about == About::Own || status == 404, "{route} answered {status}: {text}");
        assert_eq!(theirs.given_away(&format!("{path}{body}"), &text), [""; 0], "{route} gave it away: {text}");
    }
    assert_eq!(theirs.rows(&app.ctx.stores.pg).await, before, "a row of the other business was touched");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_bound_connection_sees_and_writes_one_business_only(_: PgPoolOptions, pg: PgConnectOptions) {
    let matrix = Matrix::new(pg).await;
    let stores = &matrix.app.ctx.stores;
    let tables = owned_tables(&stores.pg).await;
    assert!(tables.len() >= 10, "{tables:?}");
    for table in &tables {
        let guarded = sqlx::query_scalar::<_, bool>("SELECT relrowsecurity FROM pg_class WHERE oid = $1::regclass");
        assert!(guarded.bind(table).fetch_one(&stores.pg).await.unwrap(), "{table} has no row level security");
        let readable =
            sqlx::query_scalar::<_, bool>("SELECT has_any_column_privilege('rollcall_tenant', $1, 'SELECT')");
        if !readable.bind(table).fetch_one(&stores.pg).await.unwrap() {
            continue;
        }
        // One column that everybody may read is enough to count.
        let column = if matches!(table.as_str(), "rejected_lead" | "tally_shard" | "run_zone") {
            "run_id"
        } else {
            "business_id"
        };
        let count = format!("SELECT count({column}) FROM {table}");
        let count = |bound: Option<BusinessId>| {
            let count = count.clone();
            tenant::request(async move {
                bound.into_iter().for_each(tenant::bind);
                sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count)).fetch_one(&stores.tenant).await.unwrap()
            })
        };
        let all: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
            .fetch_one(&stores.pg)
            .await
            .unwrap();
        let (ours, theirs) = (count(Some(matrix.ours.business)).await, count(Some(matrix.theirs.business)).await);
        assert!(ours > 0 && theirs > 0 && ours + theirs <= all, "{table}: {ours} and {theirs} of {all}");
        assert_eq!(count(None).await, 0, "{table}: a connection of nobody sees nothing");
    }
    let theirs = matrix.theirs.business;
    for refused in [
        "SELECT key_hash FROM api_key",
        "SELECT secret FROM carrier_account",
        "SELECT body FROM idempotency",
        "UPDATE business SET max_concurrent_calls = 9",
        "DELETE FROM attempt",
        &format!(
            "INSERT INTO job (job_id, run_id, business_id, to_number) SELECT gen_random_uuid(), run_id, '{theirs}', '+12025550111' FROM run"
        ),
        &format!("UPDATE run SET business_id = '{theirs}'"),
    ] {
        let done = tenant::request(async {
            tenant::bind(matrix.ours.business);
            sqlx::query(sqlx::AssertSqlSafe(refused.to_owned())).execute(&stores.tenant).await
        });
        let error = done.await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{refused}: {error}");
    }
    let runs = "SELECT array_agg(DISTINCT run_id) FROM job WHERE business_id = $1";
    let ahead = "SELECT count(*) FROM unnest($2::uuid[]) run CROSS JOIN LATERAL look_ahead($1, run, 60, 10)";
    let business = [matrix.ours.business, theirs];
    for (asked, owner, sees) in [(0, 0, true), (1, 1, false), (0, 1, false), (1, 0, false)] {
        let runs: Vec<uuid::Uuid> =
            sqlx::query_scalar(runs).bind(business[owner].0).fetch_one(&stores.pg).await.unwrap();
        let looked = tenant::request(async {
            tenant::bind(business[0]);
            sqlx::query_scalar::<_, i64>(ahead).bind(business[asked].0).bind(runs).fetch_one(&stores.tenant).await
        });
        let looked = looked.await.unwrap();
        assert_eq!(looked > 0, sees, "the owner's eyes see no other business's list: {asked} {owner}");
    }
    let foreign = format!("UPDATE job SET line = 1 WHERE business_id = '{theirs}'");
    let moved = tenant::request(async {
        tenant::bind(matrix.ours.business);
        tenant::bind(theirs);
        sqlx::query(sqlx::AssertSqlSafe(foreign)).execute(&stores.tenant).await.unwrap().rows_affected()
    });
    assert_eq!(moved.await, 0, "the first binding stays");
}
