//! From a socket to a conversation: the stream's first frame, the call's lease, and everything that is built of its state.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    agents::{Definition, PipelineKind},
    calls::{
        Claim, Phase, Ticket,
        store::{Next, Owner},
    },
    context::Context,
    dialing::conversation,
    ids::BusinessId,
    models::{Login, Provider},
    telemetry::voice as figures,
    voice::{
        cascade::{Cascade, Logins},
        ending::Reason,
        link::Access,
        now::Now,
        pipeline::{Ears, Event, MOST_EVENTS, MOST_SOUND, Pipeline, Sound, Turns},
        registry::{Seat, Sessions},
        session::{self, Parts, Socket, Tasks},
        speech_to_speech::SpeechToSpeech,
        wire::{Frame, Wire},
    },
};

/// A stream that does not say what it is.
const START: Duration = Duration::from_secs(5);
/// Frames before the first one that counts: more than a carrier makes in that time.
const MOST_BEFORE: usize = 1_000;
/// RFC 6455, section 7.4.1.
pub(super) const NORMAL: u16 = 1000;
const POLICY: u16 = 1008;

/// Runs the conversation of a stream to its end. The task of the session is its own, so that a panic in it is seen here.
pub(super) async fn run(sessions: Sessions, seat: Seat, socket: WebSocket, wire: Wire, ticket: Ticket) {
    let begin = Instant::now();
    let attempt = ticket.attempt;
    let call_id = ticket.call_id.clone();
    let running = sessions.running().clone();
    let owned = sessions.clone();
    let task = running.spawn(async move { held(&owned, socket, wire, ticket, begin).await });
    match task.await {
        Ok(Ok(reason)) => {
            figures::session_ended(reason.as_str());
            tracing::info!(attempt.id = %attempt, call.id = call_id, reason = reason.as_str(), secs = begin.elapsed().as_secs(), "a media stream ended");
        }
        Ok(Err(error)) => {
            figures::session_failed("start");
            tracing::warn!(attempt.id = %attempt, call.id = call_id, error = format!("{error:#}"), "a media stream did not become a conversation");
        }
        Err(error) => {
            // The lease ends by itself; the call is not kept waiting for that.
            figures::session_failed("panic");
            tracing::error!(attempt.id = %attempt, call.id = call_id, %error, "a conversation panicked");
            conversation::give_up(sessions.ctx(), attempt, &call_id).await;
        }
    }
    drop(seat);
}

async fn held(
    sessions: &Sessions,
    mut socket: WebSocket,
    wire: Wire,
    ticket: Ticket,
    begin: Instant,
) -> anyhow::Result<Reason> {
    let stream = match timeout(START, started(&mut socket, wire, &ticket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => {
            close(&mut socket, POLICY, why).await;
            anyhow::bail!("{why}");
        }
        Err(_) => {
            close(&mut socket, POLICY, "no start").await;
            anyhow::bail!("it never said what it is");
        }
    };
    let ctx = sessions.ctx();
    let session = uuid::Uuid::new_v4().simple().to_string();
    let claim = claimed(ctx, &ticket, &session, sessions.replica()).await?;
    let owner = Owner { session, replica: sessions.replica().to_owned(), epoch: claim.epoch };
    if claim.state.phase == Phase::Ended {
        ctx.calls.save(&claim.state, &owner, Next::End).await?;
        close(&mut socket, NORMAL, "over").await;
        return Ok(Reason::HungUp);
    }
    let mut state = claim.state;
    state.phase = Phase::Live;
    state.memory.sessions += 1;
    if state.memory.started_at_ms == 0 {
        state.memory.started_at_ms = claim.now_ms;
    }
    let agent: Definition = state.definition.read().context("the agent cannot be read")?;
    let (commands, told) = mpsc::channel(4);
    let entry = sessions.enter(&ticket.call_id, &owner, claim.before.as_deref(), commands);
    // Whoever is told of it from now on tells this session.
    if conversation::is_to_leave(ctx, &state).await {
        state.answered_by = Some("machine".to_owned());
    }
    let spoken_ms = claim.now_ms.saturating_sub(state.memory.started_at_ms);
    let parts =
        Parts { sessions: sessions.clone(), state, agent: Arc::new(agent), owner, entry, told, begin, spoken_ms };
    Ok(session::run(parts, Socket { socket, wire, stream }).await)
}

/// Waits for the first frame that says which stream this is; its id as a JSON text.
async fn started(socket: &mut WebSocket, wire: Wire, ticket: &Ticket) -> Result<String, &'static str> {
    if matches!(wire, Wire::Mulaw | Wire::Pcm16) {
        return Ok(String::new());
    }
    for _ in 0..MOST_BEFORE {
        let Some(Ok(message)) = socket.recv().await else { return Err("the socket was closed before its start") };
        match wire.read(&message) {
            Ok(Frame::Start { stream, call_id, encoding, rate }) => {
                // Whoever tries an agent with no carrier has no id to name.
                if ticket.carrier.is_some() && call_id != ticket.call_id {
                    return Err("the stream of another call");
                }
                if !wire.takes(&encoding, rate) {
                    return Err("a codec that is not mu-law at 8 kHz");
                }
                return serde_json::to_string(&stream).map_err(|_| "a stream id that is no text");
            }
            // Telnyx promises no order of its frames. Those from before the start are milliseconds, and nobody misses them.
            Ok(Frame::Nothing | Frame::Media { .. } | Frame::Mark(_) | Frame::Key(_)) => {}
            Ok(Frame::Stop | Frame::Closed) => return Err("it was over before its start"),
            Err(_) => return Err("a frame that cannot be read"),
        }
    }
    Err("no start")
}

/// Takes the call. A Redis that was emptied since the answer is filled again from the ledger.
async fn claimed(ctx: &Context, ticket: &Ticket, session: &str, replica: &str) -> anyhow::Result<Claim> {
    if let Some(claim) = ctx.calls.claim(&ticket.call_id, session, replica).await? {
        return Ok(claim);
    }
    let state = conversation::state_of(ctx, ticket.business, ticket.attempt).await?;
    let state = state.context("the call may not be talked in")?;
    ctx.calls.open(&state, ticket).await?;
    ctx.calls.claim(&ticket.call_id, session, replica).await?.context("the call is not known")
}

/// What hears, thinks and speaks for a session, with the channels that it speaks over.
pub(super) struct Voice {
    pub(super) pipeline: Box<dyn Pipeline>,
    pub(super) turns: Turns,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) sound: mpsc::Receiver<Sound>,
}

/// Starts the providers of an agent.
///
/// # Errors
/// Where the business has no account at one of them, and neither has the installation.
pub(super) async fn voice(session: &Parts, tasks: &mut Tasks) -> anyhow::Result<Voice> {
    let (ctx, agent) = (session.sessions.ctx(), &session.agent);
    let (events, heard) = mpsc::channel(MOST_EVENTS);
    let (sound, heard_sound) = mpsc::channel(MOST_SOUND);
    let (ears, turns) = (Ears { events, sound }, Turns::after(session.state.memory.last_turn()));
    let now = Now::of(session);
    let login = |provider| login(ctx, session.state.business, provider);
    let pipeline: Box<dyn Pipeline> = match agent.pipeline {
        PipelineKind::Cascade => {
            let (transcription, chat, speech) =
                tokio::try_join!(login(Provider::Deepgram), login(Provider::Openai), login(Provider::Elevenlabs))?;
            let logins = Logins { transcription, chat, speech };
            let shared = (&ctx.permits, session.sessions.http(), session.sessions.tls());
            Box::new(Cascade::start(
                (session.state.attempt, agent, now),
                logins,
                shared,
                &ears,
                &mut tasks.set,
                &tasks.stop,
            ))
        }
        PipelineKind::Realtime => {
            let (login, permits) = (login(Provider::Openai).await?, ctx.permits.clone());
            let access = Access { call: session.state.attempt, login, permits, tls: session.sessions.tls().clone() };
            let memory = &session.state.memory;
            let ears = (&ears, &turns);
            Box::new(SpeechToSpeech::start((agent, &now), memory, access, ears, &mut tasks.set, &tasks.stop))
        }
    };
    Ok(Voice { pipeline, turns, events: heard, sound: heard_sound })
}

async fn login(ctx: &Context, business: BusinessId, provider: Provider) -> anyhow::Result<Login> {
    let login = ctx.login(business, provider).await?;
    login.with_context(|| format!("neither the business nor the installation has an account at {provider}"))
}

/// Closes a socket with a code, in bounded time.
pub(super) async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) {
    let frame = CloseFrame { code, reason: reason.into() };
    // Whoever does not take it loses the connection all the same.
    let _ = timeout(Duration::from_millis(300), socket.send(Message::Close(Some(frame)))).await;
}
