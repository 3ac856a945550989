//! A create: faults, acceptance, and the answer, in the manner of whichever carrier was asked.
use std::{sync::Arc, time::Duration};

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    Shared,
    call::{Call, CallId, Tempo},
    config::Millis,
    dial::Trouble,
    faults::{CreateFault, Rule, Subject, draw},
    figures::Whose,
    turnaround::Place,
    wire::Cut,
    world::{LogEntry, World},
};

/// How long `final_callback_first` waits for the end of the call before it answers all the same.
const FINAL_FIRST_LIMIT: Duration = Duration::from_secs(20);

/// A refusal in a carrier's words, with its code.
pub(crate) struct Refused {
    pub(crate) code: u32,
    pub(crate) response: Box<Response>,
}

/// How a carrier answers.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// Puts a trouble in its words.
    pub(crate) refuse: fn(Trouble) -> Refused,
    /// The answer for a call that was accepted.
    pub(crate) taken: fn(&Call) -> Response,
    /// The HTTP status of that answer.
    pub(crate) status: StatusCode,
}

/// What became of a create that was read.
pub(crate) enum Admitted {
    /// It is this call now.
    New(CallId),
    /// It is the double of an earlier one, and ignored; its answer.
    Double(Response),
}

/// How a create is answered.
enum Reply {
    Answer(Response),
    /// Never, until the client gives up.
    Silence,
    Reset,
}

/// Receives a create whose sender may call. `admit` reads it and makes the call.
pub(crate) async fn create(
    shared: Arc<Shared>,
    cut: Cut,
    manner: Manner,
    entry: LogEntry,
    admit: impl FnOnce(&Arc<Shared>, Tempo, Place) -> Result<Admitted, Refused> + Send + 'static,
) -> Response {
    // A task of its own: a client that goes away does not undo what it asked for.
    let here = Arc::clone(&shared);
    let work = shared.tasks.spawn(async move {
        here.world().in_flight += 1;
        let reply = decide(&here, manner, entry, admit).await;
        here.world().in_flight -= 1;
        here.touch();
        reply
    });
    match work.await {
        Ok(Reply::Answer(response)) => response,
        Ok(Reply::Silence) => {
            shared.stop.cancelled().await;
            *(manner.refuse)(Trouble::Unavailable).response
        }
        Ok(Reply::Reset) => {
            cut.pull();
            *(manner.refuse)(Trouble::Unavailable).response
        }
        Err(error) => {
            tracing::error!(%error, "a create broke off");
            *(manner.refuse)(Trouble::ServerError).response
        }
    }
}

async fn decide(
    shared: &Arc<Shared>,
    manner: Manner,
    mut entry: LogEntry,
    admit: impl FnOnce(&Arc<Shared>, Tempo, Place) -> Result<Admitted, Refused>,
) -> Reply {
    let (place, delay, fault) = receive(shared, &entry);
    shared.touch();
    // The call exists from the middle of the wait on: a client may die before and after that.
    pause(delay / 2).await;
    if let Some(rule) = &fault
        && let Some(reply) = turn_away(shared, manner, &mut entry, rule)
    {
        give_back(shared, &entry, place);
        return reply;
    }
    let hurried = fault.as_ref().is_some_and(|rule| rule.kind == CreateFault::FinalCallbackFirst);
    let admitted = admit(shared, if hurried { Tempo::Hurried } else { Tempo::Natural }, place);
    let id = match admitted {
        Ok(Admitted::New(id)) => id,
        Ok(Admitted::Double(response)) => {
            give_back(shared, &entry, place);
            "ignored".clone_into(&mut entry.verdict);
            shared.log(entry);
            return spoiled(shared, manner, fault, response).await;
        }
        Err(refused) => {
            give_back(shared, &entry, place);
            "refused".clone_into(&mut entry.verdict);
            return Reply::Answer(refuse(shared, &mut entry, refused));
        }
    };
    entry.sid = Some(shared.world().call(id).sid.clone());
    if let Some(rule) = &fault {
        entry.verdict = fault_name(rule.kind);
    }
    shared.log(entry);
    pause(delay / 2).await;
    if hurried {
        shared.ended_and_told(id, FINAL_FIRST_LIMIT).await;
    }
    let taken = (manner.taken)(shared.world().call(id));
    spoiled(shared, manner, fault, taken).await
}

/// Counts the request and draws what is to happen to it.
fn receive(shared: &Shared, entry: &LogEntry) -> (Place, Duration, Option<Rule<CreateFault>>) {
    let mut world = shared.world();
    let world = &mut *world;
    let whose = Whose { account: &entry.account, from: &entry.from };
    world.tally.requested(whose, entry.token.as_deref());
    let place = world.tally.place(whose);
    let subject = Subject { to: &entry.to, from: &entry.from, status: "" };
    let fault = draw(&mut world.faults.create, subject, &mut world.random);
    (place, shared.config.accept_delay_ms.draw(&mut world.random), fault)
}

fn give_back(shared: &Shared, entry: &LogEntry, place: Place) {
    shared.world().tally.give_back(Whose { account: &entry.account, from: &entry.from }, place);
}

/// The faults that strike before a call exists.
fn turn_away(shared: &Shared, manner: Manner, entry: &mut LogEntry, rule: &Rule<CreateFault>) -> Option<Reply> {
    let trouble = match rule.kind {
        CreateFault::Http429 => Trouble::TooMany(rule.retry_after_secs),
        CreateFault::Http500BeforeAccept => Trouble::ServerError,
        CreateFault::Unauthorized => Trouble::Credentials,
        CreateFault::Refuse => Trouble::OnDemand(rule.http_status.unwrap_or(400), rule.code.unwrap_or_default()),
        CreateFault::TimeoutBeforeAccept | CreateFault::ResetBeforeAccept => Trouble::Unavailable,
        _ => return None,
    };
    entry.verdict = fault_name(rule.kind);
    let response = refuse(shared, entry, (manner.refuse)(trouble));
    Some(match rule.kind {
        CreateFault::TimeoutBeforeAccept => Reply::Silence,
        CreateFault::ResetBeforeAccept => Reply::Reset,
        _ => Reply::Answer(response),
    })
}

/// The answer for a call that exists, spoiled where a fault says so.
async fn spoiled(shared: &Arc<Shared>, manner: Manner, fault: Option<Rule<CreateFault>>, response: Response) -> Reply {
    let ms = fault.as_ref().and_then(|rule| rule.ms);
    match fault.map(|rule| rule.kind) {
        Some(CreateFault::Http500AfterAccept) => return Reply::Answer(*(manner.refuse)(Trouble::ServerError).response),
        Some(CreateFault::TimeoutAfterAccept) => return Reply::Silence,
        Some(CreateFault::ResetAfterAccept) => return Reply::Reset,
        Some(CreateFault::GarbageAfterAccept) => {
            let body = "<html><body>\u{fffd}502 upstream said somethi";
            let html = [(header::CONTENT_TYPE, "application/json")];
            return Reply::Answer((manner.status, html, body).into_response());
        }
        Some(CreateFault::Slow) => {
            let length = ms.unwrap_or(Millis::exactly(2000)).draw(&mut shared.world().random);
            pause(length).await;
        }
        _ => {}
    }
    Reply::Answer(response)
}

fn refuse(shared: &Shared, entry: &mut LogEntry, Refused { code, response }: Refused) -> Response {
    entry.code = Some(code);
    shared.world().tally.refused(Whose { account: &entry.account, from: &entry.from }, code);
    shared.log(entry.clone());
    *response
}

fn fault_name(kind: CreateFault) -> String {
    serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

async fn pause(length: Duration) {
    if !length.is_zero() {
        tokio::time::sleep(length).await;
    }
}

impl Shared {
    /// Keeps a line for `GET /_log`.
    fn log(&self, entry: LogEntry) {
        self.world().log.push(entry);
        self.touch();
    }

    /// Waits until a call is over and its final callback has been answered (or given up).
    async fn ended_and_told(&self, id: CallId, limit: Duration) {
        let done = |world: &World| {
            let call = world.call(id);
            let told = !call.reports_its_end()
                || call.callbacks.iter().any(|callback| callback.status == call.status().word());
            call.status().is_final() && told
        };
        // Past the limit the create is answered all the same.
        self.until(done, limit).await.ok();
    }
}
