//! The sandbox's clock: the one place that reads the time of day.
use std::time::Instant;

use chrono::{DateTime, Utc};

/// A moment on both clocks: `at` measures durations, `wall` is what rows and callbacks show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) at: Instant,
    pub(crate) wall: DateTime<Utc>,
}

impl Stamp {
    /// The present moment.
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), wall: wall() }
    }

    /// Unix time in ms.
    pub(crate) fn unix_ms(self) -> i64 {
        self.wall.timestamp_millis()
    }

    /// As web services write dates, for example `2025-06-05T08:54:19.698408Z`.
    pub(crate) fn rfc3339(self) -> String {
        self.wall.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
    }

    /// As carriers write dates, for example `Fri, 18 Oct 2019 17:00:00 +0000`.
    pub(crate) fn rfc2822(self) -> String {
        self.wall.format("%a, %d %b %Y %H:%M:%S +0000").to_string()
    }
}

#[expect(clippy::disallowed_methods, reason = "a carrier keeps its own time; nothing of the product depends on it")]
fn wall() -> DateTime<Utc> {
    Utc::now()
}
