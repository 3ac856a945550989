//! The list of a run, copied into another.

use serde::{Deserialize, Serialize};
use sqlx::PgTransaction;

use crate::ids::{BusinessId, RunId};

/// Which leads a copy of a run has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Leads {
    /// None.
    #[default]
    None,
    /// Every number that was accepted.
    All,
    /// Those that nobody reached: unreached, cancelled, still waiting, or ended by a time or a limit of the run before they were dialed.
    Unreached,
}

impl Leads {
    /// All that are in one of these states.
    fn states(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::All => &["queued", "waiting", "dialing", "completed", "unreached", "failed", "skipped", "cancelled"],
            Self::Unreached => &["queued", "waiting", "unreached", "cancelled"],
        }
    }

    /// And those that ended for one of these reasons. A number that is suppressed, or that is none, is never reached.
    fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::None | Self::All => &[],
            Self::Unreached => &["run_ended", "window_ended", "expired", "attempt_cap", "not_placed"],
        }
    }
}

/// What became of the leads that were to be copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct Copied {
    /// How many there are now.
    pub copied: i64,
    /// How many were left out because they are suppressed.
    pub suppressed: i64,
    /// How many were left out because the business called them lately.
    pub called: i64,
}

/// Copies leads in their order; what is suppressed by now is left out, what was erased, dialed or not, and what the business dialed
/// within `called_within_days` days. Who was not reached is to be dialed again: there the calls of the runs that did not reach them
/// are none of those.
///
/// # Errors
/// Where Postgres cannot store them.
pub async fn copy(
    tx: &mut PgTransaction<'_>,
    business: BusinessId,
    (from, to): (RunId, RunId),
    leads: Leads,
    called_within_days: Option<i16>,
) -> sqlx::Result<Copied> {
    if leads == Leads::None {
        return Ok(Copied::default());
    }
    let [states, reasons] =
        [leads.states(), leads.reasons()].map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    sqlx::query_as!(
        Copied,
        r#"WITH given AS (
               SELECT *, is_suppressed($1, to_number) AS suppressed, row_number() OVER (ORDER BY job_id) AS place,
                   CASE WHEN $6::smallint IS NOT NULL THEN called_lately($1, to_number, (SELECT again_of FROM run WHERE run_id = $3), $6)
                        ELSE false END AS called
               FROM job WHERE business_id = $1 AND run_id = $2 AND NOT is_erased(to_number)
                   AND (state::text = ANY ($4) OR (state IN ('skipped', 'failed') AND reason::text = ANY ($5)))
           ), copied AS (
               INSERT INTO job (job_id, run_id, business_id, line, to_number, external_id, variables, time_zone, time_zones, zone_set, priority,
                                not_before, not_after)
               SELECT id_in_order(place), $3, business_id, line, to_number, external_id, variables, time_zone, time_zones, zone_set, priority,
                      not_before, not_after
               FROM given WHERE NOT suppressed AND NOT called ORDER BY place RETURNING job_id
           )
           SELECT (SELECT count(*) FROM copied) AS "copied!", (SELECT count(*) FROM given WHERE suppressed) AS "suppressed!",
                  (SELECT count(*) FROM given WHERE called AND NOT suppressed) AS "called!""#,
        business as BusinessId,
        from as RunId,
        to as RunId,
        &states,
        &reasons,
        called_within_days
    )
    .fetch_one(&mut **tx)
    .await
}
