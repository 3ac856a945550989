//! What is still to be played, how far ahead of the caller's ear it is, and how much of it was heard.
//!
//! A carrier buffers what it is sent and plays it in order. A little is kept there against jitter, the rest stays here, so
//! that a caller who breaks in hears the end of it at once. A mark that comes back says that what was sent before it was
//! played, or dropped by a `clear`: the generation in its name tells which.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use bytes::BytesMut;

use crate::voice::mulaw::{FRAME, PER_MS};

/// So far ahead of the ear.
const LEAD: Duration = Duration::from_millis(120);
/// A process that wakes this much too late has more to do than it can: it sends less often then, and more at once.
const LATE: Duration = Duration::from_millis(5);
/// Frames that go as one, at most: 100 ms.
const MOST_AT_ONCE: usize = 5;
/// Between two marks, bytes of sound.
const MARK_EVERY: usize = 500 * PER_MS;
/// What is taken off the guess of what was heard: carriers and networks hold some of it.
const MARGIN: usize = 100 * PER_MS;
/// A mark that does not come back is not waited for longer.
const MARK_PATIENCE: Duration = Duration::from_millis(1_500);

/// What is to be sent next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Out {
    /// Sound.
    Frame(Bytes),
    /// A mark of this name.
    Mark(String),
}

/// The sound on its way to one caller.
pub(super) struct Playout {
    /// Pieces as they came, so that what was sent is not kept in memory with what was not.
    queue: VecDeque<(u32, Bytes)>,
    queued: usize,
    /// Everything that was sent is played by then.
    until: Instant,
    /// As much as may be was sent ahead, so that only the clock can be late.
    keeps_pace: bool,
    generation: u32,
    /// The turn that is being played.
    turn: u32,
    sent: usize,
    marked: usize,
    confirmed: usize,
    /// Turns of which everything is in the queue or sent.
    complete: Option<u32>,
    end_marked: bool,
    end_heard: bool,
    /// How long after its time a mark is waited for; nothing where none comes back.
    patience: Duration,
}

impl Playout {
    /// Nothing yet; `marks` where they come back.
    pub(super) fn new(now: Instant, marks: bool) -> Self {
        Self {
            patience: if marks { MARK_PATIENCE } else { Duration::ZERO },
            queue: VecDeque::new(),
            queued: 0,
            until: now,
            keeps_pace: false,
            generation: 1,
            turn: 0,
            sent: 0,
            marked: 0,
            confirmed: 0,
            complete: None,
            end_marked: false,
            end_heard: false,
        }
    }

    /// Adds sound of a turn.
    pub(super) fn add(&mut self, turn: u32, sound: Bytes) {
        if !sound.is_empty() {
            self.queued += sound.len();
            self.queue.push_back((turn, sound));
        }
    }

    /// No more sound of this turn will come.
    pub(super) fn complete(&mut self, turn: u32) {
        self.complete = Some(turn);
        if self.turn != turn && !self.queue.iter().any(|(queued, _)| *queued == turn) {
            // A turn without sound is heard at once.
            self.begin(turn);
        }
    }

    fn begin(&mut self, turn: u32) {
        (self.turn, self.sent, self.marked, self.confirmed) = (turn, 0, 0, 0);
        (self.end_marked, self.end_heard) = (false, false);
    }

    /// Bytes that wait here.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// When to ask for the next thing to send; `None` where there is nothing.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.ends_now() {
            return Some(now);
        }
        let turn = self.queue.front()?.0;
        let is_last = self.queue.back().is_some_and(|(last, _)| *last == turn);
        // A rest shorter than a frame waits for more of its turn, unless the caller's ear is near.
        let waits = is_last && self.queued < FRAME && self.complete != Some(turn);
        let lead = if waits { Duration::from_millis(20) } else { LEAD };
        Some(self.until.checked_sub(lead).unwrap_or(now).max(now))
    }

    /// The end of the turn is to be marked.
    fn ends_now(&self) -> bool {
        self.complete == Some(self.turn)
            && !self.end_marked
            && self.sent > 0
            && !self.queue.iter().any(|(turn, _)| *turn == self.turn)
    }

    /// What is to be sent now, if anything.
    pub(super) fn next(&mut self, now: Instant) -> Option<Out> {
        if self.ends_now() {
            self.end_marked = true;
            return Some(Out::Mark(format!("g{}-t{}-{}-end", self.generation, self.turn, self.sent)));
        }
        if self.sent - self.marked >= MARK_EVERY {
            self.marked = self.sent;
            return Some(Out::Mark(format!("g{}-t{}-{}", self.generation, self.turn, self.sent)));
        }
        self.keeps_pace &= self.until > now;
        if self.due(now)? > now {
            self.keeps_pace = true;
            return None;
        }
        let (turn, frame) = self.frame(FRAME * self.frames_at_once(now))?;
        if turn != self.turn {
            self.begin(turn);
        }
        self.queued -= frame.len();
        self.sent += frame.len();
        self.until = self.until.max(now) + length(frame.len());
        Some(Out::Frame(frame))
    }

    /// One while the process keeps up; where it is late, those that are due and the next one, which spares it a wake-up and a message.
    fn frames_at_once(&self, now: Instant) -> usize {
        let late = (now + LEAD).saturating_duration_since(self.until);
        if !self.keeps_pace || late < LATE {
            return 1;
        }
        let due = 1 + usize::try_from(late.as_millis()).unwrap_or(0) * PER_MS / FRAME;
        (due + 1).min(MOST_AT_ONCE)
    }

    /// Takes so many bytes of one turn from the front, put together where they lie in several pieces; fewer at the end of a turn.
    fn frame(&mut self, most: usize) -> Option<(u32, Bytes)> {
        let (turn, piece) = self.queue.front_mut()?;
        let turn = *turn;
        if piece.len() > most {
            return Some((turn, piece.split_to(most)));
        }
        let (_, piece) = self.queue.pop_front()?;
        if piece.len() == most || self.queue.front().is_none_or(|(next, _)| *next != turn) {
            return Some((turn, piece));
        }
        let mut frame = BytesMut::with_capacity(most);
        frame.extend_from_slice(&piece);
        while let Some((_, piece)) = self.queue.front_mut().filter(|(next, _)| *next == turn && frame.len() < most) {
            frame.extend_from_slice(&piece.split_to(piece.len().min(most - frame.len())));
            if piece.is_empty() {
                self.queue.pop_front();
            }
        }
        Some((turn, frame.freeze()))
    }

    /// A mark came back. Those of before a `clear` say nothing.
    pub(super) fn echoed(&mut self, name: &str) {
        let mut parts = name.split('-');
        let number = |part: Option<&str>, letter: &str| part?.strip_prefix(letter)?.parse::<u32>().ok();
        let (generation, turn) = (number(parts.next(), "g"), number(parts.next(), "t"));
        let Some(bytes) = parts.next().and_then(|bytes| bytes.parse::<usize>().ok()) else { return };
        if generation != Some(self.generation) || turn != Some(self.turn) || bytes > self.sent {
            return;
        }
        self.confirmed = self.confirmed.max(bytes);
        self.end_heard |= parts.next() == Some("end");
    }

    /// Bytes of this turn that were heard, as far as can be known.
    pub(super) fn heard(&self, turn: u32, now: Instant) -> usize {
        if turn != self.turn {
            return 0;
        }
        let ahead = usize::try_from(self.until.saturating_duration_since(now).as_millis()).unwrap_or(0) * PER_MS;
        let guessed = self.sent.saturating_sub(ahead);
        let all = ahead == 0 && self.complete == Some(turn) && !self.queue.iter().any(|(queued, _)| *queued == turn);
        let guessed = if all { guessed } else { guessed.saturating_sub(MARGIN) };
        guessed.max(self.confirmed)
    }

    /// True once all of this turn was played, or a mark has not come back for too long.
    pub(super) fn played(&self, turn: u32, now: Instant) -> bool {
        if self.complete != Some(turn) || self.queue.iter().any(|(queued, _)| *queued == turn) {
            return false;
        }
        self.turn != turn || self.sent == 0 || self.end_heard || now >= self.until + self.patience
    }

    /// Since when more of this turn is waited for, everything that came of it having been played; `None` where something is left to
    /// play, or no more will come.
    pub(super) fn waits_for_more(&self, turn: u32) -> Option<Instant> {
        (self.complete != Some(turn) && self.queue.is_empty()).then_some(self.until)
    }

    /// When [`Playout::played`] is true at the latest; `None` where that is not known yet.
    pub(super) fn played_by(&self, turn: u32) -> Option<Instant> {
        (self.complete == Some(turn) && self.queue.is_empty()).then(|| self.until + self.patience)
    }

    /// Drops everything that was not heard; the carrier is told to `clear`.
    pub(super) fn clear(&mut self, now: Instant) {
        self.queue.clear();
        self.queued = 0;
        self.until = now;
        self.generation += 1;
        self.complete = Some(self.turn);
        (self.end_marked, self.end_heard) = (true, true);
    }

    /// True where the caller hears something now, or is about to.
    pub(super) fn sounds(&self, now: Instant) -> bool {
        self.queued > 0 || self.until > now
    }
}

fn length(bytes: usize) -> Duration {
    Duration::from_micros(bytes as u64 * 125)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(playout: &mut Playout, now: Instant) -> (usize, Vec<String>) {
        let (mut bytes, mut marks) = (0, Vec::new());
        while let Some(out) = playout.next(now) {
            match out {
                Out::Frame(frame) => bytes += frame.len(),
                Out::Mark(name) => marks.push(name),
            }
        }
        (bytes, marks)
    }

    #[test]
    fn it_stays_a_little_ahead_and_then_keeps_the_pace() {
        let begin = Instant::now();
        let mut playout = Playout::new(begin, true);
        playout.add(1, Bytes::from_static(&[1; 8_000]));
        let (first, _) = drained(&mut playout, begin);
        assert_eq!(first, 7 * FRAME, "the lead and one frame");
        let later = begin + Duration::from_millis(20);
        assert_eq!(drained(&mut playout, later).0, FRAME);
        assert_eq!(playout.due(later), Some(later + Duration::from_millis(20)));
    }

    #[test]
    fn a_process_that_is_late_sends_what_is_due_and_the_next_frame_as_one() {
        let begin = Instant::now();
        let mut playout = Playout::new(begin, true);
        playout.add(1, Bytes::from_static(&[1; 80_000]));
        let mut sent = |ms| {
            let mut sizes = Vec::new();
            while let Some(out) = playout.next(begin + Duration::from_millis(ms)) {
                let Out::Frame(frame) = out else { continue };
                sizes.push(frame.len() / FRAME);
            }
            sizes
        };
        assert_eq!(sent(0), [1; 7], "what begins is not late");
        assert_eq!(sent(24), [1], "no more than a timer is");
        assert_eq!(sent(46), [2], "6 ms late");
        assert!(sent(60).is_empty(), "the second of them was that of 60 ms");
        assert_eq!(sent(110), [3], "those of 80 and 100 ms, and the next");
        assert_eq!(sent(450), [1; 7], "the caller has heard nothing meanwhile: sound begins anew");
    }

    #[test]
    fn frames_are_whole_however_the_sound_was_cut_and_turns_are_never_mixed() {
        let now = Instant::now();
        let mut playout = Playout::new(now, true);
        for piece in [1, 100, 300, 79, 159] {
            playout.add(1, Bytes::from(vec![1; piece]));
        }
        playout.add(2, Bytes::from(vec![2; 200]));
        let mut frames = Vec::new();
        for ms in (0..200).step_by(20) {
            while let Some(out) = playout.next(now + Duration::from_millis(ms)) {
                let Out::Frame(frame) = out else { continue };
                assert!(frame.iter().all(|byte| *byte == frame[0]));
                frames.push((frame[0], frame.len()));
            }
        }
        assert_eq!(frames, [(1, 160), (1, 160), (1, 160), (1, 159), (2, 160), (2, 40)]);
        assert_eq!(playout.queued(), 0);
    }

    #[test]
    fn a_turn_is_played_when_its_last_mark_comes_back_and_heard_by_the_marks() {
        let begin = Instant::now();
        let mut playout = Playout::new(begin, true);
        playout.add(3, Bytes::from_static(&[1; 4_500]));
        playout.complete(3);
        let mut marks = Vec::new();
        for ms in (0..600).step_by(20) {
            marks.extend(drained(&mut playout, begin + Duration::from_millis(ms)).1);
        }
        assert_eq!(marks, ["g1-t3-4000", "g1-t3-4500-end"]);
        let now = begin + Duration::from_millis(600);
        assert!(!playout.played(3, now));
        playout.echoed("g1-t3-4500-end");
        assert!(playout.played(3, now));
        assert_eq!(playout.heard(3, now), 4_500);
    }

    #[test]
    fn after_a_clear_old_marks_say_nothing() {
        let begin = Instant::now();
        let mut playout = Playout::new(begin, true);
        playout.add(1, Bytes::from_static(&[1; 80_000]));
        for ms in (0..1_000).step_by(20) {
            drained(&mut playout, begin + Duration::from_millis(ms));
        }
        let now = begin + Duration::from_millis(1_000);
        let heard = playout.heard(1, now);
        assert!((6_800..=7_200).contains(&heard), "{heard}: a second less the margin");
        playout.clear(now);
        assert!(!playout.sounds(now) && playout.next(now).is_none());
        playout.add(2, Bytes::from_static(&[2; 160]));
        drained(&mut playout, now);
        playout.echoed("g1-t2-160");
        assert_eq!(playout.confirmed, 0);
        playout.echoed("g2-t2-160");
        assert_eq!(playout.confirmed, 160);
    }

    #[test]
    fn more_is_waited_for_from_when_all_that_came_was_played_and_never_while_something_is_left() {
        let begin = Instant::now();
        let mut playout = Playout::new(begin, true);
        assert_eq!(playout.waits_for_more(1), Some(begin), "nothing has come");
        playout.add(1, Bytes::from_static(&[1; 800_000]));
        drained(&mut playout, begin + Duration::from_secs(60));
        assert_eq!(playout.waits_for_more(1), None, "forty seconds are left");
        for ms in (60_000..160_000).step_by(100) {
            drained(&mut playout, begin + Duration::from_millis(ms));
        }
        let since = playout.waits_for_more(1).unwrap();
        assert!(since >= begin + Duration::from_secs(100), "{:?}", since - begin);
        playout.complete(1);
        assert_eq!(playout.waits_for_more(1), None);
    }

    #[test]
    fn a_turn_without_sound_is_over_at_once() {
        let begin = Instant::now();
        let mut playout = Playout::new(begin, true);
        playout.complete(4);
        assert!(playout.played(4, begin) && playout.next(begin).is_none());
    }
}
