//! Transcription, then a chat model, then speech: three providers, each in a task of its own.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::body::Bytes;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tokio_tungstenite::Connector;
use tokio_util::sync::CancellationToken;

use crate::{
    agents::Definition,
    calls::Memory,
    ids::AttemptId,
    models::{Login, Permits},
    voice::{
        chat::{self, Ask, Mouth},
        deepgram::Deepgram,
        elevenlabs::{ElevenLabs, Order},
        link::{self, Access},
        mulaw::PER_MS,
        now::Now,
        pipeline::{Ears, Pipeline},
    },
};

/// Sound between the session and the transcription's own queue.
const SOUND: usize = 8;
/// Pieces of text that wait for the speech: more is a provider that does not take them.
const TEXTS: usize = 512;
/// No more sound is taken while so much waits in the session: half a second. What comes faster waits in the provider's socket, which is
/// here as well and costs this process nothing.
const AHEAD: usize = 500 * PER_MS;
/// ElevenLabs' voice where the agent names none: "Rachel".
const VOICE: &str = "21m00Tcm4TlvDq8ikWAM";

/// Who is asked.
pub(super) struct Logins {
    pub(super) transcription: Login,
    pub(super) chat: Login,
    pub(super) speech: Login,
}

/// The three providers of one call.
pub(super) struct Cascade {
    agent: Arc<Definition>,
    now: Now,
    http: reqwest::Client,
    chat: Login,
    permits: Permits,
    call: AttemptId,
    ears: Ears,
    sound: mpsc::Sender<Bytes>,
    texts: mpsc::Sender<Order>,
    answers: JoinSet<()>,
    under_way: HashMap<u32, AbortHandle>,
}

impl Cascade {
    /// Starts the tasks of a call; they end with `stop`.
    pub(super) fn start(
        (call, agent, now): (AttemptId, &Arc<Definition>, Now),
        logins: Logins,
        (permits, http, tls): (&Permits, &reqwest::Client, &Connector),
        ears: &Ears,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Self {
        let ear = Deepgram {
            key: logins.transcription.key.clone(),
            model: agent.models.transcription.clone(),
            language: agent.language.clone(),
            endpointing_ms: agent.turns.endpointing_ms,
            request: None,
            guess: String::new(),
        };
        let access = |login| Access { call, login, permits: permits.clone(), tls: tls.clone() };
        let (sound, heard) = mpsc::channel(SOUND);
        tasks.spawn(link::run(ear, access(logins.transcription), heard, ears.clone(), stop.clone()));
        let voice = agent.voice.id.as_deref().unwrap_or(VOICE);
        let mouth = ElevenLabs::new(logins.speech.key.clone(), &agent.models.speech, voice, agent.voice.speed);
        let (texts, spoken) = mpsc::channel(TEXTS);
        tasks.spawn(link::run(mouth, access(logins.speech), spoken, ears.clone(), stop.clone()));
        Self {
            agent: agent.clone(),
            now,
            http: http.clone(),
            chat: logins.chat,
            permits: permits.clone(),
            call,
            ears: ears.clone(),
            sound,
            texts,
            answers: JoinSet::new(),
            under_way: HashMap::new(),
        }
    }

    fn order(&self, order: Order) {
        // A voice that takes nothing any more has told of its end, or will within its time.
        if self.texts.try_send(order).is_err() {
            tracing::debug!("the speech takes no more text");
        }
    }
}

impl Pipeline for Cascade {
    fn hear(&mut self, sound: Bytes) {
        if self.sound.try_send(sound).is_err() {
            crate::telemetry::voice::audio_dropped(1);
        }
    }

    fn say(&mut self, turn: u32, text: &str) {
        self.order(Order::Speak { turn, text: format!("{} ", text.trim_end()) });
        self.order(Order::Finish { turn });
    }

    fn answer(&mut self, turn: u32, memory: &Memory, so_far: &str) {
        while self.answers.try_join_next().is_some() {}
        let limit = Duration::from_millis(self.agent.limits.answer_ms.into());
        let ask = Ask { turn, body: chat::body((&self.agent, &self.now), memory, so_far), limit };
        let (http, login, permits, call, ears) =
            (self.http.clone(), self.chat.clone(), self.permits.clone(), self.call, self.ears.clone());
        let mouth = Mouth::new(turn, ears.events.clone(), self.texts.clone());
        let task = self.answers.spawn(async move {
            chat::answer(&http, (&login, &permits, call), ask, &ears, mouth).await;
        });
        self.under_way.insert(turn, task);
        self.under_way.retain(|_, task| !task.is_finished());
    }

    fn told(&mut self, _: &str) {
        // The memory that the next answer is made of holds it.
    }

    fn tool(&mut self, _: &str, _: &Value) {
        // The memory that the next answer is made of holds it.
    }

    fn finish(&mut self, turn: u32) {
        self.order(Order::Finish { turn });
    }

    fn stop(&mut self, turn: u32, _: u64, _: &str) {
        if let Some(task) = self.under_way.remove(&turn) {
            task.abort();
        }
        self.order(Order::Stop { turn });
    }

    fn answers_by_itself(&self) -> bool {
        false
    }

    fn most_ahead(&self) -> usize {
        AHEAD
    }
}
