//! What is stuck, with evidence, and what puts it right: for a person on call, also while no worker runs.
//!
//! Invariant: nothing is done that the worker's own rounds would not do, on evidence that is read anew when it is done. So
//! any number of people and hosts may clean up at once and as often as they like, also in the middle of a healthy run: no
//! slot is freed by a time that has passed, nothing is queued again because the carrier does not show it, no run's rows fail.
//! Not here: what a start of the api tidies up (`dialing::startup`), and a person's own word (`dialing::by_person`).

mod attempts;
mod gate;
mod runs;

use serde::Serialize;

use crate::{attempts::open::Open, context::Context, ids::BusinessId};

/// What is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The gate itself.
    Gate,
    /// A slot and a line: a holder at the gate that no open attempt has, or an open attempt without one.
    Slot,
    /// An open attempt.
    Attempt,
    /// A call at a carrier that no open attempt answers for.
    StrayCall,
    /// A run.
    Run,
}

/// What puts it right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Fill the gate from the ledger and open it.
    RebuildGate,
    /// Release the holder.
    Release,
    /// Give the attempt its holder again.
    Hold,
    /// Remove the entries of a key of the gate that no holder has.
    Forget,
    /// Close a single call that nobody took: nothing of it was sent.
    CloseUntaken,
    /// Write down the end that the carrier tells, which frees the slot.
    ApplyEnd,
    /// Write down the call that the carrier tells of; its slot stays held.
    ApplyCall,
    /// Count a look that found nothing; the slot stays held.
    CountLook,
    /// Close an attempt that two looks prove never to have been placed: its number is called again.
    CloseNotPlaced,
    /// Ask the carrier to end the call; only its end frees the slot.
    HangUp,
    /// Ask the carrier to cancel the call in its queue; it is queued again here when the carrier says so.
    CancelInQueue,
    /// End the jobs that are left of a cancelled run.
    CancelJobs,
    /// End the run.
    EndRun,
    /// Ring for the business.
    Ring,
    /// Nothing: the slot stays held until the carrier has said what happened.
    Wait,
    /// Nothing: only a person can tell.
    AskPerson,
}

impl Action {
    /// A sentence for people.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::RebuildGate => "fill the gate from the ledger and open it",
            Self::Release => "release the holder at the gate",
            Self::Hold => "give the attempt its holder at the gate again",
            Self::Forget => "remove them: nobody holds what they stand for",
            Self::CloseUntaken => "close the call as not sent, which frees its slot",
            Self::ApplyEnd => "write down the end that the carrier tells, which frees its slot",
            Self::ApplyCall => "write down what the carrier tells; its slot stays held",
            Self::CountLook => "count this look; its slot stays held until a second one proves that there is no call",
            Self::CloseNotPlaced => "close it as not placed, which frees its slot; its number is called again",
            Self::HangUp => "ask the carrier to end the call; only its end frees the slot",
            Self::CancelInQueue => {
                "ask the carrier to cancel it in its queue; it is queued again here when the carrier has"
            }
            Self::CancelJobs => "end the jobs that are left",
            Self::EndRun => "end the run",
            Self::Ring => "ring for its business, so that a worker looks",
            Self::Wait => "nothing; its slot stays held until the carrier has said what happened",
            Self::AskPerson => "nothing; a person says which call it is: rollcall-ops reconcile ATTEMPT --as …",
        }
    }
}

/// One thing that is stuck.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Its id: of an attempt, a run, or a call at the carrier; `gate` for the gate, or the name of one of its keys.
    pub id: String,
    /// Whose it is.
    pub business_id: Option<BusinessId>,
    /// What shows that it is stuck.
    pub evidence: String,
    /// What puts it right.
    pub action: Action,
    /// What became of it; null in a dry run.
    pub outcome: Option<Outcome>,
    /// The attempt as it was found.
    #[serde(skip)]
    open: Option<Open>,
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// True where it is stuck no longer.
    pub done: bool,
    /// How it stands now.
    pub detail: String,
}

impl Finding {
    fn new(kind: Kind, id: impl ToString, evidence: String, action: Action) -> Self {
        Self { kind, id: id.to_string(), business_id: None, evidence, action, outcome: None, open: None }
    }

    fn of(mut self, business: BusinessId) -> Self {
        self.business_id = Some(business);
        self
    }

    fn done(&mut self, detail: impl Into<String>) {
        self.outcome = Some(Outcome { done: true, detail: detail.into() });
    }

    fn left(&mut self, detail: impl Into<String>) {
        self.outcome = Some(Outcome { done: false, detail: detail.into() });
    }
}

/// Where gate and ledger differ for longer than a sweep needs to put it right. Changes nothing.
///
/// # Errors
/// Where a store does not answer.
pub async fn gate_findings(ctx: &Context) -> anyhow::Result<Vec<Finding>> {
    gate::find(ctx).await
}

/// Open attempts whose calls nothing was heard of for `silent_ms`, and that the carrier does not show or tells the end of. Changes nothing.
///
/// # Errors
/// Where Postgres does not answer. A carrier that does not is part of the evidence.
pub async fn silent_calls(ctx: &Context, silent_ms: i64) -> sqlx::Result<Vec<Finding>> {
    attempts::silent(ctx, silent_ms).await
}

/// Who is told how many attempts are done, and of how many.
pub type Told<'a> = &'a dyn Fn(usize, usize);

/// Looks for everything that is stuck, and asks the carrier about every attempt that could be. Changes nothing.
///
/// # Errors
/// Where a store does not answer. A carrier that does not is part of the evidence.
pub async fn find(ctx: &Context, told: Told<'_>) -> anyhow::Result<Vec<Finding>> {
    let (gate, attempts, runs) = tokio::try_join!(gate::find(ctx), attempts::find(ctx, told), runs::find(ctx))?;
    let mut found: Vec<Finding> = gate.into_iter().chain(attempts).chain(runs).collect();
    found.sort_by_key(|finding| finding.kind);
    Ok(found)
}

/// Puts right what was found, by the worker's own steps, and says of each how it stands then.
///
/// # Errors
/// Where a store does not answer; what was done until then stays done, and the rest is found again.
pub async fn apply(ctx: &Context, found: &mut [Finding], told: Told<'_>) -> anyhow::Result<()> {
    // Attempts first: an attempt that is closed here lets go of its holder, and its run may end.
    attempts::apply(ctx, found, told).await?;
    gate::apply(ctx, found).await?;
    runs::apply(ctx, found).await
}

/// A time for people, from milliseconds: `850 ms`, `12 s`, `7 min`, `31 h`.
#[must_use]
pub fn span(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{} ms", ms.max(0)),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_in_the_unit_that_a_person_reads() {
        let written = [-5, 850, 12_400, 119_999, 420_000, 7_200_000].map(span);
        assert_eq!(written, ["0 ms", "850 ms", "12 s", "119 s", "7 min", "2 h"]);
    }
}
