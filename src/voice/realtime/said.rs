//! What was said in a conversation, for the next connection: the model that answers there has heard nothing.
//!
//! Invariant: each thing stands where it was said. The caller's words come whenever they are written down, often after the answer to them.

use std::{collections::VecDeque, time::Instant};

/// One thing that was said.
struct Spoken {
    role: &'static str,
    text: String,
    turn: Option<u32>,
    /// The provider's name of what the caller said, until its words have come.
    item: Option<String>,
}

impl Spoken {
    fn new(role: &'static str, text: String, turn: Option<u32>) -> Self {
        Self { role, text, turn, item: None }
    }
}

/// All that was said, oldest first.
pub(super) struct Said {
    all: Vec<Spoken>,
    /// What the caller said whose words have not come, and when it was over.
    unwritten: VecDeque<(String, Instant)>,
}

impl Said {
    /// What was said before this session: `user` or `assistant`, and the words.
    pub(super) fn new(before: Vec<(&'static str, String)>) -> Self {
        let all = before.into_iter().map(|(role, text)| Spoken::new(role, text, None)).collect();
        Self { all, unwritten: VecDeque::new() }
    }

    /// The caller has said something, which is called so. Its words are still to come.
    pub(super) fn by_caller(&mut self, item: String) {
        self.all.push(Spoken { item: Some(item.clone()), ..Spoken::new("user", String::new(), None) });
        self.unwritten.push_back((item, Instant::now()));
    }

    /// The words of the caller; when they were said.
    pub(super) fn written(&mut self, item: Option<&str>, text: &str) -> Instant {
        let place = self.unwritten.iter().position(|(unwritten, _)| Some(unwritten.as_str()) == item);
        let spoken = place.and_then(|place| self.unwritten.remove(place));
        match self.all.iter_mut().find(|spoken| spoken.item.is_some() && spoken.item.as_deref() == item) {
            Some(spoken) => (spoken.text, spoken.item) = (text.to_owned(), None),
            None => self.in_words(text.to_owned()),
        }
        spoken.map_or_else(Instant::now, |(_, at)| at)
    }

    /// The caller said this in another way than by voice.
    pub(super) fn in_words(&mut self, text: String) {
        self.all.push(Spoken::new("user", text, None));
    }

    /// The agent said this, in one of its turns.
    pub(super) fn by_agent(&mut self, text: String, turn: u32) {
        self.all.push(Spoken::new("assistant", text, Some(turn)));
    }

    /// Of this turn no more than this was heard.
    pub(super) fn cut(&mut self, turn: u32, heard: String) {
        let at = self.all.iter().position(|spoken| spoken.turn == Some(turn)).unwrap_or(self.all.len());
        self.all.retain(|spoken| spoken.turn != Some(turn));
        if !heard.is_empty() {
            self.all.insert(at, Spoken::new("assistant", heard, Some(turn)));
        }
    }

    /// The connection is lost, and words that have not come will not come.
    pub(super) fn lost(&mut self) {
        self.unwritten.clear();
        self.all.retain(|spoken| spoken.item.is_none());
    }

    /// By whom, and what.
    pub(super) fn told(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let known = self.all.iter().filter(|spoken| !spoken.text.is_empty());
        known.map(|spoken| (spoken.role, spoken.text.as_str()))
    }
}
