//! The media door lets in one stream per ticket, signed by the carrier; everybody else learns nothing.

use futures::{SinkExt, StreamExt};
use rollcall::{
    calls::{CallState, Memory, Phase, Text, Ticket, state::VERSION},
    config::Role,
    dialing::trial,
    heartbeats,
    ids::{AgentId, AttemptId, BusinessId, Carrier},
    sim::sign,
    stores::tenant,
};
use serde_json::{Value, json};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::{
    by_hand::{AUTH_TOKEN, client},
    house::{House, Options},
    voice_house::Media,
};

/// A frame of a call.
type FrameFor = Box<dyn Fn(&str) -> Message>;
type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// A call that waits for its stream, and the address of that.
async fn waiting(house: &House, media: &Media, business: BusinessId) -> (String, CallState) {
    waiting_for(house, media, business, json!({"name": "A", "prompt": "B", "greeting": "Hello."})).await
}

/// The same for an agent of this definition.
async fn waiting_for(house: &House, media: &Media, business: BusinessId, agent: Value) -> (String, CallState) {
    let state = CallState {
        v: VERSION,
        business,
        attempt: AttemptId::new(),
        run: None,
        job: None,
        direction: "outbound".into(),
        carrier: Some(Carrier::Twilio),
        account: format!("AC{}", business.0.simple()),
        call_id: format!("CA{}", uuid::Uuid::new_v4().simple()),
        from: "+12055550100".into(),
        to: "+12015550100".into(),
        answered_by: None,
        on_machine: None,
        zones: Vec::new(),
        variables: serde_json::Map::new(),
        agent: AgentId::new(),
        agent_version: 1,
        definition: Text::of(&agent).unwrap(),
        call_time_limit_secs: 600,
        phase: Phase::Answered,
        ended: None,
        memory: Memory::default(),
    };
    let media_url = format!("{}/media/twilio", media.base);
    let ticket = Ticket {
        business,
        attempt: state.attempt,
        carrier: state.carrier,
        account: state.account.clone(),
        call_id: state.call_id.clone(),
        media_url: media_url.clone(),
        frames: None,
    };
    let text = house.ctx.calls.open(&state, &ticket).await.unwrap().ticket;
    (format!("{media_url}/{text}"), state)
}

async fn connect(url: &str, token: Option<&str>) -> Result<Socket, u16> {
    let mut request = url.into_client_request().unwrap();
    if let Some(token) = token {
        let signature = sign::<&str, &str>(token, url, &[]);
        request.headers_mut().insert("x-twilio-signature", signature.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

fn start(call: &str, encoding: &str) -> Message {
    let format = json!({"encoding": encoding, "sampleRate": 8000, "channels": 1});
    let start =
        json!({"accountSid": "AC", "streamSid": "MZ1", "callSid": call, "tracks": ["inbound"], "mediaFormat": format});
    Message::text(json!({"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": start}).to_string())
}

/// The code that a socket is closed with; 1006 where it just breaks off.
async fn closed_with(mut socket: Socket) -> u16 {
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Close(frame)) => return frame.map_or(1005, |frame| frame.code.into()),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    1006
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_needs_a_ticket_of_its_own_and_the_carriers_signature() {
    let house = House::open(Options::default()).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let (url, _) = waiting(&house, &media, business).await;
    let at = |path: &str| format!("{}/media/{path}", media.base);
    assert_eq!(connect(&at("twilio/x"), Some(AUTH_TOKEN)).await.unwrap_err(), 403, "no ticket");
    assert_eq!(connect(&at(&format!("twilio/{}", "A".repeat(43))), Some(AUTH_TOKEN)).await.unwrap_err(), 403, "wrong");
    assert_eq!(connect(&url.replace("twilio", "other"), Some(AUTH_TOKEN)).await.unwrap_err(), 404);
    let http = client().get(url.replace("ws://", "http://")).send().await.unwrap();
    assert_eq!(http.status(), 422, "no WebSocket: the ticket is still good");
    let mut socket = connect(&url, Some(AUTH_TOKEN)).await.unwrap();
    assert_eq!(connect(&url, Some(AUTH_TOKEN)).await.unwrap_err(), 403, "used");
    socket.close(None).await.unwrap();

    let (url, _) = waiting(&house, &media, business).await;
    assert_eq!(connect(&url, None).await.unwrap_err(), 403, "not signed");
    let (url, _) = waiting(&house, &media, business).await;
    assert_eq!(connect(&url, Some("another token")).await.unwrap_err(), 403, "signed by somebody else");
    let (url, _) = waiting(&house, &media, business).await;
    assert_eq!(connect(&url.replace("twilio", "telnyx"), Some(AUTH_TOKEN)).await.unwrap_err(), 403, "another carrier");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_what_it_should_be_is_closed_and_never_becomes_a_conversation() {
    let house = House::open(Options::default()).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let (deep, giant) = (format!("{}1", "[".repeat(20_000)), "x".repeat(100_000));
    let frames: [(&str, FrameFor); 6] = [
        ("another call", Box::new(|_| start("CA00000000000000000000000000000000", "audio/x-mulaw"))),
        ("another codec", Box::new(|call| start(call, "audio/l16"))),
        ("an end before the start", Box::new(|_| Message::text(r#"{"event":"stop"}"#))),
        ("no JSON", Box::new(|_| Message::text("{"))),
        ("deep JSON", Box::new(move |_| Message::text(deep.clone()))),
        ("binary", Box::new(|_| Message::binary(vec![0; 160]))),
    ];
    for (what, frame) in frames {
        let (url, state) = waiting(&house, &media, business).await;
        let mut socket = connect(&url, Some(AUTH_TOKEN)).await.unwrap();
        socket.send(frame(&state.call_id)).await.unwrap();
        assert_eq!(closed_with(socket).await, 1008, "{what}");
    }
    let (url, _) = waiting(&house, &media, business).await;
    let mut socket = connect(&url, Some(AUTH_TOKEN)).await.unwrap();
    // It may be cut off before all of it has left.
    let _ = socket.send(Message::text(giant)).await;
    closed_with(socket).await;
    // Of one that says nothing at all the end is waited for.
    let (url, _) = waiting(&house, &media, business).await;
    let socket = connect(&url, Some(AUTH_TOKEN)).await.unwrap();
    assert_eq!(closed_with(socket).await, 1008, "no start");
    house.until("all are gone", || async { media.sessions.count() == 0 }).await;
    assert_eq!(house.sim.sessions().len(), 0, "no provider was asked");
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_come_before_the_start_are_no_reason_to_close_a_stream() {
    let house = House::open(Options::default()).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let (url, state) = waiting(&house, &media, business).await;
    let mut socket = connect(&url, Some(AUTH_TOKEN)).await.unwrap();
    for chunk in 1..=60 {
        let sound = json!({"track": "inbound", "chunk": chunk.to_string(), "payload": "////"});
        socket.send(Message::text(json!({"event": "media", "media": sound}).to_string())).await.unwrap();
    }
    socket.send(Message::text(r#"{"event":"dtmf","dtmf":{"digit":"5"}}"#)).await.unwrap();
    socket.send(Message::text(r#"{"event":"mark","mark":{"name":"g1"}}"#)).await.unwrap();
    socket.send(start(&state.call_id, "audio/x-mulaw")).await.unwrap();
    socket.send(Message::text(json!({"event": "stop", "streamSid": "MZ1"}).to_string())).await.unwrap();
    assert_eq!(closed_with(socket).await, 1000);
    house.until("it is over", || async { media.sessions.count() == 0 }).await;
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_quiet_call_writes_it_again_where_redis_has_lost_it() {
    let house = House::open(Options::default()).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let (url, state) = waiting_for(&house, &media, business, json!({"name": "A", "prompt": "B"})).await;
    let mut socket = connect(&url, Some(AUTH_TOKEN)).await.unwrap();
    socket.send(start(&state.call_id, "audio/x-mulaw")).await.unwrap();
    let is_live = async || {
        let held = house.ctx.calls.read(&state.call_id).await.unwrap();
        held.is_some_and(|held| held.phase == Phase::Live && held.memory.sessions == 1)
    };
    house.until("it talks", || async { is_live().await }).await;
    for key in ["state", "lease", "epoch"] {
        let key = house.ctx.stores.keys.key(format_args!("calls:{key}:{}", state.call_id));
        redis::cmd("DEL").arg(key).query_async::<()>(&mut house.ctx.stores.redis.clone()).await.unwrap();
    }
    house.until("it is written again", || async { is_live().await }).await;
    socket.send(Message::text(json!({"event": "stop", "streamSid": "MZ1"}).to_string())).await.unwrap();
    assert_eq!(closed_with(socket).await, 1000);
    house.until("it is over", || async { media.sessions.count() == 0 }).await;
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_stream_of_a_call_takes_it_from_the_first() {
    let house = House::open(Options::default()).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let (url, state) = waiting(&house, &media, business).await;
    let mut first = connect(&url, Some(AUTH_TOKEN)).await.unwrap();
    first.send(start(&state.call_id, "audio/x-mulaw")).await.unwrap();
    house.until("the first talks", || async { house.sim.sessions().len() >= 2 }).await;
    let media_url = format!("{}/media/twilio", media.base);
    let ticket = Ticket {
        business,
        attempt: state.attempt,
        carrier: state.carrier,
        account: state.account.clone(),
        call_id: state.call_id.clone(),
        media_url: media_url.clone(),
        frames: None,
    };
    let text = house.ctx.calls.open(&state, &ticket).await.unwrap().ticket;
    let mut second = connect(&format!("{media_url}/{text}"), Some(AUTH_TOKEN)).await.unwrap();
    second.send(start(&state.call_id, "audio/x-mulaw")).await.unwrap();
    assert_eq!(closed_with(first).await, 1008);
    second.send(Message::text(json!({"event": "stop", "streamSid": "MZ1"}).to_string())).await.unwrap();
    assert_eq!(closed_with(second).await, 1000);
    house.silent().await;
    house.until("both are over", || async { media.sessions.count() == 0 }).await;
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_without_room_says_so_and_keeps_the_ticket() {
    let house = House::open(Options::default()).await;
    let media = house.media_for(1).await;
    let business = house.business(1).await;
    let (one, _) = waiting(&house, &media, business).await;
    let (other, _) = waiting(&house, &media, business).await;
    let first = connect(&one, Some(AUTH_TOKEN)).await.unwrap();
    let stranger = format!("{}/media/twilio/{}", media.base, "A".repeat(43));
    assert_eq!(connect(&stranger, Some(AUTH_TOKEN)).await.unwrap_err(), 403);
    assert_eq!(connect(&other.replace("twilio", "telnyx"), None).await.unwrap_err(), 403);
    let counted = async || {
        let key = house.ctx.stores.keys.key("metrics:calls_rejected_max_concurrent");
        let mut redis = house.ctx.stores.redis.clone();
        redis::cmd("GET").arg(key).query_async::<Option<i64>>(&mut redis).await.unwrap().unwrap_or(0)
    };
    assert_eq!(counted().await, 0, "strangers are no calls of ours");
    assert_eq!(connect(&other, Some(AUTH_TOKEN)).await.unwrap_err(), 503);
    assert_eq!(counted().await, 1);
    drop(first);
    house.until("there is room", || async { media.sessions.count() == 0 }).await;
    drop(connect(&other, Some(AUTH_TOKEN)).await.unwrap());
    house.until("it is over", || async { media.sessions.count() == 0 }).await;
    media.begin_stop();
    let (late, _) = waiting(&house, &media, business).await;
    // The listener is closing: it answers no more, or says that there is no room.
    if let Ok((_, response)) = connect_async(late).await {
        panic!("{response:?}");
    }
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_nobody_opens_is_kept_no_longer_than_its_ticket() {
    let house = House::open(Options::default()).await;
    let media = house.media().await;
    let business = house.business(1).await;
    let agent = house.agent(business, json!({"greeting": "Hello.", "limits": {"call_secs": 14_400}})).await;
    let variables = serde_json::Map::from_iter([("name".to_owned(), json!("Ada"))]);
    let id = AttemptId::new();
    let url = tenant::request(async {
        tenant::bind(business);
        trial::open(&house.ctx, business, id, (agent, variables), trial::Frames::Mulaw).await.unwrap()
    })
    .await;
    let left_ms = async || {
        let key = house.ctx.stores.keys.key(format_args!("calls:state:WS{}", id.0.simple()));
        redis::cmd("PTTL").arg(key).query_async::<i64>(&mut house.ctx.stores.redis.clone()).await.unwrap()
    };
    assert!((1..=120_000).contains(&left_ms().await), "{}", left_ms().await);
    let (socket, _) = connect_async(url.as_str()).await.unwrap();
    house.until("it is kept for as long as it may last", || async { left_ms().await > 14_400_000 }).await;
    drop(socket);
    house.until("it is over", || async { media.sessions.count() == 0 }).await;
    media.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_beats_with_its_address_and_a_signal_ends_it() {
    let house = House::open(Options::default()).await;
    let calls = house.calls().await;
    let (door, admin) = (calls.addr("calls").await, calls.addr("admin").await);
    let refused = format!("ws://{door}/media/twilio/{}", "A".repeat(43));
    assert_eq!(connect(&refused, Some(AUTH_TOKEN)).await.unwrap_err(), 403);
    assert_eq!(calls.readiness().await, 200);
    let ask =
        async |path: &str| client().get(format!("http://{admin}{path}")).send().await.unwrap().text().await.unwrap();
    let metrics = ask("/metrics").await;
    assert!(metrics.contains("rollcall_media_refused_total{why=\"token\"} 1"), "{metrics}");
    let beating = async || {
        let seen = heartbeats::processes(&house.ctx.stores).await.unwrap();
        seen.into_iter().find(|one| one.beat.role == Role::Calls && one.alive())
    };
    house.until("it beats", || async { beating().await.is_some() }).await;
    let beat = beating().await.unwrap().beat;
    assert_eq!((beat.media_url.as_deref(), beat.most_sessions), (Some("ws://127.0.0.1:8090/"), Some(500)));
    let models: serde_json::Value = serde_json::from_str(&ask("/status/models").await).unwrap();
    assert_eq!((&models["data"], &models["replicas"][0]["voice_activity"]["name"]), (&json!([]), &json!("earshot")));
    calls.drain().await;
    assert!(beating().await.is_none());
    house.close().await;
}
