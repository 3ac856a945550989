//! When a number may ring: hours of the week and days without calls, in the callee's zone or in a named one.

use std::collections::BTreeSet;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Timelike, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::ToSchema;

use super::hours::{Daily, Stretch, both, stretches};
use crate::{clock, error::FieldError};

/// The shortest stretch that is accepted, minutes: within it a phone must be able to ring to its end.
const SHORTEST_MINUTES: u32 = 15;

/// When calls may ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Hours of the week; together they are what is allowed.
    pub hours: Vec<Hours>,
    /// Days without calls, such as `2026-12-25`.
    #[serde(default, deserialize_with = "days")]
    pub blackout_dates: Vec<NaiveDate>,
    /// Names of the business's calendars, whose days have no calls either.
    #[serde(default)]
    pub calendars: Vec<String>,
    /// `callee`: wherever the number may be, in every possible zone; or an IANA zone that holds for every number.
    #[serde(default = "callee")]
    pub zone: String,
}

/// Reads a list of days: what is none is refused with the form that is wanted.
///
/// # Errors
/// Where one is no day.
pub fn days<'de, D: Deserializer<'de>, C: FromIterator<NaiveDate>>(deserializer: D) -> Result<C, D::Error> {
    Ok(Vec::<Date>::deserialize(deserializer)?.into_iter().map(|date| date.0).collect())
}

/// A day of a calendar, as a request writes it.
struct Date(NaiveDate);

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::custom("is no day that there is: write one as 2026-12-24");
        clock::day(&text).map(Self).ok_or_else(wrong)
    }
}

fn callee() -> String {
    "callee".to_owned()
}

/// Hours of some days of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// `mon` to `sun`.
    pub days: Vec<Day>,
    /// `HH:MM`.
    pub from: String,
    /// `HH:MM`, after `from`; `24:00` is the end of the day.
    pub to: String,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the days are what they are called")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl From<Day> for Weekday {
    fn from(day: Day) -> Self {
        match day {
            Day::Mon => Self::Mon,
            Day::Tue => Self::Tue,
            Day::Wed => Self::Wed,
            Day::Thu => Self::Thu,
            Day::Fri => Self::Fri,
            Day::Sat => Self::Sat,
            Day::Sun => Self::Sun,
        }
    }
}

/// The present or the next time to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// There is no window.
    Always,
    /// From the first moment on, until before the second.
    Within(DateTime<Utc>, DateTime<Utc>),
    /// No time suits every zone within the next year, or no zone is known.
    Never,
}

impl Window {
    /// Adds what does not fit, below `at`. `calendars` are the names that the business has.
    pub fn check(&self, at: &str, calendars: &BTreeSet<String>, wrong: &mut Vec<FieldError>) {
        if self.hours.is_empty() {
            let detail = "Name at least one stretch of hours, or set the window to null for no limit.";
            wrong.push(FieldError::new(format!("{at}/hours"), "empty", detail));
        }
        for (i, hours) in self.hours.iter().enumerate() {
            hours.check(&format!("{at}/hours/{i}"), wrong);
        }
        if self.fixed_zone().is_err() {
            let detail = "Write callee, or a name of the IANA time zone database such as Europe/Berlin.";
            wrong.push(FieldError::new(format!("{at}/zone"), "invalid_time_zone", detail));
        }
        self.check_calendars(at, calendars, wrong);
    }

    /// Adds the calendars that it names and that are not among `calendars`, the names that the business has.
    pub fn check_calendars(&self, at: &str, calendars: &BTreeSet<String>, wrong: &mut Vec<FieldError>) {
        for (i, name) in self.calendars.iter().enumerate().filter(|(_, name)| !calendars.contains(*name)) {
            let shown: String = name.chars().take(64).collect();
            let detail = format!("The business has no calendar {shown}. PUT /v1/calendars/{{name}} first.");
            wrong.push(FieldError::new(format!("{at}/calendars/{i}"), "unknown_calendar", detail));
        }
    }

    /// The zone that holds for every number; none where it is the callee's.
    fn fixed_zone(&self) -> Result<Option<Tz>, chrono_tz::ParseError> {
        if self.zone == "callee" { Ok(None) } else { self.zone.parse().map(Some) }
    }

    /// What it allows in these days, from a day of UTC on, in every one of `zones`; and some of what is before and after them.
    pub(super) fn stretches(
        &self,
        closed: &BTreeSet<NaiveDate>,
        zones: &[Tz],
        (first, days): (NaiveDate, u64),
    ) -> Vec<Stretch> {
        let daily: Vec<Daily> = self.hours.iter().filter_map(Hours::daily).collect();
        let fixed = self.fixed_zone().ok().flatten();
        let zones = fixed.as_ref().map_or(zones, std::slice::from_ref);
        // Local days begin and end up to a day before and after those of UTC.
        let first = first.checked_sub_days(Days::new(1)).unwrap_or(first);
        let mut each = zones.iter().map(|zone| stretches(&daily, closed, *zone, first, days + 2));
        let Some(found) = each.next() else { return Vec::new() };
        each.fold(found, |found, other| both(&found, &other))
    }
}

impl Hours {
    fn check(&self, at: &str, wrong: &mut Vec<FieldError>) {
        if self.days.is_empty() {
            wrong.push(FieldError::new(format!("{at}/days"), "empty", "Name at least one day: mon to sun."));
        }
        let [from, to] = [("from", &self.from, false), ("to", &self.to, true)].map(|(field, text, is_end)| {
            let minute = minute(text, is_end);
            if minute.is_none() {
                let detail = "Write a time of day as HH:MM, from 00:00 to 23:59 (to: up to 24:00).";
                wrong.push(FieldError::new(format!("{at}/{field}"), "invalid_time", detail));
            }
            minute
        });
        if let (Some(from), Some(to)) = (from, to)
            && to < from + SHORTEST_MINUTES
        {
            let detail = format!(
                "to must be at least {SHORTEST_MINUTES} minutes after from. Hours over midnight are two: until 24:00, and from 00:00 of the next day."
            );
            wrong.push(FieldError::new(format!("{at}/to"), "invalid_window", detail));
        }
    }

    fn daily(&self) -> Option<Daily> {
        let days = self.days.iter().copied().map(Weekday::from).collect();
        Some(Daily { days, from: minute(&self.from, false)?, to: minute(&self.to, true)? })
    }
}

/// The minute of the day, 0 to 1,440.
fn minute(text: &str, is_end: bool) -> Option<u32> {
    if is_end && text == "24:00" {
        return Some(1_440);
    }
    let time = NaiveTime::parse_from_str(text, "%H:%M").ok().filter(|_| text.len() == 5)?;
    Some(time.num_seconds_from_midnight() / 60)
}
