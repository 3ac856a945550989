//! Profiles read a moment ago.
//!
//! Invariant: none is believed for more than a second after it was asked for. A remembered limit may be that old: the claim reads it
//! again under the lock, so this is speed, not proof. What is in use is read again ahead of that, so that no call waits for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::task::JoinHandle;

use crate::{
    businesses::profile::{self, Profile},
    ids::BusinessId,
};

/// For so long a profile is believed.
const FRESH: Duration = Duration::from_secs(1);
/// Those in use are read again so often, all in one statement.
const AHEAD: Duration = Duration::from_millis(400);
/// One that nobody has asked for since then is in use no longer.
const USED: Duration = Duration::from_secs(5);
/// Most that are read ahead, the last used first; the others are read when somebody asks.
const MOST_AHEAD: usize = 200;
/// Profiles remembered at most; the oldest go first.
const MOST: usize = 20_000;

/// What this process remembers of businesses.
#[derive(Debug, Default)]
pub struct Profiles {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    profiles: HashMap<BusinessId, Remembered>,
    ahead: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Remembered {
    asked: Instant,
    used: Instant,
    profile: Arc<Profile>,
}

impl Profiles {
    /// The profile of a business, at most a second old; `None` where there is no such business.
    ///
    /// # Errors
    /// Where Postgres does not answer.
    pub async fn get(self: &Arc<Self>, pg: &PgPool, business: BusinessId) -> sqlx::Result<Option<Arc<Profile>>> {
        if let Some(profile) = self.fresh(business) {
            return Ok(Some(profile));
        }
        let asked = Instant::now();
        let Some(profile) = profile::read(pg, business).await? else { return Ok(None) };
        let profile = Arc::new(profile);
        let mut known = self.lock();
        if known.profiles.len() >= MOST {
            known.profiles.retain(|_, one| one.asked.elapsed() < FRESH);
        }
        known.profiles.insert(business, Remembered { asked, used: Instant::now(), profile: profile.clone() });
        if known.ahead.as_ref().is_none_or(JoinHandle::is_finished) {
            known.ahead = Some(tokio::spawn(self.clone().read_ahead(pg.clone())));
        }
        Ok(Some(profile))
    }

    /// Forgets what is known of a business, so that the next look reads it anew.
    pub fn forget(&self, business: BusinessId) {
        self.lock().profiles.remove(&business);
    }

    fn fresh(&self, business: BusinessId) -> Option<Arc<Profile>> {
        let mut known = self.lock();
        let one = known.profiles.get_mut(&business).filter(|one| one.asked.elapsed() < FRESH)?;
        one.used = Instant::now();
        Some(one.profile.clone())
    }

    /// Until nothing is in use, or Postgres does not answer; whoever has to wait for a profile then starts it again.
    async fn read_ahead(self: Arc<Self>, pg: PgPool) {
        loop {
            tokio::time::sleep(AHEAD).await;
            let before = self.in_use();
            if before.is_empty() {
                return;
            }
            let (asked, businesses) = (Instant::now(), before.keys().copied().collect::<Vec<_>>());
            match profile::read_all(&pg, &businesses).await {
                Ok(profiles) => self.replace(profiles, &before, asked),
                Err(error) => {
                    tracing::debug!(%error, "profiles could not be read ahead");
                    return;
                }
            }
        }
    }

    /// What is in use, and when each was asked for.
    fn in_use(&self) -> HashMap<BusinessId, Instant> {
        let known = self.lock();
        let mut all: Vec<_> = known.profiles.iter().filter(|(_, one)| one.used.elapsed() < USED).collect();
        all.sort_unstable_by_key(|(_, one)| std::cmp::Reverse(one.used));
        all.truncate(MOST_AHEAD);
        all.into_iter().map(|(id, one)| (*id, one.asked)).collect()
    }

    /// Takes what was read; not where a business was forgotten or read by somebody else meanwhile.
    fn replace(
        &self,
        mut profiles: HashMap<BusinessId, Profile>,
        before: &HashMap<BusinessId, Instant>,
        asked: Instant,
    ) {
        let mut known = self.lock();
        for (business, then) in before {
            let Some(one) = known.profiles.get_mut(business).filter(|one| one.asked == *then) else { continue };
            match profiles.remove(business) {
                Some(profile) => (one.asked, one.profile) = (asked, Arc::new(profile)),
                None => drop(known.profiles.remove(business)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_slots(slots: i32) -> Profile {
        Profile { slots, lines: 9, active: true, talks: Vec::new(), voices: HashMap::new(), accounts: Vec::new() }
    }

    #[test]
    fn what_was_forgotten_or_read_anew_meanwhile_is_not_replaced_by_what_was_read_before() {
        let (profiles, business) = (Profiles::default(), BusinessId(uuid::Uuid::now_v7()));
        let remember = |slots| {
            let now = Instant::now();
            let one = Remembered { asked: now, used: now, profile: Arc::new(of_slots(slots)) };
            profiles.lock().profiles.insert(business, one);
        };
        let read = |slots| HashMap::from([(business, of_slots(slots))]);
        let known = || profiles.fresh(business).map(|profile| profile.slots);
        remember(3);
        let before = profiles.in_use();
        profiles.replace(read(4), &before, Instant::now());
        assert_eq!(known(), Some(4));
        profiles.replace(read(5), &before, Instant::now());
        assert_eq!(known(), Some(4), "somebody else has read it since");
        let before = profiles.in_use();
        profiles.forget(business);
        profiles.replace(read(6), &before, Instant::now());
        assert_eq!(known(), None, "it was forgotten");
        remember(7);
        profiles.replace(HashMap::new(), &profiles.in_use(), Instant::now());
        assert_eq!(known(), None, "there is no such business any more");
    }
}
