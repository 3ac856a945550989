//! What a call does when a machine answers it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sqlx::{PgPool, types::Json};
use utoipa::ToSchema;

use super::Message;
use crate::{error::FieldError, ids::RunId};

/// For so long a rule is believed: it may be changed until its run starts.
const FRESH: Duration = Duration::from_secs(2);
/// Rules remembered at most.
const MOST: usize = 10_000;

/// Whether machines are told from people, and what happens then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `off`, `sync` or `async`.
    pub detect: Detect,
    /// What to do when a machine answers.
    #[serde(default)]
    pub then: Then,
    /// What is left on it, a template over the callee's variables, for `leave_message`; null: what the agent leaves on an
    /// answering machine, or what the run says to people.
    #[serde(default)]
    pub message: Option<Message>,
}

/// When it is decided whether a machine answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detect {
    /// Never.
    #[default]
    Off,
    /// Before anything is said.
    Sync,
    /// While a person is spoken to.
    Async,
}

/// What happens when a machine answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The call ends.
    #[default]
    HangUp,
    /// A message is left when the greeting is over; a fax is hung up on.
    LeaveMessage,
    /// As with a person.
    Continue,
}

impl Then {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HangUp => "hang_up",
            Self::LeaveMessage => "leave_message",
            Self::Continue => "continue",
        }
    }
}

impl Machine {
    /// True where the carrier is to listen for who picks up.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.detect != Detect::Off
    }

    /// As it is kept: nothing where nobody listens.
    pub(super) fn stored(&self) -> Option<Json<&Self>> {
        self.listens().then_some(Json(self))
    }

    /// True where a message is left on machines.
    #[must_use]
    pub fn leaves(&self) -> bool {
        self.listens() && self.then == Then::LeaveMessage
    }

    /// Adds what does not fit together, at pointers below `/machine`. Whether the message is a template is another's to judge.
    pub fn check(&self, wrong: &mut Vec<FieldError>) {
        let mut add = |at: &str, detail: &str| {
            wrong.push(FieldError::new(format!("/machine/{at}"), "conflict", detail));
        };
        if !self.listens() && self.then != Then::HangUp {
            add("then", "Nobody is told from a machine: set detect to sync or async, or leave this out.");
        }
        if self.message.is_some() && !self.leaves() {
            add("message", "Nothing is left on machines: set then to leave_message, or leave this out.");
        }
        if let Some(message) = &self.message {
            message.check_at("/machine/message", wrong);
        }
    }
}

/// Rules that were read a moment ago.
type Known = HashMap<RunId, (Instant, Option<Arc<Machine>>)>;

/// The rules for machines of runs that are dialed just now, read once in a while: a call needs no statement of its own for it.
#[derive(Debug, Default)]
pub struct Machines {
    read: Mutex<Known>,
}

impl Machines {
    /// The rule of a run; `None` where nobody listens for machines.
    ///
    /// # Errors
    /// Where Postgres does not answer.
    pub async fn of(&self, pg: &PgPool, run: RunId) -> sqlx::Result<Option<Arc<Machine>>> {
        if let Some((at, rule)) = self.lock().get(&run)
            && at.elapsed() < FRESH
        {
            return Ok(rule.clone());
        }
        let row = sqlx::query_scalar!(
            r#"SELECT machine AS "machine: Json<Machine>" FROM run WHERE run_id = $1"#,
            run as RunId
        )
        .fetch_optional(pg)
        .await?;
        let rule = row.flatten().map(|rule| rule.0).filter(Machine::listens).map(Arc::new);
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        known.insert(run, (Instant::now(), rule.clone()));
        Ok(rule)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
