//! What runs in a demo, and how its carrier behaves.

use anyhow::Context;

use crate::ops::installation::{Installation, Plan};

/// Most calls at once of the whole demo installation.
pub(super) const MAX_LINES: u32 = 50;
/// How the sandbox behaves: callees who answer quickly, a share of each outcome, and people and voices that speak several times
/// as fast as in life, so that the demo is short. Providers take the time that real ones take until their first word.
const CARRIER_FLAGS: [&str; 27] = [
    "--no-magic",
    "--cps",
    "50",
    "--dial-ms",
    "20..60",
    "--ring-ms",
    "100..300",
    "--talk-ms",
    "300..900",
    "--accept-delay-ms",
    "20..60",
    "--answered",
    "0.62",
    "--busy",
    "0.10",
    "--no-answer",
    "0.20",
    "--failed",
    "0.08",
    "--callee-speed",
    "8",
    "--speech-speed",
    "8",
    "--reaction-ms",
    "150..300",
    "--interrupts",
    "0.3",
];

/// Starts the installation of the demo, with the programs that stand beside this one.
pub(super) async fn start() -> anyhow::Result<Installation> {
    let own = std::env::current_exe().context("this program's own place is unknown")?;
    let programs = own.parent().context("this program stands in no folder")?.to_owned();
    let settings = vec![("MAX_CONCURRENT_CALLS", MAX_LINES.to_string())];
    let carrier = CARRIER_FLAGS.to_vec();
    Installation::start(Plan { programs, carrier, settings, postgres: Vec::new(), workers: 1, talks: true }).await
}
