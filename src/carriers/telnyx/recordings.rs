//! Recordings at Telnyx: which there are of a call, and their sound.
//!
//! Source: Telnyx, "List all call recordings" and "Retrieve a call recording".

use reqwest::Response;
use serde::Deserialize;
use url::Url;

use super::client::{REFUSALS, Telnyx};
use super::list::{PageMeta, incomplete};
use crate::carriers::call::Recording;
use crate::carriers::{CarrierError, http};

#[derive(Deserialize)]
struct One<T> {
    data: T,
}

/// A recording as `GET /recordings/{id}` shows it.
#[derive(Deserialize)]
struct Saved {
    download_urls: Downloads,
}

#[derive(Deserialize)]
struct Downloads {
    mp3: Option<String>,
}

/// One page of a list of recordings.
#[derive(Deserialize)]
struct Page {
    data: Vec<Row>,
    #[serde(default)]
    meta: PageMeta,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    call_control_id: Option<String>,
    status: Option<String>,
    channels: Option<String>,
    duration_millis: Option<u64>,
}

impl Row {
    fn recording(self) -> Recording {
        Recording {
            id: self.id,
            duration_secs: self.duration_millis.and_then(|ms| u32::try_from(ms / 1_000).ok()),
            channels: match self.channels.as_deref() {
                Some("single") => Some(1),
                Some("dual") => Some(2),
                _ => None,
            },
        }
    }
}

impl Telnyx<'_> {
    /// There is no filter for our name of a call: those of the number are looked through.
    pub(in crate::carriers) async fn recordings_of(
        &self,
        call_id: &str,
        to: &str,
    ) -> Result<Vec<Recording>, CarrierError> {
        let (mut found, mut rows) = (Vec::new(), 0);
        for number in 1..=self.limits.max_pages {
            let mut url = self.url(&["recordings"])?;
            url.query_pairs_mut()
                .append_pair("filter[connection_id]", &self.account.reference)
                .append_pair("filter[to]", to)
                .append_pair("page[number]", &number.to_string())
                .append_pair("page[size]", &self.page_size());
            let page: Option<Page> = self.get(url).await?;
            let page = page.ok_or_else(|| CarrierError::Unreadable { why: "HTTP 404 for a list".into() })?;
            let got = page.data.len();
            rows += got;
            let ours = page.data.into_iter().filter(|row| {
                let ready = row.status.as_deref().is_none_or(|status| status == "completed");
                ready && row.call_control_id.as_deref() == Some(call_id) && uuid::Uuid::parse_str(&row.id).is_ok()
            });
            found.extend(ours.map(Row::recording));
            if page.meta.is_last(number, got, rows) {
                return Ok(found);
            }
        }
        Err(incomplete(&format!("it is longer than {} pages", self.limits.max_pages)))
    }

    /// The recording's own resource says where its sound is, for ten minutes; there the key is not sent.
    pub(in crate::carriers) async fn recording(&self, id: &str) -> Result<Option<Response>, CarrierError> {
        if uuid::Uuid::parse_str(id).is_err() {
            return Err(CarrierError::NotACallId);
        }
        let recording: Option<One<Saved>> = self.get(self.url(&["recordings", id])?).await?;
        let Some(url) = recording.and_then(|recording| recording.data.download_urls.mp3) else { return Ok(None) };
        let unreadable = || CarrierError::Unreadable { why: "its download address is none".into() };
        let url: Url = url.parse().map_err(|_| unreadable())?;
        if url.scheme() != "https" && url.origin() != self.account.base_url.origin() {
            return Err(unreadable());
        }
        http::download(self.http.get(url), self.limits, REFUSALS).await
    }
}
