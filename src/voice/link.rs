//! One WebSocket to one provider for one call: connected, kept, made anew when it is lost, and closed with the call.
//!
//! Policy: sound that the provider does not take is dropped, the oldest first, beyond two seconds of it; everything else waits.
//! A provider that refuses the key or the request has failed; one that is busy, away or breaks off is tried again a few times.

use std::{
    future::poll_fn,
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use futures::{SinkExt, StreamExt};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{Error, Message, client::IntoClientRequest, handshake::client::Request, protocol::WebSocketConfig},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    ids::AttemptId,
    models::{Login, Permit, Permits, Provider},
    telemetry::voice as figures,
    voice::{
        pipeline::{Ears, Event, Sound},
        waiting::Waiting,
    },
};

/// A call that was dialed because the account had room waits so long for the conversation before it to have let it go.
const MOMENT: Duration = Duration::from_millis(1_500);
/// A provider that does not answer the handshake.
const CONNECT: Duration = Duration::from_secs(3);
/// Connections that may be lost or refused in a row.
const TRIES: u32 = 4;
/// A connection that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(10);
/// A provider that does not take what is sent.
const STALLED: Duration = Duration::from_secs(5);
/// Between two looks at the connection.
const LOOK: Duration = Duration::from_secs(1);
/// After so long without a word from the provider it is pinged, and after twice as long it is gone.
const SILENT: Duration = Duration::from_secs(10);
/// The goodbye to a provider takes no longer.
const FAREWELL: Duration = Duration::from_millis(400);
/// Largest message of a provider, bytes.
pub(super) const MOST_BYTES: usize = 2 * 1024 * 1024;

/// Something to send.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Out {
    /// Sound: it may be dropped.
    Sound(Message),
    /// Anything else.
    Word(Message),
}

impl Out {
    /// A JSON message.
    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self::Word(Message::Text(value.to_string().into()))
    }
}

/// What a provider's message means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// To the session.
    Event(Event),
    /// To the caller's ear.
    Sound(Sound),
    /// To the provider.
    Reply(Out),
    /// The provider began to answer; how long it took since it was asked.
    Answered(Duration),
    /// The provider cannot go on with this connection.
    Broken(String),
}

/// The protocol of one provider, without its socket.
pub(super) trait Protocol: Send + 'static {
    /// What the session orders.
    type Order: Send + 'static;

    /// The path and query under the base URL, and the headers.
    fn address(&self) -> (String, Vec<(&'static str, String)>);

    /// A connection was made, and these headers came with it.
    fn opened(&mut self, _headers: &HeaderMap) {}

    /// What is sent first on each connection.
    fn hello(&mut self) -> Vec<Out>;

    /// What is sent for an order.
    fn order(&mut self, order: Self::Order) -> Vec<Out>;

    /// What the last order uses, where that is known before it is done.
    fn used(&mut self) -> Option<Event> {
        None
    }

    /// What a message means. What is not known is nothing.
    fn heard(&mut self, text: &str) -> Vec<Told>;

    /// The connection is lost, and another one is made: what the session is told of it.
    fn lost(&mut self) -> Vec<Told> {
        Vec::new()
    }

    /// What is sent after so long without anything to send.
    fn keep_alive(&mut self, quiet: Duration) -> Option<Out>;

    /// What is sent before the end.
    fn farewell(&mut self) -> Option<Message>;
}

/// How connections to an account are made: for which call, with which key, how many at once, and by which root certificates.
pub(super) struct Access {
    pub(super) call: AttemptId,
    pub(super) login: Login,
    pub(super) permits: Permits,
    pub(super) tls: Connector,
}

/// Runs a connection until `stop`, or until the provider has failed for good, which is told.
pub(super) async fn run<P: Protocol>(
    mut protocol: P,
    access: Access,
    mut orders: mpsc::Receiver<P::Order>,
    ears: Ears,
    stop: CancellationToken,
) {
    let provider = access.login.provider;
    let failed = |why: String| async {
        tracing::warn!(%provider, why, "a voice provider has failed");
        // Nobody hears it where the session has ended.
        let _ = ears.events.send(Event::Failed { provider, why }).await;
    };
    let mut lost = 0;
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = access.permits.take_within(&access.login, access.call, MOMENT) => permit,
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(full) => return failed(full.to_string()).await,
        };
        let begin = Instant::now();
        // A handshake needs four times the room of the connection that comes of it.
        let connecting = Box::pin(connect(&mut protocol, &access));
        let socket = tokio::select! {
            () = stop.cancelled() => return,
            socket = connecting => socket,
        };
        let why = match socket {
            Ok(socket) => {
                permit.answered(begin.elapsed());
                let line = Line { ears: &ears, stop: &stop, permit: &permit };
                let Some(why) = converse(&mut protocol, socket, &mut orders, &line).await else { return };
                for told in protocol.lost() {
                    if line.pass_on(told).await.is_err() {
                        return;
                    }
                }
                why
            }
            Err(Lost { for_good: true, why }) => {
                permit.failed();
                return failed(why).await;
            }
            Err(Lost { why, .. }) => why,
        };
        permit.failed();
        lost = if begin.elapsed() >= GOOD { 1 } else { lost + 1 };
        if lost >= TRIES {
            return failed(why).await;
        }
        tracing::debug!(%provider, why, lost, "a connection to a voice provider is made anew");
        figures::reconnected(provider.as_str());
        let pause = Duration::from_millis(50 << (2 * lost));
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
    }
}

struct Lost {
    for_good: bool,
    why: String,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect<P: Protocol>(protocol: &mut P, access: &Access) -> Result<Socket, Lost> {
    let request =
        request(protocol, &access.login).map_err(|error| Lost { for_good: true, why: format!("{error:#}") })?;
    // The library's read buffer of 128 KiB would be touched for every call.
    let config = WebSocketConfig::default()
        .read_buffer_size(4_096)
        .write_buffer_size(0)
        .max_message_size(Some(MOST_BYTES))
        .max_frame_size(Some(MOST_BYTES));
    let connecting = connect_async_tls_with_config(request, Some(config), true, Some(access.tls.clone()));
    match timeout(CONNECT, connecting).await {
        Ok(Ok((socket, response))) => {
            protocol.opened(response.headers());
            Ok(socket)
        }
        Ok(Err(Error::Http(response))) => {
            let status = response.status().as_u16();
            let for_good = (400..500).contains(&status) && status != 408 && status != 429;
            Err(Lost { for_good, why: format!("the handshake was answered with HTTP {status}") })
        }
        Ok(Err(error)) => Err(Lost { for_good: false, why: error.to_string() }),
        Err(_) => Err(Lost { for_good: false, why: "the handshake was not answered".to_owned() }),
    }
}

fn request<P: Protocol>(protocol: &P, login: &Login) -> anyhow::Result<Request> {
    let (path, headers) = protocol.address();
    let mut request = socket_url(&login.base_url, &path)?.into_client_request()?;
    for (name, value) in headers {
        let mut value: axum::http::HeaderValue = value.parse()?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// The address of a WebSocket under a base URL.
pub(super) fn socket_url(base: &Url, path: &str) -> anyhow::Result<String> {
    let base = base.as_str().trim_end_matches('/');
    let (scheme, rest) = base.split_once("://").ok_or_else(|| anyhow::anyhow!("a base URL without a scheme"))?;
    let scheme = if matches!(scheme, "https" | "wss") { "wss" } else { "ws" };
    Ok(format!("{scheme}://{rest}{path}"))
}

struct Line<'a> {
    ears: &'a Ears,
    stop: &'a CancellationToken,
    permit: &'a Permit,
}

/// Speaks with a provider until the end (`None`) or until the connection is lost, and why.
async fn converse<P: Protocol>(
    protocol: &mut P,
    socket: Socket,
    orders: &mut mpsc::Receiver<P::Order>,
    line: &Line<'_>,
) -> Option<String> {
    let (mut sink, mut stream) = socket.split();
    let mut waiting = Waiting::default();
    protocol.hello().into_iter().for_each(|out| waiting.push(out));
    let (mut heard_at, mut sent_at, mut pinged) = (Instant::now(), Instant::now(), false);
    let mut look = tokio::time::interval(LOOK);
    let end = loop {
        tokio::select! {
            biased;
            () = line.stop.cancelled() => break None,
            sent = poll_fn(|cx| waiting.drive(&mut sink, cx)), if waiting.any() => match sent {
                Ok(()) => sent_at = Instant::now(),
                Err(error) => break Some(error.to_string()),
            },
            order = orders.recv() => match order {
                Some(order) => {
                    protocol.order(order).into_iter().for_each(|out| waiting.push(out));
                    if let Some(used) = protocol.used()
                        && let Err(why) = line.pass_on(Told::Event(used)).await
                    {
                        break why;
                    }
                }
                None => break None,
            },
            _ = look.tick() => {
                if waiting.flushing.is_some_and(|since| since.elapsed() > STALLED) {
                    break Some("it does not take what is sent".to_owned());
                }
                if heard_at.elapsed() > SILENT * 2 {
                    break Some("it has gone silent".to_owned());
                }
                if heard_at.elapsed() > SILENT && !pinged {
                    pinged = true;
                    waiting.push(Out::Word(Message::Ping(axum::body::Bytes::new())));
                }
                protocol.keep_alive(sent_at.elapsed()).into_iter().for_each(|out| waiting.push(out));
            }
            // Last: a provider that is seconds ahead of the ear always has something to be read, and text for it must not wait for that.
            message = stream.next() => {
                (heard_at, pinged) = (Instant::now(), false);
                match told(protocol, message, &mut waiting, line).await {
                    Ok(()) => {}
                    Err(why) => break why,
                }
            }
        }
    };
    if end.is_none() {
        let farewell = async {
            if let Some(word) = protocol.farewell() {
                sink.send(word).await?;
            }
            sink.close().await
        };
        // Whoever does not take a goodbye loses the connection all the same: it is dropped here.
        let _ = timeout(FAREWELL, farewell).await;
    }
    end
}

/// Does what a message means. An error ends the connection: with a reason it is lost, without one it is over.
async fn told<P: Protocol>(
    protocol: &mut P,
    message: Option<Result<Message, Error>>,
    waiting: &mut Waiting,
    line: &Line<'_>,
) -> Result<(), Option<String>> {
    let text = match message {
        None => return Err(Some("the connection was closed".to_owned())),
        Some(Err(error)) => return Err(Some(error.to_string())),
        Some(Ok(Message::Close(frame))) => {
            let code = frame.map_or(1005, |frame| u16::from(frame.code));
            return Err(Some(format!("the connection was closed with code {code}")));
        }
        Some(Ok(Message::Text(text))) => text,
        Some(Ok(_)) => return Ok(()),
    };
    let all = protocol.heard(&text);
    // The session may take its time with what was in it.
    drop(text);
    for told in all {
        match told {
            Told::Reply(out) => waiting.push(out),
            Told::Broken(why) => return Err(Some(why)),
            told => line.pass_on(told).await?,
        }
    }
    Ok(())
}

impl Line<'_> {
    /// Passes on what is for the session.
    async fn pass_on(&self, told: Told) -> Result<(), Option<String>> {
        match told {
            Told::Event(event) => self.tell(self.ears.events.send(event)).await,
            Told::Sound(sound) => self.tell(self.ears.sound.send(sound)).await,
            Told::Answered(took) => {
                self.permit.answered(took);
                Ok(())
            }
            Told::Reply(_) | Told::Broken(_) => Ok(()),
        }
    }

    /// Waits for the session to take something: meanwhile nothing more is read from the provider.
    async fn tell<E>(&self, send: impl Future<Output = Result<(), E>>) -> Result<(), Option<String>> {
        tokio::select! {
            () = self.stop.cancelled() => Err(None),
            sent = send => sent.map_err(|_| None),
        }
    }
}

/// The words of a provider in an error, cut to what a log line holds.
pub(super) fn short(provider: Provider, text: &str) -> String {
    let text: String = text.chars().take(200).collect();
    format!("{provider}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_becomes_that_of_a_socket() {
        let url = |base: &str| socket_url(&base.parse().unwrap(), "/x?y=1").unwrap();
        assert_eq!(url("https://a.example/v1"), "wss://a.example/v1/x?y=1");
        assert_eq!(url("http://127.0.0.1:7/"), "ws://127.0.0.1:7/x?y=1");
    }
}
