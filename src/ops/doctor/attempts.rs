//! Attempts: they fit their jobs, none is in doubt for long, no call is astray.

use super::{Check, Fault};
use crate::{
    attempts::{open, strays},
    context::Context,
    dialing::cleanup::{self, Finding, span},
};

/// In doubt for so long is an alarm, ms; two looks of the reconciler take less.
const LONG_MS: i64 = 300_000;
/// A stray call is hung up within seconds, s.
const STRAY_SECS: i64 = 60;
/// Stray calls that are looked at.
const MOST: i64 = 500;
/// Calls that are named one by one.
const SHOWN: usize = 5;

/// A job that is being dialed has an open attempt, and the other way round.
pub(super) async fn fit(ctx: &Context) -> anyhow::Result<Check> {
    let misfits = open::misfits(&ctx.stores.pg).await?;
    let mut faults = Vec::new();
    if misfits.jobs > 0 || misfits.attempts > 0 {
        let evidence = format!(
            "{} jobs are being dialed without an open attempt; {} open attempts belong to jobs that are not being dialed",
            misfits.jobs, misfits.attempts
        );
        faults.push(Fault::fail(evidence, "rows were changed by hand: no program writes one without the other"));
    }
    if misfits.runs > 0 {
        let evidence = format!("{} runs are over and have jobs that are not", misfits.runs);
        faults.push(Fault::fail(
            evidence,
            "rows were changed by hand: a run ends with its last job; clone it for those that are left",
        ));
    }
    Ok(Check::of("jobs_and_attempts", format!("{} attempts open, each fits its job", misfits.open), faults))
}

/// Nothing is in doubt for longer than the reconciler needs.
pub(super) async fn in_doubt(ctx: &Context) -> anyhow::Result<Check> {
    let open = open::list(&ctx.stores.pg, None).await?;
    let unsure: Vec<_> = open.iter().filter(|open| open.owned && open.state.rank() < 2).collect();
    let long: Vec<_> = unsure.iter().filter(|open| open.age_ms >= LONG_MS).collect();
    let oldest = unsure.iter().map(|open| open.age_ms).max().unwrap_or(0);
    let mut faults = Vec::new();
    if !long.is_empty() {
        let evidence = format!(
            "{} attempts are in doubt for more than 5 min and hold their slots; the oldest for {}",
            long.len(),
            span(oldest)
        );
        faults.push(Fault::fail(evidence, "rollcall-ops reconcile asks the carrier now and says what it answers"));
    }
    let people: Vec<String> =
        open.iter().filter(|open| open.needs_person_ms.is_some()).map(|open| open.attempt.to_string()).collect();
    if !people.is_empty() {
        let evidence = format!("{} need a person, who says which call they are: {}", people.len(), people.join(", "));
        faults.push(Fault::warn(
            evidence,
            "rollcall-ops reconcile ATTEMPT --as placed --call-id CA…, or --as not-placed",
        ));
    }
    let well = format!(
        "{} of {} open attempts wait for the carrier's answer, the oldest for {}",
        unsure.len(),
        open.len(),
        span(oldest)
    );
    Ok(Check::of("attempts_in_doubt", well, faults))
}

/// Of every call of which nothing was heard for long, the carrier shows that it is well.
pub(super) async fn silent(ctx: &Context) -> anyhow::Result<Check> {
    let silent: Vec<Finding> = cleanup::silent_calls(ctx, LONG_MS).await?;
    let faults = silent.iter().map(|one| {
        Fault::warn(
            format!("{}: {}", one.id, one.evidence),
            "rollcall-ops cleanup --apply asks again; its slot is free when the carrier tells its end",
        )
    });
    let faults: Vec<Fault> = faults.take(SHOWN).collect();
    Ok(Check::of("silent_calls", "the carrier shows every call that nothing was heard of for 5 min".into(), faults))
}

/// No call goes on that no attempt answers for.
pub(super) async fn strays(ctx: &Context) -> anyhow::Result<Check> {
    let strays = strays::open(&ctx.stores.pg, MOST).await?;
    let old: Vec<_> = strays.iter().filter(|stray| stray.age_secs >= STRAY_SECS).collect();
    let mut faults = Vec::new();
    if let Some(oldest) = old.first() {
        let evidence = format!(
            "{} calls that no open attempt answers for have not been seen to end, the oldest, {}, for {}",
            old.len(),
            oldest.call_id,
            span(oldest.age_secs * 1_000)
        );
        faults.push(Fault::fail(
            evidence,
            "rollcall-ops cleanup --apply asks the carrier to end them; else end them there",
        ));
    }
    Ok(Check::of("stray_calls", format!("{} are being hung up", strays.len()), faults))
}
