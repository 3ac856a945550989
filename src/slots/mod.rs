//! The gate: which attempts may be on the line, per business (slots) and over all (lines), and at what pace.
//!
//! Invariant: the holder is the attempt; taking and releasing are by its id, may repeat, and no holder expires by time.
//! A wrong gate costs time, never a limit: the proof is the indexes and the count of `claim_jobs` in Postgres.
//! Holders that may talk to an agent are counted apart, so that no more do than there is room for conversations.
//! Where lines are scarce, each that comes free is for the business that has waited longest for one, so that all get them in turn.
//! Not here: who is claimed for a held slot (`jobs::claim`), and when the gate is compared with the ledger (`dialing::sweep`).

pub mod foreign;
pub mod reading;
mod talks;

pub use talks::Talks;

use std::{sync::Arc, time::Duration};

use redis::{Script, ScriptInvocation, aio::ConnectionManager};

use crate::{
    ids::{AttemptId, BusinessId, Held},
    killpoints::{Bug, lacks},
    stores::{Keys, Stores},
};

/// For so long after a release a missing holder is not added again: the ledger may still be read as it was before.
const TOMBSTONE: Duration = Duration::from_secs(10);

/// The gate of one installation. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    redis: ConnectionManager,
    keys: Keys,
    take: Arc<Script>,
    release: Arc<Script>,
    hold: Arc<Script>,
    talks: Arc<Script>,
    foreign: Arc<Script>,
}

/// What is asked of the gate for one business.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// Whose slots.
    pub business: BusinessId,
    /// How many slots it has.
    pub slot_limit: i32,
    /// How many lines the installation has.
    pub lines: i32,
    /// Where these may talk to an agent: what each conversation takes one of.
    pub talks: Option<Talks>,
    /// Whose pace, by the carrier's own name of the account.
    pub account: &'a str,
    /// Calls per second of that account.
    pub calls_per_second: f64,
    /// How many at most.
    pub most: usize,
}

/// Why fewer were taken than asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// All slots of the business are held.
    Slots,
    /// All lines are held.
    Lines,
    /// There is no room for one more conversation.
    Talks,
    /// The account's next token comes after this time.
    Pace(Duration),
}

/// What the gate gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The gate is empty and waits for a rebuild from Postgres: nothing may be dialed.
    NotReady,
    /// These are held now.
    Some {
        /// At most as many as asked for.
        held: Vec<Held>,
        /// Why not more.
        short: Option<Short>,
        /// How long the business had waited for a line; none where it had not.
        waited: Option<Duration>,
        /// Whose turn at the lines it is, because this business could not use its own: they are to be rung for.
        turns: Vec<BusinessId>,
    },
}

/// What was let go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Freed {
    /// How many holders there were.
    pub held: u64,
    /// Whose turn it is to take their lines: they are to be rung for.
    pub turns: Vec<BusinessId>,
}

/// How the end of a call was learned; the reconciler asks more often while it mostly has to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// By a callback.
    Told,
    /// By asking the carrier.
    Asked,
    /// There was no call to end.
    NoCall,
}

/// A holder as the gate remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Who holds.
    pub attempt: AttemptId,
    /// Whose slot.
    pub business: BusinessId,
    /// Which slot.
    pub slot: i32,
    /// Which line.
    pub line: i32,
    /// For how long, by Redis' clock.
    pub age: Duration,
}

impl Gate {
    /// The gate in these stores.
    #[must_use]
    pub fn new(stores: &Stores) -> Self {
        Self {
            redis: stores.redis.clone(),
            keys: stores.keys.clone(),
            take: Arc::new(Script::new(concat!(
                include_str!("turns.lua"),
                include_str!("talking.lua"),
                include_str!("take.lua")
            ))),
            release: Arc::new(Script::new(concat!(
                include_str!("turns.lua"),
                include_str!("talking.lua"),
                include_str!("release.lua")
            ))),
            hold: Arc::new(Script::new(concat!(include_str!("talking.lua"), include_str!("hold.lua")))),
            talks: Arc::new(Script::new(concat!(include_str!("talking.lua"), include_str!("talks.lua")))),
            foreign: Arc::new(Script::new(include_str!("foreign.lua"))),
        }
    }

    /// Takes slots, lines and pace tokens for new attempts, as many as there are, at most `ask.most`.
    ///
    /// # Errors
    /// Where Redis cannot be asked. Then some may be held without anyone knowing; the sweep evicts them.
    pub async fn take(&self, ask: &Ask<'_>) -> redis::RedisResult<Taken> {
        let attempts: Vec<AttemptId> = (0..ask.most).map(|_| AttemptId::new()).collect();
        self.take_as(ask, &attempts, None).await
    }

    /// The same for one attempt that has its id already and goes ahead of lists: it may borrow up to a second's tokens, which
    /// lists then wait for, and the line that is kept for one of them.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn take_ahead(&self, ask: &Ask<'_>, attempt: AttemptId) -> redis::RedisResult<Taken> {
        self.take_as(ask, &[attempt], Some(1.0 - ask.calls_per_second.max(1.0))).await
    }

    /// `ahead`: it goes ahead of lists, for as long as there are so many tokens, which may be less than none.
    async fn take_as(&self, ask: &Ask<'_>, attempts: &[AttemptId], ahead: Option<f64>) -> redis::RedisResult<Taken> {
        let no_limit = |limit| if lacks(Bug::GateOpen) { i32::MAX } else { limit };
        let mut script = self.take.prepare_invoke();
        script
            .key(self.keys.key("gate:ready"))
            .key(self.slots_key(ask.business))
            .key(self.keys.key("lines:held"))
            .key(self.keys.key("gate:holders"))
            .key(self.keys.key("calls:active_count"))
            .key(self.pace_key(ask.account));
        self.turn_keys(&mut script)
            .key(self.talking_key())
            .arg(ask.business.to_string())
            .arg(no_limit(ask.slot_limit))
            .arg(no_limit(ask.lines))
            .arg(ask.calls_per_second)
            .arg(saved_up(ask.calls_per_second))
            .arg(ahead.unwrap_or(1.0))
            .arg(u8::from(ahead.is_some()));
        Talks::tell(ask.talks.as_ref(), &mut script);
        for attempt in attempts {
            script.arg(attempt.to_string());
        }
        let mut redis = self.redis.clone();
        let (answer, turns): (Vec<i64>, Vec<String>) = match script.invoke_async(&mut redis).await {
            Err(error) if foreign::is_met(&error) => {
                foreign::remove(&mut redis, &self.kinds(ask)).await?;
                return Ok(Taken::NotReady);
            }
            answer => answer?,
        };
        let [short, wait_ms, waited_ms, pairs @ ..] = answer.as_slice() else { return Ok(Taken::NotReady) };
        let number = |n: i64| i32::try_from(n).unwrap_or(i32::MAX);
        let held = attempts
            .iter()
            .zip(pairs.chunks_exact(2))
            .map(|(&attempt, pair)| Held { attempt, slot: number(pair[0]), line: number(pair[1]) })
            .collect();
        let short = match short {
            1 => Some(Short::Slots),
            2 => Some(Short::Lines),
            4 => Some(Short::Talks),
            3 => Some(Short::Pace(Duration::from_millis(u64::try_from(*wait_ms).unwrap_or(1).max(1)))),
            _ => None,
        };
        let waited = u64::try_from(*waited_ms).ok().map(Duration::from_millis);
        Ok(Taken::Some { held, short, waited, turns: businesses(&turns) })
    }

    /// What is taken from, and of which kind each is.
    fn kinds(&self, ask: &Ask<'_>) -> Vec<(String, &'static str)> {
        let accounts = ask.talks.iter().flat_map(|talks| &talks.accounts);
        let accounts = accounts.map(|(account, _)| (self.account_key(account), "set"));
        let ours = [
            (self.slots_key(ask.business), "zset"),
            (self.keys.key("lines:held"), "zset"),
            (self.keys.key("gate:holders"), "hash"),
            (self.keys.key("gate:freed"), "zset"),
            (self.pace_key(ask.account), "hash"),
            (self.keys.key("lines:wanted"), "zset"),
            (self.keys.key("lines:since"), "hash"),
            (self.keys.key("lines:turns"), "zset"),
            (self.talking_key(), "set"),
            (self.account_key("accounts"), "set"),
        ];
        ours.into_iter().chain(accounts).collect()
    }

    /// Releases holders of a business whose attempts are closed.
    ///
    /// # Errors
    /// Where Redis cannot be asked; the sweep releases them later.
    pub async fn release(
        &self,
        business: BusinessId,
        account: &str,
        attempts: &[AttemptId],
        learned: Learned,
    ) -> redis::RedisResult<Freed> {
        self.let_go((business, false), account, attempts, (0, TOMBSTONE), learned).await
    }

    /// Gives back what was taken and not used, with its pace tokens.
    ///
    /// # Errors
    /// Where Redis cannot be asked; the sweep evicts the holders later.
    pub async fn give_back(
        &self,
        business: BusinessId,
        account: &str,
        attempts: &[AttemptId],
    ) -> redis::RedisResult<Freed> {
        self.let_go((business, false), account, attempts, (attempts.len(), TOMBSTONE), Learned::NoCall).await
    }

    /// The same where the business has nothing more to dial: it waits for no line, and its turn, if it is its turn, goes on.
    ///
    /// # Errors
    /// Where Redis cannot be asked; the sweep evicts the holders later, and the turn ends after a second.
    pub async fn nothing_due(
        &self,
        business: BusinessId,
        account: &str,
        unused: &[AttemptId],
    ) -> redis::RedisResult<Freed> {
        self.let_go((business, true), account, unused, (unused.len(), TOMBSTONE), Learned::NoCall).await
    }

    /// Evicts a holder that has no row. No tombstone: a claim that comes late after all is added again at once.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn evict(&self, holder: &Holder) -> redis::RedisResult<Freed> {
        self.let_go((holder.business, false), "", &[holder.attempt], (0, Duration::ZERO), Learned::NoCall).await
    }

    async fn let_go(
        &self,
        (business, leaves): (BusinessId, bool),
        account: &str,
        attempts: &[AttemptId],
        (tokens, tombstone): (usize, Duration),
        learned: Learned,
    ) -> redis::RedisResult<Freed> {
        if attempts.is_empty() && !leaves {
            return Ok(Freed::default());
        }
        let mut script = self.release.prepare_invoke();
        self.holder_keys(&mut script, business).key(self.pace_key(account)).key(self.ends_key(account));
        self.turn_keys(&mut script)
            .key(self.talking_key())
            .arg(tokens)
            .arg(millis(tombstone))
            .arg(match learned {
                Learned::Told => "told",
                Learned::Asked => "asked",
                Learned::NoCall => "none",
            })
            .arg(if leaves { business.to_string() } else { String::new() });
        for attempt in attempts {
            script.arg(attempt.to_string());
        }
        let (held, turns): (u64, Vec<String>) = script.invoke_async(&mut self.redis.clone()).await?;
        Ok(Freed { held, turns: businesses(&turns) })
    }

    /// Adds the holder of an open attempt, with what it takes one of where it talks to an agent; true if the gate did not know it and
    /// it was not released within 10 s.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn hold(&self, business: BusinessId, held: Held, talks: Option<&Talks>) -> redis::RedisResult<bool> {
        let mut script = self.hold.prepare_invoke();
        self.holder_keys(&mut script, business)
            .key(self.talking_key())
            .arg(business.to_string())
            .arg(held.attempt.to_string())
            .arg(held.slot)
            .arg(held.line)
            .arg(millis(TOMBSTONE));
        Talks::tell(talks, &mut script);
        script.invoke_async(&mut self.redis.clone()).await
    }

    /// True where the gate may be asked for slots.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn is_ready(&self) -> redis::RedisResult<bool> {
        redis::cmd("EXISTS").arg(self.keys.key("gate:ready")).query_async(&mut self.redis.clone()).await
    }

    /// Opens the gate: every open attempt of Postgres was held before this is called.
    ///
    /// # Errors
    /// Where Redis cannot be asked.
    pub async fn open(&self) -> redis::RedisResult<()> {
        // Whoever reads the count finds one also before the first call.
        let mut both = redis::pipe();
        both.cmd("SET").arg(self.keys.key("calls:active_count")).arg(0).arg("NX").ignore();
        both.cmd("SET").arg(self.keys.key("gate:ready")).arg(1).ignore();
        both.query_async(&mut self.redis.clone()).await
    }

    fn holder_keys<'a, 'b>(
        &self,
        script: &'a mut ScriptInvocation<'b>,
        business: BusinessId,
    ) -> &'a mut ScriptInvocation<'b> {
        script
            .key(self.slots_key(business))
            .key(self.keys.key("lines:held"))
            .key(self.keys.key("gate:holders"))
            .key(self.keys.key("calls:active_count"))
            .key(self.keys.key("gate:freed"))
    }

    fn turn_keys<'a, 'b>(&self, script: &'a mut ScriptInvocation<'b>) -> &'a mut ScriptInvocation<'b> {
        script.key(self.keys.key("lines:wanted")).key(self.keys.key("lines:since")).key(self.keys.key("lines:turns"))
    }

    fn slots_key(&self, business: BusinessId) -> String {
        self.keys.key(format_args!("slots:{{{business}}}:held"))
    }

    fn talking_key(&self) -> String {
        self.keys.key("lines:talking")
    }

    fn pace_key(&self, account: &str) -> String {
        self.keys.key(format_args!("pace:{account}"))
    }

    fn ends_key(&self, account: &str) -> String {
        self.keys.key(format_args!("ends:{account}"))
    }
}

/// Tokens that an idle account saves up: a tenth of a second's worth, at least one. Twilio queues what comes above the pace,
/// so a burst must stay far below a second's worth.
fn saved_up(calls_per_second: f64) -> f64 {
    (calls_per_second / 10.0).floor().max(1.0)
}

fn businesses(ids: &[String]) -> Vec<BusinessId> {
    ids.iter().filter_map(|id| id.parse().ok()).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
