//! The state, the lease and the tickets of live calls in Redis.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRng, rngs::SysRng};
use redis::{RedisResult, Script, aio::ConnectionManager};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    calls::state::CallState,
    ids::{AttemptId, BusinessId, Carrier},
    stores::{Keys, Stores},
};

/// A lease that is not renewed ends after this.
pub const LEASE: Duration = Duration::from_secs(6);
/// How often a lease is renewed.
pub const RENEW: Duration = Duration::from_secs(2);
/// After so long without a session, or without a renewal, a call is looked for and ended.
pub const LOOKED_FOR: Duration = Duration::from_secs(10);
/// A ticket that is not used ends after this: carriers connect within seconds.
pub const TICKET: Duration = Duration::from_secs(60);
/// What a process was told and has not read is of no use after this.
const TOLD: Duration = Duration::from_secs(60);
/// The state stays so long after the call must have ended.
pub(super) const AFTERWARDS: Duration = Duration::from_secs(15 * 60);

/// The live calls of an installation. Cheap to clone.
#[derive(Clone)]
pub struct Calls {
    pub(super) redis: ConnectionManager,
    pub(super) keys: Keys,
    open: Arc<Script>,
    take: Arc<Script>,
    claim: Arc<Script>,
    renew: Arc<Script>,
    save: Arc<Script>,
    tell: Arc<Script>,
    pub(super) orphans: Arc<Script>,
}

/// What a ticket lets in: one stream of one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Whose call.
    pub business: BusinessId,
    /// Which attempt.
    pub attempt: AttemptId,
    /// Through whom; none for a session without a carrier.
    pub carrier: Option<Carrier>,
    /// The carrier's own name of the account.
    pub account: String,
    /// The carrier's id of the call; our own for a session without a carrier.
    pub call_id: String,
    /// The address that it was given for, without the ticket: signatures are checked over it.
    pub media_url: String,
    /// The frames of a session without a carrier: `mulaw`, `pcm16` or `twilio`.
    pub frames: Option<String>,
}

/// A call that waits for a session. Not `Debug`: a ticket is a secret.
pub struct Opened {
    /// So the call is.
    pub held: CallState,
    /// The ticket of one stream, a text for a path.
    pub ticket: String,
    /// How many the call was given, this one included.
    pub tickets: u32,
}

/// A call that a session has taken.
#[derive(Debug, Clone)]
pub struct Claim {
    /// So the call is.
    pub state: CallState,
    /// How often it was taken, this time included.
    pub epoch: u64,
    /// Who had it before.
    pub before: Option<String>,
    /// Milliseconds since 1970, by Redis' clock.
    pub now_ms: u64,
}

/// Who has a call: what every write shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The session.
    pub session: String,
    /// The process.
    pub replica: String,
    /// How often the call was taken, this time included.
    pub epoch: u64,
}

/// What became of a lease that was to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Its owner has the call.
    Held,
    /// The same, and the state of the call is gone: Redis was emptied, and the owner has to write it again.
    WithoutState,
    /// Somebody else has the call.
    Lost,
}

/// What a session that writes the state does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    GoOn,
    /// It leaves the call to whoever takes it.
    HandOver,
    /// The call is over.
    End,
}

impl Calls {
    /// The live calls in these stores.
    #[must_use]
    pub fn new(stores: &Stores) -> Self {
        Self {
            redis: stores.redis.clone(),
            keys: stores.keys.clone(),
            open: Arc::new(Script::new(include_str!("open.lua"))),
            take: Arc::new(Script::new(include_str!("take.lua"))),
            claim: Arc::new(Script::new(include_str!("claim.lua"))),
            renew: Arc::new(Script::new(include_str!("renew.lua"))),
            save: Arc::new(Script::new(include_str!("save.lua"))),
            tell: Arc::new(Script::new(include_str!("tell.lua"))),
            orphans: Arc::new(Script::new(include_str!("orphans.lua"))),
        }
    }

    /// Writes down that a call waits for its session, and makes a ticket for one stream of it: a text for a path. Where the
    /// call is known already, its state stays as it is, and is given back.
    ///
    /// # Errors
    /// Where Redis cannot be asked, or the operating system gives no random bytes.
    pub async fn open(&self, state: &CallState, ticket: &Ticket) -> anyhow::Result<Opened> {
        let mut secret = [0; 32];
        SysRng.try_fill_bytes(&mut secret).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
        let text = URL_SAFE_NO_PAD.encode(secret);
        let (held, tickets): (String, u32) = self
            .open
            .key(self.state_key(&state.call_id))
            .key(self.waiting_key())
            .key(self.watched_key())
            .key(self.ticket_key(&text))
            .key(self.opened_key(&state.call_id))
            .key(self.epoch_key(&state.call_id))
            .arg(serde_json::to_string(state)?)
            .arg(millis(unopened(state)))
            .arg(&state.call_id)
            .arg(millis(LOOKED_FOR))
            .arg(serde_json::to_string(ticket)?)
            .arg(millis(TICKET))
            .invoke_async(&mut self.redis.clone())
            .await?;
        Ok(Opened { held: serde_json::from_str(&held)?, ticket: text, tickets })
    }

    /// What a ticket lets in; it is used up. `None` where it is wrong, used or too old.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn take(&self, ticket: &str) -> anyhow::Result<Option<Ticket>> {
        let taken: Option<String> =
            self.take.key(self.ticket_key(ticket)).invoke_async(&mut self.redis.clone()).await?;
        Ok(taken.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// The same, and the ticket stays good.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn look_at(&self, ticket: &str) -> anyhow::Result<Option<Ticket>> {
        let found: Option<String> =
            redis::cmd("GET").arg(self.ticket_key(ticket)).query_async(&mut self.redis.clone()).await?;
        Ok(found.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Takes a call for a session, from whoever has it. `None` where Redis does not know the call.
    ///
    /// # Errors
    /// Where Redis cannot be asked, or what it holds is of no version that is known here.
    pub async fn claim(&self, call_id: &str, session: &str, replica: &str) -> anyhow::Result<Option<Claim>> {
        let answer: Vec<String> = self
            .claim
            .key(self.state_key(call_id))
            .key(self.lease_key(call_id))
            .key(self.epoch_key(call_id))
            .key(self.waiting_key())
            .key(self.watched_key())
            .arg(session)
            .arg(replica)
            .arg(millis(LEASE))
            .arg(call_id)
            .arg(millis(LOOKED_FOR))
            .invoke_async(&mut self.redis.clone())
            .await?;
        let [state, epoch, before, now_ms] = answer.as_slice() else { return Ok(None) };
        Ok(Some(Claim {
            state: serde_json::from_str(state)?,
            epoch: epoch.parse()?,
            before: Some(before.clone()).filter(|before| !before.is_empty()),
            now_ms: now_ms.parse()?,
        }))
    }

    /// Renews the leases of many calls in one round trip; for each, whether its owner still has it, and its state is there.
    ///
    /// # Errors
    /// Where Redis cannot be asked: then nobody knows, and the leases end by themselves.
    pub async fn renew(&self, calls: &[(&str, &Owner)]) -> RedisResult<Vec<Renewed>> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut redis = self.redis.clone();
        let mut pipe = redis::pipe();
        pipe.load_script(&self.renew).ignore();
        for (call_id, owner) in calls {
            pipe.invoke_script(
                self.renew
                    .key(self.lease_key(call_id))
                    .key(self.epoch_key(call_id))
                    .key(self.watched_key())
                    .key(self.state_key(call_id))
                    .arg(&owner.session)
                    .arg(owner.epoch)
                    .arg(&owner.replica)
                    .arg(millis(LEASE))
                    .arg(*call_id)
                    .arg(millis(LOOKED_FOR))
                    .arg(millis(AFTERWARDS)),
            );
        }
        let answers: Vec<u8> = pipe.query_async(&mut redis).await?;
        let renewed = answers.into_iter().map(|answer| match answer {
            0 => Renewed::Lost,
            2 => Renewed::WithoutState,
            _ => Renewed::Held,
        });
        Ok(renewed.collect())
    }

    /// Writes the state of a call; false where somebody else has it now, and nothing was written.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn save(&self, state: &CallState, owner: &Owner, next: Next) -> anyhow::Result<bool> {
        let word = match next {
            Next::GoOn => "",
            Next::HandOver => "handed_over",
            Next::End => "ended",
        };
        let call_id = &state.call_id;
        let written: bool = self
            .save
            .key(self.state_key(call_id))
            .key(self.lease_key(call_id))
            .key(self.epoch_key(call_id))
            .key(self.watched_key())
            .arg(&owner.session)
            .arg(owner.epoch)
            .arg(serde_json::to_string(state)?)
            .arg(word)
            .arg(millis(ttl(state)))
            .arg(call_id)
            .arg(millis(LOOKED_FOR))
            .invoke_async(&mut self.redis.clone())
            .await?;
        Ok(written)
    }

    /// Tells the process that has a call to look at it anew; false where nobody has it.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn tell(&self, call_id: &str) -> anyhow::Result<bool> {
        let told: bool = self
            .tell
            .key(self.lease_key(call_id))
            .arg(call_id)
            .arg(self.told_key(""))
            .arg(TOLD.as_secs())
            .invoke_async(&mut self.redis.clone())
            .await?;
        Ok(told)
    }

    /// The list that a process blocks on to be told of its calls.
    #[must_use]
    pub fn told_key(&self, replica: &str) -> String {
        self.keys.key(format_args!("calls:told:{replica}"))
    }

    /// The state of a call as it was last written.
    ///
    /// # Errors
    /// Where Redis cannot be asked, or what it holds is of no version that is known here.
    pub async fn read(&self, call_id: &str) -> anyhow::Result<Option<CallState>> {
        let text: Option<String> =
            redis::cmd("GET").arg(self.state_key(call_id)).query_async(&mut self.redis.clone()).await?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    pub(super) fn state_key(&self, call_id: &str) -> String {
        self.keys.key(format_args!("calls:state:{call_id}"))
    }

    pub(super) fn lease_key(&self, call_id: &str) -> String {
        self.keys.key(format_args!("calls:lease:{call_id}"))
    }

    pub(super) fn epoch_key(&self, call_id: &str) -> String {
        self.keys.key(format_args!("calls:epoch:{call_id}"))
    }

    pub(super) fn opened_key(&self, call_id: &str) -> String {
        self.keys.key(format_args!("calls:opened:{call_id}"))
    }

    /// The ticket itself is nowhere: whoever reads Redis cannot open a stream.
    fn ticket_key(&self, ticket: &str) -> String {
        self.keys.key(format_args!("calls:token:{}", hex::encode(Sha256::digest(ticket))))
    }

    pub(super) fn waiting_key(&self) -> String {
        self.keys.key("voice_sessions")
    }

    pub(super) fn watched_key(&self) -> String {
        self.keys.key("calls:watched")
    }
}

/// How long a call is kept that no session has. Without a carrier nobody can come but with its ticket, in its last moment at the latest.
fn unopened(state: &CallState) -> Duration {
    if state.carrier.is_some() { ttl(state) } else { TICKET + LOOKED_FOR }
}

fn ttl(state: &CallState) -> Duration {
    Duration::from_secs(state.call_time_limit_secs.unsigned_abs().into()) + AFTERWARDS
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
