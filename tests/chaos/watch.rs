//! What is read from Postgres while a trial runs: whether something could be dialed now, and what is final.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use uuid::Uuid;

use crate::client::now_ms;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// What is final is read at every so many looks.
const FINALS_EVERY: u32 = 5;
/// A store that does not answer by then does not answer.
const LIMIT: Duration = Duration::from_secs(1);

/// One look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at_ms: i64,
    /// Some business has a due job, a free line and a slot free by the ledger, and its account is not held back. Unknown
    /// where Postgres does not answer.
    pub(crate) dialable: Option<bool>,
}

/// What the looks saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) samples: Vec<Sample>,
    /// A final state that became another one.
    pub(crate) changed: Vec<String>,
    finals: HashMap<Uuid, String>,
}

/// Looks until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    looking: JoinHandle<()>,
}

impl Watch {
    pub(crate) fn start(pg: PgPool) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let looking = tokio::spawn(look(pg, Arc::clone(&seen)));
        Self { seen, looking }
    }

    /// Ends and gives what was seen.
    pub(crate) fn end(self) -> Seen {
        self.looking.abort();
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn look(pg: PgPool, seen: Arc<Mutex<Seen>>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0_u32.. {
        ticks.tick().await;
        let dialable = tokio::time::timeout(LIMIT, dialable(&pg)).await.ok().and_then(Result::ok);
        let finals = if n.is_multiple_of(FINALS_EVERY) {
            tokio::time::timeout(LIMIT, finals(&pg)).await.ok().and_then(Result::ok)
        } else {
            None
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.samples.push(Sample { at_ms: now_ms(), dialable });
        for (id, state) in finals.into_iter().flatten() {
            let before = seen.finals.insert(id, state.clone());
            if let Some(before) = before.filter(|before| *before != state) {
                seen.changed.push(format!("{id} was {before} and became {state}"));
            }
        }
        // One that was final and is not any more is not among those that were read: the end of the trial compares again.
    }
}

impl Seen {
    /// What was final once and is not now, or is something else.
    pub(crate) async fn compare(&mut self, pg: &PgPool) -> anyhow::Result<()> {
        let now: HashMap<Uuid, String> = finals(pg).await?.into_iter().collect();
        for (id, before) in &self.finals {
            match now.get(id) {
                Some(state) if state == before => {}
                Some(state) => self.changed.push(format!("{id} was {before} and is {state}")),
                None => self.changed.push(format!("{id} was {before} and is not final any more")),
            }
        }
        Ok(())
    }
}

async fn dialable(pg: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM business b JOIN carrier_account c USING (business_id)
               WHERE b.state = 'active' AND coalesce(c.hold_until, '-infinity') <= clock_timestamp()
                   AND (SELECT count(*) FROM attempt a WHERE a.open) < (SELECT max_lines FROM installation)
                   AND (SELECT count(*) FROM attempt a WHERE a.business_id = b.business_id AND a.open) < b.max_concurrent_calls
                   AND EXISTS (SELECT 1 FROM run r JOIN job j USING (run_id)
                               WHERE r.business_id = b.business_id AND r.state = 'running' AND j.state = 'queued'
                                   AND NOT EXISTS (SELECT 1 FROM suppression s
                                                   WHERE s.business_id = b.business_id AND s.number = j.to_number))) AS "may!""#
    )
    .fetch_one(pg)
    .await
}

async fn finals(pg: &PgPool) -> sqlx::Result<Vec<(Uuid, String)>> {
    let rows = sqlx::query!(
        r#"SELECT job_id AS "id!", concat_ws('/', state, disposition, reason) AS "state!" FROM job WHERE finished_at IS NOT NULL
           UNION ALL SELECT attempt_id, concat_ws('/', state, disposition, carrier_call_id) FROM attempt WHERE NOT open"#
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.state)).collect())
}
