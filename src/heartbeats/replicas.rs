//! Which calls program gets the next conversation: the one with the fewest, as they last said.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::RedisResult;

use crate::{
    config::Role,
    heartbeats::{Seen, State, processes},
    stores::Stores,
};

/// For so long what was read is believed.
const FRESH: Duration = Duration::from_secs(1);

/// The calls programs as this process last read them, and what it has given them since each last beat.
#[derive(Clone, Default)]
pub struct Replicas {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    read: Option<Instant>,
    seen: Vec<Seen>,
    /// By name: the beat that they were given after, and how many.
    given: HashMap<String, (u64, usize)>,
}

/// Conversations and room of all calls programs that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Programs that take conversations on.
    pub ready: usize,
    /// Conversations now.
    pub sessions: usize,
    /// Conversations at most.
    pub most: usize,
}

impl Room {
    /// Of these processes.
    #[must_use]
    pub fn of(processes: &[Seen]) -> Self {
        let calls = processes.iter().filter(|seen| seen.beat.role == Role::Calls && seen.alive());
        calls.fold(Self::default(), |mut room, seen| {
            room.sessions += seen.beat.in_flight;
            if seen.state == State::Ready {
                room.ready += 1;
                room.most += seen.beat.most_sessions.unwrap_or(0);
            }
            room
        })
    }
}

/// A replica beyond this share of its room should get company.
const WELL_USED: f64 = 0.8;

impl Room {
    /// How many calls programs there should be for these conversations and those that wait, at least one. Where none is ready to
    /// say how many conversations it holds, each holds `most_each`.
    #[must_use]
    pub fn wanted(&self, waiting: u64, most_each: usize) -> u64 {
        let each = self.most.checked_div(self.ready).unwrap_or(most_each).max(1) as f64 * WELL_USED;
        let all = self.sessions as f64 + waiting as f64;
        ((all / each).ceil() as u64).max(1)
    }
}

impl Known {
    fn pick(&mut self) -> Option<String> {
        let Self { seen, given, .. } = self;
        given.retain(|name, _| seen.iter().any(|one| one.beat.name == *name));
        let load = |one: &Seen| {
            let since = given.get(&one.beat.name).filter(|(beat, _)| *beat == one.beat.beat_at_ms);
            one.beat.in_flight + since.map_or(0, |(_, count)| *count)
        };
        let ready = seen.iter().filter(|one| one.beat.role == Role::Calls && one.state == State::Ready);
        // Only its own word says that one is full: of what it was given since, some may be over. The gate has seen to it that there
        // is room somewhere, and who comes to the wrong one comes back.
        let with_room = ready.filter(|one| one.beat.in_flight < one.beat.most_sessions.unwrap_or(0));
        let best = with_room.min_by_key(|one| (load(one) >= one.beat.most_sessions.unwrap_or(0), load(one)))?;
        let (name, beat) = (best.beat.name.clone(), best.beat.beat_at_ms);
        let media = best.beat.media_url.clone()?;
        let count = given.entry(name).or_insert((beat, 0));
        *count = if count.0 == beat { (beat, count.1 + 1) } else { (beat, 1) };
        Some(media)
    }
}

impl Replicas {
    fn room(&self) -> Option<Room> {
        let known = self.lock();
        known.read.is_some_and(|read| read.elapsed() < FRESH).then(|| Room::of(&known.seen))
    }

    /// The pick of what was read lately enough.
    fn pick(&self) -> Option<String> {
        let mut known = self.lock();
        let fresh = known.read.is_some_and(|read| read.elapsed() < FRESH);
        fresh.then(|| known.pick()).flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room of all calls programs, as it was within the last second.
///
/// # Errors
/// Where Redis cannot be asked.
pub async fn room(stores: &Stores, replicas: &Replicas) -> RedisResult<Room> {
    if let Some(room) = replicas.room() {
        return Ok(room);
    }
    let seen = processes(stores).await?;
    let room = Room::of(&seen);
    let mut known = replicas.lock();
    (known.seen, known.read) = (seen, Some(Instant::now()));
    Ok(room)
}

/// Where the stream of one more conversation goes; `None` where no calls program is there that has room. `moved`: a program has
/// just given the call away, so that what was read before is no good.
///
/// # Errors
/// Where Redis cannot be asked.
pub async fn replica_with_room(stores: &Stores, replicas: &Replicas, moved: bool) -> RedisResult<Option<String>> {
    if !moved && let Some(media) = replicas.pick() {
        return Ok(Some(media));
    }
    // Also where none had room: one may have come just now.
    let seen = processes(stores).await?;
    let mut known = replicas.lock();
    (known.seen, known.read) = (seen, Some(Instant::now()));
    Ok(known.pick())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeats::Beat;

    fn replica(name: &str, sessions: usize, most: usize, draining: bool) -> Seen {
        let text = format!(
            r#"{{"role":"calls","name":"{name}","host":"h","pid":1,"version":"1","started_at":1,"beat_at":2,"beat_at_ms":2000,
                "interval_ms":5000,"in_flight":{sessions},"media_url":"ws://{name}","most_sessions":{most},"draining":{draining}}}"#
        );
        Seen::at(serde_json::from_str::<Beat>(&text).unwrap(), 2_000)
    }

    #[test]
    fn the_least_loaded_is_given_the_next_and_what_it_was_given_counts() {
        let seen = vec![replica("a", 3, 10, false), replica("b", 1, 10, false), replica("c", 0, 10, true)];
        let mut known = Known { read: None, seen, given: HashMap::new() };
        let picks: Vec<_> = (0..4).map(|_| known.pick().unwrap()).collect();
        assert_eq!(picks, ["ws://b", "ws://b", "ws://a", "ws://b"]);
    }

    #[test]
    fn who_has_been_given_all_it_has_room_for_comes_last_and_who_says_that_it_is_full_is_given_nothing() {
        let seen = vec![replica("a", 9, 10, false), replica("b", 12, 14, false), replica("c", 5, 5, false)];
        let mut known = Known { read: None, seen, given: HashMap::new() };
        let picks: Vec<_> = (0..4).map(|_| known.pick().unwrap()).collect();
        assert_eq!(picks, ["ws://a", "ws://b", "ws://b", "ws://a"], "some of what it was given may be over");
        known.seen = vec![replica("c", 5, 5, false)];
        assert_eq!(known.pick(), None);
        known.seen = vec![replica("a", 9, 10, false)];
        let room = Room::of(&known.seen);
        assert_eq!(room, Room { ready: 1, sessions: 9, most: 10 });
        assert_eq!((room.wanted(0, 500), room.wanted(30, 500)), (2, 5));
        let none = Room::default();
        assert_eq!((none.wanted(3, 2), none.wanted(0, 2)), (2, 1), "what one holds is known by the setting");
        let draining = Room::of(&[replica("c", 30, 50, true)]);
        assert_eq!(draining.wanted(0, 10), 4);
    }
}
