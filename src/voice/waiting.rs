//! What waits to be sent to a provider: sound beyond two seconds is dropped from its beginning, words never.

use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
    time::Instant,
};

use futures::{Sink, SinkExt};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{telemetry::voice as figures, voice::link::Out};

/// Blocks of sound that wait: two seconds.
const MOST_SOUND: usize = 20;

/// What waits to be sent. Polled, never awaited across: a message is taken from here only when the socket has room for it.
#[derive(Default)]
pub(super) struct Waiting {
    all: VecDeque<Out>,
    sound: usize,
    /// Since when something that was sent has not left.
    pub(super) flushing: Option<Instant>,
}

impl Waiting {
    pub(super) fn push(&mut self, out: Out) {
        if matches!(out, Out::Sound(_)) {
            if self.sound >= MOST_SOUND
                && let Some(oldest) = self.all.iter().position(|out| matches!(out, Out::Sound(_)))
            {
                self.all.remove(oldest);
                self.sound -= 1;
                figures::audio_dropped(1);
            }
            self.sound += 1;
        }
        self.all.push_back(out);
    }

    pub(super) fn any(&self) -> bool {
        self.flushing.is_some() || !self.all.is_empty()
    }

    /// Sends one message as far as the socket takes it. Whoever drops this future loses nothing.
    pub(super) fn drive<S>(&mut self, sink: &mut S, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        S: Sink<Message, Error = Error> + Unpin,
    {
        if self.flushing.is_none() {
            ready!(sink.poll_ready_unpin(cx))?;
            if let Some(message) = self.pop() {
                sink.start_send_unpin(message)?;
                self.flushing = Some(Instant::now());
            }
        }
        ready!(sink.poll_flush_unpin(cx))?;
        self.flushing = None;
        Poll::Ready(Ok(()))
    }

    fn pop(&mut self) -> Option<Message> {
        match self.all.pop_front()? {
            Out::Sound(message) => {
                self.sound -= 1;
                Some(message)
            }
            Out::Word(message) => Some(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_beyond_two_seconds_is_dropped_from_its_beginning_and_words_never() {
        let mut waiting = Waiting::default();
        waiting.push(Out::Word(Message::text("hello")));
        for i in 0..30_u8 {
            waiting.push(Out::Sound(Message::binary(vec![i])));
        }
        assert_eq!(waiting.pop(), Some(Message::text("hello")));
        assert_eq!(waiting.pop(), Some(Message::binary(vec![10])));
        assert_eq!(waiting.all.len(), MOST_SOUND - 1);
    }
}
