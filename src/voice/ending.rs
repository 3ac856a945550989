//! The end of a conversation: said goodbye, written down, hung up once, and nothing left open.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::{
    calls::{Phase, store::Next},
    dialing::conversation,
    voice::{
        opening::{NORMAL, close},
        pipeline::Event,
        session::{Parts, Session, Socket, Tasks},
        turn_tools::Tools,
    },
};

/// Every socket to a provider is closed within this.
const CLOSED: Duration = Duration::from_millis(900);

/// Why a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    HungUp,
    EndedByAgent,
    Transferred,
    Silence,
    Voicemail,
    TimeLimit,
    TurnLimit,
    Trouble,
    HandedOver,
    Lost,
    Broke,
    DeadStream,
    Malformed,
    Stopped,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::HungUp => conversation::HUNG_UP,
            Self::EndedByAgent => "ended_by_agent",
            Self::Transferred => conversation::TRANSFERRED,
            Self::Silence => "silence",
            Self::Voicemail => "voicemail",
            Self::TimeLimit => "time_limit",
            Self::TurnLimit => "turn_limit",
            Self::Trouble => conversation::TROUBLE,
            Self::HandedOver => "handed_over",
            Self::Lost => "lost",
            Self::Broke => "stream_broke",
            Self::DeadStream => "dead_stream",
            Self::Malformed => "malformed",
            Self::Stopped => "stopped",
        }
    }

    /// The call goes on with whoever takes it next, or is ended as an orphan.
    fn leaves_the_call(self, has_carrier: bool) -> bool {
        matches!(self, Self::HandedOver | Self::Lost) || (self == Self::Broke && has_carrier)
    }

    /// It is ours to end the call.
    fn hangs_up(self) -> bool {
        !matches!(self, Self::HungUp | Self::Transferred | Self::HandedOver | Self::Lost | Self::Broke)
    }
}

/// An end that waits for the last words to be heard.
pub(super) struct Ending {
    pub(super) reason: Reason,
    /// The turn of the last words.
    pub(super) after: u32,
    /// Since when there is nothing more to say.
    pub(super) since: Instant,
    /// Characters of the last words, where they were given: a model that speaks by itself tells of them late.
    pub(super) letters: usize,
    /// The tool's id, and whom the caller is put through to.
    pub(super) transfer: Option<(String, String)>,
}

impl Ending {
    pub(super) fn after(turn: u32, reason: Reason, transfer: Option<(String, String)>) -> Self {
        Self { reason, after: turn, since: Instant::now(), letters: 0, transfer }
    }
}

impl Session {
    /// Ends the conversation: after these last words, or at once.
    pub(super) fn close(&mut self, reason: Reason, text: Option<String>) {
        if self.ending.is_some() || self.over.is_some() {
            return;
        }
        self.cut();
        let Some(text) = text else {
            self.over = Some(reason);
            return;
        };
        self.say(&text);
        let turn = self.speaking.as_ref().map_or(0, |speaking| speaking.turn);
        self.ending = Some(Ending { letters: text.chars().count(), ..Ending::after(turn, reason, None) });
    }

    /// What was used and told of, and not heard of yet.
    fn count_rest(&mut self) {
        while let Ok(event) = self.voice.events.try_recv() {
            if let Event::Used { what, amount } = event {
                self.parts.state.memory.used(what, amount);
            }
        }
    }
}

/// Writes down how it ended, ends the call where that is ours, and closes everything, all at once.
pub(super) async fn end(mut session: Session, reason: Reason) -> Reason {
    session.cut();
    session.keep_pending();
    session.count_rest();
    let at_ms = session.at_ms(Instant::now());
    let Session { parts, line, tasks, tools, .. } = session;
    finished(parts, line, tasks, (tools, at_ms), reason).await
}

/// The same for a session whose agent has no voice.
pub(super) async fn without_voice(parts: Parts, line: Socket) -> Reason {
    let tasks = Tasks { set: tokio::task::JoinSet::new(), stop: tokio_util::sync::CancellationToken::new() };
    finished(parts, line, tasks, (Tools::default(), 0), Reason::Trouble).await
}

async fn finished(
    parts: Parts,
    line: Socket,
    mut tasks: Tasks,
    (tools, at_ms): (Tools, u64),
    reason: Reason,
) -> Reason {
    let Parts { sessions, state, owner, entry, .. } = parts;
    let (ctx, attempt) = (sessions.ctx(), state.attempt);
    tasks.stop.cancel();
    let closed = async {
        // What does not end in time is aborted when the set is dropped.
        let all = timeout(CLOSED, async { while tasks.set.join_next().await.is_some() {} });
        if all.await.is_err() {
            tracing::warn!(attempt.id = %attempt, "a provider's socket was dropped without a goodbye");
        }
    };
    let leaves = reason.leaves_the_call(state.carrier.is_some());
    let mut last = state;
    let written = async {
        // What the caller was promised is a part of what is written down.
        tools.rest(&mut last.memory, at_ms).await;
        last.phase = if leaves { Phase::Live } else { Phase::Ended };
        last.ended = (!leaves).then(|| reason.as_str().to_owned());
        if reason == Reason::Lost {
            return;
        }
        // First the state: a carrier that asks what comes next must not be given another stream.
        let next = if leaves { Next::HandOver } else { Next::End };
        match ctx.calls.save(&last, &owner, next).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(attempt.id = %last.attempt, "somebody else has the call: nothing of it is ended here");
                return;
            }
            // The ledger is told all the same; nobody is left on the line because Redis is away.
            Err(error) => {
                tracing::warn!(attempt.id = %last.attempt, error = format!("{error:#}"), "the end was not written")
            }
        }
        conversation::ended(ctx, &last, reason.as_str(), reason.hangs_up()).await;
    };
    tokio::join!(closed, written);
    let mut line = line;
    close(&mut line.socket, if reason == Reason::Lost { 1008 } else { NORMAL }, reason.as_str()).await;
    drop(entry);
    reason
}
