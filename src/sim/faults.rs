//! Faults on demand: rules by share or for the next N, and the draw that picks one.
use rand::{RngExt, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::config::{FaultShares, Millis};

/// All rules in force, as `PUT /_faults` takes them and `GET /_faults` shows them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Rules for `POST …/Calls.json`.
    pub create: Vec<Rule<CreateFault>>,
    /// Rules for status callbacks.
    pub callback: Vec<Rule<CallbackFault>>,
    /// Rules for `GET …/Calls.json`.
    pub list: Vec<Rule<ApiFault>>,
    /// Rules for `GET` of one call and of its events.
    pub fetch: Vec<Rule<ApiFault>>,
    /// Rules for hanging up.
    pub update: Vec<Rule<ApiFault>>,
    /// Overrides `--list-lag-ms`, in ms.
    pub list_lag_ms: Option<u64>,
}

/// When a fault strikes. `next` counts down and goes before `share`; filters narrow both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "K: Deserialize<'de>"))]
pub struct Rule<K> {
    /// What goes wrong.
    pub kind: K,
    /// Of all that match, 0 to 1.
    #[serde(default)]
    pub share: f64,
    /// The next N that match.
    #[serde(default)]
    pub next: u32,
    /// Only calls to this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only calls from this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Only callbacks of this `CallStatus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Length of a delay, ms or `"a..b"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<Millis>,
    /// The carrier's error code, for `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// The HTTP status, for `refuse` (400).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// `Retry-After` in s, for `http_429`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_secs: Option<u32>,
    /// How often a doubled callback is sent in all (2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// What can go wrong with a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateFault {
    /// 429/20429, not accepted.
    #[serde(rename = "http_429")]
    Http429,
    /// 500, not accepted.
    #[serde(rename = "http_500_before_accept")]
    Http500BeforeAccept,
    /// Accepted, then 500.
    #[serde(rename = "http_500_after_accept")]
    Http500AfterAccept,
    /// Not accepted, never answered.
    TimeoutBeforeAccept,
    /// Accepted, never answered.
    TimeoutAfterAccept,
    /// Not accepted, connection reset.
    ResetBeforeAccept,
    /// Accepted, connection reset.
    ResetAfterAccept,
    /// Accepted, 201 with a body that is not JSON.
    GarbageAfterAccept,
    /// Accepted, answered after `ms`.
    Slow,
    /// The whole call happens, and is reported, before the 201.
    FinalCallbackFirst,
    /// 401/20003, not accepted.
    Unauthorized,
    /// Refused with `code` and `http_status`.
    Refuse,
}

/// What can go wrong with a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackFault {
    /// Never sent.
    Lost,
    /// Sent `times` times.
    Doubled,
    /// Sent after the next callback of its call; a final one, having no next, goes out as usual.
    Reordered,
    /// Sent `ms` late.
    Delayed,
}

/// What can go wrong with a list, a fetch or a hang-up. The rules take no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiFault {
    /// 503/20503.
    Unavailable,
    /// 401/20003.
    Unauthorized,
    /// 429/20429.
    #[serde(rename = "http_429")]
    Http429,
    /// Telnyx's commands: done, and then 503. Elsewhere as `unavailable`.
    LostAnswer,
}

impl<K> Rule<K> {
    /// Strikes a share of all, 0 to 1.
    pub const fn share(kind: K, share: f64) -> Self {
        Self {
            kind,
            share,
            next: 0,
            to: None,
            from: None,
            status: None,
            ms: None,
            code: None,
            http_status: None,
            retry_after_secs: None,
            times: None,
        }
    }

    /// Strikes the next `next`.
    pub const fn next(kind: K, next: u32) -> Self {
        let mut rule = Self::share(kind, 0.0);
        rule.next = next;
        rule
    }
}

impl Faults {
    /// The rules that the flags ask for.
    pub(crate) fn from_shares(shares: &FaultShares) -> Self {
        use {CallbackFault as B, CreateFault as C};
        let mut faults = Self {
            create: vec![
                Rule::share(C::Http429, shares.http_429),
                Rule::share(C::Http500BeforeAccept, shares.http_500_before),
                Rule::share(C::Http500AfterAccept, shares.http_500_after),
                Rule::share(C::TimeoutAfterAccept, shares.timeout),
                Rule::share(C::ResetAfterAccept, shares.reset),
                Rule::share(C::GarbageAfterAccept, shares.garbage),
                Rule { ms: Some(shares.slow_ms), ..Rule::share(C::Slow, shares.slow) },
                Rule::share(C::FinalCallbackFirst, shares.final_first),
            ],
            callback: vec![
                Rule::share(B::Lost, shares.callback_lost),
                Rule::share(B::Doubled, shares.callback_doubled),
                Rule::share(B::Reordered, shares.callback_reordered),
                Rule { ms: Some(shares.callback_delay_ms), ..Rule::share(B::Delayed, shares.callback_delayed) },
            ],
            ..Self::default()
        };
        faults.create.retain(|rule| rule.share > 0.0);
        faults.callback.retain(|rule| rule.share > 0.0);
        faults
    }

    /// Why the rules make no sense, if they do not.
    pub(crate) fn check(&self) -> Result<(), String> {
        for rule in &self.create {
            when(rule.share, rule.next)?;
            let client_error = rule.http_status.is_none_or(|status| (400..600).contains(&status));
            match rule.kind {
                CreateFault::Refuse if rule.code.is_none() => return Err("`refuse` needs `code`".to_owned()),
                CreateFault::Refuse if !client_error => return Err("`http_status` is 400 to 599".to_owned()),
                _ => {}
            }
        }
        for rule in &self.callback {
            when(rule.share, rule.next)?;
        }
        for rule in self.list.iter().chain(&self.fetch).chain(&self.update) {
            when(rule.share, rule.next)?;
            if rule.to.is_some() || rule.from.is_some() || rule.status.is_some() {
                return Err("a rule for list, fetch or update takes no `to`, `from` or `status`".to_owned());
            }
        }
        Ok(())
    }
}

/// Why a rule never strikes or cannot, if so.
pub(crate) fn when(share: f64, next: u32) -> Result<(), String> {
    match (0.0..=1.0).contains(&share) {
        false => Err(format!("share {share} is not between 0 and 1")),
        true if share == 0.0 && next == 0 => Err("a rule needs `share` or `next`".to_owned()),
        true => Ok(()),
    }
}

/// What a rule may be narrowed to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Subject<'a> {
    pub(crate) to: &'a str,
    pub(crate) from: &'a str,
    pub(crate) status: &'a str,
}

/// Picks at most one rule for a subject.
pub(crate) fn draw<K: Clone>(rules: &mut Vec<Rule<K>>, subject: Subject<'_>, random: &mut StdRng) -> Option<Rule<K>> {
    if rules.is_empty() {
        return None;
    }
    let is_met = |wish: &Option<String>, is: &str| wish.as_deref().is_none_or(|wish| wish == is);
    let matches = |rule: &Rule<K>| {
        is_met(&rule.to, subject.to) && is_met(&rule.from, subject.from) && is_met(&rule.status, subject.status)
    };
    pick(rules, matches, random)
}

/// A rule that strikes the next few, or a share of all.
pub(crate) trait Strikes: Clone {
    /// How many of the next it strikes.
    fn next(&mut self) -> &mut u32;
    /// Of all that match, 0 to 1.
    fn share(&self) -> f64;
}

impl<K: Clone> Strikes for Rule<K> {
    fn next(&mut self) -> &mut u32 {
        &mut self.next
    }

    fn share(&self) -> f64 {
        self.share
    }
}

/// Picks at most one of the rules that match. Counted rules go first; shares divide one draw, so that they add up.
pub(crate) fn pick<R: Strikes>(rules: &mut Vec<R>, matches: impl Fn(&R) -> bool, random: &mut StdRng) -> Option<R> {
    if let Some(at) = rules.iter_mut().position(|rule| *rule.next() > 0 && matches(rule)) {
        let struck = rules[at].clone();
        *rules[at].next() -= 1;
        if *rules[at].next() == 0 && rules[at].share() == 0.0 {
            rules.remove(at);
        }
        return Some(struck);
    }
    let mut point = random.random::<f64>();
    for rule in rules.iter().filter(|rule| matches(rule)) {
        if point < rule.share() {
            return Some(rule.clone());
        }
        point -= rule.share();
    }
    None
}
