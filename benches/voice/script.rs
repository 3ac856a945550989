//! What a caller sends: a line, and silence while the agent answers, again and again, as messages that are made once for all callers.

use base64::{Engine, engine::general_purpose::STANDARD};
use rollcall::sim::{Speed, Utterance};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Bytes of 20 ms.
const FRAME: usize = 160;
/// Frames before the first line: the greeting is heard.
const BEFORE: usize = 200;
/// Frames from the beginning of a line to that of the next: 12 s.
const CYCLE: usize = 600;
/// Whoever listens tells sentences apart by their numbers, so that two in a row need different ones.
const LINES: u32 = 16;
/// 1.5 s as people speak.
const LINE: &str = "Please tell me more about it.";

/// What the agent says first: 2.4 s.
pub(crate) const GREETING: &str = "Hello, how can I help you with this now?";
/// What it answers: 8.4 s, so that it speaks 70 % of the time.
pub(crate) const ANSWER: &str = "There is so much to tell that I hardly know where to begin, but the first thing to know is that \
                                 it never ends, and that everybody likes it.";

/// The messages of all callers.
pub(crate) struct Script {
    silence: Utf8Bytes,
    lines: Vec<Vec<Utf8Bytes>>,
}

impl Script {
    pub(crate) fn new() -> Self {
        let line = |number| {
            let sound = Utterance::new(number, LINE, Speed::HUMAN).sound();
            sound.chunks(FRAME).map(media).collect()
        };
        Self { silence: media(&[0xff; FRAME]), lines: (0..LINES).map(line).collect() }
    }

    /// The message of a frame, counted from the first.
    pub(crate) fn frame(&self, at: usize) -> Utf8Bytes {
        let Some(at) = at.checked_sub(BEFORE) else { return self.silence.clone() };
        let line = self.lines.get(at / CYCLE % self.lines.len());
        line.and_then(|line| line.get(at % CYCLE)).unwrap_or(&self.silence).clone()
    }
}

/// Twilio's message of a frame. The numbers are those of a stream that has gone on for a while; nobody looks at them.
fn media(sound: &[u8]) -> Utf8Bytes {
    let sound = STANDARD.encode(sound);
    format!(
        r#"{{"event":"media","sequenceNumber":"1204","media":{{"track":"inbound","chunk":"1202","timestamp":"24040","payload":"{sound}"}},"streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0"}}"#
    )
    .into()
}
