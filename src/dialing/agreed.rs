//! A time at which a callee wants to be called again: when the rules let that be, which is what the callee is promised.
//!
//! Invariant: what is promised is the first time at or after the agreed one that windows, calendars, the run's end and the limits of
//! the number allow as they are now; where there is none, nothing is promised. The claim asks all of them again when the time has come.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    attempts::speech,
    calls::CallState,
    context::Context,
    dialing::windows,
    policy::Span,
    runs::redial::{self, Redial},
};

/// Times that one rule after another puts off: by then they have all been asked often enough.
const MOST_STEPS: usize = 8;
/// Nobody remembers it by then.
const LONGEST: TimeDelta = TimeDelta::days(60);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreed {
    /// They will be called then.
    At(DateTime<Utc>),
    /// They will not, for this reason.
    Not(String),
}

impl Agreed {
    fn not(why: &str) -> Self {
        Self::Not(why.to_owned())
    }
}

/// Has the job of this call dialed again at the agreed time, or as soon after it as may be.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn agree(ctx: &Context, state: &CallState, at: DateTime<Utc>) -> anyhow::Result<Agreed> {
    let pg = &ctx.stores.pg;
    if state.carrier.is_none() || state.job.is_none() {
        return Ok(Agreed::not(
            "this call is of no run that would call again: nobody calls by itself, so do not promise it",
        ));
    }
    let Some(rules) = redial::of_attempt(pg, state.business, state.attempt).await? else {
        return Ok(Agreed::not("the call is over"));
    };
    if at <= rules.now || at >= rules.now + LONGEST {
        let now = rules.now.format("%Y-%m-%dT%H:%MZ");
        return Ok(Agreed::Not(format!("the time must be to come, within the next 60 days; it is {now}")));
    }
    if rules.suppressed {
        return Ok(Agreed::not("this number is never called again, as it is on the list of those that are not"));
    }
    if !rules.goes_on {
        return Ok(Agreed::not("the run calls nobody again: it is over, or has called this number too often"));
    }
    let agreed = first_allowed(ctx, state, &rules, at).await?;
    if let Agreed::At(at) = agreed
        && !speech::call_back(pg, state.attempt, at).await?
    {
        return Ok(Agreed::not("the first time that is allowed is more than 60 days away"));
    }
    Ok(agreed)
}

/// The first time at or after `at` at which the job may be dialed.
async fn first_allowed(ctx: &Context, state: &CallState, rules: &Redial, at: DateTime<Utc>) -> anyhow::Result<Agreed> {
    let mut at = rules.not_before.map_or(at, |first| at.max(first));
    // By then it has stopped to ring.
    let rings =
        TimeDelta::seconds(rules.ring_timeout_secs.into()) + TimeDelta::from_std(windows::until_rung(&ctx.settings))?;
    for _ in 0..MOST_STEPS {
        match windows::of_redial(rules, at, windows::until_rung(&ctx.settings)) {
            Span::Always => {}
            Span::Within(opens, _) => at = at.max(opens),
            Span::Never => return Ok(Agreed::not("no time to call suits the rules for this number, then or later")),
        }
        if rules.end_at.is_some_and(|end| end <= at) {
            return Ok(Agreed::not("the run ends before the first time from then on at which it may call"));
        }
        if rules.not_after.is_some_and(|last| last <= at + rings) {
            return Ok(Agreed::not("this number may not be called as late as that"));
        }
        match redial::capped(&ctx.stores.pg, state.attempt, at).await? {
            None => return Ok(Agreed::At(at)),
            Some(capped) => match capped.until {
                Some(until) if until > at => at = until,
                _ => {
                    return Ok(Agreed::Not(
                        capped.detail.unwrap_or_else(|| "the number was dialed too often".to_owned()),
                    ));
                }
            },
        }
    }
    Ok(Agreed::not("no time to call suits all rules for this number"))
}
