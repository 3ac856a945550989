//! What a run would do: the rules of the claim, asked beforehand and without effect.
//!
//! Invariant: what is said to be dialed now is what claims would take now, and `jobs` is `to_dial` and what is skipped, or held until
//! nobody knows when.
//! Not here: why a run does not dial at this moment (`dialing::why`).

mod facts;
mod until;

use std::time::Duration;

use serde::Serialize;

use self::facts::{Figures, Limits, Shut};
use crate::{
    clock::Time,
    config::Settings,
    dialing::windows,
    error::ApiError,
    heartbeats::{self, Room},
    ids::{BusinessId, RunId},
    runs,
    stores::Stores,
};

/// What a run would do if it dialed from now on.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Preview {
    /// The run.
    pub run_id: RunId,
    /// The moment of the answer.
    pub at: Time,
    /// Jobs that are not over.
    pub jobs: i64,
    /// Of those: that would be dialed, or are being dialed: now, when their window opens, or when they are held no longer.
    pub to_dial: i64,
    /// Of those: that may be dialed now, as fast as slots allow.
    pub open_now: i64,
    /// What would be skipped, and what would be held beyond its window, by rule: until `next_at`, or where that is null until somebody
    /// changes something. Where rules have to be asked about more than 20,000 numbers, it is concluded from those.
    pub held_back: Vec<HeldBack>,
    /// When which numbers may ring.
    pub windows: Vec<ZoneTimes>,
    /// When about all would be dialed once, at the length of calls so far and the account's pace, with every slot, line and room for a
    /// conversation: an estimate, no later than the run's end; null where nothing is to be dialed, or it takes more than 400 openings of
    /// its windows, or nobody knows when.
    pub until: Option<Time>,
    /// What it may cost by the price of the business's calls so far; null where no price is known.
    pub cost: Option<Cost>,
}

/// Jobs that would not be dialed now.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct HeldBack {
    /// The rule.
    pub rule: String,
    /// `held` or `skipped`.
    pub verdict: String,
    /// How many jobs.
    pub count: i64,
    /// When the first of them may be dialed.
    pub next_at: Option<Time>,
}

/// When the numbers of some zones may ring.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ZoneTimes {
    /// Where they may be; empty: nobody knows.
    pub zones: Vec<String>,
    /// How many jobs.
    pub jobs: i64,
    /// The present or the next opening; null: it is always open, or never where `never` is true.
    pub opens_at: Option<Time>,
    /// When the last call of that time may begin to ring.
    pub closes_at: Option<Time>,
    /// No time suits them.
    pub never: bool,
}

/// An estimate.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Cost {
    /// Decimal.
    pub amount: String,
    /// ISO 4217.
    pub currency: String,
}

/// Of how many numbers the rules of numbers are asked one by one.
const ASKED: i64 = 20_000;

/// Looks ahead for a run of any state.
///
/// # Errors
/// 404; 503 where it takes longer than 25 s.
pub async fn of_run(
    stores: &Stores,
    settings: &Settings,
    business: BusinessId,
    run: RunId,
) -> Result<Preview, ApiError> {
    let mut tx = stores.tenant.begin().await?;
    if !runs::store::exists(&mut *tx, business, run).await? {
        return Err(ApiError::not_found("run"));
    }
    sqlx::query!("SELECT set_config('statement_timeout', '25s', true) AS a").fetch_one(&mut *tx).await?;
    windows::of_run(&mut tx, run, Duration::from_secs(settings.carrier_queue_limit_secs)).await?;
    let (zones, mut held_back) = facts::zones(&mut tx, business, run, windows::until_rung(settings), ASKED).await?;
    let mut limits = facts::limits(&mut tx, business, run, settings.ring_timeout_secs).await?;
    // Nothing of it stays: times of a draft are worked out again when it starts.
    tx.rollback().await?;
    // Where Redis cannot be asked nobody knows how much room there is.
    if let (true, Ok(seen)) = (limits.talks, heartbeats::processes(stores).await) {
        limits.slots = limits.slots.min(i64::try_from(Room::of(&seen).most).unwrap_or(i64::MAX));
    }
    let figures = Figures::of(&zones);
    let (able, beyond) = within(&figures, &limits);
    held_back.extend(beyond);
    held_back.sort_by(|one, other| (&one.rule, &one.verdict).cmp(&(&other.rule, &other.verdict)));
    let to_dial = able + figures.dialing;
    let today = limits.left_today.unwrap_or(able).min(able);
    let cost = limits
        .price
        .zip(limits.currency.clone())
        .map(|(price, currency)| Cost { amount: format!("{:.4}", price * to_dial as f64), currency });
    Ok(Preview {
        run_id: run,
        at: limits.at,
        jobs: figures.jobs,
        to_dial,
        open_now: figures.open.min(today),
        until: until::all_dialed(&zones, able, to_dial, &limits),
        windows: zones.into_iter().map(|zone| zone.times).collect(),
        held_back,
        cost,
    })
}

/// How many of those that may be dialed by their numbers and windows may be by the run and the numbers to call from; and the others.
fn within(figures: &Figures, limits: &Limits) -> (i64, Vec<HeldBack>) {
    let held = |rule: &str, count, next_at| HeldBack { rule: rule.into(), verdict: "held".into(), count, next_at };
    let mut able = figures.able;
    let mut beyond: Vec<HeldBack> = [("window_ended", "skipped", Shut::UntilTheEnd), ("window", "held", Shut::ForNow)]
        .into_iter()
        .map(|(rule, verdict, shut)| HeldBack { verdict: verdict.into(), ..held(rule, figures.shut(shut), None) })
        .collect();
    if limits.callers == 0 {
        beyond.push(held("no_caller_id", std::mem::take(&mut able), None));
    }
    if let Some(left) = limits.budget_left {
        beyond.push(held("budget", able - able.min(left), None));
        able = able.min(left);
    }
    if let Some(left) = limits.left_today {
        // What is held until another day anyway takes nothing of this one.
        beyond.push(held("no_caller_id", figures.free.min(able) - left, Some(limits.next_day)));
    }
    beyond.retain(|one| one.count > 0);
    (able, beyond)
}
