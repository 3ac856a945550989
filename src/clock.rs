//! How a time is written: RFC 3339 in UTC with milliseconds and `Z`.
//!
//! Invariant: every time in an answer, a file or an event looks the same.
//! Not here: what the time is (the stores say so, never this process).

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A time that a store gave, or a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, sqlx::Type, utoipa::ToSchema)]
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

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at = DateTime::deserialize(deserializer)?;
        // In chrono's own word for a time that there is not.
        if can_be_written(&at) { Ok(Self(at)) } else { Err(D::Error::custom("input is out of range")) }
    }
}

/// True where the year has four digits, in UTC: RFC 3339 knows no others, and an offset can lead out of them.
#[must_use]
pub fn can_be_written(at: &DateTime<Utc>) -> bool {
    (0..=9999).contains(&at.year())
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
        let moment = moment.ok().or_else(|| Some(day(text)?.and_time(NaiveTime::MIN).and_utc()));
        moment.filter(can_be_written).map(Self)
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

    #[test]
    fn a_year_has_four_digits_in_utc() {
        for (text, fits) in [
            ("9999-12-31T23:59:59.999Z", true),
            ("9999-12-31T23:30:00-05:00", false),
            ("0000-01-01T00:00:00Z", true),
            ("0000-01-01T00:30:00+05:00", false),
        ] {
            assert_eq!(Moment::read(text).is_some(), fits, "{text}");
            assert_eq!(serde_json::from_value::<Time>(text.into()).is_ok(), fits, "{text}");
        }
    }
}
