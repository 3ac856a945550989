//! Named lines of the dial protocol where a test may end or freeze the process. Does nothing in a real build.
//!
//! `KILLPOINT=K3:abort` ends the process at once when it gets there; `KILLPOINT=K3:freeze` stops it there, with all its
//! threads, until it gets SIGCONT. An optional third part says at which passage (1 = the first).
//! `BUG=unknown-requeued` runs the process without one guard of the protocol, so that a test can see that the proof of that
//! guard fails without it.
//! Not here: faults of the carrier (the sandbox makes those).

/// A line of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Slots are held, the claim is not sent.
    K1,
    /// The claim is committed, nothing is sent.
    K2,
    /// The age was checked, the POST is not sent.
    K3,
    /// The POST was sent, its answer is not read.
    K4,
    /// The answer was read, not stored.
    K5,
    /// The answer is stored, nothing follows yet.
    K6,
    /// A callback is applied, the carrier is not answered.
    K7,
    /// A callback is verified, nothing of it is written.
    K8,
    /// A callback's attempt is closed, its slot not released and the next not rung.
    K9,
    /// A run is started, no bell is rung.
    K10,
    /// The carrier was asked about an attempt in doubt, its answer is not applied.
    K11,
    /// The gate is rebuilt, not opened.
    K12,
    /// Rows of a list are stored, the list is not committed.
    K13,
    /// A list is committed, its answer is not kept.
    K14,
}

/// A guard that a test may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A POST without a clear answer counts as not sent.
    UnknownRequeued,
    /// What the carrier does not show it never had.
    AbsenceIsProof,
    /// A slot is freed half a second after the intent, whatever the carrier says.
    SlotFreedOnTimeout,
    /// A claim is sent however old it is, and though nobody wants it any more.
    StaleClaimSent,
    /// The gate lets everybody in.
    GateOpen,
    /// A callback is acknowledged first and applied a second later.
    AckBeforeCommit,
}

/// True where a test runs this process without this guard.
#[cfg(feature = "killpoints")]
#[must_use]
pub fn lacks(bug: Bug) -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test's switch, not a setting: it exists in test builds only")]
    static LEFT_OUT: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::env::var("BUG").unwrap_or_default().replace('-', "").to_lowercase());
    LEFT_OUT.split(',').any(|name| name == format!("{bug:?}").to_lowercase())
}

/// True where a test runs this process without this guard: never in this build.
#[cfg(not(feature = "killpoints"))]
#[must_use]
pub const fn lacks(_bug: Bug) -> bool {
    false
}

/// Ends or freezes the process here, where a test asked for it.
#[cfg(feature = "killpoints")]
pub async fn reach(point: Point) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };
    #[expect(clippy::disallowed_methods, reason = "a test's switch, not a setting: it exists in test builds only")]
    static WANTED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("KILLPOINT").ok());
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Some(wanted) = WANTED.as_deref() else { return };
    let mut parts = wanted.split(':');
    if parts.next() != Some(&format!("{point:?}")) {
        return;
    }
    let what = parts.next();
    let nth = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 != nth {
        return;
    }
    tracing::warn!(?point, "a killpoint is reached");
    if what != Some("freeze") {
        std::process::abort();
    }
    // Nothing can be done about a signal that cannot be sent: the test then sees a process that goes on.
    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
    tracing::warn!(?point, "a killpoint is left");
}

/// Ends or freezes the process here, where a test asked for it: never in this build.
#[cfg(not(feature = "killpoints"))]
pub async fn reach(_point: Point) {}
