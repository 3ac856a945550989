//! Sending status callbacks, with the faults that may strike them on the way.
use std::{sync::Arc, time::Duration};

use super::{
    Shared,
    call::{Call, CallId, CallReport, CallbackReport, Status},
    clock::Stamp,
    config::Millis,
    dial::Order,
    faults::{CallbackFault, Rule, Subject, draw},
    figures::{Delivery, Whose},
    telnyx, twilio,
};

/// A callback ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    pub(crate) parcel: Parcel,
    pub(crate) status: Status,
    pub(crate) sequence: u32,
}

/// What is sent, in a carrier's words.
#[derive(Debug, Clone)]
pub(crate) enum Parcel {
    Twilio(twilio::Parcel),
    Telnyx(telnyx::Parcel),
}

impl Announcement {
    /// The entry for a callback that a fault swallowed.
    fn lost(&self) -> CallbackReport {
        CallbackReport {
            status: self.status.word().to_owned(),
            sequence: self.sequence,
            at_ms: Stamp::now().unix_ms(),
            tries: 0,
            answer: None,
            answered_at_ms: None,
            error: Some("lost".to_owned()),
        }
    }
}

/// How a callback is to go out.
#[derive(Debug, Clone, Copy)]
struct Dispatch {
    delay: Duration,
    times: u32,
}

impl Shared {
    /// Moves a call on and tells its caller. False when the call is further already.
    pub(crate) fn advance(self: &Arc<Self>, id: CallId, status: Status, sip: Option<u16>) -> bool {
        let moved = self.world().advance(id, status, sip);
        if moved {
            self.announce(id, status);
            if status == Status::Completed {
                self.keep_recording(id);
            }
            self.touch();
        }
        moved
    }

    /// Sends the callback of a state just entered, if its caller asked for it.
    fn announce(self: &Arc<Self>, id: CallId, status: Status) {
        self.tell(id, status, |call, auth_token| match call.dial.order {
            Order::Twilio(_) => twilio::announcement(call, status, auth_token),
            Order::Telnyx(_) => telnyx::announcement(call, status),
        });
    }

    /// Sends a callback, with the fault that strikes it. `status` is the state that it is about.
    pub(crate) fn tell(
        self: &Arc<Self>,
        id: CallId,
        status: Status,
        compose: impl FnOnce(&mut Call, String) -> Option<Announcement>,
    ) {
        let mut queue: Vec<(Announcement, Dispatch)> = Vec::new();
        {
            let mut world = self.world();
            let world = &mut *world;
            let auth_token = world.auth_token(&world.calls[id.0].account).to_owned();
            let call = &mut world.calls[id.0];
            let fresh = compose(call, auth_token);
            let overtaken = if fresh.is_some() || status.is_final() { call.overtaken.take() } else { None };
            if let Some(fresh) = fresh {
                let subject = Subject { to: &call.dial.to, from: &call.dial.from, status: status.word() };
                let fault = draw(&mut world.faults.callback, subject, &mut world.random);
                let whose = Whose { account: &call.account, from: &call.dial.from };
                match fault.as_ref().map(|rule| rule.kind) {
                    Some(CallbackFault::Lost) => {
                        world.tally.callback(whose, Delivery::Lost);
                        call.callbacks.push(fresh.lost());
                        if status.is_final() {
                            world.end_told(id);
                        }
                    }
                    Some(CallbackFault::Reordered) if !status.is_final() => call.overtaken = Some(fresh),
                    _ => queue.push((fresh, dispatch(fault, &mut world.random))),
                }
            }
            queue.extend(overtaken.map(|late| (late, Dispatch { delay: Duration::ZERO, times: 1 })));
            world.in_flight += u64::from(!queue.is_empty());
        }
        if !queue.is_empty() {
            let shared = Arc::clone(self);
            self.spawn(async move {
                for (announcement, dispatch) in queue {
                    shared.send(id, &announcement, dispatch).await;
                }
                shared.world().in_flight -= 1;
                shared.touch();
            });
        }
    }

    async fn send(self: &Arc<Self>, id: CallId, announcement: &Announcement, dispatch: Dispatch) {
        if !dispatch.delay.is_zero() {
            tokio::time::sleep(dispatch.delay).await;
        }
        for _ in 0..dispatch.times {
            self.deliver(id, announcement).await;
        }
    }

    /// One callback with its retries; what came of it goes into figures and the call's log.
    async fn deliver(self: &Arc<Self>, id: CallId, announcement: &Announcement) -> CallbackReport {
        let started = Stamp::now();
        if announcement.status.is_final() {
            self.world().end_told(id);
        }
        let (tries, outcome) = match &announcement.parcel {
            Parcel::Twilio(parcel) => {
                let receipt = Box::pin(self.post.send(parcel)).await;
                (receipt.tries, receipt.outcome.map(|answer| answer.status))
            }
            Parcel::Telnyx(parcel) => telnyx::send(self, parcel).await,
        };
        let (answer, error) = match outcome {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(error)),
        };
        let report = CallbackReport {
            status: announcement.status.word().to_owned(),
            sequence: announcement.sequence,
            at_ms: started.unix_ms(),
            tries,
            answer,
            answered_at_ms: answer.map(|_| Stamp::now().unix_ms()),
            error,
        };
        let mut world = self.world();
        let world = &mut *world;
        let call = &mut world.calls[id.0];
        let sent = answer.is_some_and(|status| (200..300).contains(&status));
        let delivery = if sent { Delivery::Sent } else { Delivery::Failed };
        world.tally.callback(Whose { account: &call.account, from: &call.dial.from }, delivery);
        call.callbacks.push(report.clone());
        report
    }

    /// Sends, properly signed, the callback of a state that the call need not be in; none when the
    /// call has no status callback.
    pub(crate) async fn forge(self: &Arc<Self>, id: CallId, forged: twilio::Forged) -> Option<CallbackReport> {
        let announcement = {
            let mut world = self.world();
            let auth_token = world.auth_token(&world.call(id).account).to_owned();
            let call = world.call_mut(id);
            match call.dial.order {
                Order::Twilio(_) => twilio::forge(call, forged, auth_token)?,
                Order::Telnyx(_) => telnyx::forge(call, forged)?,
            }
        };
        let receipt = self.deliver(id, &announcement).await;
        self.touch();
        Some(receipt)
    }

    /// Notes what went wrong in a call.
    pub(crate) fn note(&self, id: CallId, what: impl Into<String>) {
        self.world().call_mut(id).notes.push(what.into());
    }

    pub(crate) fn status(&self, id: CallId) -> Status {
        self.world().call(id).status()
    }

    /// All calls that fit, oldest first.
    pub(crate) fn reports(&self, fits: impl Fn(&Call) -> bool) -> Vec<CallReport> {
        self.world().calls.iter().filter(|call| fits(call)).map(Call::report).collect()
    }
}

fn dispatch(fault: Option<Rule<CallbackFault>>, random: &mut rand::rngs::StdRng) -> Dispatch {
    match fault {
        Some(Rule { kind: CallbackFault::Doubled, times, .. }) => {
            Dispatch { delay: Duration::ZERO, times: times.unwrap_or(2).clamp(1, 100) }
        }
        Some(Rule { kind: CallbackFault::Delayed, ms, .. }) => {
            Dispatch { delay: ms.unwrap_or(Millis::exactly(1000)).draw(random), times: 1 }
        }
        _ => Dispatch { delay: Duration::ZERO, times: 1 },
    }
}
