//! Which holders talk to an agent: whoever takes for a list does not know it before the claim.

use crate::{ids::AttemptId, slots::Gate};

impl Gate {
    /// Counts these holders as what they are, after a claim that said it: of `most` that may talk at once. Returns those that would
    /// talk, were not counted, and find no room.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn claimed(
        &self,
        most: i32,
        silent: &[AttemptId],
        talking: &[AttemptId],
    ) -> redis::RedisResult<Vec<AttemptId>> {
        let mut script = self.talks.prepare_invoke();
        script.key(self.talking_key()).key(self.keys.key("gate:holders")).arg(most).arg(silent.len());
        for attempt in silent.iter().chain(talking) {
            script.arg(attempt.to_string());
        }
        let none: Vec<String> = script.invoke_async(&mut self.redis.clone()).await?;
        Ok(none.iter().filter_map(|id| id.parse().ok()).collect())
    }
}
