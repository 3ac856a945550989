//! Plans are kept per connection, and some are made while a table is small: what they read then they read for ever.
//!
//! So every checked query of the source is planned over empty tables, as our connections plan it, and none of it may read the whole
//! of a table that grows with each call.

use std::{collections::HashMap, fs, path::Path};

use rollcall::stores::MIGRATOR;
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

/// What grows with each call or each lead.
const GROWING: [&str; 8] =
    ["attempt", "attempt_agent", "conversation", "decision", "detection", "job", "rejected_lead", "suppression"];
/// Indexes of what is open now: there is never more of that than there are lines, or runs under way.
const OF_WHAT_IS_OPEN: [&str; 4] = ["attempt_open_line", "attempt_open_job", "attempt_unowned", "job_unfinished"];
/// The queries of the source as they were checked, each with the file that has it.
fn queries() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut files = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|end| end == "rs") {
                let name = entry.strip_prefix(root).unwrap().display().to_string();
                files.push((name, words(&fs::read_to_string(&entry).unwrap())));
            }
        }
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(".sqlx")).unwrap() {
        let checked: Value = serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        let query = checked["query"].as_str().unwrap().to_owned();
        let quoted = format!("\"{}\"", words(&query));
        if let Some((name, _)) = files.iter().find(|(_, text)| text.contains(&quoted)) {
            let parameters = checked["describe"]["parameters"]["Left"].as_array().map_or(0, Vec::len);
            let given = vec!["NULL"; parameters].join(", ");
            let given = if given.is_empty() { given } else { format!("({given})") };
            found
                .push((name.clone(), format!("PREPARE asked AS {query};\0EXPLAIN (FORMAT JSON) EXECUTE asked{given}")));
        }
    }
    found
}

/// Indexes by whose times a plan could have gone, and does not: the clock is asked anew for each row, and so no condition of an index.
fn asked_row_by_row(plan: &Value, columns: &HashMap<String, String>, found: &mut Vec<String>) {
    let text = |name: &str| plan[name].as_str().unwrap_or_default();
    let index = text("Index Name");
    let parts: Vec<&str> = text("Filter").split([' ', '(', ')']).filter(|part| !part.is_empty()).collect();
    let compared = |at: usize| parts.get(at + 1).is_some_and(|with| ["<", "<=", ">", ">="].contains(with));
    for (at, column) in parts.iter().enumerate().filter(|(at, _)| compared(*at)) {
        let of_index = columns.get(index).is_some_and(|of| of.split(", ").any(|of| of == *column));
        if of_index && parts[at..].get(2) == Some(&"clock_timestamp") && !OF_WHAT_IS_OPEN.contains(&index) {
            found.push(format!("{index} by {column}"));
        }
    }
    for part in plan["Plans"].as_array().into_iter().flatten() {
        asked_row_by_row(part, columns, found);
    }
}

/// Whole tables and whole indexes that a plan reads, of those that grow.
fn read_as_a_whole(plan: &Value, found: &mut Vec<String>, first_only: bool) {
    let text = |name: &str| plan[name].as_str().unwrap_or_default();
    let kind = text("Node Type");
    let index = text("Index Name");
    let of = |table: &str| text("Relation Name") == table || index == table || index.starts_with(&format!("{table}_"));
    let whole = match kind {
        "Seq Scan" => true,
        "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" => {
            // The first of an order is one step, unless it is looked for.
            plan.get("Index Cond").is_none() && !(first_only && plan.get("Filter").is_none())
        }
        _ => false,
    };
    if whole && GROWING.iter().any(|table| of(table)) && !OF_WHAT_IS_OPEN.contains(&index) {
        found.push(format!("{kind} {index} {}", text("Relation Name")));
    }
    for part in plan["Plans"].as_array().into_iter().flatten() {
        read_as_a_whole(part, found, kind == "Limit");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
#[expect(clippy::disallowed_methods, reason = "a checked query cannot hold the text of another")]
async fn no_query_reads_the_whole_of_what_grows_with_each_call(_: PgPoolOptions, pg: PgConnectOptions) {
    let pool = PgPool::connect_with(pg).await.unwrap();
    let mut db = pool.acquire().await.unwrap();
    for setting in ["enable_seqscan = off", "plan_cache_mode = force_generic_plan", "jit = off"] {
        sqlx::raw_sql(AssertSqlSafe(format!("SET {setting}"))).execute(&mut *db).await.unwrap();
    }
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT indexname, regexp_replace(indexdef, '^.* USING btree \\((.*?)\\)( WHERE.*)?$', '\\1') FROM pg_indexes WHERE schemaname = 'public'",
    )
    .fetch_all(&mut *db)
    .await
    .unwrap();
    let columns: HashMap<String, String> = columns.into_iter().collect();
    assert_eq!(columns["job_next"], "next_at");
    let queries = queries();
    assert!(queries.len() > 250, "{} queries of the source were found", queries.len());
    let mut wrong = Vec::new();
    for (file, query) in &queries {
        let (prepare, explain) = query.split_once('\0').unwrap();
        sqlx::raw_sql(AssertSqlSafe(prepare.to_owned())).execute(&mut *db).await.unwrap();
        let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain.to_owned())).fetch_one(&mut *db).await.unwrap();
        sqlx::raw_sql("DEALLOCATE asked").execute(&mut *db).await.unwrap();
        let mut found = Vec::new();
        read_as_a_whole(&plan[0]["Plan"], &mut found, false);
        asked_row_by_row(&plan[0]["Plan"], &columns, &mut found);
        if !found.is_empty() {
            wrong.push(format!("{file}: {found:?} for {prepare:.300}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
