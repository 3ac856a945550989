//! What the figures were measured on.

use sqlx::{Connection, PgConnection};

use crate::{
    bench::{Bench, Tempo},
    proc,
    report::Report,
};

/// Notes the machine, the stores and their settings below the table.
pub(crate) async fn describe(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let all = bench.install(&Tempo { dial: "0", ring: "0", talk: "0", accept: "0" }, &[]).await?;
    let mut postgres = PgConnection::connect(&all.database_url()).await?;
    let facts = sqlx::query!(
        r#"SELECT current_setting('server_version') AS "version!", current_setting('fsync') AS "fsync!",
                  current_setting('synchronous_commit') AS "synchronous_commit!", current_setting('full_page_writes') AS "pages!",
                  current_setting('shared_buffers') AS "buffers!", current_setting('max_connections') AS "connections!""#
    )
    .fetch_one(&mut postgres)
    .await?;
    report.note(proc::host());
    report.note(format!(
        "Postgres {}: fsync {}, synchronous_commit {}, full_page_writes {}, shared_buffers {}, max_connections {}; else its defaults",
        facts.version, facts.fsync, facts.synchronous_commit, facts.pages, facts.buffers, facts.connections
    ));
    report.note(
        "Redis with AOF, appendfsync everysec; one api, one worker, the sandbox carrier, all on loopback".to_owned(),
    );
    report.note(
        "events: initiated, completed, and the answer URL; MAX_CONCURRENT_CALLS 1000, 10,000 calls/s per account"
            .to_owned(),
    );
    for (name, value) in &bench.set {
        report.note(format!("{name}={value}"));
    }
    postgres.close().await?;
    all.end().await
}
