//! `rollcall-ops slots`: who is on the line, as the gate and the ledger each say it.

use clap::Args;
use serde::Serialize;

use crate::{
    attempts::AttemptState,
    clock::Time,
    config::Settings,
    dialing::{
        cleanup::span,
        holders::{self, Seat, Seats},
    },
    ids::{AttemptId, BusinessId, JobId, RunId},
    ops::{
        exit, open,
        print::{Form, List, cell, masked, table},
    },
};

/// Which slots.
#[derive(Debug, Args)]
pub(super) struct Slots {
    /// Only this business's; else those of every business that holds some.
    #[arg(long)]
    business: Option<BusinessId>,
    /// Businesses that hold none, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

#[derive(Debug, Serialize)]
struct OfBusiness {
    business_id: BusinessId,
    name: String,
    held: usize,
    limit: i32,
    slots: Vec<Slot>,
}

#[derive(Debug, Serialize)]
struct Slot {
    slot: i32,
    line: i32,
    attempt_id: AttemptId,
    run_id: Option<RunId>,
    job_id: Option<JobId>,
    to: Option<String>,
    /// In the ledger; null where no open attempt holds it.
    state: Option<AttemptState>,
    since: Option<Time>,
    held_ms: Option<i64>,
    silent_ms: Option<i64>,
    /// How long the gate knows it; null where it does not.
    gate_ms: Option<i64>,
    needs_person: bool,
}

/// Prints them.
///
/// # Errors
/// Where a store does not answer.
pub(super) async fn slots(order: Slots) -> anyhow::Result<u8> {
    let stores = open::stores(&order.settings)?;
    let read = holders::read(&stores, order.business, order.all).await?;
    if let (Some(business), true) = (order.business, read.is_empty()) {
        anyhow::bail!("there is no business {business}");
    }
    order.form.print(&List::whole(read.into_iter().map(OfBusiness::from).collect()), text)?;
    Ok(exit::OK)
}

impl From<Seats> for OfBusiness {
    fn from(seats: Seats) -> Self {
        Self {
            business_id: seats.business.id,
            name: seats.business.name,
            held: seats.held.len(),
            limit: seats.business.max_concurrent_calls,
            slots: seats.held.into_iter().map(Slot::from).collect(),
        }
    }
}

impl From<Seat> for Slot {
    fn from(seat: Seat) -> Self {
        let open = seat.open.as_ref();
        Self {
            slot: seat.slot,
            line: seat.line,
            attempt_id: seat.attempt,
            run_id: open.and_then(|open| open.run),
            job_id: open.and_then(|open| open.job),
            to: open.map(|open| masked(&open.to)),
            state: open.map(|open| open.state),
            since: open.map(|open| open.intent_at),
            held_ms: open.map(|open| open.age_ms),
            silent_ms: open.map(|open| open.silent_ms),
            gate_ms: seat.at_gate.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            needs_person: open.is_some_and(|open| open.needs_person_ms.is_some()),
        }
    }
}

fn text(list: &List<OfBusiness>) -> String {
    if list.data.is_empty() {
        return "No slot is held.".into();
    }
    let of_one = |business: &OfBusiness| {
        let head =
            format!("{} ({}): {} of {} slots held", business.name, business.business_id, business.held, business.limit);
        if business.slots.is_empty() {
            head
        } else {
            format!("{head}\n{}", table(HEADINGS, business.slots.iter().map(row)))
        }
    };
    list.data.iter().map(of_one).collect::<Vec<_>>().join("\n\n")
}

const HEADINGS: [&str; 7] = ["slot / line", "attempt", "to", "in the ledger", "for", "silent for", "gate holds it for"];

fn row(slot: &Slot) -> [String; 7] {
    let state = slot.state.map_or("not open", AttemptState::as_str);
    [
        format!("{} / {}", slot.slot, slot.line),
        slot.attempt_id.to_string(),
        cell(slot.to.as_ref()),
        format!("{state}{}", if slot.needs_person { ", needs a person" } else { "" }),
        cell(slot.held_ms.map(span)),
        cell(slot.silent_ms.map(span)),
        slot.gate_ms.map_or("not held".into(), span),
    ]
}
