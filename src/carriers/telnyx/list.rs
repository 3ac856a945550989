//! Asking Telnyx about calls, and commands on them.
//!
//! Source: Telnyx, "Retrieve a call status", "List all active calls", "List call events", "Hang up", "Speak text".
//! A call can be fetched for some ten minutes after its end, and without its cause; its events name the cause, for a day.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::client::Telnyx;
use super::codes::{self, Meaning};
use super::events::{self, Event, EventPage};
use super::{is_call_id, leaving, mark};
use crate::carriers::CarrierError;
use crate::carriers::call::{CallState, CallView, HangUp, How, ListFilter};
use crate::carriers::dial::Speech;

/// The languages that Telnyx speaks (SDK 4.189.0, `ActionSpeakParams`); where a tag names none of them, the first of its language.
const LANGUAGES: [&str; 29] = [
    "arb",
    "cmn-CN",
    "cy-GB",
    "da-DK",
    "de-DE",
    "en-US",
    "en-AU",
    "en-GB",
    "en-GB-WLS",
    "en-IN",
    "es-ES",
    "es-MX",
    "es-US",
    "fr-FR",
    "fr-CA",
    "hi-IN",
    "is-IS",
    "it-IT",
    "ja-JP",
    "ko-KR",
    "nb-NO",
    "nl-NL",
    "pl-PL",
    "pt-BR",
    "pt-PT",
    "ro-RO",
    "ru-RU",
    "sv-SE",
    "tr-TR",
];
/// Longest text that is spoken, characters.
const MAX_SPOKEN: usize = 3_000;
/// Who speaks where a run names no voice.
const DEFAULT_VOICE: &str = "AWS.Polly.Joanna";
/// Telnyx's largest page.
const MAX_PAGE: u16 = 250;

#[derive(Deserialize)]
struct One<T> {
    data: T,
}

/// A call as `GET /calls/{id}` shows it.
#[derive(Deserialize)]
struct Status {
    call_leg_id: String,
    is_alive: bool,
    client_state: Option<String>,
    start_time: Option<DateTime<Utc>>,
    end_time: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct ActivePage {
    data: Vec<Active>,
    #[serde(default)]
    meta: Value,
}

#[derive(Deserialize)]
struct Active {
    call_control_id: String,
    client_state: Option<String>,
}

/// How many pages a numbered list has. Telnyx promises none of it.
#[derive(Default, Deserialize)]
pub(super) struct PageMeta {
    page_size: Option<usize>,
    total_pages: Option<usize>,
    total_results: Option<usize>,
}

impl PageMeta {
    /// True where no page follows page `number` with its `got` rows, after which `rows` were read: one that is full leaves it open.
    pub(super) fn is_last(&self, number: usize, got: usize, rows: usize) -> bool {
        match (self.total_pages, self.total_results) {
            (Some(pages), _) => number >= pages,
            (None, Some(all)) => rows >= all,
            (None, None) => got < self.page_size.unwrap_or(1),
        }
    }
}

/// Which page of active calls to ask for: Telnyx's description shows cursors, its SDKs of 2026 count pages.
enum Next {
    Number(u64),
    After(String),
}

/// The page after this one, by whichever `meta` there is; `None` at the end, which the schema of the cursors tells by leaving them
/// out. `rows`: how many were read, this page included; fewer than there are in all are not all.
fn next_page(meta: &Value, number: u64, rows: u64) -> Result<Option<Next>, CarrierError> {
    if let Some(pages) = meta["total_pages"].as_u64() {
        return Ok((number < pages).then_some(Next::Number(number + 1)));
    }
    let said = |text: &Value| text.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match (meta.get("next"), said(&meta["next"]), said(&meta["cursors"]["after"])) {
        (_, Some(_), Some(after)) | (None, None, Some(after)) => Ok(Some(Next::After(after))),
        (_, Some(_), None) => Err(incomplete("another page follows, and nothing says which")),
        // A next page that is denied is not asked for.
        (Some(_), None, _) => Ok(None),
        (None, None, None) if !meta.is_object() => Err(incomplete("a page does not say whether another follows")),
        (None, None, None) if meta["total_items"].as_u64().is_some_and(|all| all > rows) => {
            Err(incomplete("it has more rows than its pages show"))
        }
        (None, None, None) => Ok(None),
    }
}

impl Telnyx<'_> {
    /// The call's status, with what its events say of it. Where Telnyx has forgotten the call, its events of the last day are
    /// looked through, for which the number called must be known.
    pub(in crate::carriers) async fn fetch(
        &self,
        call_id: &str,
        to: Option<&str>,
    ) -> Result<Option<CallView>, CarrierError> {
        if !is_call_id(call_id) {
            return Err(CarrierError::NotACallId);
        }
        let status: Option<One<Status>> = self.get(self.url(&["calls", call_id])?).await?;
        match (status, to) {
            (Some(One { data }), _) => {
                let of_leg = self.events(&[("filter[leg_id]", &data.call_leg_id)]).await?;
                let of_leg: Vec<&Event> = of_leg.iter().collect();
                Ok(Some(if of_leg.is_empty() { bare(call_id, &data) } else { events::view(call_id, &of_leg) }))
            }
            (None, Some(to)) => {
                let connection = self.account.reference.as_str();
                let sought = [("filter[connection_id]", connection), ("filter[to]", to), ("filter[type]", "webhook")];
                let calls = events::calls(&self.events(&sought).await?)?;
                Ok(calls.into_iter().find(|view| view.call_id == call_id && view.ended_at.is_some()))
            }
            (None, None) => Ok(None),
        }
    }

    /// Every call of the filter, by its events. Telnyx keeps them for a day.
    pub(in crate::carriers) async fn list(&self, filter: &ListFilter) -> Result<Vec<CallView>, CarrierError> {
        if filter.status.is_some() {
            // A list of live calls knows no states.
            return self.live().await;
        }
        let (from_day, to_day) = filter.day.map(bounds).unzip();
        let fields = [
            ("filter[connection_id]", Some(self.account.reference.as_str())),
            ("filter[type]", Some("webhook")),
            ("filter[to]", filter.to.as_deref()),
            ("filter[from]", filter.from.as_deref()),
            ("filter[occurred_at][gte]", from_day.as_deref()),
            ("filter[occurred_at][lt]", to_day.as_deref()),
        ];
        let given: Vec<(&str, &str)> = fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        events::calls(&self.events(&given).await?)
    }

    /// Every call of the connection that is not over. Telnyx shows no state there, only that it lives and what we wrote on it.
    pub(in crate::carriers) async fn live(&self) -> Result<Vec<CallView>, CarrierError> {
        let page_url = |next: &Next| {
            let mut url = self.url(&["connections", &self.account.reference, "active_calls"])?;
            let (name, value) = match next {
                Next::Number(number) => ("page[number]", number.to_string()),
                Next::After(after) => ("page[after]", after.clone()),
            };
            let size = self.page_size();
            url.query_pairs_mut()
                .append_pair("page[limit]", &size)
                .append_pair("page[size]", &size)
                .append_pair(name, &value);
            Ok::<Url, CarrierError>(url)
        };
        let (mut seen, mut views, mut url) = (HashSet::new(), Vec::new(), page_url(&Next::Number(1))?);
        let mut rows = 0;
        for number in (1..).take(self.limits.max_pages) {
            let page: Option<ActivePage> = self.get(url).await?;
            let page = page.ok_or_else(|| CarrierError::Unreadable { why: "HTTP 404 for a list".into() })?;
            for active in page.data {
                rows += 1;
                if seen.insert(active.call_control_id.clone()) {
                    views.push(alive(active));
                }
            }
            match next_page(&page.meta, number, rows)? {
                None => return Ok(views),
                Some(next) => url = page_url(&next)?,
            }
        }
        Err(incomplete(&format!("it is longer than {} pages", self.limits.max_pages)))
    }

    pub(in crate::carriers) async fn hang_up(&self, call_id: &str, how: How) -> Result<HangUp, CarrierError> {
        if how == How::CancelQueued {
            let answered = Some(CallState::Answered);
            if self.fetch(call_id, None).await?.is_some_and(|view| view.state == answered) {
                return Ok(HangUp::Done);
            }
        }
        self.command(call_id, "hangup", &json!({})).await
    }

    pub(in crate::carriers) async fn say(
        &self,
        call_id: &str,
        speech: &Speech,
        key: &str,
    ) -> Result<HangUp, CarrierError> {
        self.command(call_id, "speak", &spoken(speech, key)).await
    }

    /// Says the message for machines in place of whatever is being said. Its own state comes back with the word of its end.
    pub(in crate::carriers) async fn leave(
        &self,
        call_id: &str,
        speech: &Speech,
        key: &str,
        mark: &str,
    ) -> Result<HangUp, CarrierError> {
        let mut body = spoken(speech, key);
        body["stop"] = json!("all");
        body["client_state"] = json!(leaving(mark));
        self.command(call_id, "speak", &body).await
    }

    /// Source: Telnyx, "Delete a call recording".
    pub(in crate::carriers) async fn delete_recording(&self, id: &str) -> Result<(), CarrierError> {
        if uuid::Uuid::parse_str(id).is_err() {
            return Err(CarrierError::NotACallId);
        }
        match self.delete(self.url(&["recordings", id])?).await {
            Err(CarrierError::Refused { http: 404, .. }) => Ok(()),
            done => done,
        }
    }

    /// A command on a call; that the call is over is an answer, too.
    pub(super) async fn command(&self, call_id: &str, command: &str, body: &Value) -> Result<HangUp, CarrierError> {
        if !is_call_id(call_id) {
            return Err(CarrierError::NotACallId);
        }
        match self.post(self.url(&["calls", call_id, "actions", command])?, body).await {
            Ok(()) => Ok(HangUp::Done),
            Err(CarrierError::Refused { http: 404, .. }) => Ok(HangUp::NotFound),
            Err(CarrierError::Refused { code, .. }) if codes::meaning(code) == Some(Meaning::AlreadyEnded) => {
                Ok(HangUp::AlreadyEnded)
            }
            // Its own word that somebody answered was ahead of it.
            Err(CarrierError::Refused { code: codes::NOT_ANSWERED_YET | codes::STILL_PROCESSING, .. }) => {
                Err(CarrierError::Busy { retry_after: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Every call event that fits, all pages.
    async fn events(&self, fields: &[(&str, &str)]) -> Result<Vec<Event>, CarrierError> {
        let mut rows = Vec::new();
        for number in 1..=self.limits.max_pages {
            let mut url = self.url(&["call_events"])?;
            url.query_pairs_mut()
                .extend_pairs(fields)
                .append_pair("page[number]", &number.to_string())
                .append_pair("page[size]", &self.page_size());
            let page: Option<EventPage> = self.get(url).await?;
            let page = page.ok_or_else(|| CarrierError::Unreadable { why: "HTTP 404 for a list".into() })?;
            let got = page.data.len();
            rows.extend(page.data);
            if page.meta.is_last(number, got, rows.len()) {
                return Ok(rows);
            }
        }
        Err(incomplete(&format!("it is longer than {} pages", self.limits.max_pages)))
    }

    pub(super) fn page_size(&self) -> String {
        self.limits.page_size.min(MAX_PAGE).to_string()
    }
}

/// The body of a `speak`. Source: Telnyx, "Speak text".
pub(super) fn spoken(speech: &Speech, key: &str) -> Value {
    let text: String = speech.text.chars().take(MAX_SPOKEN).collect();
    let voice = speech.voice.as_deref().unwrap_or(DEFAULT_VOICE);
    let mut body = json!({ "payload": text, "payload_type": "text", "voice": voice, "command_id": key });
    if let Some(language) = spoken_language(&speech.language) {
        body["language"] = json!(language);
    }
    body
}

/// The language of Telnyx's for a BCP 47 tag; `None` where there is none: then the voice's own is spoken.
fn spoken_language(tag: &str) -> Option<&'static str> {
    let primary = |tag: &str| tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
    let exact = LANGUAGES.iter().find(|known| known.eq_ignore_ascii_case(tag));
    exact.or_else(|| LANGUAGES.iter().find(|known| primary(known) == primary(tag))).copied()
}

pub(super) fn incomplete(why: &str) -> CarrierError {
    CarrierError::Incomplete { why: why.to_owned() }
}

/// The first moment of a UTC day and of the next.
fn bounds(day: NaiveDate) -> (String, String) {
    let midnight = |day: NaiveDate| format!("{day}T00:00:00Z");
    (midnight(day), midnight(day + TimeDelta::days(1)))
}

/// A call that lives, and nothing else is said of it.
fn alive(active: Active) -> CallView {
    let marks = mark(active.client_state.as_deref()).into_iter().collect();
    CallView { marks: Some(marks), raw_status: "active".to_owned(), ..named(active.call_control_id) }
}

/// A call whose events are not shown (yet). That it is over is no end: only its event says which.
fn bare(call_id: &str, status: &Status) -> CallView {
    let word = if status.is_alive { "active" } else { "not active" };
    CallView {
        created_at: status.start_time,
        started_at: status.start_time,
        ended_at: status.end_time,
        marks: Some(mark(status.client_state.as_deref()).into_iter().collect()),
        raw_status: word.to_owned(),
        ..named(call_id.to_owned())
    }
}

fn named(call_id: String) -> CallView {
    CallView {
        call_id,
        state: None,
        to: None,
        from: None,
        direction_outbound_api: true,
        created_at: None,
        started_at: None,
        ended_at: None,
        duration_secs: None,
        answered_by: None,
        price: None,
        currency: None,
        marks: None,
        speech_over: false,
        greeting_over: false,
        message_left: false,
        raw_status: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_that_telnyx_does_not_speak_is_its_nearest_or_left_out() {
        for (tag, spoken) in
            [("en-GB", Some("en-GB")), ("en-nz", Some("en-US")), ("DE", Some("de-DE")), ("eo", None), ("", None)]
        {
            assert_eq!(spoken_language(tag), spoken, "{tag}");
        }
    }

    #[test]
    fn a_list_of_cursors_ends_where_none_is_given_and_not_before_all_its_rows_were_read() {
        let next = |meta: Value| next_page(&meta, 1, 7).map(|next| next.is_some());
        assert!(matches!(next(json!({ "total_pages": 2 })), Ok(true)));
        assert!(matches!(next(json!({ "total_pages": 1 })), Ok(false)));
        assert!(matches!(next(json!({ "next": null })), Ok(false)));
        assert!(matches!(next(json!({ "next": "/x", "cursors": { "after": "c" } })), Ok(true)));
        assert!(matches!(next(json!({ "cursors": { "after": "c" } })), Ok(true)));
        for meta in [json!({}), json!({ "total_items": 7 }), json!({ "cursors": { "after": null, "before": "c" } })] {
            assert!(matches!(next(meta.clone()), Ok(false)), "{meta}");
        }
        for meta in [json!(null), json!({ "next": "/x" }), json!({ "total_items": 8 })] {
            assert!(next(meta.clone()).is_err(), "{meta}");
        }
    }
}
