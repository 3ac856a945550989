//! The sandbox carrier's media streams: what the far end says, hears, interrupts and presses.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails on the spot")]

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::HeaderMap,
    routing::any,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rollcall::sim::{
    Callee, Config, Ear, Heard, Line, Manners, Millis, Sim, Speed, Status, Then, Until, Utterance, sign,
};
use serde_json::{Value, json};

use crate::sandbox_carrier_desk::{ACCOUNT, Desk, PATIENCE, TOKEN};

/// A magic number: a person answers.
const TO: &str = "+12125550190";

/// What the server of a stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Answers each sentence with "You said: …", marked.
    Polite,
    /// The same, and stops at once when somebody speaks into its words.
    Yielding,
    /// Closes the socket after the first sentence.
    Closes,
    /// Sends a message that is not one.
    Rude,
    /// Says what another call's callee said.
    Mixing,
}

/// A server for streams, that keeps what it received.
#[derive(Debug, Clone)]
struct Agent {
    manner: Manner,
    received: Arc<Mutex<Vec<Value>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    signatures: Arc<Mutex<Vec<String>>>,
    url: String,
}

impl Agent {
    async fn start(manner: Manner) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let agent = Self {
            manner,
            received: Arc::default(),
            heard: Arc::default(),
            signatures: Arc::default(),
            url: format!("ws://{}/media/x", listener.local_addr().unwrap()),
        };
        let router = Router::new().fallback(any(upgrade)).with_state(agent.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        agent
    }

    fn twiml(&self) -> String {
        format!(
            "<Response><Connect><Stream url=\"{}\"><Parameter name=\"attempt\" value=\"a1\"/></Stream></Connect>\
             <Say>after</Say></Response>",
            self.url
        )
    }

    fn received(&self, event: &str) -> Vec<Value> {
        self.received.lock().unwrap().iter().filter(|message| message["event"] == event).cloned().collect()
    }
}

async fn upgrade(
    State(agent): State<Agent>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> axum::response::Response {
    let signature = headers.get("x-twilio-signature").map(|value| value.to_str().unwrap().to_owned());
    agent.signatures.lock().unwrap().extend(signature);
    upgrade.on_upgrade(move |socket| serve(agent, socket))
}

async fn serve(agent: Agent, mut socket: WebSocket) {
    let (mut ear, mut sentence, mut stream) = (Ear::default(), 1_u32 << 31, Value::Null);
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Text(text) = message else { break };
        let message: Value = serde_json::from_str(&text).unwrap();
        agent.received.lock().unwrap().push(message.clone());
        match message["event"].as_str().unwrap() {
            "start" => {
                stream = message["streamSid"].clone();
                if agent.manner == Manner::Rude {
                    let rude =
                        json!({"event": "media", "streamSid": stream, "media": {"payload": "AA==", "track": "x"}});
                    socket.send(Message::text(rude.to_string())).await.unwrap();
                }
                say(&mut socket, &stream, &mut sentence, "Hello, who is there?").await;
            }
            "media" => {
                let sound = STANDARD.decode(message["media"]["payload"].as_str().unwrap()).unwrap();
                let ended = ear.listen(&sound);
                if agent.manner == Manner::Yielding && ear.present().is_some() {
                    put(&mut socket, &stream, json!({"event": "clear"})).await;
                }
                for heard in ended {
                    if agent.manner == Manner::Closes {
                        return;
                    }
                    let words = if agent.manner == Manner::Mixing { "Hello tag-000099." } else { &heard.text };
                    say(&mut socket, &stream, &mut sentence, &format!("You said: {words}")).await;
                    agent.heard.lock().unwrap().push(heard);
                }
            }
            _ => {}
        }
    }
}

async fn say(socket: &mut WebSocket, stream: &Value, sentence: &mut u32, text: &str) {
    *sentence += 1;
    let sound = Utterance::new(*sentence, text, Speed::FASTEST).sound();
    for piece in sound.chunks(400) {
        put(socket, stream, json!({"event": "media", "media": {"payload": STANDARD.encode(piece)}})).await;
    }
    put(socket, stream, json!({"event": "mark", "mark": {"name": text}})).await;
}

/// Sends a message: Twilio's name their stream, Telnyx's do not.
async fn put(socket: &mut WebSocket, stream: &Value, mut message: Value) {
    if !stream.is_null() {
        message["streamSid"] = stream.clone();
    }
    // A carrier that has hung up takes nothing more.
    socket.send(Message::text(message.to_string())).await.ok();
}

fn lines(lines: &[&str]) -> Vec<Line> {
    lines.iter().map(|line| Line { say: (*line).to_owned(), ..Line::default() }).collect()
}

/// A desk whose calls go to this agent, and one call that has ended.
async fn called(agent: &Agent, callee: Callee) -> (Desk, rollcall::sim::CallReport) {
    let desk = Desk::quick().await;
    desk.say(&agent.twiml());
    desk.sim.set_callees(vec![callee]);
    let sid = desk.call(TO, "t1").await;
    desk.sim.wait(Until::Reached(sid, Status::Completed), PATIENCE).await.unwrap();
    desk.idle().await;
    let report = desk.sim.calls_to(TO).remove(0);
    (desk, report)
}

#[tokio::test]
async fn both_sides_hear_what_the_other_says_and_the_messages_are_twilios() {
    let agent = Agent::start(Manner::Polite).await;
    let callee = Callee { lines: lines(&["This is {tag}.", "Goodbye from {tag}."]), ..Callee::default() };
    let (desk, call) = called(&agent, callee).await;
    let talk = &call.conversations[0];
    assert_eq!((talk.tag.as_str(), talk.end.as_str()), ("tag-000000", "the callee hung up"));
    assert_eq!(talk.said, ["This is tag-000000.", "Goodbye from tag-000000."]);
    let whole: Vec<(&str, bool)> = talk.heard.iter().map(|heard| (&*heard.text, heard.whole)).collect();
    assert_eq!(
        whole,
        [
            ("Hello, who is there?", true),
            ("You said: This is tag-000000.", true),
            ("You said: Goodbye from tag-000000.", true)
        ]
    );
    assert_eq!((talk.turns, talk.marks, talk.foreign.len()), (3, 3, 0));
    assert!(agent.heard.lock().unwrap().iter().all(|heard| heard.whole));

    let start = &agent.received("start")[0];
    assert_eq!((&start["start"]["callSid"], &start["start"]["accountSid"]), (&json!(call.sid), &json!(ACCOUNT)));
    assert_eq!(start["start"]["customParameters"], json!({"attempt": "a1"}));
    let media = agent.received("media");
    assert_eq!((&media[0]["media"]["chunk"], &media[1]["media"]["timestamp"]), (&json!("1"), &json!("20")));
    assert_eq!(agent.received("connected")[0], json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}));
    assert_eq!(agent.received("stop").len(), 1);
    let url = agent.url.clone();
    assert_eq!(*agent.signatures.lock().unwrap(), [sign::<&str, &str>(TOKEN, &url, &[])]);
    let figures = desk.sim.figures().media;
    assert_eq!((figures.opened, figures.live, figures.turns, figures.heard_whole, figures.foreign), (1, 0, 3, 3, 0));
    assert_eq!(figures.answer_ms.count, 2);
}

#[tokio::test]
async fn an_interruption_cuts_the_agent_short_and_its_marks_come_back() {
    let agent = Agent::start(Manner::Yielding).await;
    let mut script = lines(&["Wait.", "Bye."]);
    script[0].interrupts_after = Some(4);
    let (_, call) = called(&agent, Callee { lines: script, ..Callee::default() }).await;
    let talk = &call.conversations[0];
    assert_eq!(talk.interruptions, 1);
    assert!(talk.clears >= 1 && !talk.heard[0].whole, "{talk:?}");
    assert!("Hello, who is there?".starts_with(&talk.heard[0].text), "{talk:?}");
    assert!(talk.heard.iter().any(|heard| heard.text == "You said: Wait." && heard.whole), "{talk:?}");
    assert_eq!(talk.marks, 3, "every mark comes back, played or cleared");
}

#[tokio::test]
async fn keys_arrive_and_a_call_that_the_server_leaves_goes_on_with_the_next_verb() {
    let agent = Agent::start(Manner::Closes).await;
    let mut script = lines(&["One."]);
    script[0].dtmf = "1#".to_owned();
    let (_, call) = called(&agent, Callee { lines: script, ..Callee::default() }).await;
    assert_eq!(call.conversations[0].end, "closed by the server with 1006");
    assert!(call.notes[0].starts_with("31921: "), "{:?}", call.notes);
    assert_eq!(call.heard, ["Hello, who is there?", "after"]);

    let agent = Agent::start(Manner::Polite).await;
    let mut script = lines(&["One."]);
    script[0].dtmf = "1#".to_owned();
    called(&agent, Callee { lines: script, ..Callee::default() }).await;
    let keys: Vec<Value> = agent.received("dtmf").iter().map(|key| key["dtmf"]["digit"].clone()).collect();
    assert_eq!(keys, [json!("1"), json!("#")]);
}

#[tokio::test]
async fn what_is_no_message_is_noted_once() {
    let agent = Agent::start(Manner::Rude).await;
    let (desk, call) = called(&agent, Callee { lines: lines(&["Hm."]), ..Callee::default() }).await;
    assert_eq!(call.notes.len(), 1, "{:?}", call.notes);
    assert!(call.notes[0].starts_with("31951: "), "{:?}", call.notes);
    assert_eq!(desk.sim.figures().media.malformed, 1);
}

#[tokio::test]
async fn words_of_another_call_are_noticed() {
    let agent = Agent::start(Manner::Mixing).await;
    let (desk, call) = called(&agent, Callee { lines: lines(&["I am {tag}."]), ..Callee::default() }).await;
    assert_eq!(call.conversations[0].foreign, ["tag-000099"]);
    assert_eq!(desk.sim.figures().media.foreign, 1);
}

#[tokio::test]
async fn a_hang_up_from_outside_and_new_orders_end_the_stream() {
    let agent = Agent::start(Manner::Polite).await;
    let desk = Desk::quick().await;
    desk.say(&agent.twiml());
    desk.sim.set_callees(vec![Callee { then: Then::Stays, ..Callee::default() }]);
    let sid = desk.call(TO, "t1").await;
    desk.sim.wait(Until::Streams(1), PATIENCE).await.unwrap();
    let (status, _) =
        desk.post(&format!("Calls/{sid}.json"), &[("Twiml", "<Response><Dial>+12125550100</Dial></Response>")]).await;
    assert_eq!(status, 200);
    desk.idle().await;
    let call = desk.sim.calls_to(TO).remove(0);
    assert_eq!((call.conversations[0].end.as_str(), call.status), ("the call moved on", Status::Completed));
    assert_eq!(call.heard.last().unwrap(), "[dial +12125550100]");
    assert_eq!(agent.received("stop").len(), 1);

    let sid = desk.call(TO, "t2").await;
    desk.sim.wait(Until::Streams(1), PATIENCE).await.unwrap();
    desk.post(&format!("Calls/{sid}.json"), &[("Status", "completed")]).await;
    desk.sim.wait(Until::Streams(0), PATIENCE).await.unwrap();
    desk.idle().await;
    assert_eq!(agent.received("stop").len(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_noted_and_the_call_goes_on() {
    let desk = Desk::quick().await;
    desk.say("<Response><Connect><Stream url=\"ws://127.0.0.1:9/x\"/></Connect><Say>after</Say></Response>");
    desk.call(TO, "t1").await;
    desk.idle().await;
    let call = desk.sim.calls_to(TO).remove(0);
    assert!(call.notes[0].starts_with("31920: "), "{:?}", call.notes);
    assert_eq!((call.heard.as_slice(), desk.sim.figures().media.refused), (&["after".to_owned()][..], 1));
}

#[tokio::test]
async fn human_speech_takes_its_time_and_a_document_may_send_on_to_another() {
    let manners = Manners { callee_speed: Speed::HUMAN, reaction_ms: Millis::exactly(20), ..Config::quick().manners };
    let desk = Desk::new(Config { manners, ..Config::quick() }).await;
    let agent = Agent::start(Manner::Polite).await;
    desk.say(&format!("<Response><Redirect>{}/answer/second</Redirect></Response>", desk.hooks));
    desk.sim.set_callees(vec![Callee { lines: lines(&["Twenty characters 20"]), ..Callee::default() }]);
    let sid = desk.call(TO, "t1").await;
    desk.sim.wait(Until::Reached(sid, Status::InProgress), PATIENCE).await.unwrap();
    desk.say(&agent.twiml());
    desk.idle().await;
    let call = desk.sim.calls_to(TO).remove(0);
    let talk = &call.conversations[0];
    // 20 characters of 60 ms each, beside the agent's own words.
    assert!(talk.frames.0 >= 60, "{talk:?}");
    assert_eq!(talk.heard.last().unwrap().text, "You said: Twenty characters 20");
}

/// The sandbox is dropped with its streams.
#[tokio::test]
async fn a_sandbox_that_stops_leaves_no_stream() {
    let agent = Agent::start(Manner::Polite).await;
    let desk = Desk::quick().await;
    desk.say(&agent.twiml());
    desk.sim.set_callees(vec![Callee { then: Then::Stays, ..Callee::default() }]);
    desk.call(TO, "t1").await;
    desk.sim.wait(Until::Streams(1), PATIENCE).await.unwrap();
    Sim::shutdown(desk.sim).await;
}

/// A dial at Telnyx, with a stream, and the call once it has ended.
async fn dialed(desk: &Desk, agent: &Agent, mode: &str) -> rollcall::sim::CallReport {
    let body = json!({
        "connection_id": "1", "to": TO, "from": "+14155550100", "client_state": "eA==", "stream_url": agent.url,
        "stream_bidirectional_mode": mode, "webhook_url": format!("{}/status/t", desk.hooks),
    });
    let request = desk.client.post(format!("{}/v2/calls", desk.sim.base_url())).bearer_auth("k").json(&body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let sid = answer["data"]["call_control_id"].as_str().unwrap().to_owned();
    desk.sim.wait(Until::Reached(sid, Status::Completed), PATIENCE).await.unwrap();
    desk.idle().await;
    desk.sim.calls_to(TO).pop().unwrap()
}

#[tokio::test]
async fn telnyx_streams_from_the_answer_in_its_own_words_and_in_any_order() {
    let agent = Agent::start(Manner::Polite).await;
    let manners = Manners { reordered: 0.3, ..Config::quick().manners };
    let desk = Desk::new(Config { manners, ..Config::quick() }).await;
    desk.sim.set_callees(vec![Callee { lines: lines(&["This is {tag}."]), ..Callee::default() }]);
    let call = dialed(&desk, &agent, "rtp").await;
    assert_eq!(call.conversations[0].heard[0].text, "Hello, who is there?");
    let start = &agent.received("start")[0];
    assert_eq!(
        (&start["start"]["call_control_id"], &start["start"]["client_state"]),
        (&json!(call.sid), &json!("eA=="))
    );
    assert_eq!(start["start"]["media_format"], json!({"encoding": "PCMU", "sample_rate": 8000, "channels": 1}));
    let chunks: Vec<u64> = agent
        .received("media")
        .iter()
        .map(|media| media["media"]["chunk"].as_str().unwrap().parse().unwrap())
        .collect();
    let mut sorted = chunks.clone();
    sorted.sort_unstable();
    assert!(chunks != sorted && sorted.windows(2).all(|pair| pair[0] < pair[1]), "{chunks:?}");
    let told: Vec<String> = desk.received("/status/t").iter().map(|event| event.pairs[0].0.clone()).collect();
    for name in ["streaming.started", "streaming.stopped", "call.hangup"] {
        assert!(told.iter().any(|event| event.contains(name)), "{name} in {told:?}");
    }
}

#[tokio::test]
async fn telnyx_takes_sound_for_mp3_unless_it_is_told_otherwise() {
    let agent = Agent::start(Manner::Polite).await;
    let desk = Desk::quick().await;
    desk.sim.set_callees(vec![Callee { speaks_first: true, lines: lines(&["Hm."]), ..Callee::default() }]);
    let call = dialed(&desk, &agent, "mp3").await;
    assert!(call.notes[0].starts_with("100003: "), "{:?}", call.notes);
    assert!(call.conversations[0].heard.is_empty());
    assert_eq!(agent.received("error")[0]["payload"]["title"], "malformed_frame");
}
