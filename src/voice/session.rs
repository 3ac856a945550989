//! One conversation: a task that owns its socket, its providers, its turns and its memory, and shares none of them.
//!
//! Nothing here waits for a lock: the only one is where the newest state lies until it is written. What comes in is taken in one
//! place, in this order: what the process says, the carrier, the clock, the providers. The carrier is never kept waiting for a
//! provider.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::ws::{Message, WebSocket},
};
use bytes::BytesMut;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    agents::Definition,
    calls::{
        CallState,
        store::{Next, Owner},
    },
    telemetry::voice as figures,
    voice::{
        deadlines::IDLE,
        ending::{self, Ending, Reason},
        mulaw::PER_MS,
        opening::{self, Voice},
        pipeline::{Event, Sound},
        playout::{Out, Playout},
        registry::{Command, Entry, Sessions},
        turn::Speaking,
        turn_tools::{ToolDone, Tools},
        vad::Vad,
        wire::{Frame, Order, Wire},
    },
};

/// Sound of the caller that goes to a provider at once: 100 ms.
const BLOCK: usize = 100 * PER_MS;
/// A socket that does not take a frame for so long is dead.
const WRITE: Duration = Duration::from_secs(2);
/// Frames that cannot be read, in one stream.
const MOST_MALFORMED: u32 = 20;

/// What a session is built of.
pub(super) struct Parts {
    pub(super) sessions: Sessions,
    pub(super) state: CallState,
    pub(super) agent: Arc<Definition>,
    pub(super) owner: Owner,
    pub(super) entry: Entry,
    pub(super) told: mpsc::Receiver<Command>,
    /// When the socket was taken.
    pub(super) begin: Instant,
    /// For so long the conversation went on in earlier sessions, ms.
    pub(super) spoken_ms: u64,
}

/// The carrier's side.
pub(super) struct Socket {
    pub(super) socket: WebSocket,
    pub(super) wire: Wire,
    /// The stream's id, as JSON.
    pub(super) stream: String,
}

/// The tasks of a session: they end with `stop`, and at the latest when this is dropped.
pub(super) struct Tasks {
    pub(super) set: JoinSet<()>,
    pub(super) stop: CancellationToken,
}

/// One conversation.
pub(super) struct Session {
    pub(super) parts: Parts,
    pub(super) line: Socket,
    pub(super) tasks: Tasks,
    pub(super) voice: Voice,
    pub(super) playout: Playout,
    pub(super) vad: Vad,
    order: Order,
    block: BytesMut,
    malformed: u32,
    sounded: bool,
    pub(super) tools: Tools,
    saved: Saved,
    scribe: JoinHandle<()>,
    /// What the agent is saying, or about to.
    pub(super) speaking: Option<Speaking>,
    /// The caller has spoken, and the answer was given up before a sound of it was heard.
    pub(super) unanswered: bool,
    /// Words of the caller that are no turn yet, and when the last of them came.
    pub(super) pending: String,
    pub(super) pending_at: Instant,
    /// When the caller was last heard to speak.
    pub(super) voice_at: Instant,
    /// Since when nobody speaks.
    pub(super) quiet_at: Instant,
    pub(super) media_at: Instant,
    /// When the clock was last looked at.
    pub(super) looked_at: Instant,
    pub(super) ending: Option<Ending>,
    pub(super) leave_by: Option<Instant>,
    pub(super) over: Option<Reason>,
}

enum Input {
    Command(Option<Command>),
    Message(Option<Result<Message, axum::Error>>),
    Time,
    Event(Event),
    Sound(Sound),
    Tool(Result<ToolDone, tokio::task::JoinError>),
}

/// Holds a conversation to its end.
pub(super) async fn run(parts: Parts, line: Socket) -> Reason {
    let mut tasks = Tasks { set: JoinSet::new(), stop: CancellationToken::new() };
    let voice = match Box::pin(opening::voice(&parts, &mut tasks)).await {
        Ok(voice) => voice,
        Err(error) => {
            tracing::error!(attempt.id = %parts.state.attempt, error = format!("{error:#}"), "an agent cannot speak");
            figures::session_failed("provider");
            return Box::pin(ending::without_voice(parts, line)).await;
        }
    };
    let now = Instant::now();
    let (saved, scribe) = scribe(&parts);
    let mut session = Session {
        playout: Playout::new(now, matches!(line.wire, Wire::Twilio | Wire::Telnyx)),
        vad: Vad::new(parts.sessions.ctx().hearing.ear(), parts.agent.turns.voice_threshold),
        parts,
        line,
        tasks,
        voice,
        order: Order::default(),
        block: BytesMut::with_capacity(BLOCK * 2),
        malformed: 0,
        sounded: false,
        tools: Tools::default(),
        saved,
        scribe,
        speaking: None,
        unanswered: false,
        pending: String::new(),
        pending_at: now,
        voice_at: now,
        quiet_at: now,
        media_at: now,
        looked_at: now,
        ending: None,
        leave_by: None,
        over: None,
    };
    let reason = session.live().await;
    session.scribe.abort();
    // The room that an end needs is taken at the end, and not for as long as the call lasts.
    Box::pin(ending::end(session, reason)).await
}

/// The newest state that is not written yet. A copy, but no longer than until it is: a call's state is some kilobytes.
struct Saved {
    newest: Arc<Mutex<Option<CallState>>>,
    changed: mpsc::Sender<()>,
}

impl Saved {
    fn put(&self, state: &CallState) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(state.clone());
        // Where it is full, whoever writes will look once more.
        let _ = self.changed.try_send(());
    }
}

/// Writes the state whenever it has changed, the newest only. Whoever has lost the call is told by the renewal.
fn scribe(parts: &Parts) -> (Saved, JoinHandle<()>) {
    let (changed, mut changes) = mpsc::channel(1);
    let saved = Saved { newest: Arc::default(), changed };
    saved.put(&parts.state);
    let newest = saved.newest.clone();
    let (calls, owner) = (parts.sessions.ctx().calls.clone(), parts.owner.clone());
    let task = tokio::spawn(async move {
        while changes.recv().await.is_some() {
            let Some(state) = newest.lock().unwrap_or_else(PoisonError::into_inner).take() else { continue };
            if let Err(error) = calls.save(&state, &owner, Next::GoOn).await {
                tracing::warn!(attempt.id = %state.attempt, error = format!("{error:#}"), "the state of a call was not written");
            }
        }
    });
    (saved, task)
}

impl Session {
    async fn live(&mut self) -> Reason {
        self.begin();
        loop {
            if let Some(reason) = self.over {
                return reason;
            }
            if let Err(reason) = self.play().await {
                return reason;
            }
            if let Some(reason) = self.over {
                return reason;
            }
            let wake = self.wake(Instant::now());
            let takes_sound = self.playout.queued() < self.voice.pipeline.most_ahead();
            let input = tokio::select! {
                biased;
                command = self.parts.told.recv() => Input::Command(command),
                message = self.line.socket.recv() => Input::Message(message),
                () = sleep_until(wake.into()) => Input::Time,
                Some(event) = self.voice.events.recv() => Input::Event(event),
                Some(sound) = self.voice.sound.recv(), if takes_sound => Input::Sound(sound),
                Some(done) = self.tools.next(), if !self.tools.is_empty() => Input::Tool(done),
            };
            if let Err(reason) = self.take(input).await {
                return reason;
            }
            // Whoever sends without a pause does not stop the clock.
            if self.over.is_none()
                && self.looked_at.elapsed() >= IDLE
                && let Err(reason) = self.time(Instant::now()).await
            {
                return reason;
            }
        }
    }

    async fn take(&mut self, input: Input) -> Result<(), Reason> {
        match input {
            Input::Command(Some(Command::HandOver)) => self.leave(),
            Input::Command(Some(Command::Lost)) => return Err(Reason::Lost),
            Input::Command(Some(Command::Write)) => self.save(),
            Input::Command(Some(Command::Machine)) => self.leave_message().await?,
            Input::Command(Some(Command::End) | None) => return Err(Reason::Stopped),
            Input::Message(None | Some(Err(_))) => return Err(Reason::Broke),
            Input::Message(Some(Ok(message))) => match self.line.wire.read(&message) {
                Ok(frame) => self.frame(frame).await?,
                Err(why) => {
                    self.malformed += 1;
                    tracing::debug!(attempt.id = %self.parts.state.attempt, %why, "a frame that cannot be read");
                    if self.malformed > MOST_MALFORMED {
                        return Err(Reason::Malformed);
                    }
                }
            },
            Input::Time => self.time(Instant::now()).await?,
            Input::Event(event) => self.event(event).await?,
            Input::Sound(sound) => self.sound(sound),
            Input::Tool(done) => self.tool_done(done),
        }
        Ok(())
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), Reason> {
        match frame {
            Frame::Media { sound, chunk } => {
                self.media_at = Instant::now();
                self.parts.entry.heard();
                let sound = match chunk.filter(|_| self.line.wire.reorders()) {
                    Some(chunk) => self.order.put(chunk, sound),
                    None => sound,
                };
                self.hear(&sound).await
            }
            Frame::Mark(name) => {
                self.playout.echoed(&name);
                Ok(())
            }
            Frame::Key(key) => {
                self.pending.push_str(&format!("[pressed {key}] "));
                // Who presses a key speaks with it: the answer is waited for from now on.
                (self.pending_at, self.quiet_at, self.voice_at) = (Instant::now(), Instant::now(), Instant::now());
                self.break_in().await
            }
            Frame::Stop => Err(Reason::HungUp),
            // A carrier says when a call is over; whoever closes its socket without a word has lost the stream, not the call.
            Frame::Closed if self.parts.state.carrier.is_some() => Err(Reason::Broke),
            Frame::Closed => Err(Reason::HungUp),
            Frame::Start { .. } | Frame::Nothing => Ok(()),
        }
    }

    /// Sound of the caller: to the ear here, and in blocks to the provider.
    async fn hear(&mut self, sound: &[u8]) -> Result<(), Reason> {
        self.block.extend_from_slice(sound);
        while self.block.len() >= BLOCK {
            let block = self.block.split_to(BLOCK).freeze();
            self.voice.pipeline.hear(block);
        }
        let speech_ms = self.vad.hear(sound);
        if speech_ms > 0 {
            let now = Instant::now();
            // A hole in speech is a part of it until it is too long; the voice itself was heard before it.
            (self.voice_at, self.quiet_at) = (now.checked_sub(self.vad.silent()).unwrap_or(now), now);
        }
        let enough = speech_ms >= self.parts.agent.turns.interrupt_after_ms;
        // Before it is heard, an answer is stopped by words only: a noise is no reason to think again.
        if enough && self.playout.sounds(Instant::now()) { self.break_in().await } else { Ok(()) }
    }

    /// Sends what is due, and notes what was heard to its end.
    async fn play(&mut self) -> Result<(), Reason> {
        let now = Instant::now();
        while let Some(out) = self.playout.next(now) {
            let message = match out {
                Out::Frame(sound) => {
                    self.first_sound();
                    Some(self.line.wire.media(&self.line.stream, &sound))
                }
                Out::Mark(name) => self.line.wire.mark(&self.line.stream, &name),
            };
            if let Some(message) = message {
                self.send(message).await?;
            }
        }
        let heard = self.speaking.as_ref().is_some_and(|speaking| self.playout.played(speaking.turn, now));
        if heard {
            self.heard_to_its_end().await;
        }
        Ok(())
    }

    fn first_sound(&mut self) {
        if !std::mem::replace(&mut self.sounded, true) {
            figures::session_started(self.parts.begin.elapsed());
        }
    }

    pub(super) async fn send(&mut self, message: Message) -> Result<(), Reason> {
        match timeout(WRITE, self.line.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Reason::Broke),
        }
    }

    /// The state has changed: it is written soon.
    pub(super) fn save(&self) {
        self.saved.put(&self.parts.state);
    }

    /// Milliseconds since the conversation began, in whichever session.
    pub(super) fn at_ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.parts.begin);
        self.parts.spoken_ms + u64::try_from(since.as_millis()).unwrap_or(0)
    }

    /// Sound that is not of a provider, as part of a turn.
    pub(super) fn add_sound(&mut self, turn: u32, sound: Bytes) {
        self.playout.add(turn, sound);
    }
}
