//! Named lines of the dial protocol where a test may stop or delay the process. Does nothing in a real build.
//!
//! `KILLPOINT=K3:abort` ends the process at once when it gets there; `KILLPOINT=K3:pause:30000` makes it wait so many
//! milliseconds. An optional fourth part says at which passage (1 = the first).
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
    /// A callback's attempt is closed, its slot not released and the next not rung.
    K9,
    /// The carrier was asked about an attempt in doubt, its answer is not applied.
    K11,
    /// The gate is rebuilt, not opened.
    K12,
}

/// Stops or delays the process here, where a test asked for it.
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
    let ms = parts.next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
    let nth = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 != nth {
        return;
    }
    match what {
        Some("pause") => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
        _ => std::process::abort(),
    }
}

/// Stops or delays the process here, where a test asked for it: never in this build.
#[cfg(not(feature = "killpoints"))]
pub async fn reach(_point: Point) {}
