//! The frames of a media stream: what carriers send, and what they take.
//!
//! Sources: Twilio, "Media Streams - WebSocket Messages"; Telnyx, "Media Streaming over WebSockets". Numbers may come as texts.
//! A session without a carrier sends and gets bare sound as binary messages.

use std::{borrow::Cow, fmt};

use axum::{body::Bytes, extract::ws::Message};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de::Visitor};

use crate::voice::mulaw;

/// Whose frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// Twilio Media Streams.
    Twilio,
    /// Telnyx media streaming.
    Telnyx,
    /// Bare mu-law at 8 kHz.
    Mulaw,
    /// Bare 16-bit samples, little-endian, at 8 kHz.
    Pcm16,
}

/// What a carrier sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// The stream begins: its id, the carrier's id of the call, and the encoding of its sound.
    Start { stream: String, call_id: String, encoding: String, rate: u32 },
    /// Sound of the caller, with its place in the stream where that is said.
    Media { sound: Vec<u8>, chunk: Option<u64> },
    /// A mark was played or dropped.
    Mark(String),
    /// The caller pressed a key.
    Key(char),
    /// The stream is over: so is the call.
    Stop,
    /// The socket is being closed, and nobody has said that the call is over.
    Closed,
    /// Something that needs no answer.
    Nothing,
}

/// A frame that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(String);

/// A text as it stands in the frame; one with escapes in it is a copy. Within an `Option` the library would copy each.
#[derive(Deserialize, Default)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, default)]
    event: Word<'a>,
    #[serde(borrow, default, alias = "streamSid")]
    stream_id: Option<Word<'a>>,
    #[serde(borrow, default)]
    media: Option<RawMedia<'a>>,
    #[serde(default)]
    start: Option<RawStart>,
    #[serde(default)]
    mark: Option<RawMark>,
    #[serde(default)]
    dtmf: Option<RawKey>,
}

#[derive(Deserialize)]
struct RawMedia<'a> {
    #[serde(borrow, default)]
    payload: Word<'a>,
    #[serde(borrow, default)]
    track: Option<Word<'a>>,
    #[serde(default)]
    chunk: Option<Number>,
}

#[derive(Deserialize)]
struct RawStart {
    #[serde(default, alias = "callSid")]
    call_control_id: Option<String>,
    #[serde(default, alias = "mediaFormat")]
    media_format: Option<RawFormat>,
}

#[derive(Deserialize)]
struct RawFormat {
    #[serde(default)]
    encoding: String,
    #[serde(default, alias = "sampleRate")]
    sample_rate: Option<Number>,
}

#[derive(Deserialize)]
struct RawMark {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct RawKey {
    #[serde(default)]
    digit: String,
}

/// A number, written as one or as a text; what is neither is none. It comes with every frame: nothing is allocated for it.
#[derive(Debug, Clone, Copy)]
struct Number(Option<u64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self(None))
    }
}

impl Visitor<'_> for Number {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a text that is one")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self, E> {
        Ok(Self(Some(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self, E> {
        Ok(Self(text.parse().ok()))
    }
}

impl Wire {
    /// Reads a message of the socket.
    pub(super) fn read(self, message: &Message) -> Result<Frame, Malformed> {
        match (self, message) {
            (Self::Twilio | Self::Telnyx, Message::Text(text)) => read(text),
            (Self::Mulaw, Message::Binary(sound)) => Ok(Frame::Media { sound: sound.to_vec(), chunk: None }),
            (Self::Pcm16, Message::Binary(sound)) => {
                let (samples, _) = sound.as_chunks::<2>();
                let sound = samples.iter().map(|pair| mulaw::encode(i16::from_le_bytes(*pair))).collect();
                Ok(Frame::Media { sound, chunk: None })
            }
            (Self::Mulaw | Self::Pcm16, Message::Text(text)) if text.as_str() == "stop" => Ok(Frame::Stop),
            (_, Message::Ping(_) | Message::Pong(_)) => Ok(Frame::Nothing),
            (_, Message::Close(_)) => Ok(Frame::Closed),
            _ => Err(Malformed("a message of a kind that this stream does not have".to_owned())),
        }
    }

    /// Sound for the caller.
    pub(super) fn media(self, stream: &str, sound: &Bytes) -> Message {
        match self {
            Self::Twilio => text(format!(
                r#"{{"event":"media","streamSid":{stream},"media":{{"payload":"{}"}}}}"#,
                STANDARD.encode(sound)
            )),
            Self::Telnyx => {
                // It takes 20 ms and more (developers.telnyx.com, media streaming): the end of a turn is filled up with silence.
                let mut whole = sound.to_vec();
                whole.resize(whole.len().max(mulaw::FRAME), mulaw::encode(0));
                text(format!(r#"{{"event":"media","media":{{"payload":"{}"}}}}"#, STANDARD.encode(whole)))
            }
            Self::Mulaw => Message::Binary(sound.clone()),
            Self::Pcm16 => {
                let samples: Vec<u8> = sound.iter().flat_map(|byte| mulaw::decode(*byte).to_le_bytes()).collect();
                Message::Binary(samples.into())
            }
        }
    }

    /// A mark behind what was sent; `None` where nobody would send it back.
    pub(super) fn mark(self, stream: &str, name: &str) -> Option<Message> {
        match self {
            Self::Twilio => {
                Some(text(format!(r#"{{"event":"mark","streamSid":{stream},"mark":{{"name":"{name}"}}}}"#)))
            }
            Self::Telnyx => Some(text(format!(r#"{{"event":"mark","mark":{{"name":"{name}"}}}}"#))),
            Self::Mulaw | Self::Pcm16 => None,
        }
    }

    /// Drop what was not played.
    pub(super) fn clear(self, stream: &str) -> Message {
        match self {
            Self::Twilio => text(format!(r#"{{"event":"clear","streamSid":{stream}}}"#)),
            Self::Telnyx | Self::Mulaw | Self::Pcm16 => text(r#"{"event":"clear"}"#.to_owned()),
        }
    }

    /// True where the sound is what we speak: mu-law at 8 kHz, one channel.
    pub(super) fn takes(self, encoding: &str, rate: u32) -> bool {
        match self {
            Self::Twilio => encoding == "audio/x-mulaw" && rate == 8_000,
            Self::Telnyx => encoding == "PCMU" && rate == 8_000,
            Self::Mulaw | Self::Pcm16 => true,
        }
    }

    /// True where frames may come in another order than they were made in.
    pub(super) fn reorders(self) -> bool {
        self == Self::Telnyx
    }
}

fn text(text: String) -> Message {
    Message::Text(text.into())
}

fn read(text: &str) -> Result<Frame, Malformed> {
    let raw: Raw<'_> = serde_json::from_str(text).map_err(|error| Malformed(error.to_string()))?;
    match &*raw.event.0 {
        "media" => {
            let media = raw.media.ok_or_else(|| Malformed("media without media".to_owned()))?;
            if media.track.is_some_and(|track| !track.0.starts_with("inbound")) {
                return Ok(Frame::Nothing);
            }
            let sound =
                STANDARD.decode(media.payload.0.as_bytes()).map_err(|error| Malformed(format!("payload: {error}")))?;
            Ok(Frame::Media { sound, chunk: media.chunk.and_then(|chunk| chunk.0) })
        }
        "start" => {
            let start = raw.start.ok_or_else(|| Malformed("start without start".to_owned()))?;
            let format = start.media_format.ok_or_else(|| Malformed("start without its media format".to_owned()))?;
            let rate = format.sample_rate.and_then(|rate| rate.0).and_then(|rate| u32::try_from(rate).ok());
            Ok(Frame::Start {
                stream: raw.stream_id.unwrap_or_default().0.into_owned(),
                call_id: start.call_control_id.unwrap_or_default(),
                encoding: format.encoding,
                rate: rate.unwrap_or(0),
            })
        }
        "mark" => Ok(raw.mark.map_or(Frame::Nothing, |mark| Frame::Mark(mark.name))),
        "dtmf" => {
            let key = raw.dtmf.and_then(|dtmf| dtmf.digit.chars().next());
            Ok(key.filter(|key| "0123456789*#ABCD".contains(*key)).map_or(Frame::Nothing, Frame::Key))
        }
        "stop" => Ok(Frame::Stop),
        "" => Err(Malformed("no event".to_owned())),
        // What comes in later versions is no fault of the sender.
        _ => Ok(Frame::Nothing),
    }
}

/// Puts sound that came in another order back into its own.
#[derive(Default)]
pub(super) struct Order {
    next: u64,
    early: std::collections::BTreeMap<u64, Vec<u8>>,
}

impl Order {
    /// Frames that wait for one that is missing, at most.
    const MOST: usize = 5;
    /// A second of frames. Nothing is late or early by more: a number that is further away is where the stream begins again, or is
    /// none at all, and then the next one is the beginning.
    const FAR: u64 = 50;

    /// The sound that is due now that this one has come; what comes too late is nothing.
    pub(super) fn put(&mut self, chunk: u64, sound: Vec<u8>) -> Vec<u8> {
        let mut due = Vec::new();
        if self.next == 0 || chunk.abs_diff(self.next) > Self::FAR {
            due.extend(std::mem::take(&mut self.early).into_values().flatten());
            self.next = chunk;
        }
        if chunk < self.next {
            return due;
        }
        self.early.insert(chunk, sound);
        if self.early.len() > Self::MOST {
            self.next = self.early.keys().next().copied().unwrap_or(chunk);
        }
        while let Some(sound) = self.early.remove(&self.next) {
            due.extend(sound);
            self.next = self.next.saturating_add(1);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twilio(text: &str) -> Result<Frame, Malformed> {
        Wire::Twilio.read(&Message::Text(text.to_owned().into()))
    }

    #[test]
    fn both_carriers_frames_are_read() {
        let start = r#"{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC","streamSid":"MZ1","callSid":"CA1",
            "tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{}},
            "streamSid":"MZ1"}"#;
        let stream = |stream: &str, call: &str, encoding: &str| Frame::Start {
            stream: stream.into(),
            call_id: call.into(),
            encoding: encoding.into(),
            rate: 8_000,
        };
        assert_eq!(twilio(start), Ok(stream("MZ1", "CA1", "audio/x-mulaw")));
        let start = r#"{"event":"start","sequence_number":"1","stream_id":"s","start":{"call_control_id":"v3:x","media_format":
            {"encoding":"PCMU","sample_rate":8000,"channels":1}}}"#;
        assert_eq!(twilio(start), Ok(stream("s", "v3:x", "PCMU")));
        let media = r#"{"event":"media","media":{"track":"inbound","chunk":"2","timestamp":"5","payload":"//8="},"streamSid":"M"}"#;
        assert_eq!(twilio(media), Ok(Frame::Media { sound: vec![255, 255], chunk: Some(2) }));
        assert_eq!(twilio(r#"{"event":"mark","mark":{"name":"g1"}}"#), Ok(Frame::Mark("g1".into())));
        assert_eq!(twilio(r#"{"event":"dtmf","dtmf":{"digit":"5"}}"#), Ok(Frame::Key('5')));
        assert_eq!(twilio(r#"{"event":"stop","stop":{}}"#), Ok(Frame::Stop));
        assert_eq!(twilio(r#"{"event":"connected","version":"1.0.0"}"#), Ok(Frame::Nothing));
    }

    #[test]
    fn a_socket_that_is_closed_without_a_stop_does_not_say_that_the_caller_hung_up() {
        for wire in [Wire::Twilio, Wire::Telnyx, Wire::Mulaw, Wire::Pcm16] {
            assert_eq!(wire.read(&Message::Close(None)), Ok(Frame::Closed));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_and_never_panics() {
        let deep = format!("{}{}", r#"{"event":"media","x":"#, "[".repeat(10_000));
        for bad in ["", "{", "[]", "7", r#"{"event":"media"}"#, r#"{"event":"media","media":{"payload":"%"}}"#, &deep] {
            assert!(twilio(bad).is_err(), "{bad:.40}");
        }
        assert!(Wire::Twilio.read(&Message::Binary(Bytes::from_static(b"x"))).is_err());
    }

    #[test]
    fn sound_out_of_order_is_put_in_order_and_what_is_lost_is_not_waited_for() {
        let mut order = Order::default();
        assert_eq!(order.put(1, vec![1]), [1]);
        assert!(order.put(3, vec![3]).is_empty());
        assert_eq!(order.put(2, vec![2]), [2, 3]);
        assert!(order.put(2, vec![2]).is_empty(), "again");
        for chunk in 5..10 {
            assert!(order.put(chunk, vec![0]).is_empty());
        }
        assert_eq!(order.put(10, vec![0]).len(), 6, "4 is lost");
    }

    #[test]
    fn a_number_that_jumps_far_is_a_new_beginning_and_makes_nobody_deaf() {
        for far in [u64::MAX, u64::MAX - 1, 1 << 40, 1_000] {
            let mut order = Order::default();
            assert_eq!(order.put(far, vec![9]), [9], "the first frame");
            assert_eq!(order.put(1, vec![1]), [1], "after {far}");
            assert_eq!(order.put(2, vec![2]), [2]);
            assert!(order.put(4, vec![4]).is_empty());
            assert_eq!(order.put(far, vec![9]), [4, 9], "what waited goes first");
            assert_eq!(order.put(5, vec![5]), [5]);
        }
    }

    #[test]
    fn letters_that_are_escaped_are_read_like_any_other() {
        let media =
            r#"{"ev\u0065nt":"m\u0065dia","media":{"track":"inbound\u005ftrack","chunk":"2","payload":"\/\/8="}}"#;
        assert_eq!(twilio(media), Ok(Frame::Media { sound: vec![255, 255], chunk: Some(2) }));
        let outbound = r#"{"event":"media","media":{"track":"\u006futbound","payload":"AA=="}}"#;
        assert_eq!(twilio(outbound), Ok(Frame::Nothing));
        assert_eq!(twilio(r#"{"event":"st\u006fp"}"#), Ok(Frame::Stop));
    }

    #[test]
    fn samples_of_16_bits_are_spoken_and_heard() {
        let sound = Wire::Pcm16.read(&Message::Binary(Bytes::from_static(&[0, 0, 0, 64]))).unwrap();
        let Frame::Media { sound, .. } = sound else { panic!("{sound:?}") };
        assert_eq!((sound[0], sound.len()), (0xff, 2));
        let Message::Binary(back) = Wire::Pcm16.media("", &Bytes::from(sound)) else { panic!("no sound") };
        assert_eq!(back.len(), 4);
    }
}
