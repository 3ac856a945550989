//! The media of an answered call: the carrier's side of a stream, and the person at the far end.
//!
//! The carrier connects to the stream's URL, sends 20 ms of the far end every 20 ms, plays what comes back in its order
//! and in its time, and returns marks as they are reached. What the far end heard is read from the sound itself.
//!
//! Invariant: a call's report and figures say what was played, never what was only received.
//! Not here: how a call comes to a stream, and what happens after it (`twilio::conversation`).
mod callee;
mod figures;
mod frames;
mod playout;
mod stream;

use std::{sync::Arc, time::Duration};

use futures::SinkExt;
use serde::{Deserialize, Serialize};
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{
        client::IntoClientRequest,
        http::{HeaderName, HeaderValue},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;

use crate::sim::{
    Shared,
    call::{CallId, Status},
    life::wait,
    outcome::Outcome,
    sound::Heard,
};
pub use callee::{Callee, Line, Manners, Then};
use callee::{Manner, Person};
pub use figures::MediaFigures;
pub(crate) use figures::MediaTally;
pub(crate) use frames::Dialect;
use stream::Stream;

/// One frame: 20 ms, 160 samples.
const FRAME_MS: u64 = 20;
const FRAME: usize = 160;
/// How long the connection and the handshake may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may not take what is sent to it.
const STUCK: Duration = Duration::from_secs(5);
/// How long a close may take.
const CLOSE: Duration = Duration::from_millis(500);

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// A stream to open.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) url: String,
    /// A header that proves who is calling.
    pub(crate) signature: Option<(HeaderName, String)>,
    pub(crate) dialect: Dialect,
    /// Ends the stream from outside.
    pub(crate) stop: CancellationToken,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The server closed it: with this code, if with one.
    Closed(Option<u16>),
    /// The far end hung up.
    HungUp,
    /// The call moved on, by its end or by new orders.
    Moved,
    /// It never came to be, or broke; why.
    Broken(String),
}

/// What was said and heard on a stream, as `GET /_calls` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The stream's id.
    pub stream: String,
    /// The word that only this call's callee says.
    pub tag: String,
    /// The callee's lines.
    pub said: Vec<String>,
    /// The agent's sentences as they were heard.
    pub heard: Vec<Heard>,
    /// Tags of other calls that were heard. Must be empty.
    pub foreign: Vec<String>,
    /// Times that the agent began to speak.
    pub turns: u32,
    /// Times that the callee spoke into the agent's words.
    pub interruptions: u32,
    /// `clear` messages.
    pub clears: u32,
    /// Marks that came back.
    pub marks: u32,
    /// Frames sent and received.
    pub frames: (u64, u64),
    /// From the opened socket to the first sound, ms.
    pub first_sound_ms: Option<u64>,
    /// How it ended, in a word.
    pub end: String,
}

/// Opens a stream, says so, and stays on it until somebody ends it.
pub(crate) async fn run(shared: &Arc<Shared>, id: CallId, order: Order, opened: impl FnOnce()) -> End {
    let Order { url, signature, dialect, stop } = order;
    let mut socket = match open(&url, signature).await {
        Ok(socket) => socket,
        Err(why) => {
            shared.media().refused();
            return End::Broken(why);
        }
    };
    let person = person(shared, id);
    let mut stream = Stream::new(Arc::clone(shared), id, dialect, person);
    shared.media().opened();
    shared.touch();
    opened();
    let end = {
        let moved = wait(shared, id, Status::InProgress, None);
        tokio::select! {
            biased;
            _ = moved => End::Moved,
            () = stop.cancelled() => End::Moved,
            end = stream.run(&mut socket) => end,
        }
    };
    if !matches!(end, End::Closed(_) | End::Broken(_)) {
        let farewell = async {
            socket.send(stream.stop()).await.ok();
            let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            socket.close(Some(frame)).await.ok();
        };
        tokio::time::timeout(CLOSE, farewell).await.ok();
    }
    stream.close(&end);
    shared.media().closed();
    shared.touch();
    end
}

async fn open(url: &str, signature: Option<(HeaderName, String)>) -> Result<Socket, String> {
    crate::sim::wire::provide_tls();
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    if let Some((name, value)) = signature {
        request.headers_mut().insert(name, HeaderValue::from_str(&value).map_err(|error| error.to_string())?);
    }
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0).max_message_size(Some(8 << 20));
    let connecting = connect_async_with_config(request, Some(config), true);
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no handshake within 10 s".to_owned()),
    }
}

/// Who is at the far end of a call: by the first rule that fits, else as the flags say.
fn person(shared: &Shared, id: CallId) -> Person {
    let mut world = shared.world();
    let world = &mut *world;
    let call = &world.calls[id.0];
    let is = |wish: &Option<String>, value: &str| wish.as_deref().is_none_or(|wish| wish == value);
    let rule = world.callees.iter().find(|rule| is(&rule.to, &call.dial.to) && is(&rule.from, &call.dial.from));
    let manners = shared.config.manners;
    let patience = match call.outcome {
        Outcome::NeverEnds => Duration::MAX,
        _ => manners.patience_ms.draw(&mut world.random),
    };
    let manner =
        Manner { speed: manners.callee_speed, reaction: manners.reaction_ms.draw(&mut world.random), patience };
    let callee = rule.cloned().unwrap_or_else(|| {
        let interrupts = rand::RngExt::random::<f64>(&mut world.random) < manners.interrupts;
        callee::usual(call.outcome, interrupts)
    });
    Person::new(callee, manner, id.0)
}
