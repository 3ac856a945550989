//! How much of its machine this process uses, and how busy the machine is.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// For so long what was found is good enough.
const LATELY: Duration = Duration::from_secs(1);

/// A machine as a process on it sees it. In a container it is the machine below, not the container's share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Processors.
    pub cpus: usize,
    /// How much of all of them was busy between two looks; null at the first look.
    pub cpu_percent: Option<f32>,
    /// How much of the memory cannot be given to somebody else.
    pub memory_percent: f32,
    /// The memory that it has.
    pub memory_bytes: u64,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resources {
    /// This process' time on the processor since the last look, in percent of one core; none at the first look.
    pub cpu_percent: Option<f32>,
    /// Its resident memory.
    pub memory_bytes: Option<u64>,
    /// The machine.
    pub machine: Machine,
}

/// Looks at the machine; keeps what the next look is compared with.
#[derive(Debug)]
pub struct Probe {
    system: Option<System>,
    looked: bool,
    found: Option<(Instant, Resources)>,
}

impl Default for Probe {
    fn default() -> Self {
        let system =
            System::new().inspect_err(|error| tracing::debug!(%error, "this machine shows no figures of itself"));
        Self { system: system.ok(), looked: false, found: None }
    }
}

impl Probe {
    /// What the last look found, and a new one where that is a second ago: beats that are brought forward may be many.
    pub fn lately(&mut self) -> Option<Resources> {
        if let Some((_, found)) = self.found.filter(|(at, _)| at.elapsed() < LATELY) {
            return Some(found);
        }
        let found = self.look();
        self.found = found.map(|found| (Instant::now(), found));
        found
    }

    /// Looks now; none where the machine shows nothing of itself. Shares of time are those since the last look, so two looks
    /// should be 200 ms apart at least.
    pub fn look(&mut self) -> Option<Resources> {
        let system = self.system.as_mut()?;
        let own = Pid::from_u32(std::process::id());
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory();
        system.refresh_memory();
        system.refresh_cpu_usage();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), true, kind);
        let before = std::mem::replace(&mut self.looked, true);
        let (used, total) = (system.used_memory(), system.total_memory());
        let process = system.process(own);
        Some(Resources {
            cpu_percent: process.filter(|_| before).map(|process| tenths(process.cpu_usage())),
            memory_bytes: process.map(sysinfo::Process::memory),
            machine: Machine {
                cpus: system.cpus().len(),
                cpu_percent: before.then(|| tenths(system.global_cpu_usage())),
                memory_percent: if total == 0 { 0.0 } else { tenths((used as f64 / total as f64 * 100.0) as f32) },
                memory_bytes: total,
            },
        })
    }
}

/// No figure here is exact beyond a tenth of a percent.
fn tenths(percent: f32) -> f32 {
    (percent * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_look_knows_the_memory_and_the_second_the_shares_of_time() {
        let mut probe = Probe::default();
        let first = probe.look().unwrap();
        assert!(first.memory_bytes.is_some_and(|bytes| bytes > 1_000_000), "{first:?}");
        assert!((0.1..=100.0).contains(&first.machine.memory_percent), "{first:?}");
        assert!(first.machine.memory_bytes > 100_000_000 && first.machine.cpus > 0, "{first:?}");
        assert_eq!((first.cpu_percent, first.machine.cpu_percent), (None, None));
        let second = probe.look().unwrap();
        assert!(second.cpu_percent.is_some() && second.machine.cpu_percent.is_some(), "{second:?}");
    }
}
