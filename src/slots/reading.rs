//! What the gate says when it is read: who holds, how many it counts in each of its places, and who waits.

use std::{collections::HashMap, time::Duration};

use crate::{
    ids::BusinessId,
    slots::{Gate, Holder},
};

/// One number from each place, all of one moment. They are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// `gate:holders`.
    pub holders: i64,
    /// `lines:held`.
    pub lines: i64,
    /// The sum of `slots:{business}:held` over the businesses that were asked for.
    pub slots: i64,
    /// `calls:active_count`; none where nothing was ever held.
    pub active: Option<i64>,
}

impl Counts {
    /// True where the places agree and only the counter beside them does not.
    #[must_use]
    pub fn only_counter_differs(&self) -> bool {
        self.holders == self.lines && self.lines == self.slots && !self.agree()
    }

    /// True where every place says the same.
    #[must_use]
    pub fn agree(&self) -> bool {
        self.holders == self.lines && self.lines == self.slots && self.active.unwrap_or(0) == self.lines
    }
}

/// Businesses that have work, slots and pace, and find no line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub businesses: u64,
    /// For how long the first of them has waited; none without one.
    pub longest: Option<Duration>,
}

impl Gate {
    /// Every holder, with its age by Redis' clock. Entries that cannot be read are left out (and evicted by a flush only).
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn holders(&self) -> redis::RedisResult<Vec<Holder>> {
        let (holders, (secs, micros)): (HashMap<String, String>, (u64, u64)) = redis::pipe()
            .hgetall(self.keys.key("gate:holders"))
            .cmd("TIME")
            .query_async(&mut self.redis.clone())
            .await?;
        let now_ms = secs * 1000 + micros / 1000;
        Ok(holders.iter().filter_map(|(attempt, value)| read_holder(attempt, value, now_ms)).collect())
    }

    /// Of the ends that this account's calls came to within the last minute: (told by callbacks, learned by asking).
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn ends_learned(&self, account: &str) -> redis::RedisResult<(u64, u64)> {
        let (told, asked): (Option<u64>, Option<u64>) = redis::cmd("HMGET")
            .arg(self.ends_key(account))
            .arg("told")
            .arg("asked")
            .query_async(&mut self.redis.clone())
            .await?;
        Ok((told.unwrap_or(0), asked.unwrap_or(0)))
    }

    /// When this account's next token is there, at this many calls per second: at once where one is.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn next_token(&self, account: &str, calls_per_second: f64) -> redis::RedisResult<Duration> {
        let ((tokens, at_us), (secs, micros)): ((Option<f64>, Option<f64>), (u64, u64)) = redis::pipe()
            .cmd("HMGET")
            .arg(self.pace_key(account))
            .arg("tokens")
            .arg("at_us")
            .cmd("TIME")
            .query_async(&mut self.redis.clone())
            .await?;
        let (Some(tokens), Some(at_us)) = (tokens, at_us) else { return Ok(Duration::ZERO) };
        let now_us = secs as f64 * 1e6 + micros as f64;
        let missing = 1.0 - tokens - (now_us - at_us) * calls_per_second / 1e6;
        Ok(Duration::try_from_secs_f64(missing.max(0.0) / calls_per_second).unwrap_or_default())
    }

    /// Who waits for a line.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn waiting(&self) -> redis::RedisResult<Waiting> {
        let (since, (secs, micros)): (Vec<u64>, (u64, u64)) = redis::pipe()
            .cmd("HVALS")
            .arg(self.keys.key("lines:since"))
            .cmd("TIME")
            .query_async(&mut self.redis.clone())
            .await?;
        let now_ms = secs * 1_000 + micros / 1_000;
        let longest = since.iter().min().map(|&first| Duration::from_millis(now_ms.saturating_sub(first)));
        Ok(Waiting { businesses: since.len() as u64, longest })
    }

    /// Counts the holders in every place; `businesses` are those that hold something.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn counts(&self, businesses: &[BusinessId]) -> redis::RedisResult<Counts> {
        let mut ask = redis::pipe();
        ask.atomic().hlen(self.keys.key("gate:holders")).zcard(self.keys.key("lines:held"));
        ask.cmd("GET").arg(self.keys.key("calls:active_count"));
        // Of those that no holder names, the slots must be empty too, but their names are not known here.
        for business in businesses {
            ask.zcard(self.slots_key(*business));
        }
        let answer: Vec<Option<i64>> = ask.query_async(&mut self.redis.clone()).await?;
        let [holders, lines, active, slots @ ..] = answer.as_slice() else {
            return Ok(Counts { holders: 0, lines: 0, slots: 0, active: None });
        };
        let sum = slots.iter().flatten().sum();
        Ok(Counts { holders: holders.unwrap_or(0), lines: lines.unwrap_or(0), slots: sum, active: *active })
    }
}

fn read_holder(attempt: &str, value: &str, now_ms: u64) -> Option<Holder> {
    let mut parts = value.split(':');
    let taken_ms: u64 = parts.next()?.parse().ok()?;
    Some(Holder {
        attempt: attempt.parse().ok()?,
        business: parts.next()?.parse().ok()?,
        slot: parts.next()?.parse().ok()?,
        line: parts.next()?.parse().ok()?,
        age: Duration::from_millis(now_ms.saturating_sub(taken_ms)),
    })
}
