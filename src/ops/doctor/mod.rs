//! `rollcall-ops doctor`: is the installation well, by evidence.
//!
//! Invariant: nothing is changed, no carrier is asked, and what a living worker puts right by itself within two seconds is
//! no finding.
//! Not here: putting right what is found (`ops::cleanup`), and what keeps one run from dialing (`ops::runs`).

mod accounts;
mod attempts;
mod clocks;
mod gate;
mod settings;
mod standbys;
mod stores;
mod tallies;
mod work;

use clap::Args;
use serde::Serialize;

use crate::{
    config::Settings,
    context::Context,
    ops::{
        exit, open,
        print::{Form, table, waiting},
    },
};

/// Exit codes of this command.
pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0   every check is ok
  1   the doctor itself failed
  2   the command line is wrong, or a variable of the environment cannot be read
  3   the worst verdict is warn
  4   the worst verdict is fail
  64  ROLLCALL_SEALING_KEY is missing or is no key, or the address of a store cannot be read: nothing can be checked";

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Compare tallies with counts only for runs that are not over: millions of jobs take seconds to count.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

/// How a check came out; a later one is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    evidence: String,
    #[serde(rename = "do")]
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, evidence: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, evidence: evidence.into(), advice: None }
    }

    fn warn(name: &'static str, evidence: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, evidence: evidence.into(), advice: Some(advice.into()) }
    }

    fn fail(name: &'static str, evidence: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(name, evidence, advice) }
    }

    /// Ok where there are no faults; else the worst of them, with all of their sentences.
    fn of(name: &'static str, well: String, faults: Vec<Fault>) -> Self {
        let Some(verdict) = faults.iter().map(|fault| fault.verdict).max() else { return Self::ok(name, well) };
        let all = |part: fn(&Fault) -> &String| {
            let mut texts: Vec<&str> = faults.iter().map(part).map(String::as_str).collect();
            texts.dedup();
            texts.join("\n")
        };
        Self { name, verdict, evidence: all(|fault| &fault.evidence), advice: Some(all(|fault| &fault.advice)) }
    }
}

/// One thing of several that a check looks at, and that is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    verdict: Verdict,
    evidence: String,
    advice: String,
}

impl Fault {
    fn warn(evidence: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, evidence: evidence.into(), advice: advice.into() }
    }

    fn fail(evidence: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(evidence, advice) }
    }
}

#[derive(Debug, Serialize)]
struct Answer {
    verdict: Verdict,
    checks: Vec<Check>,
}

/// Makes every check and prints it; the exit code says the worst verdict.
///
/// # Errors
/// Where the settings are not enough to begin.
pub(super) async fn doctor(order: Doctor) -> anyhow::Result<u8> {
    let ctx = open::uncertain(order.settings)?;
    let checks = examine(&ctx, order.quick).await;
    let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
    order.form.print(&Answer { verdict, checks }, text)?;
    Ok(match verdict {
        Verdict::Ok => exit::OK,
        Verdict::Warn => exit::FOUND,
        Verdict::Fail => exit::BROKEN,
    })
}

async fn examine(ctx: &Context, quick: bool) -> Vec<Check> {
    let bar = waiting("examining".into());
    let (postgres, redis) = tokio::join!(stores::postgres(ctx), stores::redis(ctx));
    let (pg, rd) = (postgres.verdict != Verdict::Fail, redis.verdict != Verdict::Fail);
    let migrations = given(pg, "migrations", stores::migrations(ctx)).await;
    // On one that is newer the version before works.
    let schema = pg && migrations.verdict != Verdict::Fail;
    let mut checks = vec![postgres, redis, migrations];
    checks.push(given(pg, "postgres_durability", stores::postgres_durability(ctx)).await);
    checks.push(given(pg, "postgres_standbys", standbys::check(ctx)).await);
    checks.push(given(rd, "redis_persistence", stores::redis_persistence(ctx)).await);
    checks.push(given(pg && rd, "clocks", clocks::check(ctx)).await);
    checks.push(given(schema && rd, "settings", settings::check(ctx)).await);
    checks.push(given(schema && rd, "gate", gate::check(ctx)).await);
    checks.push(given(schema, "jobs_and_attempts", attempts::fit(ctx)).await);
    checks.push(given(schema, "attempts_in_doubt", attempts::in_doubt(ctx)).await);
    checks.push(given(schema, "silent_calls", attempts::silent(ctx)).await);
    checks.push(given(schema, "stray_calls", attempts::strays(ctx)).await);
    checks.push(given(schema, "accounts", accounts::check(ctx)).await);
    checks.push(given(rd, "apis", work::apis(ctx)).await);
    checks.push(given(rd, "workers", work::workers(ctx)).await);
    checks.push(given(schema && rd, "calls_programs", work::calls_programs(ctx)).await);
    checks.push(given(schema && rd, "work", work::due(ctx)).await);
    bar.finish_and_clear();
    checks.push(given(schema, "tallies", tallies::check(ctx, quick)).await);
    checks
}

/// The check, or why it was not made.
async fn given(stores: bool, name: &'static str, check: impl Future<Output = anyhow::Result<Check>>) -> Check {
    if !stores {
        let evidence = "not checked: its store does not answer, or its schema is another";
        return Check::warn(name, evidence, "put that right first and ask again");
    }
    let failed = |error: anyhow::Error| {
        Check::fail(
            name,
            format!("it could not be checked: {}", error.root_cause()),
            "see the checks above; else it is a fault of ours",
        )
    };
    check.await.unwrap_or_else(failed)
}

fn text(answer: &Answer) -> String {
    let rows = answer.checks.iter().map(|check| {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        [check.name.to_owned(), verdict.to_owned(), check.evidence.clone(), check.advice.clone().unwrap_or_default()]
    });
    table(["check", "verdict", "evidence", "what to do"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_as_bad_as_its_worst_fault_and_names_all_of_them() {
        assert_eq!(Check::of("x", "all well".into(), vec![]), Check::ok("x", "all well"));
        let faults = vec![Fault::warn("a", "do this"), Fault::fail("b", "do this"), Fault::warn("c", "do that")];
        assert_eq!(Check::of("x", String::new(), faults), Check::fail("x", "a\nb\nc", "do this\ndo that"));
    }

    #[tokio::test]
    async fn a_check_whose_store_is_away_is_not_called_well() {
        let never = async { Ok(Check::ok("x", "well")) };
        assert_eq!(given(false, "x", never).await.verdict, Verdict::Warn);
        assert_eq!(given(true, "x", async { anyhow::bail!("no") }).await.verdict, Verdict::Fail);
    }
}
