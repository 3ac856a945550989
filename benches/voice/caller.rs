//! One caller: a socket that speaks Twilio's messages, plays what comes, and takes the time of it.

use std::{
    collections::VecDeque,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{FutureExt, SinkExt, StreamExt};
use serde::Deserialize;
use tokio::{net::TcpStream, time::sleep_until};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

use crate::crowd::Hall;

const FRAME: Duration = Duration::from_millis(20);
/// Frames that come at once when the agent begins: what is kept ahead of the ear. The grid begins behind them.
const LEAD: u32 = 7;
/// A server that does not close a stream whose call is over.
const CLOSES: Duration = Duration::from_secs(10);

/// How a caller leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leaves {
    /// Hangs up so long after all were told that it is over.
    HangsUp(Duration),
    /// The connection is cut after so long: by its end, or by a reset.
    Cut { after: Duration, reset: bool },
}

/// What a caller saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// From the opening of the socket to the first sound.
    pub(crate) start: Option<Duration>,
    /// From hanging up until the stream was closed, which it is once everything behind it is.
    pub(crate) close: Option<Duration>,
    /// How far the gaps between frames were from the length of a frame, µs.
    pub(crate) jitter: Vec<u32>,
    /// How late this caller's own frames were, µs.
    pub(crate) late: Vec<u32>,
    /// Frames that came when the sound before them had run out, within what was being said.
    pub(crate) ran_out: u64,
    /// Frames sent and received, and of the latter those while it was measured.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) measured: u64,
    /// Of these, those whose time was noted.
    pub(crate) timed: u64,
    /// The stream ended before it should.
    pub(crate) broke: bool,
}

#[derive(Deserialize)]
struct Said<'a> {
    event: &'a str,
    #[serde(borrow)]
    media: Option<Media<'a>>,
    #[serde(borrow)]
    mark: Option<Mark<'a>>,
}

#[derive(Deserialize)]
struct Media<'a> {
    payload: &'a str,
}

#[derive(Deserialize)]
struct Mark<'a> {
    name: &'a str,
}

/// What a carrier would play, and when.
struct Ear {
    until: Instant,
    last: Option<(Instant, Duration)>,
    /// Frames since the agent began.
    frames: u32,
    marks: VecDeque<(Instant, String)>,
}

type Socket = WebSocketStream<TcpStream>;

/// Opens the stream of a session, and talks until it leaves. One that `times` notes when each frame comes; the others take what has
/// come when they send their own, which costs those who measure half as much.
pub(crate) async fn talk(url: &str, hall: &Hall, leaves: Leaves, times: bool) -> anyhow::Result<Seen> {
    let begun = Instant::now();
    let mut leave = std::pin::pin!(leave(hall, leaves, begun));
    let mut socket = tokio::select! {
        biased;
        () = &mut leave => return Ok(Seen::default()),
        socket = open(url) => socket?,
    };
    let mut caller =
        Caller { hall, begun, seen: Seen::default(), ear: Ear::new(begun), tick: begun, at: 0, talks: false, times };
    let left = tokio::select! { biased; () = &mut leave => true, _ = caller.go_on(&mut socket) => false };
    if caller.talks {
        hall.talking.fetch_sub(1, Ordering::Relaxed);
    }
    let mut seen = caller.seen;
    seen.broke = !left;
    match leaves {
        Leaves::Cut { reset: true, .. } => socket.get_ref().set_zero_linger()?,
        Leaves::HangsUp(_) if left => seen.close = close(&mut socket).await,
        _ => {}
    }
    Ok(seen)
}

async fn leave(hall: &Hall, leaves: Leaves, begun: Instant) {
    match leaves {
        Leaves::HangsUp(after) => {
            hall.over.cancelled().await;
            tokio::time::sleep(after).await;
        }
        Leaves::Cut { after, .. } => sleep_until((begun + after).into()).await,
    }
}

async fn open(url: &str) -> anyhow::Result<Socket> {
    let place =
        url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).context("a stream that is not ws://")?;
    let stream = TcpStream::connect(place).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(4_096).write_buffer_size(0);
    let (socket, _) = client_async_with_config(url.into_client_request()?, stream, Some(config)).await?;
    Ok(socket)
}

/// Says that the call is over, and waits until the stream is closed; for how long.
async fn close(socket: &mut Socket) -> Option<Duration> {
    let begun = Instant::now();
    socket.send(Message::text(r#"{"event":"stop","sequenceNumber":"1205","stop":{}}"#)).await.ok()?;
    let closed = async {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
        }
    };
    tokio::time::timeout(CLOSES, closed).await.ok()?;
    Some(begun.elapsed())
}

struct Caller<'a> {
    hall: &'a Hall,
    begun: Instant,
    seen: Seen,
    ear: Ear,
    tick: Instant,
    at: usize,
    talks: bool,
    times: bool,
}

impl Caller<'_> {
    /// Until the stream ends.
    async fn go_on(&mut self, socket: &mut Socket) -> Option<()> {
        socket.send(Message::text(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#)).await.ok()?;
        let start = r#"{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC","streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0","callSid":"CA","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{}},"streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0"}"#;
        socket.send(Message::text(start)).await.ok()?;
        self.tick = Instant::now();
        loop {
            if !self.times {
                sleep_until(self.tick.into()).await;
                while let Some(message) = socket.next().now_or_never() {
                    self.hear(&message?.ok()?);
                }
                self.speak(socket).await?;
                continue;
            }
            tokio::select! {
                biased;
                message = socket.next() => self.hear(&message?.ok()?),
                () = sleep_until(self.tick.into()) => self.speak(socket).await?,
            }
        }
    }

    /// Sends the next frame, and the marks that were reached.
    async fn speak(&mut self, socket: &mut Socket) -> Option<()> {
        let now = Instant::now();
        if self.measures() {
            self.seen.late.push(micros(now - self.tick));
        }
        self.tick += FRAME;
        socket.send(Message::Text(self.hall.script.frame(self.at))).await.ok()?;
        self.at += 1;
        self.seen.sent += 1;
        while let Some((_, name)) = self.ear.marks.pop_front_if(|(at, _)| *at <= now) {
            let mark =
                format!(r#"{{"event":"mark","sequenceNumber":"7","streamSid":"MZ","mark":{{"name":"{name}"}}}}"#);
            socket.send(Message::text(mark)).await.ok()?;
        }
        Some(())
    }

    fn hear(&mut self, message: &Message) {
        let now = Instant::now();
        let Message::Text(text) = message else { return };
        let Ok(said) = serde_json::from_str::<Said<'_>>(text) else { return };
        match (said.event, said.media, said.mark) {
            ("media", Some(media), _) => self.play(now, media.payload),
            ("mark", _, Some(mark)) => {
                if mark.name.ends_with("-end") {
                    self.ear.end();
                }
                self.ear.marks.push_back((self.ear.until, mark.name.to_owned()));
            }
            ("clear", ..) => {
                self.ear.end();
                self.ear.until = now;
                self.ear.marks.iter_mut().for_each(|(at, _)| *at = now);
            }
            _ => {}
        }
    }

    fn play(&mut self, now: Instant, payload: &str) {
        if !std::mem::replace(&mut self.talks, true) {
            self.seen.start = self.times.then(|| now - self.begun);
            self.hall.talking.fetch_add(1, Ordering::Relaxed);
        }
        self.seen.received += 1;
        let measures = self.measures();
        self.seen.measured += u64::from(measures);
        let padding = payload.bytes().rev().take_while(|byte| *byte == b'=').count();
        let length = Duration::from_micros((payload.len() / 4 * 3 - padding) as u64 * 125);
        let (gap, ran_out) = self.ear.play(now, length);
        if measures && self.times {
            self.seen.timed += 1;
            self.seen.jitter.extend(gap.map(micros));
            self.seen.ran_out += u64::from(ran_out);
        }
    }

    fn measures(&self) -> bool {
        self.hall.measures.load(Ordering::Relaxed)
    }
}

impl Ear {
    fn new(now: Instant) -> Self {
        Self { until: now, last: None, frames: 0, marks: VecDeque::new() }
    }

    /// Plays a frame; how far its gap was from the length of the frame before it, once the grid has begun, and whether the sound had
    /// run out.
    fn play(&mut self, now: Instant, length: Duration) -> (Option<Duration>, bool) {
        let ran_out = self.frames > 0 && self.until < now;
        self.until = self.until.max(now) + length;
        self.frames += 1;
        let before = self.last.replace((now, length)).filter(|_| self.frames > LEAD);
        (before.map(|(at, length)| (now - at).abs_diff(length)), ran_out)
    }

    /// The agent has said what it said.
    fn end(&mut self) {
        (self.frames, self.last) = (0, None);
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
