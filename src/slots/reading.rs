//! How many the gate counts in each of its places: read for a person on call.

use crate::{ids::BusinessId, slots::Gate};

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

impl Gate {
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
