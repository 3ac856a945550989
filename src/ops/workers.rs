//! `rollcall-ops workers`: every process that beats, and those that have stopped doing so within ten minutes.

use clap::Args;
use serde::Serialize;

use crate::{
    clock::Time,
    config::{Role, Settings},
    dialing::cleanup::span,
    heartbeats::{self, Seen, State, shown},
    ops::{
        exit, open,
        print::{Form, List, cell, moment, table},
    },
};

/// Which processes.
#[derive(Debug, Args)]
pub(super) struct Workers {
    /// The apis and the calls programs, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

#[derive(Debug, Serialize)]
struct Process {
    name: String,
    role: Role,
    state: State,
    host: String,
    pid: u32,
    version: String,
    queues: Vec<String>,
    started_at: Option<Time>,
    beat_age_ms: u64,
    in_flight: usize,
    sweep_age_ms: Option<u64>,
    reconcile_age_ms: Option<u64>,
    memory_bytes: Option<u64>,
}

impl From<Seen> for Process {
    fn from(Seen { beat, state, age_ms }: Seen) -> Self {
        let started_at = shown::started(&beat);
        Self {
            name: beat.name,
            role: beat.role,
            state,
            host: beat.host,
            pid: beat.pid,
            version: beat.version,
            queues: beat.queues,
            started_at,
            beat_age_ms: age_ms,
            in_flight: beat.in_flight,
            // The beat tells them as they were when it beat.
            sweep_age_ms: beat.sweep_age_ms.map(|ms| ms + age_ms),
            reconcile_age_ms: beat.reconcile_age_ms.map(|ms| ms + age_ms),
            memory_bytes: beat.memory_bytes,
        }
    }
}

/// Prints them.
///
/// # Errors
/// Where Redis does not answer.
pub(super) async fn workers(order: Workers) -> anyhow::Result<u8> {
    let stores = open::stores(&order.settings)?;
    let seen = if order.all { heartbeats::processes(&stores).await? } else { heartbeats::workers(&stores).await? };
    order.form.print(&List::whole(seen.into_iter().map(Process::from).collect()), text)?;
    Ok(exit::OK)
}

fn text(list: &List<Process>) -> String {
    if list.data.is_empty() {
        return "No worker has given a sign within ten minutes.".into();
    }
    let age = |ms: Option<u64>| cell(ms.and_then(|ms| i64::try_from(ms).ok()).map(|ms| format!("{} ago", span(ms))));
    let rows = list.data.iter().map(|process| {
        let state = match process.state {
            State::Ready => "ready",
            State::Draining => "draining",
            State::Stale => "STALE",
        };
        [
            process.name.clone(),
            format!("{} {}", process.host, process.pid),
            state.to_owned(),
            process.version.clone(),
            cell(process.started_at.map(moment)),
            age(Some(process.beat_age_ms)),
            process.in_flight.to_string(),
            age(process.sweep_age_ms),
            age(process.reconcile_age_ms),
        ]
    });
    let headings =
        ["name", "host, process", "state", "version", "started", "beat", "sending", "swept", "asked the carrier"];
    table(headings, rows)
}
