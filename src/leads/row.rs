//! One row of a list: what a lead may hold, and what is said of a row that is refused.

use std::{borrow::Cow, io};

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::{Map, Value};

use super::number::{E164, NumberRules};
use crate::{clock::can_be_written, error::FieldError, objects::of_key};

/// The most characters of an `external_id`.
pub const EXTERNAL_ID_MAX: usize = 255;
/// The most bytes of a lead's variables, written as JSON.
pub const VARIABLES_MAX: usize = 16 * 1024;
/// The most characters of a variable's name.
pub const NAME_MAX: usize = 64;
/// The range of `priority`, from both ends; a higher one is called first.
pub const PRIORITY_MAX: i32 = 1000;
/// The most characters of a refused value that are shown again.
const SHOWN_MAX: usize = 64;

/// One number to call and what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lead {
    /// The number to call.
    pub to: E164,
    /// The caller's own name for this lead.
    pub external_id: Option<String>,
    /// What a message may say about it; text, numbers, booleans or null.
    pub variables: Map<String, Value>,
    /// True where the number's first digits say where it is ([`Number::at_a_place`](super::Number)).
    pub at_a_place: bool,
    /// The zone that the list names.
    pub time_zone: Option<Tz>,
    /// Zones that the lead may be in, sorted by name: the one that the list names alone; else none here, since what a number
    /// says of its zones is another fact's (`policy::zones`).
    pub time_zones: Cow<'static, [Tz]>,
    /// −1000 to 1000, the higher one first.
    pub priority: i32,
    /// Not dialed before this.
    pub not_before: Option<DateTime<Utc>>,
    /// Not dialed after this.
    pub not_after: Option<DateTime<Utc>>,
}

/// A row that became no lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Rejected {
    /// The line of the file in which the row begins, the header being line 1; of a JSON list the place, from 1.
    pub line: u64,
    /// The column or field at fault, or null where it is the whole row.
    pub column: Option<String>,
    /// A word that programs may decide by, e.g. `invalid_number`.
    pub code: Cow<'static, str>,
    /// A sentence for people: what is wrong and what to do.
    pub detail: String,
    /// What the cell holds, at most 64 characters of it.
    pub value: Option<String>,
}

/// Leads and rejections of one stretch of a list, each in the order of the list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Accepted rows with their lines.
    pub leads: Vec<(u64, Lead)>,
    /// The other rows.
    pub rejected: Vec<Rejected>,
}

impl Batch {
    /// How many rows were read: the sum of both.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.leads.len() + self.rejected.len()
    }

    pub(super) fn push(&mut self, line: u64, row: Result<Lead, Fault>) {
        match row {
            Ok(lead) => self.leads.push((line, lead)),
            Err(fault) => self.rejected.push(fault.at(line)),
        }
    }
}

/// What is wrong with a row, before its line is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    column: Option<String>,
    code: &'static str,
    detail: String,
    value: Option<String>,
}

impl Fault {
    /// The whole row is at fault.
    pub(super) fn row(code: &'static str, detail: impl Into<String>) -> Self {
        Self { column: None, code, detail: detail.into(), value: None }
    }

    /// One cell is at fault.
    pub(super) fn cell(column: &str, code: &'static str, detail: impl Into<String>, value: &str) -> Self {
        Self { column: Some(shown(column)), code, detail: detail.into(), value: Some(shown(value)) }
    }

    pub(super) fn at(self, line: u64) -> Rejected {
        Rejected { line, column: self.column, code: self.code.into(), detail: self.detail, value: self.value }
    }
}

/// At most 64 characters of `text`, without NUL, which Postgres cannot store.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

/// A row whose cells are found but not judged.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    /// What the list calls the number's column.
    pub to_column: &'a str,
    pub to: &'a str,
    pub external_id: Option<&'a str>,
    pub time_zone: Option<&'a str>,
    pub priority: i64,
    pub not_before: Option<&'a str>,
    pub not_after: Option<&'a str>,
    pub variables: Map<String, Value>,
}

impl Draft<'_> {
    /// Judges the row: the number first, since most bad rows are bad in that.
    pub(super) fn into_lead(self, rules: &NumberRules) -> Result<Lead, Fault> {
        let number = rules.read(self.to).map_err(|e| Fault::cell(self.to_column, e.code(), e.to_string(), self.to))?;
        let external_id = self.external_id.map(external_id).transpose()?;
        let time_zone = self.time_zone.map(time_zone).transpose()?;
        let priority = priority(self.priority)?;
        let not_before = self.not_before.map(|text| moment("not_before", text)).transpose()?;
        let not_after = self.not_after.map(|text| moment("not_after", text)).transpose()?;
        if not_before.zip(not_after).is_some_and(|(from, to)| to <= from) {
            let detail = "not_after is not later than not_before, so there is no time to call. Correct one of them.";
            return Err(Fault::cell("not_after", "empty_period", detail, self.not_after.unwrap_or_default()));
        }
        let mut variables = self.variables;
        if let Some(extension) = number.extension {
            let own = variables.get("extension").is_some_and(|value| !value.is_null() && value != "");
            if !own {
                variables.insert("extension".to_owned(), Value::String(extension));
            }
        }
        check_variables(&variables)?;
        let (to, at_a_place) = (number.e164, number.at_a_place);
        let time_zones = time_zone.into_iter().collect::<Vec<_>>().into();
        Ok(Lead { to, external_id, variables, at_a_place, time_zone, time_zones, priority, not_before, not_after })
    }
}

fn external_id(text: &str) -> Result<String, Fault> {
    no_nul("external_id", text)?;
    if text.chars().count() > EXTERNAL_ID_MAX {
        let detail = format!("An external_id has at most {EXTERNAL_ID_MAX} characters. Shorten it.");
        return Err(Fault::cell("external_id", "too_long", detail, text));
    }
    Ok(text.to_owned())
}

fn time_zone(text: &str) -> Result<Tz, Fault> {
    text.parse().map_err(|_| {
        let detail = "This is no IANA time zone. Write one such as Europe/Berlin, or leave it empty.";
        Fault::cell("time_zone", "unknown_time_zone", detail, text)
    })
}

/// A moment with its offset. One without could be meant in the callee's zone or in anybody's, so it is not guessed.
fn moment(column: &'static str, text: &str) -> Result<DateTime<Utc>, Fault> {
    let text = text.trim();
    let moment = DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc());
    if let Some(moment) = moment.ok().filter(can_be_written) {
        return Ok(moment);
    }
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    if local.iter().any(|form| NaiveDateTime::parse_from_str(text, form).is_ok()) {
        let detail =
            "This time does not say its offset from UTC. Write it with one, such as 2030-05-31T09:00:00-04:00.";
        return Err(Fault::cell(column, "no_offset", detail, text));
    }
    let detail = "This is no time. Write date, time and offset (RFC 3339), such as 2030-05-31T09:00:00-04:00.";
    Err(Fault::cell(column, "invalid_time", detail, text))
}

fn priority(value: i64) -> Result<i32, Fault> {
    let fits = i32::try_from(value).ok().filter(|p| (-PRIORITY_MAX..=PRIORITY_MAX).contains(p));
    fits.ok_or_else(|| bad_priority(&value.to_string()))
}

/// A priority that is no whole number, or out of range.
pub(super) fn bad_priority(value: &str) -> Fault {
    let detail = format!("Write a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}, or leave it empty.");
    Fault::cell("priority", "invalid_priority", detail, value)
}

fn no_nul(column: &str, text: &str) -> Result<(), Fault> {
    if text.contains('\0') {
        let detail = "This holds a NUL character, which cannot be stored. Remove it.";
        return Err(Fault::cell(column, "nul_character", detail, text));
    }
    Ok(())
}

/// Why `name` cannot name a variable; `None` where it can.
pub(super) fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("A variable needs a name.".to_owned());
    }
    if name.chars().count() > NAME_MAX {
        return Some(format!("A variable's name has at most {NAME_MAX} characters. Shorten it."));
    }
    let unprintable = name.chars().any(char::is_control);
    unprintable.then(|| "A variable's name holds no line ends or other control characters. Remove them.".to_owned())
}

/// Code and detail of a number that is not kept as it was written.
const INEXACT: (&str, &str) =
    ("inexact_number", "This number has more digits than are kept. Write it as text, in quotation marks.");

/// A whole number of up to 64 bits is kept to its last digit. Any other is kept as the nearest that 53 bits can tell, which is another
/// number where it is as large as this.
fn is_inexact(value: &Value) -> bool {
    const DIGITS_END: f64 = 9_007_199_254_740_992.0;
    matches!(value, Value::Number(number) if number.is_f64() && number.as_f64().is_some_and(|n| n.abs() >= DIGITS_END))
}

/// The numbers among `variables`, which stand at `pointer`, that are not kept as they were written.
pub fn inexact_numbers(pointer: &str, variables: &Map<String, Value>) -> impl Iterator<Item = FieldError> {
    let inexact = variables.iter().filter(|(_, value)| is_inexact(value));
    inexact.map(move |(name, _)| FieldError::new(format!("{pointer}{}", of_key(name)), INEXACT.0, INEXACT.1))
}

fn check_variables(variables: &Map<String, Value>) -> Result<(), Fault> {
    for (name, value) in variables {
        if let Value::String(text) = value {
            no_nul(name, text)?;
        }
        if is_inexact(value) {
            return Err(Fault::cell(name, INEXACT.0, INEXACT.1, &value.to_string()));
        }
    }
    let mut size = Size(0);
    let written = serde_json::to_writer(&mut size, variables);
    if written.is_err() || size.0 > VARIABLES_MAX {
        let detail = format!("The variables of one lead have at most {VARIABLES_MAX} bytes. Shorten them.");
        return Err(Fault::row("variables_too_large", detail));
    }
    Ok(())
}

/// Counts what is written and keeps none of it.
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
