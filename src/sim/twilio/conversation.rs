//! An answered call: fetch the TwiML, act it out, remember what was heard.
use std::{sync::Arc, time::Duration};

use super::{
    dial::{Hook, Script},
    status::{answered_by, detection_result, twiml_request},
    twiml::{self, Unusable, Verb},
};
use crate::sim::{
    Shared,
    call::{CallId, Status},
    life::{Turn, passed, wait},
    outcome::Outcome,
};

/// The largest TwiML document, bytes (error 11750).
const LONGEST_TWIML: usize = 64 * 1024;

/// Talks to the end of the script. A script that cannot be had ends the call as failed.
pub(crate) async fn converse(shared: &Arc<Shared>, id: CallId) {
    detect(shared, id);
    match script(shared, id).await {
        Ok(verbs) => act(shared, id, verbs).await,
        Err(unusable) => {
            shared.note(id, format!("{}: {}", unusable.code, unusable.why));
            shared.advance(id, Status::Failed, Some(200));
        }
    }
}

/// Says who answered, where that was asked for.
fn detect(shared: &Arc<Shared>, id: CallId) {
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

async fn script(shared: &Arc<Shared>, id: CallId) -> Result<Vec<Verb>, Unusable> {
    let (script, fallback) = {
        let world = shared.world();
        let call = world.call(id);
        let Some(order) = call.dial.twilio() else { return Ok(Vec::new()) };
        (order.script.clone(), order.fallback.clone())
    };
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

async fn act(shared: &Arc<Shared>, id: CallId, verbs: Vec<Verb>) {
    for verb in verbs {
        // Whoever hung up while the script was fetched hears nothing.
        if shared.status(id) != Status::InProgress {
            return;
        }
        let turn = match verb {
            Verb::Hangup => return,
            Verb::Say(words) => speak(shared, id, words).await,
            Verb::Play(url) => speak(shared, id, format!("[play {url}]")).await,
            Verb::Pause(seconds) => passed(shared, id, Status::InProgress, Duration::from_secs(seconds)).await,
            Verb::Other(name) => {
                shared.note(id, format!("the sandbox does not act out <{name}>"));
                Turn::Elapsed
            }
        };
        if turn == Turn::Moved {
            return;
        }
    }
}

async fn speak(shared: &Arc<Shared>, id: CallId, words: String) -> Turn {
    let (length, stays) = {
        let mut world = shared.world();
        let length = shared.config.talk_ms.draw(&mut world.random);
        let call = world.call_mut(id);
        call.heard.push(words);
        (call.tempo.of(length), call.outcome == Outcome::NeverEnds)
    };
    if stays {
        wait(shared, id, Status::InProgress, None).await
    } else {
        passed(shared, id, Status::InProgress, length).await
    }
}
