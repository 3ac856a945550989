//! What the rules of the claim say of a list, and what limits its calls together.

use std::{collections::HashMap, time::Duration};

use sqlx::PgTransaction;

use super::{HeldBack, ZoneTimes};
use crate::{
    clock::Time,
    dialing::windows,
    ids::{BusinessId, RunId},
    policy::Openings,
    runs::zones as sets_of_zones,
};

/// Jobs whose numbers may be in the same zones.
pub(super) struct Zone {
    pub(super) times: ZoneTimes,
    /// From any moment on.
    pub(super) openings: Openings,
    /// Its window is open.
    open: bool,
    /// Where its window does not open for the run as it is.
    pub(super) shut: Option<Shut>,
    /// Jobs that are in a call.
    dialing: i64,
    /// Jobs that may be dialed when the window is open.
    pub(super) free: i64,
    /// Jobs that are held for a time of their own.
    pub(super) held: Vec<Later>,
}

/// Jobs that may be dialed from some time on.
pub(super) struct Later {
    pub(super) jobs: i64,
    /// The first of them.
    pub(super) first: Time,
    /// The last of them.
    pub(super) last: Time,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut {
    /// It does not open before the run's end: its jobs are skipped.
    UntilTheEnd,
    /// It never opens, and the run has no end: its jobs wait for another window.
    ForNow,
}

impl Zone {
    /// Jobs that would be dialed, but for what limits all calls together.
    pub(super) fn able(&self) -> i64 {
        match self.shut {
            Some(_) => 0,
            None => self.waiting(),
        }
    }

    fn waiting(&self) -> i64 {
        self.free + self.held.iter().map(|held| held.jobs).sum::<i64>()
    }
}

/// Sums over the zones.
pub(super) struct Figures {
    pub(super) jobs: i64,
    pub(super) dialing: i64,
    /// Would be dialed, but for what limits all calls together.
    pub(super) able: i64,
    /// Of those: that are held for no time of their own.
    pub(super) free: i64,
    /// Of those: whose window is open now.
    pub(super) open: i64,
    ended: i64,
    asleep: i64,
}

impl Figures {
    pub(super) fn of(zones: &[Zone]) -> Self {
        let sum = |of: &dyn Fn(&Zone) -> i64| zones.iter().map(of).sum();
        let shut = |shut| sum(&|zone| if zone.shut == Some(shut) { zone.waiting() } else { 0 });
        Self {
            jobs: sum(&|zone| zone.times.jobs),
            dialing: sum(&|zone| zone.dialing),
            able: sum(&Zone::able),
            free: sum(&|zone| if zone.shut.is_none() { zone.free } else { 0 }),
            open: sum(&|zone| if zone.open { zone.free } else { 0 }),
            ended: shut(Shut::UntilTheEnd),
            asleep: shut(Shut::ForNow),
        }
    }

    /// Jobs that are shut in this way.
    pub(super) fn shut(&self, shut: Shut) -> i64 {
        match shut {
            Shut::UntilTheEnd => self.ended,
            Shut::ForNow => self.asleep,
        }
    }
}

/// The jobs of a run by their zones, those with the most first; and what is skipped or held for its number's sake, by rule.
pub(super) async fn zones(
    tx: &mut PgTransaction<'_>,
    business: BusinessId,
    run: RunId,
    until_rung: Duration,
    asked: i64,
) -> sqlx::Result<(Vec<Zone>, Vec<HeldBack>)> {
    let rows = sqlx::query!(
        r#"SELECT z.zone_set, z.zones, l.verdict, l.rule, l.n AS "n!", l.first_at AS "first: Time", l.last_at AS "last: Time",
                  CASE WHEN isfinite(z.opens_at) THEN z.opens_at END AS "opens_at: Time",
                  CASE WHEN isfinite(z.closes_at) THEN z.closes_at END AS "closes_at: Time", z.opens_at = 'infinity' AS "never!",
                  coalesce(z.opens_at >= r.end_at, false) AS "ended!",
                  z.opens_at <= wall_clock() AND z.closes_at > wall_clock() + make_interval(secs => r.ring_timeout_secs) AS "open!"
           FROM look_ahead($1, $2, $3, $4) l JOIN run r ON r.run_id = $2 JOIN run_zone z ON z.run_id = $2 AND z.zone_set = l.zone_set
           ORDER BY z.zone_set, l.rule"#,
        business as BusinessId,
        run as RunId,
        until_rung.as_secs_f64(),
        asked
    )
    .fetch_all(&mut **tx)
    .await?;
    let sets = sets_of_zones::of_run(&mut **tx, run, i64::MAX).await?;
    let mut openings: HashMap<_, _> =
        sets.iter().map(|one| (one.zone_set, windows::to_dial(one, until_rung))).collect();
    let mut zones: Vec<(i64, Zone)> = Vec::new();
    let mut told: HashMap<(String, String), HeldBack> = HashMap::new();
    for row in rows {
        if zones.last().is_none_or(|(set, _)| *set != row.zone_set) {
            let shut = if row.ended { Some(Shut::UntilTheEnd) } else { row.never.then_some(Shut::ForNow) };
            let (opens_at, closes_at) = (row.opens_at, row.closes_at);
            let times = ZoneTimes { zones: row.zones, jobs: 0, opens_at, closes_at, never: row.never };
            let Some(openings) = openings.remove(&row.zone_set) else { continue };
            zones.push((
                row.zone_set,
                Zone { times, openings, open: row.open, shut, dialing: 0, free: 0, held: Vec::new() },
            ));
        }
        let Some((_, zone)) = zones.last_mut() else { continue };
        zone.times.jobs += row.n;
        match row.verdict.as_deref() {
            None => zone.free += row.n,
            Some("dialing") => zone.dialing += row.n,
            Some("held") => match row.first.zip(row.last) {
                Some((first, last)) => zone.held.push(Later { jobs: row.n, first, last }),
                None => zone.free += row.n,
            },
            Some(_) => {}
        }
        // What a window shuts out besides is told as that.
        let of_number = row.verdict.as_deref() == Some("skipped") || zone.shut.is_none();
        if let Some((verdict, rule)) = row.verdict.zip(row.rule).filter(|_| of_number) {
            let key = (rule.clone(), verdict.clone());
            let all = told.entry(key).or_insert(HeldBack { rule, verdict, count: 0, next_at: None });
            all.count += row.n;
            if all.verdict == "held" {
                let first = row.first.and_then(|first| zone.openings.first(first.0)).map(Time);
                all.next_at = all.next_at.into_iter().chain(first).min();
            }
        }
    }
    let mut zones: Vec<Zone> = zones.into_iter().map(|(_, zone)| zone).collect();
    zones.sort_by(|one, other| (other.times.jobs, &one.times.zones).cmp(&(one.times.jobs, &other.times.zones)));
    Ok((zones, told.into_values().collect()))
}

/// What limits the calls of a run together, and how long they take.
pub(super) struct Limits {
    pub(super) at: Time,
    /// Before this nothing is dialed.
    pub(super) start_at: Option<Time>,
    /// From this on nothing is dialed.
    pub(super) end_at: Option<Time>,
    /// Calls at once, as slots, lines and numbers to call from allow.
    pub(super) slots: i64,
    /// Calls per second of the account that is dialed through; none where there is none.
    pub(super) calls_per_second: Option<f64>,
    /// An agent talks: there are no more calls at once than there is room for conversations.
    pub(super) talks: bool,
    pub(super) budget_left: Option<i64>,
    /// Numbers to call from that are switched on.
    pub(super) callers: i64,
    /// Calls that they may be taken for, until `next_day` and then in each day; none: as many as one likes.
    pub(super) left_today: Option<i64>,
    pub(super) per_day: Option<i64>,
    pub(super) next_day: Time,
    pub(super) secs_per_call: f64,
    pub(super) price: Option<f64>,
    pub(super) currency: Option<String>,
}

impl Limits {
    /// Seconds from one call to the next: as soon as there is room for it, and not before the account takes it. None where there is
    /// never room.
    pub(super) fn secs_each(&self) -> Option<f64> {
        let by_room = (self.slots > 0).then(|| self.secs_per_call / self.slots as f64)?;
        Some(self.calls_per_second.map_or(by_room, |pace| by_room.max(1.0 / pace)))
    }
}

/// The limits, and how long a call of the business takes and what it costs, by its last thousand.
pub(super) async fn limits(
    tx: &mut PgTransaction<'_>,
    business: BusinessId,
    run: RunId,
    ring_secs: i32,
) -> sqlx::Result<Limits> {
    sqlx::query_as!(
        Limits,
        r#"SELECT wall_clock() AS "at!: Time", CASE WHEN r.state IN ('draft', 'scheduled') THEN r.start_at END AS "start_at: Time",
                  r.end_at AS "end_at: Time", least(b.max_concurrent_calls, r.max_concurrent_calls, pool.at_once,
                        (SELECT max_lines FROM installation)) AS "slots!",
                  (SELECT a.calls_per_second FROM carrier_account a
                   WHERE a.business_id = b.business_id AND a.carrier = ANY (r.carriers) AND a.carrier = ANY (b.carriers)
                   ORDER BY array_position(r.carriers, a.carrier) LIMIT 1) AS calls_per_second, r.agent_id IS NOT NULL AS "talks!",
                  CASE WHEN r.budget IS NOT NULL THEN budget_left(r.run_id, r.budget) END AS budget_left,
                  pool.callers AS "callers!", pool.left_today, pool.per_day, pool.next_day AS "next_day!: Time",
                  coalesce(past.secs, $3)::float8 AS "secs_per_call!", past.price, past.currency
           FROM business b JOIN run r USING (business_id) CROSS JOIN LATERAL callers_now(b.business_id, r.run_id) pool
           CROSS JOIN LATERAL (
               SELECT avg(extract(epoch FROM ended_at - intent_at))::float8 AS secs, avg(abs(price))::float8 AS price, max(currency) AS currency
               FROM carrier_account c CROSS JOIN LATERAL (
                   -- Of each carrier the last: no index has all calls of a business by their time.
                   SELECT ended_at, intent_at, price, currency FROM attempt
                   WHERE account = c.reference AND carrier_call_id IS NOT NULL AND business_id = b.business_id AND state = 'ended'
                   ORDER BY intent_at DESC LIMIT 1000) a
               WHERE c.business_id = b.business_id) past
           WHERE b.business_id = $1 AND r.run_id = $2"#,
        business as BusinessId,
        run as RunId,
        f64::from(ring_secs)
    )
    .fetch_one(&mut **tx)
    .await
}
