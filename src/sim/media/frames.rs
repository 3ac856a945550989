//! The messages of a media stream, in the words of each carrier (Twilio, Media Streams WebSocket messages; Telnyx, media
//! streaming).
use std::{borrow::Cow, collections::BTreeMap, fmt::Write};

use serde::Deserialize;
use serde_json::{Value, json};

/// Whose words, and what they name.
#[derive(Debug, Clone)]
pub(crate) enum Dialect {
    /// Twilio Media Streams.
    Twilio {
        /// Account SID.
        account: String,
        /// Call SID.
        call: String,
        /// `MZ` and 32 hex digits.
        stream: String,
        /// The `<Parameter>` elements.
        parameters: BTreeMap<String, String>,
    },
    /// Telnyx media streaming.
    Telnyx {
        /// A UUID.
        stream: String,
        /// What stands in `start` beside the format: `call_control_id`, `client_state` and the like.
        start: Value,
        /// What the server sends is sound as it is; else Telnyx takes it for MP3.
        rtp: bool,
    },
}

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// Sound, in base64.
    Media(Cow<'a, str>),
    Mark(Cow<'a, str>),
    Clear,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// A field more or less, or the wrong stream, is an error at Twilio (31951).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, rename = "streamSid")]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    media: Option<Payload<'a>>,
    #[serde(borrow)]
    mark: Option<Name<'a>>,
}

/// Telnyx asks for no stream and overlooks what it does not know.
#[derive(Deserialize)]
struct Easy<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    media: Option<Payload<'a>>,
    #[serde(borrow)]
    mark: Option<Name<'a>>,
}

impl Dialect {
    /// Telnyx does not promise the order of frames.
    pub(super) const fn may_reorder(&self) -> bool {
        matches!(self, Self::Telnyx { .. })
    }

    /// What the carrier calls a message that it does not take.
    pub(super) const fn malformed(&self) -> &'static str {
        match self {
            Self::Twilio { .. } => "31951",
            Self::Telnyx { .. } => "100003",
        }
    }

    /// The id of the stream.
    pub(super) fn stream(&self) -> &str {
        match self {
            Self::Twilio { stream, .. } | Self::Telnyx { stream, .. } => stream,
        }
    }

    /// The first message; it has no number.
    pub(super) fn connected(&self) -> String {
        match self {
            Self::Twilio { .. } => r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#.to_owned(),
            Self::Telnyx { .. } => r#"{"event":"connected","version":"1.0.0"}"#.to_owned(),
        }
    }

    /// The message that says what the stream is.
    pub(super) fn start(&self, sequence: u64) -> String {
        let sequence = sequence.to_string();
        let message = match self {
            Self::Twilio { account, call, stream, parameters } => json!({
                "event": "start", "sequenceNumber": sequence, "streamSid": stream,
                "start": {
                    "accountSid": account, "streamSid": stream, "callSid": call, "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                    "customParameters": parameters,
                },
            }),
            Self::Telnyx { stream, start, .. } => {
                let mut start = start.clone();
                start["media_format"] = json!({"encoding": "PCMU", "sample_rate": 8000, "channels": 1});
                json!({"event": "start", "sequence_number": sequence, "stream_id": stream, "start": start})
            }
        };
        message.to_string()
    }

    /// 20 ms of the far end: the `chunk`th, from 1.
    pub(super) fn media(&self, sequence: u64, chunk: u64, ms: u64, payload: &str) -> String {
        let mut text = String::with_capacity(payload.len() + 192);
        let stream = self.stream();
        // Writing to a String cannot fail.
        match self {
            Self::Twilio { .. } => write!(
                text,
                r#"{{"event":"media","sequenceNumber":"{sequence}","media":{{"track":"inbound","chunk":"{chunk}","timestamp":"{ms}","payload":"{payload}"}},"streamSid":"{stream}"}}"#
            ),
            Self::Telnyx { .. } => write!(
                text,
                r#"{{"event":"media","sequence_number":"{sequence}","stream_id":"{stream}","media":{{"track":"inbound","chunk":"{chunk}","timestamp":"{ms}","payload":"{payload}"}}}}"#
            ),
        }
        .ok();
        text
    }

    /// A mark that comes back.
    pub(super) fn mark(&self, sequence: u64, name: &str) -> String {
        let (sequence, mark) = (sequence.to_string(), json!({"name": name}));
        match self {
            Self::Twilio { stream, .. } => {
                json!({"event": "mark", "sequenceNumber": sequence, "streamSid": stream, "mark": mark})
            }
            Self::Telnyx { stream, .. } => {
                json!({"event": "mark", "sequence_number": sequence, "stream_id": stream, "mark": mark})
            }
        }
        .to_string()
    }

    /// A key that the far end pressed.
    pub(super) fn dtmf(&self, sequence: u64, digit: char, at: &str) -> String {
        let sequence = sequence.to_string();
        match self {
            Self::Twilio { stream, .. } => json!({
                "event": "dtmf", "sequenceNumber": sequence, "streamSid": stream,
                "dtmf": {"track": "inbound_track", "digit": digit.to_string()},
            }),
            Self::Telnyx { stream, .. } => json!({
                "event": "dtmf", "sequence_number": sequence, "stream_id": stream, "occurred_at": at,
                "dtmf": {"digit": digit.to_string()},
            }),
        }
        .to_string()
    }

    /// The last message.
    pub(super) fn stop(&self, sequence: u64) -> String {
        let sequence = sequence.to_string();
        match self {
            Self::Twilio { account, call, stream, .. } => json!({
                "event": "stop", "sequenceNumber": sequence, "streamSid": stream,
                "stop": {"accountSid": account, "callSid": call},
            }),
            Self::Telnyx { stream, start, .. } => json!({
                "event": "stop", "sequence_number": sequence, "stream_id": stream,
                "stop": {"user_id": start["user_id"], "call_control_id": start["call_control_id"]},
            }),
        }
        .to_string()
    }

    /// Tells the server what was wrong with its message, where the carrier does.
    pub(super) fn complaint(&self, why: &str) -> Option<String> {
        match self {
            Self::Twilio { .. } => None,
            Self::Telnyx { stream, .. } => Some(
                json!({
                    "event": "error", "stream_id": stream,
                    "payload": {"code": 100_003, "title": "malformed_frame", "detail": why},
                })
                .to_string(),
            ),
        }
    }

    /// Reads what the server says, or says what is wrong with it.
    pub(super) fn read<'a>(&self, text: &'a str) -> Result<Said<'a>, String> {
        let (event, media, mark) = match self {
            Self::Twilio { stream, .. } => {
                let message: Strict<'a> = serde_json::from_str(text).map_err(|error| error.to_string())?;
                if message.stream != **stream {
                    return Err(format!("streamSid is {}, not {stream}", message.stream));
                }
                (message.event, message.media, message.mark)
            }
            Self::Telnyx { rtp, .. } => {
                let message: Easy<'a> = serde_json::from_str(text).map_err(|error| error.to_string())?;
                if message.media.is_some() && !rtp {
                    return Err("the payload is no MP3: stream_bidirectional_mode is not rtp".to_owned());
                }
                (message.event, message.media, message.mark)
            }
        };
        match (&*event, media, mark) {
            ("media", Some(media), None) => Ok(Said::Media(media.payload)),
            ("mark", None, Some(mark)) => Ok(Said::Mark(mark.name)),
            ("clear", None, None) => Ok(Said::Clear),
            _ => Err(format!("`{event}` is no message of a stream, or a field is missing or too many")),
        }
    }
}
