//! The sandbox's voice providers: what they hear, say and do wrong on demand.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails on the spot")]

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{SinkExt, StreamExt};
use rollcall::sim::{
    Answer, Call, Config, Ear, Millis, Provider, ProviderFault, ProviderRule, Providers, Sim, Speed, Until, Utterance,
};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::sandbox_carrier_desk::PATIENCE;

const TRANSCRIPTION: &str = "/v1/listen?model=nova-3&encoding=mulaw&sample_rate=8000&interim_results=true\
                             &endpointing=300&utterance_end_ms=1000&vad_events=true";
const SPEECH: &str = "/v1/text-to-speech/v/multi-stream-input?output_format=ulaw_8000&auto_mode=true";
const REALTIME: &str = "/v1/realtime?model=gpt-realtime";
/// Half a second.
const PAUSE: [u8; 4_000] = [0xFF; 4_000];

/// A client's socket.
struct Socket(tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>);

/// What a socket gives next.
#[derive(Debug, PartialEq)]
enum Given {
    Message(Value),
    Garbage(String),
    Closed(Option<u16>),
}

impl Socket {
    async fn open(sim: &Sim, path: &str) -> Self {
        Self::try_open(sim, path, "a-key").await.unwrap()
    }

    /// Opens a socket, or gives the HTTP status of the refusal.
    async fn try_open(sim: &Sim, path: &str, key: &str) -> Result<Self, u16> {
        let url = format!("{}{path}", sim.base_url().replace("http", "ws"));
        let mut request = url.into_client_request().unwrap();
        let scheme = if path.starts_with("/v1/listen") { "Token" } else { "Bearer" };
        request.headers_mut().insert("authorization", format!("{scheme} {key}").parse().unwrap());
        request.headers_mut().insert("xi-api-key", key.parse().unwrap());
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn sound(&mut self, sound: &[u8]) {
        for piece in sound.chunks(800) {
            self.0.send(Message::binary(piece.to_vec())).await.unwrap();
        }
    }

    async fn append(&mut self, sound: &[u8]) {
        for piece in sound.chunks(800) {
            self.say(json!({"type": "input_audio_buffer.append", "audio": STANDARD.encode(piece)})).await;
        }
    }

    async fn given(&mut self) -> Given {
        match tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap() {
            Some(Ok(Message::Text(text))) => {
                serde_json::from_str(&text).map_or_else(|_| Given::Garbage(text.to_string()), Given::Message)
            }
            Some(Ok(Message::Close(frame))) => Given::Closed(frame.map(|frame| frame.code.into())),
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) | None => Given::Closed(None),
        }
    }

    async fn message(&mut self) -> Value {
        match self.given().await {
            Given::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    /// Every message up to the first that fits, which is the last.
    async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            seen.push(self.message().await);
            if fits(seen.last().unwrap()) {
                return seen;
            }
        }
    }

    /// Every event of a type, up to the one that ends it.
    async fn events(&mut self, last: &str) -> Vec<Value> {
        self.until(|event| event["type"] == last).await
    }
}

/// A sentence as a person says it; a sentence of another length has another number.
fn sound(text: &str) -> Vec<u8> {
    Utterance::new(u32::try_from(text.len()).unwrap(), text, Speed::FASTEST).sound()
}

fn transcript(result: &Value) -> &str {
    result["channel"]["alternatives"][0]["transcript"].as_str().unwrap()
}

fn quick() -> Sim {
    Sim::start_local(Config::quick()).unwrap()
}

/// The words in the sound of these messages.
fn words(sound: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut ear = Ear::default();
    let mut heard = Vec::new();
    for piece in sound {
        heard.extend(ear.listen(&STANDARD.decode(piece.as_str().unwrap()).unwrap()));
    }
    heard.into_iter().map(|heard| heard.text).collect()
}

#[tokio::test]
async fn a_long_turn_comes_in_spans_that_make_it_up_and_ends_with_speech_final() {
    let sim = quick();
    let mut socket = Socket::open(&sim, TRANSCRIPTION).await;
    let text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen";
    socket.sound(&Utterance::new(1, text, Speed::HUMAN).sound()).await;
    socket.sound(&PAUSE.repeat(3)).await;
    let seen = socket.events("UtteranceEnd").await;
    assert_eq!(seen[0]["type"], "SpeechStarted");
    let finals: Vec<&Value> = seen.iter().filter(|message| message["is_final"] == true).collect();
    let spans: Vec<&str> = finals.iter().map(|result| transcript(result)).collect();
    assert!(spans.len() >= 2, "{spans:?}");
    assert_eq!(spans.join(" "), text);
    let speech_final: Vec<bool> = finals.iter().map(|result| result["speech_final"] == true).collect();
    assert_eq!(speech_final.iter().filter(|is| **is).count(), 1);
    assert!(speech_final.last().unwrap());
    assert!(seen.iter().any(|message| message["is_final"] == false && !transcript(message).is_empty()));
    assert_eq!(sim.sessions()[0].heard.join(" "), text);
}

#[tokio::test]
async fn a_turn_is_told_at_once_when_that_is_asked_for_and_a_silent_client_is_closed() {
    let providers = Providers { transcript_idle_ms: 300, ..Providers::quick() };
    let sim = Sim::start_local(Config { providers, ..Config::quick() }).unwrap();
    let mut socket = Socket::open(&sim, TRANSCRIPTION).await;
    socket.sound(&sound("unfinished business")).await;
    socket.say(json!({"type": "Finalize"})).await;
    let result = socket.until(|message| message["from_finalize"] == true).await.pop().unwrap();
    assert_eq!((transcript(&result), &result["is_final"]), ("unfinished business", &json!(true)));
    socket.say(json!({"type": "KeepAlive"})).await;
    assert_eq!(socket.given().await, Given::Closed(Some(1011)));
    let mut socket = Socket::open(&sim, TRANSCRIPTION).await;
    socket.say(json!({"type": "CloseStream"})).await;
    assert_eq!(socket.message().await["type"], "Metadata");
    assert_eq!(socket.given().await, Given::Closed(Some(1000)));
}

#[tokio::test]
async fn a_closed_context_is_silent_unless_it_was_flushed_and_six_are_too_many() {
    let providers = Providers { speech_pace: 1.0, speech_speed: Speed::HUMAN, ..Providers::quick() };
    let sim = Sim::start_local(Config { providers, ..Config::quick() }).unwrap();
    let mut socket = Socket::open(&sim, SPEECH).await;
    socket.say(json!({"text": "A sentence that takes longer than half a second. ", "context_id": "c1"})).await;
    assert_eq!(socket.message().await["contextId"], "c1");
    socket.say(json!({"context_id": "c1", "close_context": true})).await;
    let last = socket.message().await;
    assert_eq!((&last["isFinal"], &last["contextId"]), (&json!(true), &json!("c1")));
    socket.say(json!({"text": "Flushed, so spoken. ", "context_id": "c2", "flush": true})).await;
    socket.say(json!({"context_id": "c2", "close_context": true})).await;
    let seen = socket.until(|message| message["isFinal"] == true).await;
    let spoken = seen.iter().map(|message| message["audio"].clone()).filter(|audio| audio.is_string());
    assert_eq!(words(spoken), ["Flushed, so spoken."]);
    assert!(seen.iter().any(|message| message["type"] == "flush_done"));
    for n in 0..6 {
        socket.say(json!({"text": " ", "context_id": format!("open-{n}")})).await;
    }
    assert_eq!(socket.message().await["error"], "max_contexts_exceeded");
    assert_eq!(socket.given().await, Given::Closed(Some(1008)));
}

#[tokio::test]
async fn a_voice_cancels_the_realtime_answer_and_a_tool_is_called_and_answered() {
    let providers = Providers { speech_pace: 1.0, speech_speed: Speed::HUMAN, ..Providers::quick() };
    let sim = Sim::start_local(Config { providers, ..Config::quick() }).unwrap();
    sim.set_answers(vec![Answer {
        hears: Some("book".to_owned()),
        says: "One moment.".to_owned(),
        calls: Some(Call { name: "book".to_owned(), arguments: json!({"day": "Monday"}) }),
        ..Answer::default()
    }]);
    let mut socket = Socket::open(&sim, REALTIME).await;
    socket.events("session.created").await;
    let tools = json!([{"type": "function", "name": "book"}]);
    socket.say(json!({"type": "session.update", "session": {"type": "realtime", "tools": tools}})).await;
    socket.events("session.updated").await;
    socket.append(&sound("A long story that is told back")).await;
    socket.append(&PAUSE.repeat(2)).await;
    socket.events("response.output_audio.delta").await;
    socket.append(&sound("Please book it")).await;
    socket.append(&PAUSE.repeat(2)).await;
    let first = socket.events("response.done").await.pop().unwrap();
    assert_eq!(first["response"]["status_details"], json!({"type": "cancelled", "reason": "turn_detected"}));
    let seen = socket.events("response.done").await;
    let call = seen.iter().find(|event| event["type"] == "response.function_call_arguments.done").unwrap();
    assert_eq!((&call["name"], &call["arguments"]), (&json!("book"), &json!("{\"day\":\"Monday\"}")));
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "Monday at ten"});
    socket.say(json!({"type": "conversation.item.create", "item": output})).await;
    socket.say(json!({"type": "response.create"})).await;
    let seen = socket.events("response.done").await;
    let spoken = seen.iter().filter(|event| event["type"] == "response.output_audio.delta");
    assert_eq!(words(spoken.map(|event| event["delta"].clone())), ["It is done: Monday at ten."]);
}

#[tokio::test]
async fn wrong_keys_full_keys_and_wrong_formats_are_turned_away() {
    let providers =
        Providers { provider_keys: vec!["a-key".to_owned()], provider_limit: Some(1), ..Providers::quick() };
    let sim = Sim::start_local(Config { providers, ..Config::quick() }).unwrap();
    for path in [TRANSCRIPTION, SPEECH, REALTIME] {
        assert_eq!(Socket::try_open(&sim, path, "another").await.err(), Some(401), "{path}");
        let first = Socket::open(&sim, path).await;
        assert_eq!(Socket::try_open(&sim, path, "a-key").await.err(), Some(429), "{path}");
        drop(first);
        sim.wait(Until::Sessions(0), PATIENCE).await.unwrap();
        assert!(Socket::try_open(&sim, path, "a-key").await.is_ok(), "{path}");
        sim.wait(Until::Sessions(0), PATIENCE).await.unwrap();
    }
    assert_eq!(Socket::try_open(&sim, "/v1/listen?encoding=opus", "a-key").await.err(), Some(400));
    let figures = sim.figures().providers;
    let counts =
        figures.values().map(|provider| (provider.opened, provider.refused, provider.live)).collect::<Vec<_>>();
    assert_eq!(counts, [(2, 2, 0); 3]);
}

/// A realtime session is enough: every fault of a socket strikes in the part that all of them share.
#[tokio::test]
async fn each_fault_of_a_socket_is_what_its_name_says() {
    let sim = quick();
    for (kind, given) in [
        (ProviderFault::InvalidJson, Given::Garbage("{\"type\": \"Results\", ".to_owned())),
        (ProviderFault::UnknownType, Given::Message(json!({"type": "sandbox.surprise", "n": 1}))),
    ] {
        let mut socket = faulty(&sim, ProviderRule::next(Provider::Realtime, kind, 1), REALTIME).await;
        assert_eq!(socket.given().await, given);
        assert_eq!(socket.message().await["type"], "session.created");
    }
    let mut socket = faulty(&sim, ProviderRule::next(Provider::Realtime, ProviderFault::Huge, 1), REALTIME).await;
    assert!(socket.message().await["padding"].as_str().unwrap().len() >= 1 << 20);
    let mut socket = faulty(&sim, ProviderRule::next(Provider::Realtime, ProviderFault::Duplicate, 1), REALTIME).await;
    assert_eq!(socket.message().await["event_id"], socket.message().await["event_id"]);
    let mut socket = faulty(&sim, ProviderRule::next(Provider::Realtime, ProviderFault::Error, 1), REALTIME).await;
    assert_eq!(socket.events("error").await.len(), 2);
    for code in [1000, 1001, 1006, 1008, 1011, 1012] {
        let rule = ProviderRule::next(Provider::Realtime, ProviderFault::Close, 1);
        let rule = ProviderRule { code: Some(code), ms: Some(Millis::exactly(20)), ..rule };
        let mut socket = faulty(&sim, rule, REALTIME).await;
        socket.message().await;
        assert_eq!(socket.given().await, Given::Closed(Some(code).filter(|code| *code != 1006)));
    }
    for kind in [ProviderFault::Silent, ProviderFault::HalfOpen] {
        let mut socket = faulty(&sim, ProviderRule::next(Provider::Realtime, kind, 1), REALTIME).await;
        socket.say(json!({"type": "response.create"})).await;
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(100), socket.0.next()).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }
    let mut refused = ProviderRule::next(Provider::Speech, ProviderFault::Refuse, 1);
    refused.status = Some(403);
    sim.set_provider_faults(vec![refused]).unwrap();
    assert_eq!(Socket::try_open(&sim, SPEECH, "k").await.err(), Some(403));
    assert!(sim.set_provider_faults(vec![ProviderRule::next(Provider::Chat, ProviderFault::Slow, 0)]).is_err());
}

async fn faulty(sim: &Sim, rule: ProviderRule, path: &str) -> Socket {
    sim.set_provider_faults(vec![rule]).unwrap();
    Socket::open(sim, path).await
}

#[tokio::test]
async fn sound_in_a_foreign_name_and_sound_that_comes_too_late_are_told_apart_by_their_words() {
    let sim = quick();
    let rule = ProviderRule::next(Provider::Speech, ProviderFault::ForeignId, 1);
    let mut socket = faulty(&sim, rule, SPEECH).await;
    socket.say(json!({"text": "Mine. ", "context_id": "c1"})).await;
    let (foreign, mine) = (socket.message().await, socket.message().await);
    assert!(foreign["contextId"] != "c1" && mine["contextId"] == "c1");
    assert_eq!(words([foreign["audio"].clone()]), ["tag-999999"]);
    assert_eq!(words([mine["audio"].clone()]), ["Mine."]);
    let mut socket = faulty(&sim, ProviderRule::next(Provider::Speech, ProviderFault::Late, 1), SPEECH).await;
    socket.say(json!({"text": "Early. ", "context_id": "c1", "flush": true})).await;
    socket.say(json!({"context_id": "c1", "close_context": true})).await;
    socket.until(|message| message["isFinal"] == true).await;
    assert_eq!(words([socket.message().await["audio"].clone()]), ["too late"]);
}

#[tokio::test]
async fn a_chat_answer_breaks_off_or_stalls_on_demand() {
    let sim = quick();
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |kind: Option<ProviderFault>| {
        let rules = kind.map(|kind| ProviderRule::next(Provider::Chat, kind, 1));
        sim.set_provider_faults(rules.into_iter().collect()).unwrap();
        let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "a b c d e f"}]});
        let request = client.post(format!("{}/v1/chat/completions", sim.base_url())).bearer_auth("k").json(&body);
        request.send().await.unwrap()
    };
    let whole = ask(None).await.text().await.unwrap();
    assert!(whole.ends_with("data: [DONE]\n\n") && whole.contains("\"finish_reason\":\"stop\""));
    let cut = ask(Some(ProviderFault::Close)).await.text().await.unwrap();
    assert!(!cut.contains("[DONE]") && cut.contains("I "), "{cut}");
    let mut stalled = ask(Some(ProviderFault::Late)).await;
    stalled.chunk().await.unwrap().unwrap();
    drop(stalled);
    sim.wait(Until::Sessions(0), PATIENCE).await.unwrap();
    let error = ask(Some(ProviderFault::Error)).await.text().await.unwrap();
    assert!(error.contains("data: {\"error\""));
    assert_eq!(sim.sessions()[0].said, ["I heard: a b c d e f"]);
}
