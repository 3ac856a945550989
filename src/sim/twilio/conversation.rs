//! An answered call: fetch the TwiML, act it out, remember what was heard.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::HeaderName;
use url::Url;
use uuid::Uuid;

use super::{
    dial::{Detection, Hook, Kind, Method, Script},
    signature::{sign, signed_url},
    status::{answered_by, detection_result, twiml_request},
    twiml::{self, Connect, Unusable, Verb},
};
use crate::sim::{
    Shared,
    call::{CallId, Status},
    life::{Turn, passed, wait},
    machine::Listening,
    media::{self, Dialect, End, Order},
    outcome::Outcome,
};

/// The largest TwiML document, bytes (error 11750).
const LONGEST_TWIML: usize = 64 * 1024;
/// How many documents one call may go through.
const MOST_DOCUMENTS: usize = 100;

/// Talks to the end of the script. A script that cannot be had ends the call as failed.
pub(crate) async fn converse(shared: &Arc<Shared>, id: CallId) {
    let listening = shared.picked_up(id);
    if detect(shared, id, listening).await == Turn::Moved {
        return;
    }
    let (mut script, fallback) = {
        let world = shared.world();
        let Some(order) = world.call(id).dial.twilio() else { return };
        (order.script.clone(), order.fallback.clone())
    };
    for _ in 0..MOST_DOCUMENTS {
        let base = match &script {
            Script::Fetch(hook) => Some(hook.url.clone()),
            _ => None,
        };
        let verbs = match read(shared, id, script, fallback.clone()).await {
            Ok(verbs) => verbs,
            Err(unusable) => {
                shared.note(id, format!("{}: {}", unusable.code, unusable.why));
                shared.advance(id, Status::Failed, Some(200));
                return;
            }
        };
        let next = act(shared, id, verbs).await;
        // What the caller ordered meanwhile goes before what the document says.
        let ordered = shared.world().call_mut(id).detour.take();
        script = match (ordered, next) {
            (Some(ordered), _) => ordered,
            (None, Some(url)) => match absolute(base.as_deref(), &url) {
                Ok(url) => Script::Fetch(Hook { url, method: Method::Post }),
                Err(why) => return shared.note(id, format!("11100: {why}")),
            },
            (None, None) => return,
        };
    }
    shared.note(id, "the document goes round in circles");
}

/// A URL of a document, which may be relative to the document's own.
fn absolute(base: Option<&str>, url: &str) -> Result<String, String> {
    let joined = match base.map(Url::parse) {
        Some(Ok(base)) => base.join(url),
        _ => Url::parse(url),
    };
    joined.map(String::from).map_err(|error| format!("`{url}`: {error}"))
}

/// Hears who answered, where that was asked for: before anything else, or beside the call.
async fn detect(shared: &Arc<Shared>, id: CallId, listening: Listening) -> Turn {
    let (beside, kind) = match shared.world().call(id).dial.twilio().map(|order| &order.detection) {
        Some(Detection::Blocking(kind)) => (false, *kind),
        Some(Detection::Beside(kind, _)) => (true, *kind),
        Some(Detection::Off) | None => return Turn::Elapsed,
    };
    let time = if kind == Kind::DetectMessageEnd { listening.told() } else { listening.verdict };
    if beside {
        let here = Arc::clone(shared);
        shared.spawn(async move {
            // New orders do not end it, only the end of the call does.
            tokio::time::sleep(time).await;
            if here.status(id) == Status::InProgress {
                tell_detection(&here, id);
            }
        });
        return Turn::Elapsed;
    }
    let turn = passed(shared, id, Status::InProgress, time).await;
    if turn == Turn::Elapsed {
        tell_detection(shared, id);
    }
    turn
}

/// It is known who answered.
fn tell_detection(shared: &Arc<Shared>, id: CallId) {
    let parcel = {
        let mut world = shared.world();
        let call = world.call_mut(id);
        let who = answered_by(call);
        call.answered_by = who;
        let auth_token = world.auth_token(&world.call(id).account).to_owned();
        detection_result(world.call(id), auth_token)
    };
    if let Some(parcel) = parcel {
        let shared_here = Arc::clone(shared);
        shared.spawn(async move {
            if let Err(error) = shared_here.post.send(&parcel).await.outcome {
                shared_here.note(id, format!("detection callback: {error}"));
            }
        });
    }
}

async fn read(shared: &Arc<Shared>, id: CallId, script: Script, fallback: Option<Hook>) -> Result<Vec<Verb>, Unusable> {
    let first = match script {
        Script::Inline(twiml) => twiml::read(&twiml),
        Script::Fetch(hook) => fetch(shared, id, hook).await,
        Script::Application => {
            Err(Unusable { code: 11200, why: "the sandbox knows no applications, and so no URL".to_owned() })
        }
    };
    match (first, fallback) {
        (Err(unusable), Some(hook)) => {
            shared.note(id, format!("{}: {}", unusable.code, unusable.why));
            fetch(shared, id, hook).await
        }
        (result, _) => result,
    }
}

async fn fetch(shared: &Arc<Shared>, id: CallId, hook: Hook) -> Result<Vec<Verb>, Unusable> {
    let parcel = {
        let world = shared.world();
        let call = world.call(id);
        twiml_request(call, hook, world.auth_token(&call.account).to_owned())
    };
    let unusable = |code: u32, why: String| Unusable { code, why };
    let answer = shared.post.send(&parcel).await.outcome.map_err(|error| unusable(11200, error))?;
    if !(200..300).contains(&answer.status) {
        return Err(unusable(11200, format!("HTTP {}", answer.status)));
    }
    if answer.body.len() > LONGEST_TWIML {
        return Err(unusable(11750, "the document is longer than 64 kB".to_owned()));
    }
    if !answer.content_type.contains("xml") && !answer.content_type.starts_with("text/html") {
        return Err(unusable(12300, format!("content type `{}`", answer.content_type)));
    }
    let document = String::from_utf8(answer.body).map_err(|error| unusable(12100, error.to_string()))?;
    twiml::read(&document)
}

/// Acts the verbs out; the document that goes on, if one does.
async fn act(shared: &Arc<Shared>, id: CallId, verbs: Vec<Verb>) -> Option<String> {
    for verb in verbs {
        // Whoever hung up while the script was fetched hears nothing.
        if !shared.world().call(id).stands(Status::InProgress) {
            return None;
        }
        let turn = match verb {
            Verb::Hangup => return None,
            Verb::Redirect(url) => return Some(url),
            Verb::Say(words) => speak(shared, id, words).await,
            Verb::Play(url) => speak(shared, id, format!("[play {url}]")).await,
            Verb::Reject => {
                shared.advance(id, Status::Busy, None);
                return None;
            }
            Verb::Dial(number) => put_through(shared, id, &number).await,
            Verb::Digits(digits) => speak(shared, id, format!("[digits {digits}]")).await,
            Verb::Pause(seconds) => passed(shared, id, Status::InProgress, Duration::from_secs(seconds)).await,
            Verb::Connect(connect) => {
                let action = connect.action.clone();
                // Only a call that streams needs the room for it.
                match Box::pin(stream(shared, id, connect)).await {
                    Turn::Elapsed if action.is_some() => return action,
                    turn => turn,
                }
            }
            Verb::Other(name) => {
                shared.note(id, format!("the sandbox does not act out <{name}>"));
                Turn::Elapsed
            }
        };
        if turn == Turn::Moved {
            return None;
        }
    }
    None
}

/// Opens a media stream, with a signed handshake, and stays on it. It is over when the server closes it.
async fn stream(shared: &Arc<Shared>, id: CallId, connect: Connect) -> Turn {
    let order = {
        let world = shared.world();
        let call = world.call(id);
        // Twilio connects to the address without its query.
        let url = connect.url.split_once('?').map_or(&*connect.url, |(url, _)| url).to_owned();
        let signature = sign::<&str, &str>(world.auth_token(&call.account), &signed_url(&url), &[]);
        Order {
            signature: Some((HeaderName::from_static("x-twilio-signature"), signature)),
            dialect: Dialect::Twilio {
                account: call.account.clone(),
                call: call.sid.clone(),
                stream: format!("MZ{}", Uuid::new_v4().simple()),
                parameters: connect.parameters,
            },
            stop: shared.stop.child_token(),
            url,
        }
    };
    match media::run(shared, id, order, || {}).await {
        End::Closed(code) => {
            if let Some(code) = code.filter(|code| *code != 1000) {
                shared.note(id, format!("31921: the server closed the stream with {code}"));
            }
            Turn::Elapsed
        }
        End::Broken(why) => {
            shared.note(id, format!("31920: {why}"));
            Turn::Elapsed
        }
        End::HungUp => {
            shared.advance(id, Status::Completed, None);
            Turn::Moved
        }
        End::Moved => Turn::Moved,
    }
}

/// They talk there for as long as a message takes.
async fn put_through(shared: &Arc<Shared>, id: CallId, number: &str) -> Turn {
    let length = {
        let mut world = shared.world();
        world.redirected(id, number);
        let length = shared.config.talk_ms.draw(&mut world.random);
        world.call(id).tempo.of(length)
    };
    passed(shared, id, Status::InProgress, length).await
}

async fn speak(shared: &Arc<Shared>, id: CallId, words: String) -> Turn {
    let (length, stays, begun) = {
        let mut world = shared.world();
        let length = shared.config.talk_ms.draw(&mut world.random);
        let call = world.call_mut(id);
        call.heard.push(words.clone());
        (call.tempo.of(length), call.outcome == Outcome::NeverEnds, Instant::now())
    };
    if stays {
        return wait(shared, id, Status::InProgress, None).await;
    }
    let turn = passed(shared, id, Status::InProgress, length).await;
    if turn == Turn::Elapsed {
        shared.said_to(id, begun, &words);
    }
    turn
}
