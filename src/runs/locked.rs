//! A run held locked: the only way in which one is started, paused, changed, cancelled or removed.

use sqlx::{PgTransaction, types::Json};

use super::{Action, LeadCounts, Machine, Message, Run, RunRules, RunState, store};
use crate::{
    error::{ApiError, FieldError},
    ids::{AgentId, BusinessId, RunId},
    policy::Window,
};

/// A run whose business and row this transaction holds locked: only such a run can be moved.
#[derive(Debug)]
pub struct Locked {
    /// The run.
    pub run: RunId,
    /// Its business.
    pub business: BusinessId,
    /// Its state, which nobody else changes before this transaction ends.
    pub state: RunState,
    /// Its message.
    pub message: Option<Message>,
    /// Its agent.
    pub agent: Option<AgentId>,
    /// What it does when a machine answers.
    pub machine: Machine,
    /// When its calls may ring.
    pub window: Option<Window>,
    /// True where it was put away: then it is not moved any more, but may be removed where it is a draft.
    pub archived: bool,
    /// Variables that every accepted lead has; `None` before the first lead.
    pub lead_variables: Option<Vec<String>>,
}

/// Locks the business, then the run, as every claim, cancel and change of a limit does first. A person waits for it, and
/// perhaps for a step over a whole list behind it: the transaction may take longer than a claim.
///
/// # Errors
/// 404 where the business has no such run.
pub async fn lock(tx: &mut PgTransaction<'_>, business: BusinessId, run: RunId) -> Result<Locked, ApiError> {
    sqlx::query!(
        "SELECT set_config('lock_timeout', '5s', true) AS a, set_config('statement_timeout', '60s', true) AS b"
    )
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query!("SELECT 1 AS one FROM business WHERE business_id = $1 FOR NO KEY UPDATE", business as BusinessId)
        .fetch_optional(&mut **tx)
        .await?;
    let row = sqlx::query!(
        r#"SELECT state AS "state: RunState", message AS "message: Json<Message>", agent_id AS "agent: AgentId", lead_variables,
                  machine AS "machine: Json<Machine>", calling_window AS "window: Json<Window>", archived_at IS NOT NULL AS "archived!"
           FROM run WHERE business_id = $1 AND run_id = $2 FOR NO KEY UPDATE"#,
        business as BusinessId,
        run as RunId
    )
    .fetch_optional(&mut **tx)
    .await?;
    let row = row.ok_or_else(|| ApiError::not_found("run"))?;
    let message = row.message.map(|message| message.0);
    let machine = row.machine.map(|machine| machine.0).unwrap_or_default();
    Ok(Locked {
        run,
        business,
        state: row.state,
        message,
        agent: row.agent,
        machine,
        window: row.window.map(|window| window.0),
        archived: row.archived,
        lead_variables: row.lead_variables,
    })
}

impl Locked {
    /// Says no where the run's state does not allow `action`, or it was put away.
    ///
    /// # Errors
    /// 409 `run-state`.
    pub fn check(&self, action: Action) -> Result<(), ApiError> {
        if self.archived && action != Action::Delete {
            return Err(Run::refuse_archived(self.state));
        }
        if self.state.allows(action) { Ok(()) } else { Err(Run::refuse(self.state, action)) }
    }

    /// Moves the run as `action` says. `by` is who asked.
    ///
    /// # Errors
    /// 409 `run-state` where its state does not allow that.
    pub async fn act(&mut self, tx: &mut PgTransaction<'_>, action: Action, by: &str) -> Result<(), ApiError> {
        let Some(to) = self.state.after(action) else { return Err(Run::refuse(self.state, action)) };
        Ok(self.move_to(tx, to, by).await?)
    }

    /// Starts the run, or has it wait where its start time has not come; one that ended before it began is refused.
    ///
    /// # Errors
    /// 409 `run-state`; 422 where its end has come.
    pub async fn start(&mut self, tx: &mut PgTransaction<'_>, by: &str) -> Result<(), ApiError> {
        let Some(to) = self.state.after(Action::Start) else { return Err(Run::refuse(self.state, Action::Start)) };
        let times = sqlx::query!(
            r#"SELECT coalesce(start_at > wall_clock(), false) AS "later!", coalesce(end_at <= wall_clock(), false) AS "over!"
               FROM run WHERE run_id = $1"#,
            self.run as RunId
        )
        .fetch_one(&mut **tx)
        .await?;
        if times.over {
            let detail = "The run's end_at has passed. Change it first: PATCH /v1/runs/{id}.";
            return Err(ApiError::validation(vec![FieldError::new("/end_at", "passed", detail)]));
        }
        let waits = times.later && self.state == RunState::Draft;
        Ok(self.move_to(tx, if waits { RunState::Scheduled } else { to }, by).await?)
    }

    /// Gives the run other rules, from the next claim on. It counts as a change, as a move does.
    ///
    /// # Errors
    /// Where Postgres cannot answer.
    pub async fn change(&self, tx: &mut PgTransaction<'_>, rules: &RunRules) -> sqlx::Result<()> {
        store::write(tx, self.run, rules).await?;
        sqlx::query!("SELECT tally_changed($1) IS NULL AS told", self.run as RunId).fetch_one(&mut **tx).await?;
        Ok(())
    }

    /// Lets the calls in flight of a run that is being cancelled go on to their end.
    ///
    /// # Errors
    /// Where Postgres cannot answer.
    pub async fn finish_calls(&self, tx: &mut PgTransaction<'_>) -> sqlx::Result<()> {
        sqlx::query!("UPDATE run SET finish_calls = true WHERE run_id = $1", self.run as RunId)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// Keeps the version of its agent that the run starts with; none for a run with a message.
    ///
    /// # Errors
    /// Where Postgres cannot answer.
    pub async fn pin_agent(&self, tx: &mut PgTransaction<'_>, version: Option<i32>) -> sqlx::Result<()> {
        sqlx::query!("UPDATE run SET agent_version = $2 WHERE run_id = $1", self.run as RunId, version)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// Ends a run that is being cancelled and has no call in flight.
    ///
    /// # Errors
    /// Where Postgres cannot answer.
    pub async fn end_cancel(&mut self, tx: &mut PgTransaction<'_>) -> sqlx::Result<()> {
        self.move_to(tx, RunState::Cancelled, "").await
    }

    /// The one guarded update. It counts as a change, so that whoever watches the sequence sees it.
    async fn move_to(&mut self, tx: &mut PgTransaction<'_>, to: RunState, by: &str) -> sqlx::Result<()> {
        let told = sqlx::query!(
            "WITH moved AS (
                 UPDATE run SET state = $3,
                     started_at = CASE WHEN $3 = 'running' THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,
                     ended_at = CASE WHEN $3 = 'cancelled' THEN clock_timestamp() END,
                     guarded_from = CASE WHEN $3 = 'running' THEN clock_timestamp() ELSE guarded_from END,
                     pause_reason = CASE WHEN $3 = 'paused' THEN 'person' END,
                     paused_by = CASE WHEN $3 = 'paused' THEN $4 END,
                     paused_at = CASE WHEN $3 = 'paused' THEN clock_timestamp() END
                 WHERE run_id = $1 AND state = $2 RETURNING run_id
             )
             SELECT tally_changed(run_id) IS NULL AS told FROM moved",
            self.run as RunId,
            self.state.as_str(),
            to.as_str(),
            by,
        )
        .fetch_all(&mut **tx)
        .await?;
        // The lock makes anything else impossible; were it lost, the transaction ends here with nothing changed.
        if told.len() != 1 {
            return Err(sqlx::Error::RowNotFound);
        }
        self.state = to;
        Ok(())
    }

    /// Adds what an upload brought. `variables` are those that every lead of the upload has, `None` if none was accepted.
    ///
    /// # Errors
    /// Where Postgres cannot answer.
    pub async fn add_leads(
        &self,
        tx: &mut PgTransaction<'_>,
        counts: &LeadCounts,
        variables: Option<&[String]>,
    ) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE run SET rows = rows + $2, accepted = accepted + $3, duplicates = duplicates + $4,
                 suppressed = suppressed + $5, rejected = rejected + $6,
                 lead_variables = CASE WHEN $7::text[] IS NULL OR lead_variables IS NULL
                     THEN coalesce($7, lead_variables)
                     ELSE ARRAY (SELECT unnest(lead_variables) INTERSECT SELECT unnest($7) ORDER BY 1) END
             WHERE run_id = $1",
            self.run as RunId,
            counts.rows,
            counts.accepted,
            counts.duplicates,
            counts.suppressed,
            counts.rejected,
            variables
        )
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// Removes the run, its imports and its rejected rows. Its jobs and tally are removed by the caller.
    ///
    /// # Errors
    /// Where Postgres cannot answer.
    pub async fn delete(self, tx: &mut PgTransaction<'_>) -> sqlx::Result<()> {
        sqlx::query!("DELETE FROM run WHERE run_id = $1", self.run as RunId).execute(&mut **tx).await?;
        Ok(())
    }
}
