//! The filters and pages of `GET …/Calls.json` (Twilio, Call resource).
use std::time::Instant;

use chrono::NaiveDate;
use url::form_urlencoded;

use super::{Refusal, rows};
use crate::sim::{
    call::{Call, Status},
    clock::Stamp,
};

/// What a list asks for. Times count as UTC days, however exactly they are written.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) to: Option<String>,
    from: Option<String>,
    parent: Option<String>,
    status: Option<String>,
    started: Days,
    ended: Days,
    pub(crate) page: u64,
    pub(crate) page_size: usize,
    /// SID of the last call of the page before.
    pub(crate) page_token: Option<String>,
    /// The filters as they came, for the addresses of other pages.
    query: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct Days {
    on: Option<NaiveDate>,
    until: Option<NaiveDate>,
    since: Option<NaiveDate>,
}

impl Days {
    fn is_set(&self) -> bool {
        self.on.is_some() || self.until.is_some() || self.since.is_some()
    }

    /// A time that is not there yet fits no filter.
    fn fit(&self, time: Option<Stamp>) -> bool {
        let Some(day) = time.map(|stamp| stamp.wall.date_naive()) else { return !self.is_set() };
        self.on.is_none_or(|on| day == on)
            && self.until.is_none_or(|until| day <= until)
            && self.since.is_none_or(|since| day >= since)
    }
}

impl Filter {
    /// Reads a query. Names that Twilio does not know are ignored, as it does.
    pub(crate) fn read(query: &[(String, String)]) -> Result<Self, Refusal> {
        let mut filter = Self { page_size: 50, ..Self::default() };
        for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
            let text = || Some(value.clone());
            match name.as_str() {
                "To" => filter.to = text(),
                "From" => filter.from = text(),
                "ParentCallSid" => filter.parent = text(),
                "Status" => filter.status = Some(known_status(value)?),
                "StartTime" => filter.started.on = Some(day(name, value)?),
                "StartTime<" => filter.started.until = Some(day(name, value)?),
                "StartTime>" => filter.started.since = Some(day(name, value)?),
                "EndTime" => filter.ended.on = Some(day(name, value)?),
                "EndTime<" => filter.ended.until = Some(day(name, value)?),
                "EndTime>" => filter.ended.since = Some(day(name, value)?),
                "PageSize" => filter.page_size = page_size(value)?,
                "Page" => filter.page = value.parse().map_err(|_| bad(name, value))?,
                "PageToken" => {
                    filter.page_token = Some(value.strip_prefix("PA").ok_or_else(|| bad(name, value))?.to_owned());
                }
                _ => continue,
            }
            if !name.starts_with("Page") {
                filter.query.push((name.clone(), value.clone()));
            }
        }
        Ok(filter)
    }

    /// Whether only calls can fit that have not ended.
    pub(crate) fn only_live(&self) -> bool {
        matches!(self.status.as_deref(), Some("queued" | "ringing" | "in-progress"))
    }

    /// Whether a call, as it was at a moment, fits.
    pub(crate) fn fits(&self, call: &Call, moment: Instant) -> bool {
        let Some(status) = call.status_at(moment) else { return false };
        let is = |wish: &Option<String>, value: &str| wish.as_deref().is_none_or(|wish| wish == value);
        is(&self.to, &call.dial.to)
            && is(&self.from, &call.dial.from)
            && self.parent.is_none()
            && is(&self.status, rows::word(status))
            && self.started.fit(rows::started(call, moment))
            && self.ended.fit(call.entered(moment, Status::is_final))
    }

    /// Path and query of this list without its page.
    pub(crate) fn address(&self, path: &str) -> String {
        if self.query.is_empty() {
            return path.to_owned();
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish();
        format!("{path}?{query}")
    }
}

fn known_status(text: &str) -> Result<String, Refusal> {
    match text {
        "queued" | "ringing" | "in-progress" | "canceled" | "completed" | "failed" | "busy" | "no-answer" => {
            Ok(text.to_owned())
        }
        _ => Err(bad("Status", text)),
    }
}

/// `2026-11-20`, or the same with a time behind it, which is dropped.
fn day(name: &str, text: &str) -> Result<NaiveDate, Refusal> {
    let (date, rest) = text.split_at_checked(10).ok_or_else(|| bad(name, text))?;
    if !rest.is_empty() && !rest.starts_with(['T', ' ']) {
        return Err(bad(name, text));
    }
    NaiveDate::parse_from_str(date, "%Y-%m-%d").map_err(|_| bad(name, text))
}

/// Above the largest page Twilio gives the largest.
fn page_size(text: &str) -> Result<usize, Refusal> {
    match text.parse::<usize>() {
        Ok(size) if size > 0 => Ok(size.min(1000)),
        _ => Err(bad("PageSize", text)),
    }
}

fn bad(name: &str, value: &str) -> Refusal {
    Refusal::parameter(20001, format!("Invalid {name}: {value}"))
}
