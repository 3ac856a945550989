//! Recordings: one of each answered call that asks for it, told when the call is over, and fetched.
use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, json};
use uuid::Uuid;

use super::{
    Shared,
    call::{CallId, Status},
    dial::Order,
    faults::{CallbackFault, Subject, draw},
    telnyx, twilio,
    world::World,
};

/// What is kept of one recording.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) call: CallId,
    pub(crate) id: String,
}

/// The address that Telnyx's download links lead to. There nobody is asked for a key.
pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/_recordings/{id}", get(download))
}

async fn download(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    match shared.kept(&id) {
        Some(kept) => sound(&kept),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// What stands for the sound of a recording.
pub(crate) fn sound(kept: &Kept) -> Response {
    ([(header::CONTENT_TYPE, "audio/mpeg")], format!("ID3 the sound of {}", kept.id)).into_response()
}

impl Shared {
    /// The recording of this id.
    pub(crate) fn kept(&self, id: &str) -> Option<Kept> {
        self.world().recordings.iter().find(|kept| kept.id == id).cloned()
    }

    /// Forgets the recording of this id.
    pub(crate) fn delete_recording(&self, id: &str) {
        self.world().recordings.retain(|kept| kept.id != id);
    }

    /// The recordings of a call.
    pub(crate) fn kept_of(&self, id: CallId) -> Vec<Kept> {
        self.world().recordings.iter().filter(|kept| kept.call == id).cloned().collect()
    }

    /// Keeps the recording of a call that is over, and tells of it where that was asked for.
    pub(crate) fn keep_recording(self: &Arc<Self>, id: CallId) {
        let mut world = self.world();
        let call = world.call(id);
        let recording = match &call.dial.order {
            Order::Twilio(order) if order.record => format!("RE{}", Uuid::new_v4().simple()),
            Order::Telnyx(order) if order.record => Uuid::new_v4().to_string(),
            _ => return,
        };
        world.recordings.push(Kept { call: id, id: recording.clone() });
        let mut parcel = twilio::recording_callback(world.call(id), &recording, &world);
        if parcel.is_some() {
            let World { calls, faults, random, .. } = &mut *world;
            let dial = &calls[id.0].dial;
            let subject = Subject { to: &dial.to, from: &dial.from, status: Status::InProgress.word() };
            let fault = draw(&mut faults.callback, subject, random);
            parcel = parcel.filter(|_| !fault.is_some_and(|rule| rule.kind == CallbackFault::Lost));
        }
        let is_telnyx = world.call(id).dial.telnyx().is_some();
        drop(world);
        if let Some(parcel) = parcel {
            let here = Arc::clone(self);
            self.spawn(async move {
                if let Err(error) = here.post.send(&parcel).await.outcome {
                    here.note(id, format!("recording callback: {error}"));
                }
            });
        }
        if is_telnyx {
            let more = Map::from_iter([
                ("recording_id".to_owned(), json!(recording)),
                ("channels".to_owned(), json!("dual")),
                (
                    "recording_urls".to_owned(),
                    json!({ "mp3": format!("https://recordings.example.com/{recording}.mp3") }),
                ),
            ]);
            self.tell(id, Status::InProgress, |call, _| {
                telnyx::event(call, Status::InProgress, "call.recording.saved", more)
            });
        }
    }
}
