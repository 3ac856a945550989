//! The socket of a session, with the faults that strike on it.
use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{
        WebSocketUpgrade,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket},
    },
};
use tokio::time::{Instant, sleep_until};

use super::{ProviderFault, Session};
use crate::sim::Millis;

/// How long a client may not take what is sent to it.
const STUCK: Duration = Duration::from_secs(5);
/// A message that is longer than anybody should take.
const HUGE: usize = 1 << 20;

/// What comes next on a line.
#[derive(Debug)]
pub(super) enum Next {
    Text(Utf8Bytes),
    Sound(Bytes),
    /// The moment that was waited for has come.
    Due,
}

/// The line is gone: there is nothing more to do.
#[derive(Debug)]
pub(super) struct Gone;

/// A socket and its session.
#[derive(Debug)]
pub(super) struct Line {
    socket: WebSocket,
    pub(super) session: Session,
    closes: Option<(Instant, u16)>,
    is_spoiled: bool,
}

/// Small buffers: a session is mostly silence, and there are thousands.
pub(super) fn slim(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.read_buffer_size(4096).write_buffer_size(0).max_message_size(16 << 20)
}

impl Line {
    pub(super) fn new(socket: WebSocket, session: Session) -> Self {
        let closes = session.fault(ProviderFault::Close).map(|rule| {
            let after = rule.ms.unwrap_or(Millis::exactly(1000)).draw(&mut session.shared.switchboard().random);
            (Instant::now() + after, rule.code.unwrap_or(1011))
        });
        Self { socket, session, closes, is_spoiled: false }
    }

    /// The next message, or the moment if that comes first. The line is gone when the client has left, when a fault says
    /// so, and when the sandbox stops.
    pub(super) async fn next(&mut self, due: Option<Instant>) -> Result<Next, Gone> {
        let stop = self.session.shared.stop.clone();
        if self.session.has(ProviderFault::HalfOpen) {
            stop.cancelled().await;
            return Err(Gone);
        }
        loop {
            let message = tokio::select! {
                biased;
                message = self.socket.recv() => message,
                () = at(self.closes.map(|(moment, _)| moment)) => {
                    let code = self.closes.map_or(1011, |(_, code)| code);
                    return Err(self.leave(code, "on demand").await);
                }
                () = at(due) => return Ok(Next::Due),
                () = stop.cancelled() => return Err(Gone),
            };
            match message {
                Some(Ok(Message::Text(text))) => return Ok(Next::Text(text)),
                Some(Ok(Message::Binary(sound))) => return Ok(Next::Sound(sound)),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
            }
        }
    }

    /// Sends a message. `foreign` is the same message in the name of another session, for the fault that mixes them up.
    pub(super) async fn send(&mut self, text: String, foreign: Option<String>) -> Result<(), Gone> {
        let Some(fault) = self.session.fault.as_ref().map(|rule| rule.kind) else { return self.put(text).await };
        let first = !std::mem::replace(&mut self.is_spoiled, true);
        match fault {
            ProviderFault::Silent | ProviderFault::HalfOpen => return Ok(()),
            ProviderFault::Stall if !first => return Ok(()),
            ProviderFault::InvalidJson if first => self.put("{\"type\": \"Results\", ".to_owned()).await?,
            ProviderFault::Huge if first => {
                self.put(format!("{{\"type\":\"padding\",\"padding\":\"{}\"}}", "a".repeat(HUGE))).await?;
            }
            ProviderFault::UnknownType => self.put("{\"type\":\"sandbox.surprise\",\"n\":1}".to_owned()).await?,
            ProviderFault::Duplicate => self.put(text.clone()).await?,
            ProviderFault::ForeignId => {
                if let Some(foreign) = foreign {
                    self.put(foreign).await?;
                }
            }
            _ => {}
        }
        self.put(text).await
    }

    /// Says goodbye. With 1006 the connection just ends.
    pub(super) async fn leave(&mut self, code: u16, reason: &str) -> Gone {
        if code != 1006 {
            let frame = CloseFrame { code, reason: reason.to_owned().into() };
            tokio::time::timeout(STUCK, self.socket.send(Message::Close(Some(frame)))).await.ok();
        }
        Gone
    }

    async fn put(&mut self, text: String) -> Result<(), Gone> {
        match tokio::time::timeout(STUCK, self.socket.send(Message::text(text))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
