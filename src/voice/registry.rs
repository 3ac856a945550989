//! The conversations of this process: counted, their leases renewed together, told to hand over when it stops.
//!
//! It is touched when a conversation begins and ends, when leases are renewed and when somebody looks; never for a frame.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_tungstenite::Connector;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    calls::store::{Owner, RENEW, Renewed},
    carriers::{HttpLimits, http_client},
    config::Role,
    context::Context,
    dialing::conversation,
    heartbeats::{self, State},
    models,
    telemetry::voice as figures,
    voice::{tls, tool_http::ToolClient},
};

/// A conversation without any sound for so long should have ended long before: the last net.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// Between two looks for calls that nobody has.
const LOOK: Duration = Duration::from_secs(1);
/// What is left of the time of a drain when conversations that nobody takes are ended.
const LAST: Duration = Duration::from_secs(4);

/// A conversation that was handed over is counted where it is now after this at the latest: it may wait for a pause, is given a
/// stream, and then that process says so.
const COUNTED: Duration = Duration::from_secs(6);

/// The conversations that were told to leave, and when.
#[derive(Default)]
struct Given(HashMap<String, Instant>);

impl Given {
    /// The next ones to tell, where others have room for `free` more; what was told just now may not be counted there yet.
    fn next<'a>(&mut self, free: usize, all: impl Iterator<Item = &'a String>, now: Instant) -> Vec<String> {
        let lately = self.0.values().filter(|at| now.saturating_duration_since(**at) < COUNTED).count();
        let untold = all.filter(|name| !self.0.contains_key(*name));
        let next: Vec<String> = untold.take(free.saturating_sub(lately)).cloned().collect();
        self.0.extend(next.iter().map(|name| (name.clone(), now)));
        next
    }
}

/// What a conversation is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Leave the call to another replica, at the next pause.
    HandOver,
    /// Somebody else has the call: leave at once, and end nothing.
    Lost,
    /// The call's state is gone from Redis: write it again.
    Write,
    /// End the call now.
    End,
    /// A machine answered, and its greeting is over.
    Machine,
}

/// The conversations of this process. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    ctx: Context,
    replica: String,
    most: usize,
    seats: AtomicUsize,
    live: Mutex<HashMap<String, Live>>,
    running: TaskTracker,
    begin: Instant,
    http: reqwest::Client,
    tls: Connector,
    tools: ToolClient,
}

struct Live {
    call_id: String,
    owner: Owner,
    commands: mpsc::Sender<Command>,
    heard_ms: Arc<AtomicU64>,
}

/// Room for one conversation; it is free again when this is dropped.
pub(super) struct Seat(Sessions);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.inner.seats.fetch_sub(1, Ordering::Relaxed);
        figures::seat_free();
        self.0.say();
    }
}

/// A conversation's place in the registry; it leaves when this is dropped.
pub(super) struct Entry {
    sessions: Sessions,
    session: String,
    heard_ms: Arc<AtomicU64>,
}

impl Entry {
    /// Sound has come.
    pub(super) fn heard(&self) {
        self.heard_ms.store(self.sessions.now_ms(), Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.session);
    }
}

impl Sessions {
    /// No conversations yet. `replica` names this process.
    ///
    /// # Errors
    /// Where TLS cannot be set up, e.g. on a machine without root certificates, or a detector of voices cannot be loaded.
    pub fn new(ctx: Context, replica: &str) -> anyhow::Result<Self> {
        ctx.hearing.open(&ctx.settings.voice)?;
        let tools = ToolClient::new(ctx.settings.voice.voice_tools_private)?;
        let inner = Inner {
            replica: replica.to_owned(),
            most: ctx.settings.voice.max_sessions as usize,
            seats: AtomicUsize::new(0),
            live: Mutex::default(),
            running: TaskTracker::new(),
            begin: Instant::now(),
            http: http_client(&HttpLimits { idle_per_host: 256, ..HttpLimits::default() })?,
            tls: tls::connector()?,
            tools,
            ctx,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Conversations now, those that are just beginning included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.seats.load(Ordering::Relaxed)
    }

    pub(super) fn ctx(&self) -> &Context {
        &self.inner.ctx
    }

    pub(super) fn replica(&self) -> &str {
        &self.inner.replica
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }

    /// TLS of WebSockets to providers.
    pub(super) fn tls(&self) -> &Connector {
        &self.inner.tls
    }

    pub(super) fn tools(&self) -> &ToolClient {
        &self.inner.tools
    }

    pub(super) fn running(&self) -> &TaskTracker {
        &self.inner.running
    }

    /// Room for one more; none where this process is full or stops.
    pub(super) fn seat(&self) -> Option<Seat> {
        if self.inner.ctx.stopping.is_cancelled() {
            return None;
        }
        let taken = self.inner.seats.fetch_add(1, Ordering::Relaxed);
        figures::seat_taken();
        let seat = Seat(self.clone());
        if taken >= self.inner.most {
            return None;
        }
        self.say();
        Some(seat)
    }

    /// Whoever gives out conversations counts what it has given since the last heartbeat as if none of it were over: it must not
    /// wait for the next one.
    fn say(&self) {
        self.inner.ctx.heartbeats.soon();
    }

    /// Enters a conversation, and tells the one that had its call in this process.
    pub(super) fn enter(
        &self,
        call_id: &str,
        owner: &Owner,
        before: Option<&str>,
        commands: mpsc::Sender<Command>,
    ) -> Entry {
        let heard_ms = Arc::new(AtomicU64::new(self.now_ms()));
        let live =
            Live { call_id: call_id.to_owned(), owner: owner.clone(), commands, heard_ms: Arc::clone(&heard_ms) };
        let mut all = self.lock();
        if let Some(old) = before.and_then(|before| all.get(before)) {
            // Full: it has been told to leave already.
            let _ = old.commands.try_send(Command::Lost);
        }
        all.insert(owner.session.clone(), live);
        Entry { sessions: self.clone(), session: owner.session.clone(), heard_ms }
    }

    /// Renews leases, ends calls that nobody has, and looks after conversations that are forgotten, until `ended`.
    pub async fn keep(&self, ended: CancellationToken) {
        let (mut renew, mut look) = (tokio::time::interval(RENEW), tokio::time::interval(LOOK));
        let mut permits = tokio::time::interval(models::RENEW);
        let mut sweep = tokio::time::interval(FORGOTTEN);
        let mut told = std::pin::pin!(self.told());
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = &mut told => {}
                _ = renew.tick() => self.renew().await,
                _ = permits.tick() => self.inner.ctx.permits.renew().await,
                _ = look.tick() => {
                    if let Err(error) = conversation::end_orphans(&self.inner.ctx).await {
                        tracing::warn!(error = format!("{error:#}"), "calls without a session were not looked for");
                    }
                }
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    /// Passes on what this process is told of its calls, until it is dropped. Where Redis is away it waits and connects anew.
    async fn told(&self) {
        let ctx = &self.inner.ctx;
        let key = ctx.calls.told_key(&self.inner.replica);
        loop {
            if let Ok(mut redis) = ctx.stores.blocking_redis().await {
                loop {
                    let popped: redis::RedisResult<Option<(String, String)>> =
                        redis::cmd("BLPOP").arg(&key).arg(5).query_async(&mut redis).await;
                    match popped {
                        Ok(Some((_, call_id))) => self.tell_of(&call_id),
                        Ok(None) => {}
                        Err(_) => break,
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn tell_of(&self, call_id: &str) {
        for live in self.lock().values().filter(|live| live.call_id == call_id) {
            // Full: it has been told to leave already.
            let _ = live.commands.try_send(Command::Machine);
        }
    }

    async fn renew(&self) {
        let all: Vec<(String, Owner)> =
            self.lock().values().map(|live| (live.call_id.clone(), live.owner.clone())).collect();
        let asked: Vec<_> = all.iter().map(|(call_id, owner)| (call_id.as_str(), owner)).collect();
        match self.inner.ctx.calls.renew(&asked).await {
            Ok(renewed) => {
                for ((_, owner), renewed) in all.iter().zip(renewed) {
                    match renewed {
                        Renewed::Held => {}
                        Renewed::WithoutState => self.tell(&owner.session, Command::Write),
                        Renewed::Lost => self.tell(&owner.session, Command::Lost),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, sessions = all.len(), "leases were not renewed"),
        }
    }

    /// Each conversation ends by itself when its stream is dead; one that is found here is a fault.
    fn sweep(&self) {
        let oldest = self.now_ms().saturating_sub(u64::try_from(FORGOTTEN.as_millis()).unwrap_or(u64::MAX));
        let forgotten: Vec<String> = {
            let all = self.lock();
            let dead = all.iter().filter(|(_, live)| live.heard_ms.load(Ordering::Relaxed) < oldest);
            dead.map(|(session, _)| session.clone()).collect()
        };
        for session in forgotten {
            figures::session_failed("forgotten");
            tracing::error!(session, "a conversation that should have ended minutes ago");
            self.tell(&session, Command::End);
        }
    }

    fn tell(&self, session: &str, command: Command) {
        if let Some(live) = self.lock().get(session) {
            // Full: it has been told to leave already.
            let _ = live.commands.try_send(command);
        }
    }

    fn tell_all(&self, command: Command) {
        for live in self.lock().values() {
            let _ = live.commands.try_send(command);
        }
    }

    /// Waits for the stop of the process, then hands the conversations over to another replica, or lets them end by
    /// themselves where there is none; what is left shortly before the drain's limit is ended. Then `ended` is cancelled.
    pub async fn drain(&self, ended: CancellationToken) {
        let ctx = &self.inner.ctx;
        ctx.stopping.cancelled().await;
        let limit = Duration::from_secs(ctx.settings.drain_timeout_secs);
        let last = tokio::time::Instant::now() + limit.saturating_sub(LAST);
        self.inner.running.close();
        let mut look = tokio::time::interval(Duration::from_millis(500));
        let mut given = Given::default();
        loop {
            tokio::select! {
                () = self.inner.running.wait() => break,
                () = tokio::time::sleep_until(last) => {
                    tracing::warn!(sessions = self.count(), "[DRAIN] conversations that nobody took are ended");
                    self.tell_all(Command::End);
                    let patience = LAST - Duration::from_secs(1);
                    if tokio::time::timeout(patience, self.inner.running.wait()).await.is_err() {
                        tracing::error!(sessions = self.count(), "conversations did not end in time");
                    }
                    break;
                }
                _ = look.tick() => {
                    let free = self.room_elsewhere().await;
                    self.hand_over(free, &mut given);
                }
            }
        }
        ended.cancel();
    }

    /// How many more conversations the other processes have room for, as they last said.
    async fn room_elsewhere(&self) -> usize {
        let seen = heartbeats::processes(&self.inner.ctx.stores).await.unwrap_or_default();
        let ready = seen.iter().filter(|one| one.beat.role == Role::Calls && one.state == State::Ready);
        // As long as this process itself seems ready, what is handed over may come back to it.
        if ready.clone().any(|one| one.beat.name == self.inner.replica) {
            return 0;
        }
        ready.map(|one| one.beat.most_sessions.unwrap_or(0).saturating_sub(one.beat.in_flight)).sum()
    }

    /// Tells as many conversations to leave as others have room for.
    fn hand_over(&self, free: usize, given: &mut Given) {
        let all = self.lock();
        let names = given.next(free, all.keys(), Instant::now());
        for live in names.iter().filter_map(|name| all.get(name)) {
            let _ = live.commands.try_send(Command::HandOver);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.inner.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Live>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_leave_than_others_have_room_for_and_each_is_told_once() {
        let all: Vec<String> = (0..5).map(|i| format!("s{i}")).collect();
        let (mut given, begin) = (Given::default(), Instant::now());
        assert_eq!(given.next(0, all.iter(), begin), [] as [String; 0]);
        assert_eq!(given.next(2, all.iter(), begin), ["s0", "s1"]);
        assert_eq!(given.next(2, all.iter(), begin + LOOK), [] as [String; 0], "they may not be counted yet");
        assert_eq!(given.next(3, all.iter(), begin + LOOK), ["s2"]);
        assert_eq!(given.next(2, all.iter(), begin + COUNTED), ["s3"]);
    }
}
