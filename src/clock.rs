//! How a time is written: RFC 3339 in UTC with milliseconds and `Z`.
//!
//! Invariant: every time in an answer, a file or an event looks the same.
//! Not here: what the time is (the stores say so, never this process).

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A time that a store gave, or a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(transparent)]
#[sqlx(transparent)]
#[schema(value_type = DateTime<Utc>)]
pub struct Time(pub DateTime<Utc>);

impl From<DateTime<Utc>> for Time {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What to write where a [`Moment`] is wanted.
pub const MOMENT: &str = "Write a time as 2026-11-22T08:00:00Z, or a day as 2026-11-22, which is its beginning in UTC.";

/// A time that a client gives where a day will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[schema(value_type = String, examples("2026-11-22T08:00:00Z", "2026-11-22"))]
pub struct Moment(pub DateTime<Utc>);

impl Moment {
    /// RFC 3339 with an offset, or a day, which is its beginning in UTC.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let moment = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
        moment.ok().or_else(|| Some(day(text)?.and_time(NaiveTime::MIN).and_utc())).map(Self)
    }
}

/// A day as `2026-11-22`, of the years 0 to 9999: chrono takes more than Postgres keeps.
#[must_use]
pub fn day(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|day| (0..=9999).contains(&day.year()))
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).ok_or_else(|| D::Error::custom(MOMENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc_with_milliseconds() {
        let time = Time(DateTime::from_timestamp_micros(1_700_000_000_123_999).unwrap());
        assert_eq!(serde_json::to_value(time).unwrap(), "2023-11-14T22:13:20.123Z");
    }
}
