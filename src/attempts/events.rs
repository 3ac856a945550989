//! What the carrier says of calls, applied to the ledger: any number of events in one round trip and one transaction.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::{
    attempts::{
        ledger::{Change, Row, Said, told},
        state::{AttemptState, Disposition, Source},
    },
    ids::{AttemptId, BusinessId},
};

/// Something that the carrier said of a call, whoever asked.
#[derive(Debug, Clone)]
pub struct Event {
    /// Whose call.
    pub business: BusinessId,
    /// Which one.
    pub attempt: AttemptId,
    source: Source,
    /// What it is to become, if that is further than it is.
    pub state: AttemptState,
    disposition: Option<Disposition>,
    call_id: Option<String>,
    duration_secs: Option<i32>,
    answered_by: Option<String>,
    carrier_status: Option<String>,
    carrier_code: Option<i32>,
    sip_code: Option<i32>,
    price: Option<(String, String)>,
    sent_ms_ago: Option<i32>,
    fence_ms: Option<i32>,
    at: Option<DateTime<Utc>>,
}

/// What became of an event.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The attempt after it; `None` where there is no such attempt.
    pub change: Option<Change>,
    /// What the call may hear, where the event asked; `None` where it must hear nothing.
    pub answer: Option<Answer>,
    /// True where nothing was done, because somebody else had the attempt: the event is to be applied again. Never where it was alone.
    pub again: bool,
}

impl Event {
    /// An event that moves an attempt to `state`, with what was said.
    #[must_use]
    pub fn new(
        (business, attempt): (BusinessId, AttemptId),
        source: Source,
        (state, disposition): (AttemptState, Option<Disposition>),
        said: &Said<'_>,
    ) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            business,
            attempt,
            source,
            state,
            disposition,
            call_id: owned(said.call_id),
            duration_secs: said.duration_secs,
            answered_by: owned(said.answered_by),
            carrier_status: owned(said.carrier_status),
            carrier_code: said.carrier_code,
            sip_code: said.sip_code,
            price: said.price.map(|(amount, currency)| (amount.to_owned(), currency.to_owned())),
            sent_ms_ago: said.sent_ms_ago,
            fence_ms: None,
            at: said.at,
        }
    }

    /// A call was answered and asks what it may hear; so long after its ringing should have ended it is too late to speak, ms.
    #[must_use]
    pub fn asks(mut self, fence_ms: i32) -> Self {
        self.fence_ms = Some(fence_ms);
        self
    }

    /// True where a carrier took the call, as its answer to the dial says, and nothing more is said.
    fn is_placing(&self) -> bool {
        let Self { source, state, call_id, sent_ms_ago, answered_by, price, .. } = self;
        (*source, *state) == (Source::Response, AttemptState::Placed)
            && (call_id.is_some() && sent_ms_ago.is_some() && answered_by.is_none() && price.is_none())
    }

    /// What a closing by it is counted as.
    fn word(&self) -> &'static str {
        self.disposition.map_or(self.state.as_str(), Disposition::as_str)
    }
}

/// Moves an attempt to `state` if that is further than it is. `None` where there is no such attempt.
///
/// # Errors
/// Where Postgres does not answer: nothing is known then, and the same call may be made again.
pub async fn apply(
    pg: &PgPool,
    key: (BusinessId, AttemptId),
    source: Source,
    moved: (AttemptState, Option<Disposition>),
    said: &Said<'_>,
) -> sqlx::Result<Option<Change>> {
    let mut outcomes = apply_all(pg, &[Event::new(key, source, moved, said)]).await?;
    Ok(outcomes.pop().and_then(|outcome| outcome.change))
}

/// Applies events, sorted by their attempts and one for each, in one transaction; one outcome for each. Its commit does not wait
/// for the disk: every later commit that does takes it along.
///
/// # Errors
/// Where Postgres does not answer: nothing is known then, and the same may be applied again.
pub async fn apply_all(pg: impl PgExecutor<'_>, events: &[Event]) -> sqlx::Result<Vec<Outcome>> {
    if !events.is_empty() && events.iter().all(Event::is_placing) {
        return place_all(pg, events).await;
    }
    let texts = |read: fn(&Event) -> Option<&str>| events.iter().map(read).collect::<Vec<_>>();
    let rows = sqlx::query!(
        r#"SELECT verdict AS "verdict!", closed, run_ended, business_id, run_id, job_id, account, carrier_call_id, hangup_wanted,
                  speak, message, variables
           FROM apply_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"#,
        &events.iter().map(|e| e.business.0).collect::<Vec<_>>(),
        &events.iter().map(|e| e.attempt.0).collect::<Vec<_>>(),
        &texts(|e| Some(e.source.as_str())) as &[Option<&str>],
        &texts(|e| e.call_id.as_deref()) as &[Option<&str>],
        &texts(|e| Some(e.state.as_str())) as &[Option<&str>],
        &texts(|e| e.disposition.map(Disposition::as_str)) as &[Option<&str>],
        &events.iter().map(|e| e.duration_secs).collect::<Vec<_>>() as &[Option<i32>],
        &texts(|e| e.answered_by.as_deref()) as &[Option<&str>],
        &texts(|e| e.carrier_status.as_deref()) as &[Option<&str>],
        &events.iter().map(|e| e.carrier_code).collect::<Vec<_>>() as &[Option<i32>],
        &events.iter().map(|e| e.sip_code).collect::<Vec<_>>() as &[Option<i32>],
        &texts(|e| e.price.as_ref().map(|price| price.0.as_str())) as &[Option<&str>],
        &texts(|e| e.price.as_ref().map(|price| price.1.as_str())) as &[Option<&str>],
        &events.iter().map(|e| e.sent_ms_ago).collect::<Vec<_>>() as &[Option<i32>],
        &events.iter().map(|e| e.fence_ms).collect::<Vec<_>>() as &[Option<i32>],
        &events.iter().map(|e| e.at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
    )
    .fetch_all(pg)
    .await?;
    let outcomes = rows.into_iter().zip(events).map(|(row, event)| {
        let variables = match row.variables {
            Some(Value::Object(variables)) => variables,
            _ => Map::new(),
        };
        let answer = row.speak.unwrap_or(false).then_some(Answer { message: row.message, variables });
        let row = Row {
            verdict: row.verdict,
            closed: row.closed,
            run_ended: row.run_ended,
            business_id: row.business_id,
            run_id: row.run_id,
            job_id: row.job_id,
            account: row.account,
            carrier_call_id: row.carrier_call_id,
            hangup_wanted: row.hangup_wanted,
        };
        Outcome { again: row.is_again(), change: told(event.attempt, row.change(), event.word()), answer }
    });
    Ok(outcomes.collect())
}

/// The same for answers of carriers that took calls, and nothing else: a statement with less to it.
async fn place_all(pg: impl PgExecutor<'_>, events: &[Event]) -> sqlx::Result<Vec<Outcome>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT verdict AS "verdict!", closed, run_ended, business_id, run_id, job_id, account, carrier_call_id, hangup_wanted
           FROM place_attempts($1, $2, $3, $4, $5, $6)"#,
        &events.iter().map(|e| e.business.0).collect::<Vec<_>>(),
        &events.iter().map(|e| e.attempt.0).collect::<Vec<_>>(),
        Source::Response.as_str(),
        &events.iter().map(|e| e.call_id.as_deref()).collect::<Vec<_>>() as &[Option<&str>],
        &events.iter().map(|e| e.carrier_status.as_deref()).collect::<Vec<_>>() as &[Option<&str>],
        &events.iter().map(|e| e.sent_ms_ago).collect::<Vec<_>>() as &[Option<i32>],
    )
    .fetch_all(pg)
    .await?;
    let outcome = |(row, event): (Row, &Event)| Outcome {
        again: row.is_again(),
        change: told(event.attempt, row.change(), event.word()),
        answer: None,
    };
    Ok(rows.into_iter().zip(events).map(outcome).collect())
}

/// Has Postgres make the plans of what writes events.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn plan(db: &mut PgConnection) -> sqlx::Result<()> {
    place_all(&mut *db, &[]).await?;
    apply_all(db, &[]).await?;
    Ok(())
}

/// What an answered call may hear.
#[derive(Debug, Clone)]
pub struct Answer {
    /// `{text, language, voice}` with its variables not filled in; nothing where there is no message.
    pub message: Option<Value>,
    /// The callee's variables.
    pub variables: Map<String, Value>,
}
