//! The times that keep the promises of the dial protocol, and which of them contradict each other.

use std::time::Duration;

use clap::Args;

/// The times of the dial protocol, in milliseconds. The defaults are floors: less is refused outside of test builds, because
/// each of them keeps a promise (at most one POST per attempt, no slot freed by guess).
#[derive(Debug, Clone, Args)]
pub struct Times {
    /// A claim older than this is not sent.
    #[arg(long, env = "CLAIM_MAX_AGE_MS", default_value = "5000")]
    pub claim_max_age_ms: u64,
    /// The whole of a POST to the carrier, from the first byte of the connection to the last of the answer.
    #[arg(long, env = "POST_TIMEOUT_MS", default_value = "10000")]
    pub post_timeout_ms: u64,
    /// An intent younger than this is closed by its owner only.
    #[arg(long, env = "INTENT_GRACE_MS", default_value = "60000")]
    pub intent_grace_ms: u64,
    /// After so long the first look that finds nothing counts.
    #[arg(long, env = "FIRST_EMPTY_LOOK_MS", default_value = "20000")]
    pub first_empty_look_ms: u64,
    /// After so long the second look that finds nothing counts.
    #[arg(long, env = "SECOND_EMPTY_LOOK_MS", default_value = "80000")]
    pub second_empty_look_ms: u64,
    /// Between two looks that count.
    #[arg(long, env = "EMPTY_LOOKS_APART_MS", default_value = "60000")]
    pub empty_looks_apart_ms: u64,
    /// After so long two empty looks are enough, though the account made no newer call.
    #[arg(long, env = "LOOK_GIVE_UP_MS", default_value = "600000")]
    pub look_give_up_ms: u64,
    /// Between two readings of an account's live list.
    #[arg(long, env = "LIVE_LOOK_MS", default_value = "10000")]
    pub live_look_ms: u64,
    /// The same while more than a tenth of the ends are learned by asking.
    #[arg(long, env = "LIVE_LOOK_FAST_MS", default_value = "2000")]
    pub live_look_fast_ms: u64,
    /// A call that is listed nowhere is fetched after so long a silence.
    #[arg(long, env = "SILENT_AFTER_MS", default_value = "5000")]
    pub silent_after_ms: u64,
    /// Between two tries of an account whose credentials were refused.
    #[arg(long, env = "REFUSED_RETRY_MS", default_value = "60000")]
    pub refused_retry_ms: u64,
    /// An answer later than intent + ring limit + this hears a hang-up.
    #[arg(long, env = "ANSWER_FENCE_MS", default_value = "60000")]
    pub answer_fence_ms: u64,
    /// In doubt for so long beyond the call's own limit, an attempt is freed as expired and never redialed.
    #[arg(long, env = "EXPIRE_AFTER_MS", default_value = "86400000")]
    pub expire_after_ms: u64,
}

impl Times {
    fn named(&self) -> [(&'static str, u64, u64); 13] {
        [
            ("CLAIM_MAX_AGE_MS", self.claim_max_age_ms, 5_000),
            ("POST_TIMEOUT_MS", self.post_timeout_ms, 10_000),
            ("INTENT_GRACE_MS", self.intent_grace_ms, 60_000),
            ("FIRST_EMPTY_LOOK_MS", self.first_empty_look_ms, 20_000),
            ("SECOND_EMPTY_LOOK_MS", self.second_empty_look_ms, 80_000),
            ("EMPTY_LOOKS_APART_MS", self.empty_looks_apart_ms, 60_000),
            ("LOOK_GIVE_UP_MS", self.look_give_up_ms, 600_000),
            ("LIVE_LOOK_MS", self.live_look_ms, 10_000),
            ("LIVE_LOOK_FAST_MS", self.live_look_fast_ms, 2_000),
            ("SILENT_AFTER_MS", self.silent_after_ms, 5_000),
            ("REFUSED_RETRY_MS", self.refused_retry_ms, 60_000),
            ("ANSWER_FENCE_MS", self.answer_fence_ms, 60_000),
            ("EXPIRE_AFTER_MS", self.expire_after_ms, 86_400_000),
        ]
    }

    /// The settings that fight, each in one sentence; empty where all is well.
    pub(super) fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, value, floor) in self.named() {
            // Claim age and POST time are ceilings of what a late process may do; the rest are floors of what others wait.
            let ceiling = matches!(name, "CLAIM_MAX_AGE_MS" | "POST_TIMEOUT_MS");
            let off = if ceiling { value > floor || value == 0 } else { value < floor };
            if off && !cfg!(feature = "killpoints") {
                let bound = if ceiling { "at most" } else { "at least" };
                found.push(format!("{name} is {value}; it must be {bound} {floor} ms."));
            }
        }
        let sent_at_latest = self.claim_max_age_ms.saturating_add(self.post_timeout_ms);
        if sent_at_latest >= self.intent_grace_ms {
            found.push(format!(
                "CLAIM_MAX_AGE_MS + POST_TIMEOUT_MS = {sent_at_latest} ms reaches INTENT_GRACE_MS = {} ms: a call could still \
                 be placed after its attempt was looked for.",
                self.intent_grace_ms
            ));
        }
        found
    }

    /// `ms` milliseconds as a duration.
    #[must_use]
    pub fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
