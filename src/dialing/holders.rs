//! Who holds which slot, as the gate and the ledger each say it.

use std::{collections::HashMap, time::Duration};

use crate::{
    attempts::{self, open::Open},
    businesses::store::{self, Business},
    ids::{AttemptId, BusinessId},
    slots::{Gate, Holder},
    stores::Stores,
};

/// Businesses per read.
const PAGE: i64 = 500;

/// One slot and who holds it: at the gate, in the ledger, or both.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Who.
    pub attempt: AttemptId,
    /// The open attempt; none where the ledger has it closed or not at all.
    pub open: Option<Open>,
    /// Since when it holds at the gate; none where the gate does not know it.
    pub at_gate: Option<Duration>,
    /// Which slot.
    pub slot: i32,
    /// Which line.
    pub line: i32,
}

/// A business and its slots that are held.
#[derive(Debug, Clone)]
pub struct Seats {
    /// The business.
    pub business: Business,
    /// By slot.
    pub held: Vec<Seat>,
}

/// The slots of one business, or of every business that holds some (`all`: of every business).
///
/// # Errors
/// Where a store does not answer.
pub async fn read(stores: &Stores, business: Option<BusinessId>, all: bool) -> anyhow::Result<Vec<Seats>> {
    let pg = &stores.pg;
    let gate = Gate::new(stores);
    let before = by_attempt(gate.holders().await?);
    let opened = attempts::open::list(pg, business).await?;
    let mut holders = by_attempt(gate.holders().await?);
    let mut seats: HashMap<BusinessId, Vec<Seat>> = HashMap::new();
    for open in opened {
        // Held at either moment: calls begin and end between the reads.
        let holder = holders.remove(&open.attempt).or_else(|| before.get(&open.attempt).copied());
        let (attempt, slot, line) = (open.attempt, open.slot, open.line);
        let seat = Seat { attempt, slot, line, at_gate: holder.map(|holder| holder.age), open: Some(open.clone()) };
        seats.entry(open.business).or_default().push(seat);
    }
    let ghosts = holders.into_values().filter(|holder| before.contains_key(&holder.attempt));
    for holder in ghosts.filter(|holder| business.is_none_or(|one| one == holder.business)) {
        let Holder { attempt, slot, line, age, business } = holder;
        seats.entry(business).or_default().push(Seat { attempt, slot, line, at_gate: Some(age), open: None });
    }
    let businesses = match business {
        Some(one) => store::get(pg, one).await?.into_iter().collect(),
        None => every(stores).await?,
    };
    let with_seats = businesses.into_iter().map(|business| {
        let mut held = seats.remove(&business.id).unwrap_or_default();
        held.sort_by_key(|seat| seat.slot);
        Seats { business, held }
    });
    Ok(with_seats.filter(|one| all || business.is_some() || !one.held.is_empty()).collect())
}

fn by_attempt(holders: Vec<Holder>) -> HashMap<AttemptId, Holder> {
    holders.into_iter().map(|holder| (holder.attempt, holder)).collect()
}

async fn every(stores: &Stores) -> sqlx::Result<Vec<Business>> {
    let mut businesses: Vec<Business> = Vec::new();
    loop {
        let page = store::list(&stores.pg, businesses.last().map(|last| last.id), PAGE).await?;
        let full = i64::try_from(page.len()).unwrap_or(0) == PAGE;
        businesses.extend(page);
        if !full {
            return Ok(businesses);
        }
    }
}
