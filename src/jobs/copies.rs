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

/// Copies leads in their order; what is suppressed by now is left out, and so is what was erased, dialed or not. Returns how many were copied and how many left out.
///
/// # Errors
/// Where Postgres cannot store them.
pub async fn copy(
    tx: &mut PgTransaction<'_>,
    business: BusinessId,
    (from, to): (RunId, RunId),
    leads: Leads,
) -> sqlx::Result<(i64, i64)> {
    if leads == Leads::None {
        return Ok((0, 0));
    }
    let [states, reasons] =
        [leads.states(), leads.reasons()].map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let counts = sqlx::query!(
        r#"WITH given AS (
               SELECT *, is_suppressed($1, to_number) AS suppressed, row_number() OVER (ORDER BY job_id) AS place
               FROM job WHERE business_id = $1 AND run_id = $2 AND NOT is_erased(to_number)
                   AND (state::text = ANY ($4) OR (state IN ('skipped', 'failed') AND reason::text = ANY ($5)))
           ), copied AS (
               INSERT INTO job (job_id, run_id, business_id, line, to_number, external_id, variables, time_zone, time_zones, zone_set, priority,
                                not_before, not_after)
               SELECT id_in_order(place), $3, business_id, line, to_number, external_id, variables, time_zone, time_zones, zone_set, priority,
                      not_before, not_after
               FROM given WHERE NOT suppressed ORDER BY place RETURNING job_id
           )
           SELECT (SELECT count(*) FROM copied) AS "copied!", (SELECT count(*) FROM given WHERE suppressed) AS "suppressed!""#,
        business as BusinessId,
        from as RunId,
        to as RunId,
        &states,
        &reasons
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok((counts.copied, counts.suppressed))
}
