//! When a run may do what: one table, read by the store's guarded updates and by the answers.

use serde::{Deserialize, Serialize};

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum RunState {
    /// Being put together; nothing is dialed.
    Draft,
    /// Waits for its start time.
    Scheduled,
    /// Its jobs are dialed.
    Running,
    /// Nothing new is dialed; calls that are live go on.
    Paused,
    /// Cancelled, with calls still in flight.
    Cancelling,
    /// Over: cancelled.
    Cancelled,
    /// Over: every job has its outcome.
    Completed,
}

impl RunState {
    /// The word in rows and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
        }
    }

    /// True where nothing about the run changes any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Completed)
    }

    /// What may be asked of a run in this state.
    #[must_use]
    pub fn allowed(self) -> Vec<Action> {
        Action::ALL.into_iter().filter(|action| self.allows(*action)).collect()
    }

    /// True where `action` may be asked of a run in this state.
    #[must_use]
    pub fn allows(self, action: Action) -> bool {
        action.table().0.contains(&self)
    }

    /// Where `action` leads from here: `None` where it is not allowed, the same state where it moves nothing.
    #[must_use]
    pub fn after(self, action: Action) -> Option<Self> {
        let (from, to) = action.table();
        from.contains(&self).then(|| to.unwrap_or(self))
    }
}

/// What people ask of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Begin to dial.
    Start,
    /// Dial nothing new.
    Pause,
    /// Dial again.
    Resume,
    /// End it, and the calls in flight with it.
    Cancel,
    /// Add leads.
    Leads,
    /// Remove it, as if it had never been.
    Delete,
}

impl Action {
    /// Every action, in the order in which answers list them.
    pub const ALL: [Self; 6] = [Self::Start, Self::Pause, Self::Resume, Self::Cancel, Self::Leads, Self::Delete];

    /// From which states it is allowed, and where it leads; `None` where the state stays.
    fn table(self) -> (&'static [RunState], Option<RunState>) {
        use RunState::{Cancelling, Draft, Paused, Running, Scheduled};
        match self {
            // A draft whose start time has not come waits as scheduled; a second start does not wait for it.
            Self::Start => (&[Draft, Scheduled], Some(Running)),
            Self::Pause => (&[Running], Some(Paused)),
            Self::Resume => (&[Paused], Some(Running)),
            // On to `cancelled`, in the same transaction, where no attempt is open.
            Self::Cancel => (&[Scheduled, Running, Paused], Some(Cancelling)),
            Self::Leads => (&[Draft, Scheduled, Running, Paused], None),
            Self::Delete => (&[Draft], None),
        }
    }

    /// The word in routes and in `allowed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Leads => "leads",
            Self::Delete => "delete",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    const STATES: [RunState; 7] = [
        RunState::Draft,
        RunState::Scheduled,
        RunState::Running,
        RunState::Paused,
        RunState::Cancelling,
        RunState::Cancelled,
        RunState::Completed,
    ];

    #[test]
    fn words_in_rows_and_json_are_the_same() {
        for state in STATES {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for action in Action::ALL {
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
        }
    }

    #[test]
    fn nothing_may_be_asked_of_a_run_that_is_over_or_ending() {
        for state in STATES.into_iter().filter(|s| s.is_final() || *s == RunState::Cancelling) {
            assert_eq!(state.allowed(), []);
        }
    }

    #[test]
    fn an_action_that_moved_a_run_is_not_allowed_again_at_once() {
        for state in STATES {
            for action in Action::ALL {
                if let Some(after) = state.after(action).filter(|after| *after != state) {
                    assert_eq!(after.after(action), None, "{action:?} twice from {state:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn in_any_order_of_actions_a_run_is_dialed_only_between_a_start_or_resume_and_a_pause_or_cancel(
            actions in vec(select(Action::ALL.to_vec()), 0..40),
        ) {
            let (mut state, mut started, mut cancelled) = (RunState::Draft, false, false);
            for action in actions {
                let Some(after) = state.after(action) else {
                    prop_assert!(!state.allowed().contains(&action));
                    continue;
                };
                prop_assert!(!cancelled, "something was allowed after a cancel");
                started |= action == Action::Start;
                cancelled |= action == Action::Cancel;
                state = after;
                let dials = state == RunState::Running;
                prop_assert!(!dials || started);
                prop_assert_eq!(dials && matches!(action, Action::Pause | Action::Cancel), false);
                prop_assert_eq!(state == RunState::Draft, !started);
            }
        }
    }
}
