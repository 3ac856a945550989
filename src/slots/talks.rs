//! Which holders talk to an agent: whoever takes for a list does not know it before the claim.

use redis::ScriptInvocation;

use crate::{ids::AttemptId, slots::Gate};

/// What a conversation takes one of, and how many there may be of each at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Talks {
    /// Conversations of all calls programs.
    pub most: i32,
    /// Accounts at voice providers that are used from its beginning to its end, by a name without `,`.
    pub accounts: Vec<(String, i32)>,
}

impl Talks {
    /// So many conversations, whatever accounts they use.
    #[must_use]
    pub fn of(most: i32) -> Self {
        Self { most, accounts: Vec::new() }
    }

    /// Adds what `talking.lua` reads: nothing where nobody talks.
    pub(super) fn tell(talks: Option<&Self>, script: &mut ScriptInvocation<'_>) {
        script.arg(talks.map_or(0, |talks| 1 + talks.accounts.len()));
        let Some(Self { most, accounts }) = talks else { return };
        script.arg("").arg(most);
        for (account, most) in accounts {
            script.arg(account).arg(most);
        }
    }
}

impl Gate {
    /// Counts these holders as what they are, after a claim that said it: those that talk, as far as there is room. Returns those
    /// that would talk, were not counted, and find none.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn claimed(
        &self,
        talks: &Talks,
        silent: &[AttemptId],
        talking: &[AttemptId],
    ) -> redis::RedisResult<Vec<AttemptId>> {
        let mut script = self.talks.prepare_invoke();
        script.key(self.talking_key()).key(self.keys.key("gate:holders")).arg(silent.len());
        Talks::tell(Some(talks), &mut script);
        for attempt in silent.iter().chain(talking) {
            script.arg(attempt.to_string());
        }
        let none: Vec<String> = script.invoke_async(&mut self.redis.clone()).await?;
        Ok(none.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// How many holders use each of these accounts, in their order.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn talking_by(&self, accounts: &[(String, i32)]) -> redis::RedisResult<Vec<i32>> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let mut ask = redis::pipe();
        for (account, _) in accounts {
            ask.scard(self.account_key(account));
        }
        ask.query_async(&mut self.redis.clone()).await
    }

    pub(super) fn account_key(&self, account: &str) -> String {
        self.keys.key(format_args!("lines:talking:{account}"))
    }
}
