//! Starts an installation for a case: programs of this build, stores that flush, and a carrier that behaves as the case says.

use std::path::PathBuf;

use rollcall::ops::installation::{Installation, Plan};

/// Of how many calls at once no case comes near.
const MAX_CONCURRENT_CALLS: &str = "1000";

/// What is the same in all cases.
pub(crate) struct Bench {
    /// The folder of the programs.
    pub(crate) programs: PathBuf,
    /// Settings that differ from the defaults.
    pub(crate) set: Vec<(&'static str, String)>,
    /// The large cases are that much smaller, to try them.
    pub(crate) smaller: usize,
}

/// How long the parts of a call take, ms, as the sandbox carrier's flags say it. Every call is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tempo {
    pub(crate) dial: &'static str,
    pub(crate) ring: &'static str,
    pub(crate) talk: &'static str,
    /// Until the POST is answered.
    pub(crate) accept: &'static str,
}

impl Bench {
    /// An installation with one worker; `faults` are further flags of the carrier.
    pub(crate) async fn install(&self, tempo: &Tempo, faults: &[&'static str]) -> anyhow::Result<Installation> {
        Installation::start(self.plan(tempo, faults)).await
    }

    /// What [`Bench::install`] starts.
    pub(crate) fn plan(&self, tempo: &Tempo, faults: &[&'static str]) -> Plan {
        let mut carrier =
            vec!["--no-magic", "--cps", "0", "--answered", "1", "--busy", "0", "--no-answer", "0", "--failed", "0"];
        carrier.extend(["--dial-ms", tempo.dial, "--ring-ms", tempo.ring, "--talk-ms", tempo.talk]);
        carrier.extend(["--accept-delay-ms", tempo.accept]);
        carrier.extend(faults);
        let lines = ("MAX_CONCURRENT_CALLS", MAX_CONCURRENT_CALLS.to_owned());
        let settings = std::iter::once(lines).chain(self.set.iter().cloned()).collect();
        Plan { programs: self.programs.clone(), carrier, settings, postgres: Vec::new(), workers: 1, talks: false }
    }
}
