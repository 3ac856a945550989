//! One model that hears and speaks: the whole pipeline is one socket.

use axum::body::Bytes;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    agents::Definition,
    calls::Memory,
    voice::{
        link::{self, Access},
        now::Now,
        pipeline::{Ears, Pipeline, Turns},
        realtime::{Order, Realtime},
    },
};

/// Orders that wait for the socket's own queue.
const ORDERS: usize = 64;
/// Sound that waits in the session: it comes much faster than it is heard, and with it what the caller says, so that it is
/// not held up; 10 minutes.
const AHEAD: usize = 4_800_000;
/// The voice where the agent names none.
const VOICE: &str = "marin";
/// What writes down the caller's words.
const TRANSCRIPTION: &str = "gpt-4o-mini-transcribe";

/// The socket of one call.
pub(super) struct SpeechToSpeech {
    orders: mpsc::Sender<Order>,
}

impl SpeechToSpeech {
    /// Starts the task of a call; it ends with `stop`.
    pub(super) fn start(
        (agent, now): (&Definition, &Now),
        memory: &Memory,
        access: Access,
        (ears, turns): (&Ears, &Turns),
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Self {
        let model = &agent.models.realtime;
        let protocol = Realtime::new(access.login.key.clone(), model, session(agent, now), turns.clone(), memory);
        let (orders, ordered) = mpsc::channel(ORDERS);
        tasks.spawn(link::run(protocol, access, ordered, ears.clone(), stop.clone()));
        Self { orders }
    }

    fn order(&self, order: Order) {
        // A socket that takes nothing any more has told of its end, or will within its time.
        if self.orders.try_send(order).is_err() {
            tracing::debug!("the model takes no more orders");
        }
    }
}

/// The `session` of `session.update`.
fn session(agent: &Definition, now: &Now) -> Value {
    let tools: Vec<Value> = agent
        .tools
        .iter()
        .map(|tool| {
            let (name, description, parameters) = tool.told();
            json!({"type": "function", "name": name, "description": description, "parameters": parameters})
        })
        .collect();
    let mut session = json!({
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": now.added_to(&agent.prompt),
        "tools": tools,
        "audio": {
            "input": {
                "format": {"type": "audio/pcmu"},
                "transcription": {"model": TRANSCRIPTION, "language": agent.language.split('-').next()},
                "turn_detection": {
                    "type": "server_vad", "threshold": agent.turns.voice_threshold, "prefix_padding_ms": 300,
                    "silence_duration_ms": agent.turns.endpointing_ms, "create_response": true,
                    "interrupt_response": agent.turns.interruptible
                }
            },
            "output": {
                "format": {"type": "audio/pcmu"},
                "voice": agent.voice.id.as_deref().unwrap_or(VOICE),
                "speed": agent.voice.speed
            }
        }
    });
    if let Some(most) = agent.models.max_tokens {
        session["max_output_tokens"] = most.into();
    }
    session
}

impl Pipeline for SpeechToSpeech {
    fn hear(&mut self, sound: Bytes) {
        self.order(Order::Hear(sound));
    }

    fn say(&mut self, turn: u32, text: &str) {
        self.order(Order::Say { turn, text: text.to_owned() });
    }

    fn answer(&mut self, turn: u32, _: &Memory, _: &str) {
        self.order(Order::Answer { turn });
    }

    fn told(&mut self, text: &str) {
        self.order(Order::Words(text.to_owned()));
    }

    fn tool(&mut self, id: &str, output: &Value) {
        self.order(Order::Tool { id: id.to_owned(), output: output.to_string() });
    }

    fn finish(&mut self, _: u32) {
        // The model says by itself when it has said all.
    }

    fn stop(&mut self, turn: u32, heard_ms: u64, heard: &str) {
        self.order(Order::Stop { turn, heard_ms, heard: heard.to_owned() });
    }

    fn answers_by_itself(&self) -> bool {
        true
    }

    fn most_ahead(&self) -> usize {
        AHEAD
    }
}
