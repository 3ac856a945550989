//! Conversations may be cut at any moment, at either end: nothing of them is left.

use futures::{SinkExt, StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rollcall::{
    dialing::trial::{self, Frames},
    ids::{AgentId, AttemptId, BusinessId},
    sim::{Millis, Provider, ProviderFault, ProviderRule, Speed, Until, Utterance},
    stores::tenant,
};
use serde_json::{Map, json};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::{
    house::{House, Options},
    voice_house::SOON,
};

const CUTS: usize = 300;
/// Conversations at once.
const AT_ONCE: usize = 24;
/// Bytes of 20 ms.
const FRAME: usize = 160;

/// How one conversation is cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    frames: Frames,
    /// Before a byte of the handshake was answered.
    unanswered: bool,
    /// The caller sends so many frames,
    sends: usize,
    /// and hears so many messages, and is gone.
    hears: usize,
    /// By a reset, not by an end of the connection.
    reset: bool,
}

impl Cut {
    fn draw(random: &mut StdRng) -> Self {
        Self {
            frames: [Frames::Mulaw, Frames::Pcm16, Frames::Twilio][random.random_range(0..3)],
            unanswered: random.random_range(0..10) == 0,
            sends: random.random_range(0..150),
            hears: random.random_range(0..12),
            reset: random.random(),
        }
    }
}

/// One in three of the providers' sockets breaks off, falls silent or is refused.
fn faults() -> Vec<ProviderRule> {
    let rule = |provider, kind, share| ProviderRule { share, next: 0, ..ProviderRule::next(provider, kind, 0) };
    let breaks = |provider| ProviderRule {
        code: Some(1006),
        ms: Some(Millis::between(0, 100)),
        ..rule(provider, ProviderFault::Close, 0.2)
    };
    vec![
        breaks(Provider::Transcription),
        breaks(Provider::Speech),
        rule(Provider::Transcription, ProviderFault::Silent, 0.05),
        rule(Provider::Speech, ProviderFault::Silent, 0.05),
        rule(Provider::Speech, ProviderFault::Refuse, 0.05),
        rule(Provider::Chat, ProviderFault::Close, 0.1),
        rule(Provider::Chat, ProviderFault::Silent, 0.1),
    ]
}

async fn talk(house: &House, (business, agent): (BusinessId, AgentId), cut: Cut) {
    let url = tenant::request(async {
        tenant::bind(business);
        trial::open(&house.ctx, business, AttemptId::new(), (agent, Map::new()), cut.frames).await.unwrap()
    })
    .await;
    let stream = tokio::net::TcpStream::connect((url.host_str().unwrap(), url.port().unwrap())).await.unwrap();
    if cut.reset {
        stream.set_zero_linger().unwrap();
    }
    if cut.unanswered {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            url.path()
        );
        stream.try_write(request.as_bytes()).unwrap();
        return;
    }
    let (mut socket, _) = client_async(url.as_str(), stream).await.unwrap();
    if cut.frames == Frames::Twilio {
        let start = json!({"event": "start", "start": {"streamSid": "MZ", "callSid": "CA",
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}}});
        socket.send(Message::text(start.to_string())).await.unwrap();
    }
    let mut line = Utterance::new(7, "Is anybody there?", Speed::FASTEST);
    for _ in 0..cut.sends {
        let mut sound = vec![0xff; FRAME];
        line.speak(&mut sound);
        // Whoever is not answered any more has been cut off by the other side.
        if socket.send(message(cut.frames, &sound)).await.is_err() {
            return;
        }
    }
    for _ in 0..cut.hears {
        if !matches!(socket.next().await, Some(Ok(_))) {
            return;
        }
    }
}

fn message(frames: Frames, sound: &[u8]) -> Message {
    use base64::{Engine, engine::general_purpose::STANDARD};
    match frames {
        Frames::Mulaw => Message::binary(sound.to_vec()),
        Frames::Pcm16 => Message::binary([sound, sound].concat()),
        Frames::Twilio => {
            let media = json!({"event": "media", "media": {"track": "inbound", "payload": STANDARD.encode(sound)}});
            Message::text(media.to_string())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_random_cuts_leave_no_session_no_lease_and_no_socket() {
    let house = House::open(Options::default()).await;
    let media = house.media().await;
    let business = house.business(1).await;
    // Long enough that whoever wants to hear twelve messages hears them; whoever hears nothing is not kept waiting for long.
    let greeting =
        "Hello, who is there? I have a long story to tell, and I shall tell all of it, from the beginning to its end.";
    let agent =
        json!({"prompt": "Talk.", "greeting": greeting, "turns": {"silence_secs": 1}, "limits": {"answer_ms": 1500}});
    let agent = house.agent(business, agent).await;
    house.sim.set_provider_faults(faults()).unwrap();
    let mut random = StdRng::seed_from_u64(11);
    let cuts: Vec<Cut> = (0..CUTS).map(|_| Cut::draw(&mut random)).collect();
    let talks = stream::iter(cuts).map(|cut| talk(&house, (business, agent), cut));
    talks.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    house.until("no conversation is left", || async { media.sessions.count() == 0 }).await;
    assert_eq!(leases(&house).await, 0, "leases that outlive their sessions");
    house.sim.wait(Until::Sessions(0), SOON).await.unwrap();
    let opened: u64 = house.sim.figures().providers.values().map(|provider| provider.opened).sum();
    assert!(opened > CUTS as u64 / 2, "only {opened} sockets were opened: nothing was cut");
    house.until("no call waits for a session", || async { waiting(&house).await == 0 }).await;
    media.close().await;
    house.close().await;
}

async fn leases(house: &House) -> usize {
    let pattern = house.ctx.stores.keys.key("calls:lease:*");
    let all: Vec<String> =
        redis::cmd("KEYS").arg(pattern).query_async(&mut house.ctx.stores.redis.clone()).await.unwrap();
    all.len()
}

async fn waiting(house: &House) -> u64 {
    let key = house.ctx.stores.keys.key("voice_sessions");
    redis::cmd("LLEN").arg(key).query_async(&mut house.ctx.stores.redis.clone()).await.unwrap()
}
