//! Asking Twilio about calls, and ending them.
//!
//! Source: Twilio, Call resource ("Fetch", "Read multiple", "Update") and Call Event resource.

use std::collections::HashSet;

use chrono::NaiveDate;
use serde::de::DeserializeOwned;
use url::Url;

use super::client::Twilio;
use super::codes::{self, Meaning};
use super::resource::{Call, Page, RecordingRow, RequestEvent};
use super::{is_call_id, twiml};
use crate::carriers::CarrierError;
use crate::carriers::call::{CallView, HangUp, How, ListFilter, LiveState, Recording};

impl Twilio<'_> {
    pub(in crate::carriers) async fn fetch(&self, call_id: &str) -> Result<Option<CallView>, CarrierError> {
        let call: Option<Call> = self.get(self.call_url(call_id, ".json")?).await?;
        match call {
            Some(Call(view)) if view.call_id != call_id => {
                Err(CarrierError::Unreadable { why: "another call than the one that was asked for".into() })
            }
            call => Ok(call.map(|call| call.0)),
        }
    }

    pub(in crate::carriers) async fn list(&self, filter: &ListFilter) -> Result<Vec<CallView>, CarrierError> {
        let mut url = self.url(&["Calls.json"])?;
        url.query_pairs_mut()
            .extend_pairs(filter.to.iter().map(|to| ("To", to)))
            .extend_pairs(filter.from.iter().map(|from| ("From", from)))
            .extend_pairs(filter.status.map(|status| ("Status", status_word(status))))
            .extend_pairs(filter.day.into_iter().flat_map(started_on))
            .append_pair("PageSize", &self.limits.page_size.to_string());
        let pages: Option<Vec<Call>> = self.pages(url).await?;
        let calls = pages.ok_or_else(|| CarrierError::Unreadable { why: "HTTP 404 for a list".into() })?;
        // Pages may shift while they are read; a call that shows twice is still one.
        let mut seen = HashSet::new();
        Ok(calls.into_iter().map(|call| call.0).filter(|call| seen.insert(call.call_id.clone())).collect())
    }

    /// A list cannot be asked for several states at once.
    pub(in crate::carriers) async fn live(&self, to: Option<&str>) -> Result<Vec<CallView>, CarrierError> {
        let mut listed: Vec<CallView> = Vec::new();
        for status in [LiveState::Queued, LiveState::Ringing, LiveState::Answered] {
            let filter = ListFilter { to: to.map(str::to_owned), status: Some(status), ..ListFilter::default() };
            // One that moves on meanwhile shows twice; the later list knows more.
            for view in self.list(&filter).await? {
                listed.retain(|known| known.call_id != view.call_id);
                listed.push(view);
            }
        }
        Ok(listed)
    }

    pub(in crate::carriers) async fn hang_up(&self, call_id: &str, how: How) -> Result<HangUp, CarrierError> {
        let status = match how {
            How::Complete => "completed",
            How::CancelQueued => "canceled",
        };
        self.update(call_id, &[("Status", status)]).await
    }

    /// Changes a live call. That it is over, or not shown, is an answer, too.
    async fn update(&self, call_id: &str, fields: &[(&str, &str)]) -> Result<HangUp, CarrierError> {
        match self.post(self.call_url(call_id, ".json")?, fields).await {
            Ok(()) => Ok(HangUp::Done),
            Err(CarrierError::Refused { http: 404, code: codes::NOT_FOUND, .. }) => Ok(HangUp::NotFound),
            Err(CarrierError::Refused { code, .. }) if codes::meaning(code) == Some(Meaning::AlreadyEnded) => {
                Ok(HangUp::AlreadyEnded)
            }
            Err(error) => Err(error),
        }
    }

    /// Has a live call ask `url` what comes next, in place of what is being said.
    pub(in crate::carriers) async fn ask_at(&self, call_id: &str, url: &str) -> Result<HangUp, CarrierError> {
        self.update(call_id, &[("Url", url), ("Method", "POST")]).await
    }

    /// Puts a live call through to `number`: it leaves its media stream for it.
    pub(in crate::carriers) async fn transfer(
        &self,
        call_id: &str,
        number: &str,
        caller_id: &str,
    ) -> Result<(), CarrierError> {
        let document = twiml::dial_and_hang_up(number, caller_id);
        self.post(self.call_url(call_id, ".json")?, &[("Twiml", &document)]).await
    }

    pub(in crate::carriers) async fn request_parameters(
        &self,
        call_id: &str,
    ) -> Result<Option<Vec<String>>, CarrierError> {
        let events: Option<Vec<RequestEvent>> = self.pages(self.call_url(call_id, "/Events.json")?).await?;
        Ok(events.map(|events| events.iter().flat_map(RequestEvent::callback_urls).collect()))
    }

    pub(in crate::carriers) async fn recordings_of(&self, call_id: &str) -> Result<Vec<Recording>, CarrierError> {
        let rows: Option<Vec<RecordingRow>> = self.pages(self.call_url(call_id, "/Recordings.json")?).await?;
        Ok(rows.unwrap_or_default().into_iter().filter_map(RecordingRow::ready).collect())
    }

    /// `…/Calls/{CallSid}{rest}`. The id is checked, so that it cannot lead elsewhere.
    fn call_url(&self, call_id: &str, rest: &str) -> Result<Url, CarrierError> {
        if !is_call_id(call_id) {
            return Err(CarrierError::NotACallId);
        }
        let path = format!("{call_id}{rest}");
        let mut segments = vec!["Calls"];
        segments.extend(path.split('/'));
        self.url(&segments)
    }

    /// The rows of all pages from `url` on, or `None` where Twilio has no such resource.
    async fn pages<T: DeserializeOwned>(&self, url: Url) -> Result<Option<Vec<T>>, CarrierError> {
        let mut rows = Vec::new();
        let mut next = url;
        for number in 1..=self.limits.max_pages {
            let page: Option<Page<T>> = self.get(next.clone()).await?;
            let Some(page) = page else {
                // Only the first page may be nowhere; a later one was promised.
                return if number == 1 { Ok(None) } else { Err(incomplete("a page is gone")) };
            };
            rows.extend(page.rows);
            match page.next_page_uri.filter(|uri| !uri.is_empty()) {
                None => return Ok(Some(rows)),
                Some(uri) => next = self.next_page(&uri)?,
            }
        }
        Err(incomplete(&format!("it is longer than {} pages", self.limits.max_pages)))
    }

    /// The next page, which must be where the first was: the secret goes with the request.
    fn next_page(&self, uri: &str) -> Result<Url, CarrierError> {
        let base = &self.account.base_url;
        match base.join(uri) {
            Ok(url) if url.origin() == base.origin() => Ok(url),
            Ok(_) => Err(incomplete("its next page is on another host")),
            Err(_) => Err(incomplete("its next page has no URL")),
        }
    }
}

fn incomplete(why: &str) -> CarrierError {
    CarrierError::Incomplete { why: why.to_owned() }
}

/// The filters for calls that started on a UTC day. Twilio's schema wants times and its words speak of days, so the bounds are
/// midnights, which are the same in both readings; where the upper one counts as a day, the day after comes along.
fn started_on(day: NaiveDate) -> [(&'static str, String); 2] {
    let midnight = |day: NaiveDate| format!("{day}T00:00:00Z");
    [("StartTime>", midnight(day)), ("StartTime<", midnight(day.succ_opt().unwrap_or(day)))]
}

fn status_word(status: LiveState) -> &'static str {
    match status {
        LiveState::Queued => "queued",
        LiveState::Ringing => "ringing",
        LiveState::Answered => "in-progress",
    }
}
