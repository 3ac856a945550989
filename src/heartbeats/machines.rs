//! The machines that processes beat from.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::heartbeats::{Seen, resources::Machine};

/// Each machine once, as the process on it that beat last saw it.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Machines(BTreeMap<String, Machine>);

impl Machines {
    /// Of these processes.
    #[must_use]
    pub fn of(processes: &[Seen]) -> Self {
        let mut alive: Vec<&Seen> = processes.iter().filter(|process| process.alive()).collect();
        alive.sort_by_key(|process| std::cmp::Reverse(process.age_ms));
        Self(alive.iter().filter_map(|p| Some((p.beat.host.clone(), p.beat.machine?))).collect())
    }

    /// Of the machine that has the least left.
    #[must_use]
    pub fn memory_percent(&self) -> Option<f32> {
        self.0.values().map(|machine| machine.memory_percent).reduce(f32::max)
    }

    /// Of the machine that is busiest.
    #[must_use]
    pub fn cpu_percent(&self) -> Option<f32> {
        self.0.values().filter_map(|machine| machine.cpu_percent).reduce(f32::max)
    }
}
