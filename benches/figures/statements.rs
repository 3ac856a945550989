//! How many statements a call costs Postgres, and which of them take its time.

use std::time::Duration;

use anyhow::Context as _;
use rollcall::ops::installation::Installation;
use sqlx::{Connection, PgConnection, Row};

use crate::{
    bench::{Bench, Tempo},
    client::Client,
    report::{Report, Target},
};

const CALLS: Tempo = Tempo { dial: "5", ring: "5", talk: "40", accept: "0" };

/// The shapes that are counted: many businesses with few slots, and one with many.
const SHAPES: [(&str, usize, usize, u32); 2] = [("A", 2_000, 20, 3), ("D", 5_000, 1, 200)];

/// `P`: top-level statements per call, counted by `pg_stat_statements`: those of api and worker, the sweep's and the
/// heartbeats' among them.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    for (shape, jobs, businesses, slots) in SHAPES {
        let jobs = jobs / bench.smaller;
        let mut plan = bench.plan(&CALLS, &[]);
        plan.postgres = vec![
            "shared_preload_libraries=pg_stat_statements",
            "pg_stat_statements.track=all",
            "pg_stat_statements.track_utility=on",
            "pg_stat_statements.max=10000",
        ];
        let mut all = Installation::start(plan).await?;
        let mut postgres = PgConnection::connect(&all.database_url()).await?;
        run(&mut postgres, "CREATE EXTENSION pg_stat_statements")
            .await
            .context("P counts with pg_stat_statements, which is in the contrib package of Postgres")?;
        let client = Client::of(&all);
        let mut runs = Vec::new();
        for n in 0..businesses {
            runs.push(client.draft(client.business(n, slots).await?, jobs / businesses).await?);
        }
        client.reset_figures().await?;
        run(&mut postgres, "SELECT pg_stat_statements_reset()").await?;
        for run in &runs {
            client.start(*run).await?;
        }
        client.wait(&format!("ended={jobs}"), Duration::from_secs(300)).await?;
        let counted = counted(&mut postgres).await?;
        let figures = client.figures().await?;
        let calls = figures.total.created as f64;
        // Its own work is slower with every statement counted, but not more; a busy carrier takes nothing from a count.
        report.once(format!("P statements per call ({shape})"), Target::most(Some(5.0)), counted.top / calls);
        report.once(format!("P statements within functions, per call ({shape})"), Target::None, counted.within / calls);
        for line in dearest(&mut postgres, calls).await? {
            report.note(format!("P {shape} {line}"));
        }
        postgres.close().await?;
        all.check()?;
        all.end().await?;
    }
    Ok(())
}

struct Counted {
    top: f64,
    within: f64,
}

/// What was executed since the reset, but for what this case asked itself.
async fn counted(postgres: &mut PgConnection) -> anyhow::Result<Counted> {
    let query = "SELECT coalesce(sum(calls) FILTER (WHERE toplevel), 0)::float8,
                        coalesce(sum(calls) FILTER (WHERE NOT toplevel), 0)::float8
                 FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'";
    // The view is there for this case only, so the query cannot be checked when the bench is compiled.
    let row = sqlx::raw_sql(query).fetch_one(postgres).await?;
    Ok(Counted { top: row.try_get(0)?, within: row.try_get(1)? })
}

/// The twelve statements that took most time, each as a line.
async fn dearest(postgres: &mut PgConnection, calls: f64) -> anyhow::Result<Vec<String>> {
    let query = "SELECT CASE WHEN toplevel THEN '' ELSE '  within: ' END || left(regexp_replace(query, '\\s+', ' ', 'g'), 90),
                        calls::float8, total_exec_time, (shared_blks_hit + shared_blks_read)::float8
                 FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%' ORDER BY total_exec_time DESC LIMIT 12";
    let rows = sqlx::raw_sql(query).fetch_all(postgres).await?;
    rows.iter()
        .map(|row| {
            let (text, times, ms): (String, f64, f64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let blocks: f64 = row.try_get(3)?;
            Ok(format!(
                "{:.2} a call, {:.0} µs each, {:.0} blocks each: {text}",
                times / calls,
                ms * 1000.0 / times,
                blocks / times
            ))
        })
        .collect()
}

async fn run(postgres: &mut PgConnection, statement: &'static str) -> sqlx::Result<()> {
    sqlx::raw_sql(statement).execute(postgres).await?;
    Ok(())
}
