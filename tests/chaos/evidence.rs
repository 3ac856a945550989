//! All that a trial is judged by: the carrier's log, the client's log, what SQL says, and what our programs printed.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rollcall::sim::{CallReport, LogEntry, Status};
use serde_json::Value;
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    client::{Answers, Client, Said, Tenant},
    site::{ALL, Site},
    watch::Seen,
};

/// What is held for longer is held for good.
const STAYS: Duration = Duration::from_secs(10);

/// An attempt of the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) id: Uuid,
    pub(crate) run: Option<Uuid>,
    pub(crate) business: Uuid,
    pub(crate) account: String,
    pub(crate) to: String,
    pub(crate) call_id: Option<String>,
    pub(crate) state: String,
    pub(crate) open: bool,
    pub(crate) disposition: Option<String>,
    pub(crate) late_events: i32,
    pub(crate) intent_ms: i64,
    pub(crate) moves: Vec<Move>,
}

impl Attempt {
    /// It counts as a dial of its number: a carrier took it, and did not give it back without ringing.
    pub(crate) fn counts(&self) -> bool {
        let rang_nobody = self.disposition.as_deref() == Some("cancelled");
        !matches!(self.state.as_str(), "refused" | "not_sent" | "not_placed") && !rang_nobody
    }
}

/// A transition of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    pub(crate) at_ms: i64,
    pub(crate) source: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Move {
    /// It closed the attempt.
    pub(crate) fn closes(&self) -> bool {
        self.from != self.to && matches!(self.to.as_str(), "ended" | "refused" | "not_sent" | "not_placed")
    }
}

/// A job of the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: Uuid,
    pub(crate) run: Uuid,
    pub(crate) to: String,
    pub(crate) state: String,
    pub(crate) finished: bool,
}

/// What was left when all should have been over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Left {
    pub(crate) open_attempts: i64,
    pub(crate) living_strays: i64,
    pub(crate) holders: i64,
    pub(crate) lines: i64,
    pub(crate) active_count: i64,
    pub(crate) tallies_off: Vec<String>,
    pub(crate) runs_by_name: Vec<(String, i64)>,
    pub(crate) dialed_while_suppressed: Vec<String>,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) log: Vec<LogEntry>,
    pub(crate) calls: Vec<CallReport>,
    pub(crate) said: Vec<Said>,
    pub(crate) answers: Answers,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) lines: usize,
    pub(crate) attempts: HashMap<Uuid, Attempt>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) left: Left,
    pub(crate) seen: Seen,
    pub(crate) leaks: Vec<String>,
    pub(crate) may_be_late: bool,
}

/// The attempt that a callback token names: version, business, attempt, MAC.
pub(crate) fn attempt_of(token: Option<&str>) -> Option<Uuid> {
    let bytes = URL_SAFE_NO_PAD.decode(token?).ok()?;
    Uuid::from_slice(bytes.get(17..33)?).ok()
}

/// When a call was over; nothing while it is not.
pub(crate) fn ended_ms(call: &CallReport) -> Option<i64> {
    call.timeline.iter().find(|(status, _)| status.is_final()).map(|(_, at)| *at)
}

/// When a call was answered.
pub(crate) fn answered_ms(call: &CallReport) -> Option<i64> {
    call.timeline.iter().find(|(status, _)| *status == Status::InProgress).map(|(_, at)| *at)
}

impl Evidence {
    /// Reads all of it. The site must be at rest.
    pub(crate) async fn read(
        site: &mut Site,
        client: &Client,
        tenants: &[Tenant],
        lines: usize,
        mut seen: Seen,
        may_be_late: bool,
    ) -> anyhow::Result<Self> {
        let pg = site.sql()?;
        seen.compare(&pg).await?;
        let left = left(site, &pg).await?;
        Ok(Self {
            log: site.carrier_log().await?,
            calls: site.carrier_calls().await?,
            said: client.log.all(),
            answers: client.log.answers(),
            tenants: tenants.to_vec(),
            lines,
            attempts: attempts(&pg).await?,
            jobs: jobs(&pg).await?,
            left,
            seen,
            leaks: leaks(site, tenants)?,
            may_be_late,
        })
    }

    /// The attempt of a call or a create.
    pub(crate) fn attempt(&self, token: Option<&str>) -> Option<&Attempt> {
        self.attempts.get(&attempt_of(token)?)
    }

    /// A call that left a frozen process after others had proven that there was none, and that heard nothing and was ended.
    pub(crate) fn is_late(&self, call: &CallReport) -> bool {
        let closed_before = self.attempt(call.token.as_deref()).is_some_and(|a| !a.open && a.call_id.is_none());
        closed_before && call.heard.is_empty() && call.status.is_final()
    }

    /// A late call where the trial makes one possible: the protocol's only exception.
    pub(crate) fn is_excused(&self, call: &CallReport) -> bool {
        self.may_be_late && self.is_late(call)
    }

    /// Calls by account and number, oldest first.
    pub(crate) fn by_number(&self) -> BTreeMap<(&str, &str), Vec<&CallReport>> {
        let mut found: BTreeMap<(&str, &str), Vec<&CallReport>> = BTreeMap::new();
        for call in &self.calls {
            found.entry((&call.account, &call.to)).or_default().push(call);
        }
        found
    }
}

async fn attempts(pg: &PgPool) -> anyhow::Result<HashMap<Uuid, Attempt>> {
    let rows = sqlx::query!(
        r#"SELECT attempt_id, run_id, business_id, account, to_number, carrier_call_id, state AS "state!: String", open,
                  disposition AS "disposition: String", late_events, (extract(epoch FROM intent_at) * 1000)::bigint AS "intent_ms!",
                  transitions(events) AS "events!"
           FROM attempt"#
    )
    .fetch_all(pg)
    .await?;
    let attempts = rows.into_iter().map(|row| {
        let moves = row.events.as_array().into_iter().flatten().map(moved).collect();
        let attempt = Attempt {
            id: row.attempt_id,
            run: row.run_id,
            business: row.business_id,
            account: row.account,
            to: row.to_number,
            call_id: row.carrier_call_id,
            state: row.state,
            open: row.open,
            disposition: row.disposition,
            late_events: row.late_events,
            intent_ms: row.intent_ms,
            moves,
        };
        (attempt.id, attempt)
    });
    Ok(attempts.collect())
}

fn moved(event: &Value) -> Move {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let at = chrono::DateTime::parse_from_rfc3339(&text("at")).map_or(0, |at| at.timestamp_millis());
    Move { at_ms: at, source: text("source"), from: text("from"), to: text("to") }
}

async fn jobs(pg: &PgPool) -> anyhow::Result<Vec<Job>> {
    let rows = sqlx::query!(
        r#"SELECT job_id, run_id, to_number AS "to!: String", state AS "state!: String", finished_at IS NOT NULL AS "finished!" FROM job"#
    )
    .fetch_all(pg)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Job { id: row.job_id, run: row.run_id, to: row.to, state: row.state, finished: row.finished })
        .collect())
}

async fn left(site: &mut Site, pg: &PgPool) -> anyhow::Result<Left> {
    let counts = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM attempt WHERE open) AS "open!",
                  (SELECT count(*) FROM stray_call WHERE ended_at IS NULL) AS "strays!""#
    )
    .fetch_one(pg)
    .await?;
    let tallies = sqlx::query!(
        r#"SELECT coalesce(t.run_id, j.run_id)::text AS "run!", coalesce(t.key, j.key) AS "key!", t.n::bigint AS tallied, j.n AS counted
           FROM (SELECT run_id, key, sum(n) AS n FROM tally WHERE key NOT IN ('changes', 'attempts', 'calls_started')
                 GROUP BY run_id, key HAVING sum(n) <> 0) t
           FULL JOIN (SELECT run_id, state AS key, count(*) AS n FROM job GROUP BY run_id, state
                      UNION ALL SELECT run_id, 'd:' || disposition, count(*) FROM job WHERE disposition IS NOT NULL
                      GROUP BY run_id, disposition) j
           ON t.run_id = j.run_id AND t.key = j.key
           WHERE t.n IS DISTINCT FROM j.n"#
    )
    .fetch_all(pg)
    .await?;
    let names = sqlx::query!(r#"SELECT name, count(*) AS "n!" FROM run GROUP BY name"#).fetch_all(pg).await?;
    let suppressed = sqlx::query!(
        r#"SELECT a.attempt_id FROM attempt a JOIN suppression s ON s.business_id = a.business_id AND s.number = a.to_number
           WHERE a.intent_at > s.created_at + interval '250 milliseconds'"#
    )
    .fetch_all(pg)
    .await?;
    let (holders, lines, active) = held(site).await?;
    let off = |run: String, key: String, tallied: Option<i64>, counted: Option<i64>| {
        format!("run {run}: {} {key} by the tally, {} by a count", tallied.unwrap_or(0), counted.unwrap_or(0))
    };
    Ok(Left {
        open_attempts: counts.open,
        living_strays: counts.strays,
        holders,
        lines,
        active_count: active.unwrap_or(0),
        tallies_off: tallies.into_iter().map(|row| off(row.run, row.key, row.tallied, row.counted)).collect(),
        runs_by_name: names.into_iter().map(|row| (row.name, row.n)).collect(),
        dialed_while_suppressed: suppressed.into_iter().map(|row| row.attempt_id.to_string()).collect(),
    })
}

/// What the gate holds: holders, lines and calls. A look holds slots for the moment in which it claims nothing, so that only
/// what stays is held.
async fn held(site: &Site) -> anyhow::Result<(i64, i64, Option<i64>)> {
    let client = redis::Client::open(site.stores.redis_url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let begun = Instant::now();
    loop {
        let mut counts = redis::pipe();
        counts.hlen("gate:holders").zcard("lines:held").get("calls:active_count");
        let (holders, lines, active): (i64, i64, Option<i64>) = counts.query_async(&mut redis).await?;
        if (holders, lines, active.unwrap_or(0)) == (0, 0, 0) || begun.elapsed() > STAYS {
            return Ok((holders, lines, active));
        }
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
}

/// Lines that our programs printed with a secret or a whole number of a list.
fn leaks(site: &mut Site, tenants: &[Tenant]) -> anyhow::Result<Vec<String>> {
    // The last twelve digits of an id can look like a number.
    let number = regex::Regex::new(r"(?:^|[^0-9a-f-])4474\d{8}(?:[^0-9a-f]|$)")?;
    let mut found = Vec::new();
    for who in ALL {
        let path = site.stores.children().log(who.name());
        let text = std::fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let secret = |line: &str| tenants.iter().any(|t| line.contains(&t.secret) || line.contains(&t.key));
        for line in text.lines().filter(|line| number.is_match(line) || secret(line)) {
            found.push(format!("{}: {}", who.name(), number.replace_all(line, " 4474… ")));
        }
    }
    Ok(found)
}
