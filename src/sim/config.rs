//! How the sandbox behaves: its flags, their defaults, and ranges of milliseconds.
use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::{media::Manners, outcome::Shares, providers::Providers, sound::Speed, telnyx::Double};

/// Everything that can be set when the sandbox starts. Durations are in ms.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// An account that may call, with its auth token (Telnyx: a connection id with its API key); repeatable. Without any, every account is
    /// accepted and the password it gives is its auth token.
    #[arg(long = "account", value_name = "ACCOUNT:SECRET")]
    pub accounts: Vec<Account>,
    /// Calls per second of one account before calls queue; 0 never queues.
    #[arg(long, default_value_t = Config::default().cps, value_parser = pace)]
    pub cps: f64,
    /// Calls of one account at once before a create is refused with 10004.
    #[arg(long)]
    pub concurrency: Option<u64>,
    /// Shares of the outcomes of numbers that are not magic.
    #[command(flatten)]
    pub shares: Shares,
    /// Seed of every draw: one seed, one number, one outcome.
    #[arg(long, default_value_t = Config::default().seed)]
    pub seed: u64,
    /// From the start of dialing until the far end rings.
    #[arg(long, value_name = "MS", default_value_t = Config::default().dial_ms)]
    pub dial_ms: Millis,
    /// From ringing until somebody answers, or the ringing stops.
    #[arg(long, value_name = "MS", default_value_t = Config::default().ring_ms)]
    pub ring_ms: Millis,
    /// How long one `<Say>` lasts.
    #[arg(long, value_name = "MS", default_value_t = Config::default().talk_ms)]
    pub talk_ms: Millis,
    /// From the answer until a carrier that listens for it knows who picked up.
    #[arg(long, value_name = "MS", default_value_t = Config::default().detect_ms)]
    pub detect_ms: Millis,
    /// From the answer until a machine's beep.
    #[arg(long, value_name = "MS", default_value_t = Config::default().greeting_ms)]
    pub greeting_ms: Millis,
    /// How long the answer to a create takes; the call is accepted half way.
    #[arg(long, value_name = "MS", default_value_t = Config::default().accept_delay_ms)]
    pub accept_delay_ms: Millis,
    /// How far lists and events lag behind.
    #[arg(long, value_name = "MS", default_value_t = Config::default().list_lag_ms)]
    pub list_lag_ms: u64,
    /// How callees behave on media streams.
    #[command(flatten)]
    pub manners: Manners,
    /// How the voice providers behave.
    #[command(flatten)]
    pub providers: Providers,
    /// Telnyx: dials per second of one connection, over 5 s, before more are refused with 90103; 0 refuses none.
    #[arg(long, value_name = "RATE", default_value_t = Config::default().telnyx_dps, value_parser = pace)]
    pub telnyx_dps: f64,
    /// Telnyx: how the double of a dial is answered, which is not documented.
    #[arg(long, value_enum, default_value_t = Config::default().telnyx_double)]
    pub telnyx_double: Double,
    /// Telnyx: ends of answered calls come without a SIP code, so that they do not say that they were answered.
    #[arg(long)]
    pub telnyx_unclear_ends: bool,
    /// Faults by share.
    #[command(flatten)]
    pub faults: FaultShares,
}

/// Faults as shares of creates or callbacks, 0 to 1 each. `PUT /_faults` can say more.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Faults, as shares of all creates or callbacks")]
pub struct FaultShares {
    /// 429/20429, not accepted.
    #[arg(long = "fault-429", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub http_429: f64,
    /// 500, not accepted.
    #[arg(long = "fault-500-before", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub http_500_before: f64,
    /// Accepted, then 500.
    #[arg(long = "fault-500-after", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub http_500_after: f64,
    /// Accepted, never answered.
    #[arg(long = "fault-timeout", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub timeout: f64,
    /// Accepted, then the connection is reset.
    #[arg(long = "fault-reset", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub reset: f64,
    /// Accepted, then 201 with a body that is not JSON.
    #[arg(long = "fault-garbage", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub garbage: f64,
    /// Accepted, answered after `--slow-ms`.
    #[arg(long = "fault-slow", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub slow: f64,
    /// The call ends, and says so, before the create is answered.
    #[arg(long = "fault-final-first", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub final_first: f64,
    /// Callback never sent.
    #[arg(long = "fault-callback-lost", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub callback_lost: f64,
    /// Callback sent twice.
    #[arg(long = "fault-callback-doubled", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub callback_doubled: f64,
    /// Callback sent after the one that follows it.
    #[arg(long = "fault-callback-reordered", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub callback_reordered: f64,
    /// Callback sent `--callback-delay-ms` late.
    #[arg(long = "fault-callback-delayed", default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub callback_delayed: f64,
    /// For `--fault-slow`.
    #[arg(long, value_name = "MS", default_value_t = Millis::default_slow())]
    pub slow_ms: Millis,
    /// For `--fault-callback-delayed`.
    #[arg(long, value_name = "MS", default_value_t = Millis::default_callback_delay())]
    pub callback_delay_ms: Millis,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            cps: 1.0,
            concurrency: None,
            shares: Shares::default(),
            seed: 1,
            dial_ms: Millis::exactly(50),
            ring_ms: Millis::between(300, 1500),
            talk_ms: Millis::between(500, 3000),
            detect_ms: Millis::between(1500, 3500),
            greeting_ms: Millis::between(3000, 8000),
            accept_delay_ms: Millis::between(100, 250),
            list_lag_ms: 1000,
            manners: Manners::default(),
            providers: Providers::default(),
            telnyx_dps: 30.0,
            telnyx_double: Double::Same,
            telnyx_unclear_ends: false,
            faults: FaultShares {
                slow_ms: Millis::default_slow(),
                callback_delay_ms: Millis::default_callback_delay(),
                ..FaultShares::default()
            },
        }
    }
}

impl Config {
    /// For tests: no pace, no lag, and every step of a call takes 0 ms.
    #[must_use]
    pub fn quick() -> Self {
        let at_once = Millis::exactly(0);
        Self {
            cps: 0.0,
            telnyx_dps: 0.0,
            dial_ms: at_once,
            ring_ms: at_once,
            talk_ms: at_once,
            detect_ms: at_once,
            greeting_ms: at_once,
            accept_delay_ms: at_once,
            list_lag_ms: 0,
            manners: Manners {
                callee_speed: Speed::FASTEST,
                reaction_ms: Millis::exactly(100),
                patience_ms: Millis::exactly(3_000),
                interrupts: 0.0,
                reordered: 0.0,
            },
            providers: Providers::quick(),
            ..Self::default()
        }
    }
}

/// A declared account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `AC` and 32 hex digits; Telnyx: a connection id, digits.
    pub sid: String,
    /// Signs callbacks and is the password of requests.
    pub auth_token: String,
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (sid, auth_token) = text.split_once(':').ok_or("write ACCOUNT:SECRET")?;
        let connection = !sid.is_empty() && sid.bytes().all(|byte| byte.is_ascii_digit());
        if !super::twilio::is_sid("AC", sid) && !connection {
            return Err("the account is AC and 32 hex digits, or the digits of a connection id".to_owned());
        }
        if auth_token.is_empty() {
            return Err("the auth token is empty".to_owned());
        }
        Ok(Self { sid: sid.to_owned(), auth_token: auth_token.to_owned() })
    }
}

/// A duration in ms, or a range `a..b` of which each use draws one (both ends included).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "MillisShape", into = "String")]
pub struct Millis {
    from: u64,
    to: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MillisShape {
    Number(u64),
    Text(String),
}

impl Millis {
    /// Always this long.
    #[must_use]
    pub const fn exactly(ms: u64) -> Self {
        Self { from: ms, to: ms }
    }

    /// Any length between the two, both included, in either order.
    #[must_use]
    pub const fn between(a: u64, b: u64) -> Self {
        if a <= b { Self { from: a, to: b } } else { Self { from: b, to: a } }
    }

    const fn default_slow() -> Self {
        Self::between(2000, 30_000)
    }

    const fn default_callback_delay() -> Self {
        Self::between(1000, 10_000)
    }

    pub(crate) fn draw(self, random: &mut impl Rng) -> Duration {
        let range: RangeInclusive<u64> = self.from..=self.to;
        Duration::from_millis(if self.from == self.to { self.from } else { random.random_range(range) })
    }
}

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.trim().parse::<u64>().map_err(|_| format!("`{part}` is not a number of ms"));
        match text.split_once("..") {
            None => number(text).map(Self::exactly),
            Some((from, to)) => {
                let (from, to) = (number(from)?, number(to.trim_start_matches('='))?);
                if from > to { Err(format!("`{text}` runs backwards")) } else { Ok(Self { from, to }) }
            }
        }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}..{}", self.from, self.to) }
    }
}

impl TryFrom<MillisShape> for Millis {
    type Error = String;

    fn try_from(shape: MillisShape) -> Result<Self, String> {
        match shape {
            MillisShape::Number(ms) => Ok(Self::exactly(ms)),
            MillisShape::Text(text) => text.parse(),
        }
    }
}

impl From<Millis> for String {
    fn from(millis: Millis) -> Self {
        millis.to_string()
    }
}

/// A share is a number from 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".to_owned()),
    }
}

fn pace(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // The floor keeps 1 / pace within what a duration can hold.
        Ok(pace) if pace == 0.0 || (0.000_001..=1_000_000.0).contains(&pace) => Ok(pace),
        _ => Err("calls per second, at most 1000000; 0 never queues".to_owned()),
    }
}
