//! The sandbox's memory: accounts, calls, the log of creates, counts and rules, behind one lock.
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    call::{Call, CallId, Status, Tempo},
    clock::Stamp,
    config::Config,
    dial::{Dial, Order, Trouble},
    faults::Faults,
    figures::{Tally, Whose},
    media::Callee,
    outcome::{Outcome, outcome_of},
    recording::Kept,
    telnyx,
    turnaround::Place,
};

/// Twilio refuses more when a queue holds a day of calls (error 22005).
const LONGEST_QUEUE: Duration = Duration::from_secs(24 * 3600);

/// One line of `GET /_log`: a create that was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Unix time, ms.
    pub at_ms: i64,
    /// Account SID of the path; Telnyx: connection id.
    pub account: String,
    /// `To`, as received.
    pub to: String,
    /// `From`, as received.
    pub from: String,
    /// Last path segment of `StatusCallback`.
    pub token: Option<String>,
    /// `accepted`, `refused`, `ignored` (a double), or the name of the fault.
    pub verdict: String,
    /// Code of a refusal (HTTP status where the carrier has no code).
    pub code: Option<u32>,
    /// SID of the call, when one was accepted.
    pub sid: Option<String>,
    /// Parameters that Twilio does not know and ignores: names are case-sensitive.
    pub ignored: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) calls: Vec<Call>,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) tally: Tally,
    pub(crate) faults: Faults,
    /// Who answers, by number; what fits none of them answers as the flags say.
    pub(crate) callees: Vec<Callee>,
    pub(crate) random: StdRng,
    /// Creates that are being decided and callbacks that are on their way.
    pub(crate) in_flight: u64,
    accounts: HashMap<String, Account>,
    by_sid: HashMap<String, CallId>,
    /// Recordings, oldest first.
    pub(crate) recordings: Vec<Kept>,
    /// What only Telnyx's side remembers.
    pub(crate) telnyx: telnyx::Memory,
}

/// What the sandbox knows of one account.
#[derive(Debug, Default)]
struct Account {
    auth_token: String,
    /// When the next call may be dialed.
    next_turn: Option<Instant>,
    calls: Vec<CallId>,
    by_to: HashMap<String, Vec<CallId>>,
    /// Calls that were not ended when somebody last looked.
    open: Vec<CallId>,
}

impl World {
    pub(crate) fn new(config: &Config) -> Self {
        let declared = |account: &super::config::Account| {
            (account.sid.clone(), Account { auth_token: account.auth_token.clone(), ..Account::default() })
        };
        Self {
            calls: Vec::new(),
            log: Vec::new(),
            tally: Tally::new(),
            faults: Faults::from_shares(&config.faults),
            callees: Vec::new(),
            random: StdRng::seed_from_u64(config.seed),
            in_flight: 0,
            accounts: config.accounts.iter().map(declared).collect(),
            by_sid: HashMap::new(),
            recordings: Vec::new(),
            telnyx: telnyx::Memory::default(),
        }
    }

    pub(crate) fn call(&self, id: CallId) -> &Call {
        &self.calls[id.0]
    }

    pub(crate) fn call_mut(&mut self, id: CallId) -> &mut Call {
        &mut self.calls[id.0]
    }

    pub(crate) fn find(&self, sid: &str) -> Option<CallId> {
        self.by_sid.get(sid).copied()
    }

    pub(crate) fn auth_token(&self, account: &str) -> &str {
        self.accounts.get(account).map_or("", |account| &account.auth_token)
    }

    /// Whether the password is right. Where no account is declared every one is, and its latest
    /// password becomes the token that signs.
    pub(crate) fn lets_in(&mut self, account: &str, password: &str, config: &Config) -> bool {
        if !config.accounts.is_empty() {
            return self.accounts.get(account).is_some_and(|known| known.auth_token == password);
        }
        let known = self.accounts.entry(account.to_owned()).or_default();
        if known.auth_token != password {
            password.clone_into(&mut known.auth_token);
        }
        true
    }

    /// Accepts a call into the account's queue, or says why not.
    pub(crate) fn admit(
        &mut self,
        account: &str,
        dial: Dial,
        tempo: Tempo,
        place: Place,
        config: &Config,
    ) -> Result<CallId, Trouble> {
        let now = Stamp::now();
        let earlier = self.accounts.get(account).and_then(|home| home.by_to.get(&dial.to)).map_or(0, Vec::len);
        let outcome =
            if dial.inbound { Outcome::Answered } else { outcome_of(&dial.to, earlier, &config.shares, config.seed) };
        match outcome {
            Outcome::Refused => return Err(Trouble::Unreachable),
            // Telnyx takes such a call, and ends it.
            Outcome::Blocked if dial.twilio().is_some() => return Err(Trouble::Blocked),
            _ => {}
        }
        if config.concurrency.is_some_and(|most| self.tally.live_of(account) >= most) {
            return Err(Trouble::Full);
        }
        let id = CallId(self.calls.len());
        let home = self.accounts.entry(account.to_owned()).or_default();
        let turn = home.next_turn.map_or(now.at, |turn| turn.max(now.at));
        let wait = turn.duration_since(now.at);
        if wait > LONGEST_QUEUE {
            return Err(Trouble::QueueFull);
        }
        // Only Twilio queues.
        if config.cps > 0.0 && dial.twilio().is_some() {
            home.next_turn = Some(turn + Duration::from_secs_f64(1.0 / config.cps));
        }
        home.by_to.entry(dial.to.clone()).or_default().push(id);
        home.calls.push(id);
        home.open.push(id);
        let token = dial.token.clone();
        // Somebody may ring twice: only who is called twice is counted.
        let called = if dial.inbound { format!("{} {}", dial.from, id.0) } else { dial.to.clone() };
        self.tally.accepted(Whose { account, from: &dial.from }, &called, token.as_deref(), (place, now.at));
        let call = Call {
            sid: match &dial.order {
                Order::Twilio(_) => format!("CA{}", Uuid::new_v4().simple()),
                Order::Telnyx(_) => format!(
                    "v3:{}",
                    URL_SAFE_NO_PAD.encode([Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat())
                ),
            },
            account: account.to_owned(),
            token,
            outcome,
            history: vec![(now, Status::Queued)],
            turn,
            queue_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            sip: None,
            answered_by: None,
            beep: None,
            voicemails: Vec::new(),
            speeches: 0,
            heard: Vec::new(),
            conversations: Vec::new(),
            detour: None,
            updates: 0,
            streaming: None,
            notes: Vec::new(),
            events: Vec::new(),
            callbacks: Vec::new(),
            sequence: 0,
            overtaken: None,
            end_told: false,
            tempo,
            nudge: std::sync::Arc::default(),
            dial,
        };
        self.by_sid.insert(call.sid.clone(), id);
        self.calls.push(call);
        Ok(id)
    }

    /// Moves a call on. False when the move is not legal any more: the call is further already.
    pub(crate) fn advance(&mut self, id: CallId, status: Status, sip: Option<u16>) -> bool {
        let call = &mut self.calls[id.0];
        if status.rank() <= call.status().rank() {
            return false;
        }
        let now = Stamp::now();
        call.history.push((now, status));
        if status.is_final() {
            call.sip = Some(sip.unwrap_or(status.usual_sip()));
            self.tally.ended_as(Whose { account: &call.account, from: &call.dial.from }, status, now.at);
        }
        call.nudge.notify_waiters();
        true
    }

    /// A call is put through to another number, which is all that the far end hears of it.
    pub(crate) fn redirected(&mut self, id: CallId, number: &str) {
        let call = &mut self.calls[id.0];
        call.heard.push(format!("[dial {number}]"));
        self.tally.redirected(Whose { account: &call.account, from: &call.dial.from });
    }

    /// The end callback of a call goes out now (or is lost now). Only the first one frees a place:
    /// doubles and forgeries change no figure.
    pub(crate) fn end_told(&mut self, id: CallId) {
        let call = &mut self.calls[id.0];
        if call.status().is_final() && !std::mem::replace(&mut call.end_told, true) {
            self.tally.end_told(Whose { account: &call.account, from: &call.dial.from }, Instant::now());
        }
    }

    /// Calls of an account that a list may show, newest first. `live` narrows them to those that
    /// were open at `moment`, without walking through all that ever were.
    pub(crate) fn candidates(&mut self, account: &str, to: Option<&str>, live: Live, moment: Instant) -> Vec<CallId> {
        let Self { accounts, calls, .. } = self;
        let Some(home) = accounts.get_mut(account) else { return Vec::new() };
        let chosen = match (to, live) {
            (Some(to), _) => home.by_to.get(to).map_or(&[][..], Vec::as_slice),
            (None, Live::Only) => {
                home.open.retain(|id| calls[id.0].entered(moment, Status::is_final).is_none());
                &home.open
            }
            (None, Live::AndEnded) => &home.calls,
        };
        chosen.iter().rev().copied().collect()
    }
}

/// Which calls a list asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Live {
    Only,
    AndEnded,
}
