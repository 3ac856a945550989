//! The clocks of Postgres, Redis and this host: how far apart they can be, measured.
//!
//! A clock is asked and the answer lies between the begin and the end of the question, so the difference is known to half
//! the round trip. The best of several questions counts.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use super::{Check, Fault};
use crate::context::Context;

/// Questions per clock.
const QUESTIONS: usize = 8;
/// So far apart they surely are not set by one time service, µs.
const APART: i64 = 500_000;
/// So far apart calls are looked for on the wrong side of the carrier's clock (`doubt`: 5 s), µs.
const FAR_APART: i64 = 5_000_000;

/// How far ahead of this host a clock is, µs, and how much more or less it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ahead {
    by: i64,
    bound: i64,
}

impl Ahead {
    /// The least that it can be off.
    fn at_least(self) -> i64 {
        (self.by.abs() - self.bound).max(0)
    }

    fn text(self) -> String {
        let ms = |micros: i64| format!("{}.{:03}", micros / 1_000, micros % 1_000);
        let sign = if self.by < 0 { "-" } else { "+" };
        format!("{sign}{} ms ± {} ms", ms(self.by.abs()), ms(self.bound))
    }
}

/// Compares the three.
pub(super) async fn check(ctx: &Context) -> anyhow::Result<Check> {
    let postgres = measure(async || Ok(ctx.stores.postgres_clock().await?)).await?;
    let redis = measure(async || Ok(ctx.stores.redis_clock().await?)).await?;
    Ok(judge(postgres, redis))
}

fn judge(postgres: Ahead, redis: Ahead) -> Check {
    let between = Ahead { by: postgres.by - redis.by, bound: postgres.bound + redis.bound };
    let pairs = [("Postgres to this host", postgres), ("Redis to this host", redis), ("Postgres to Redis", between)];
    let faults = pairs.iter().filter(|(_, ahead)| ahead.at_least() >= APART).map(|(pair, ahead)| {
        let (evidence, advice) = (format!("{pair}: {}", ahead.text()), "set all hosts by one time service (NTP)");
        if ahead.at_least() >= FAR_APART { Fault::fail(evidence, advice) } else { Fault::warn(evidence, advice) }
    });
    let faults = faults.collect();
    let well = pairs.map(|(pair, ahead)| format!("{pair} {}", ahead.text())).join(", ");
    Check::of("clocks", well, faults)
}

/// The tightest of several questions.
async fn measure(ask: impl AsyncFn() -> anyhow::Result<i64>) -> anyhow::Result<Ahead> {
    let mut best: Option<Ahead> = None;
    for _ in 0..QUESTIONS {
        let (begun, wall) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?);
        let theirs = ask().await?;
        let half = i64::try_from(begun.elapsed().as_micros() / 2)?;
        let ahead = Ahead { by: theirs - (i64::try_from(wall.as_micros())? + half), bound: half };
        if best.is_none_or(|best| ahead.bound < best.bound) {
            best = Some(ahead);
        }
    }
    best.context("no clock was asked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Verdict;

    fn verdict(postgres: i64, redis: i64, bound: i64) -> Verdict {
        judge(Ahead { by: postgres, bound }, Ahead { by: redis, bound }).verdict
    }

    #[test]
    fn only_a_difference_that_the_round_trip_cannot_explain_is_a_finding() {
        assert_eq!(verdict(400_000, 0, 100), Verdict::Ok);
        assert_eq!(verdict(900_000, 0, 600_000), Verdict::Ok);
        assert_eq!(verdict(900_000, 0, 100), Verdict::Warn);
        assert_eq!(verdict(0, -6_000_000, 100), Verdict::Fail);
        // Each is near to this host, but not to the other.
        assert_eq!(verdict(300_000, -300_000, 100), Verdict::Warn);
    }

    #[test]
    fn a_difference_is_written_with_its_bound() {
        assert_eq!(Ahead { by: -1_250, bound: 340 }.text(), "-1.250 ms ± 0.340 ms");
        assert_eq!(Ahead { by: 48_000, bound: 1_000 }.text(), "+48.000 ms ± 1.000 ms");
    }
}
