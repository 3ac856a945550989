//! What a create asks for, whichever carrier's words it came in.
use std::time::Duration;

use super::{telnyx, twilio};

/// One dial: what every carrier knows of it, and the carrier's own part.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub(crate) to: String,
    pub(crate) from: String,
    pub(crate) ring_limit: Duration,
    pub(crate) time_limit: Duration,
    /// What names one dial of the caller: the last segment of the path that its callbacks go to.
    pub(crate) token: Option<String>,
    pub(crate) order: Order,
    /// Somebody rings a number of the account's, in place of the account ringing somebody.
    pub(crate) inbound: bool,
}

/// The part of one carrier.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    Twilio(twilio::Order),
    Telnyx(telnyx::Order),
}

impl Dial {
    pub(crate) const fn twilio(&self) -> Option<&twilio::Order> {
        match &self.order {
            Order::Twilio(order) => Some(order),
            Order::Telnyx(_) => None,
        }
    }

    pub(crate) const fn telnyx(&self) -> Option<&telnyx::Order> {
        match &self.order {
            Order::Twilio(_) => None,
            Order::Telnyx(order) => Some(order),
        }
    }
}

/// Why a create is not accepted, before a carrier puts it in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// 429, with a wait in s.
    TooMany(Option<u32>),
    /// 500.
    ServerError,
    /// 503.
    Unavailable,
    /// 401.
    Credentials,
    /// HTTP status and code of a rule.
    OnDemand(u16, u32),
    /// The number can never be reached.
    Unreachable,
    /// The account may not call the number.
    Blocked,
    /// Too many calls at once.
    Full,
    /// The account's queue is a day long.
    QueueFull,
}
