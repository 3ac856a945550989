//! Kill points: a replica dies, or freezes for longer than every grace, at one line of the protocol, again and again.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rollcall::{
    killpoints::Point,
    sim::{CallbackFault, CreateFault, Rule},
};
use tokio::time::Instant;

use crate::{
    client::number,
    plan::{Act, BEYOND_GRACE, Plan, Times},
    proxy::{Cut, Weather},
    site::Who,
    trial::{Outcome, Trial},
};

/// Every point, in the order of the protocol.
pub(crate) const POINTS: [Point; 12] = [
    Point::K1,
    Point::K2,
    Point::K3,
    Point::K4,
    Point::K5,
    Point::K6,
    Point::K7,
    Point::K8,
    Point::K9,
    Point::K10,
    Point::K11,
    Point::K12,
];
/// A replica that has not come to its point by then is not waited for.
const COMES: Duration = Duration::from_secs(20);
/// Numbers of a small run that gives the replica something to pass its point with.
const BAIT: usize = 8;

/// What happens at the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Abort,
    Freeze,
}

impl How {
    fn word(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Freeze => "freeze",
        }
    }
}

/// The trial of one point.
pub(crate) fn plan(point: Point, how: How, seed: u64) -> Plan {
    let name = format!("{point:?}:{}", how.word());
    let mut plan = Plan::quiet(&name, "dies or freezes at one line, again and again", seed, 1, Times::Scaled);
    plan.load.jobs = BAIT;
    plan.may_be_late = how == How::Freeze;
    if point == Point::K12 {
        // Whoever looks first rebuilds the gate: nobody else may.
        plan.terms.workers = 1;
    }
    plan
}

fn doomed(point: Point) -> Vec<Who> {
    match point {
        Point::K7 | Point::K8 | Point::K9 | Point::K10 => vec![Who::Api(0)],
        Point::K12 => vec![Who::Worker(0)],
        _ => vec![Who::Worker(0), Who::Worker(1)],
    }
}

/// Lets replicas die or freeze there so many times. Returns how often they did, and the verdict.
pub(crate) async fn run(plan: &Plan, (point, how): (Point, How), times: usize) -> anyhow::Result<(usize, Outcome)> {
    let mut trial = Trial::open(plan).await?;
    let under_way = trial.begin().await?;
    let mut random = StdRng::seed_from_u64(plan.terms.seed);
    if point == Point::K11 {
        let lost =
            vec![Rule::share(CreateFault::ResetBeforeAccept, 0.2), Rule::share(CreateFault::ResetAfterAccept, 0.2)];
        trial.act(&Act::Creates(lost)).await?;
        trial.act(&Act::Callbacks(vec![Rule::share(CallbackFault::Lost, 0.5)])).await?;
    }
    let who = doomed(point);
    let (mut reached, mut round) = (0, 0);
    while reached < times && round < 2 * times {
        let at_once = who.len().min(times - reached);
        for one in &who[..at_once] {
            let nth = if matches!(point, Point::K10 | Point::K12) { 1 } else { random.random_range(1..=4) };
            trial.site.equip(*one, vec![("KILLPOINT", format!("{point:?}:{}:{nth}", how.word()))]);
            trial.site.kill(*one)?;
        }
        // Whatever it starts next is a sound one.
        who.iter().for_each(|one| trial.site.equip(*one, Vec::new()));
        if matches!(who[0], Who::Api(_)) {
            trial.lead_to_all(who[0]).await;
        }
        trial.bait(point, round).await?;
        for one in &who[..at_once] {
            reached += usize::from(trial.comes_to(*one, how).await?);
        }
        if how == How::Freeze {
            let long = if matches!(who[0], Who::Api(_)) { 2.0 } else { BEYOND_GRACE };
            trial.tend_until(Instant::now() + Duration::from_secs_f64(long)).await?;
            who.iter().try_for_each(|one| trial.site.signal(one.name(), Signal::SIGCONT))?;
        }
        trial.site.tend()?;
        round += 1;
    }
    // Ends at a killpoint are no ends by themselves.
    trial.site.ended_alone.clear();
    let outcome = trial.finish(under_way).await?;
    Ok((reached, outcome))
}

impl Trial {
    /// Makes carrier and client connect anew: what they kept open leads to the other api only.
    async fn lead_to_all(&mut self, who: Who) {
        // One that has come to its point already is there.
        drop(self.site.until_ready(who).await);
        self.site.door.set(Weather { cut: Cut::Closed, ..Weather::default() });
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(50)).await;
        self.site.door.set(Weather::default());
    }

    /// Gives the doomed ones something to do.
    async fn bait(&mut self, point: Point, round: usize) -> anyhow::Result<()> {
        if point == Point::K12 {
            // The doomed worker must be there, or the next one rebuilds in its place.
            self.act(&Act::RedisFlush).await?;
        }
        for tenant in 0..self.tenants.len() {
            let from = 500_000 + tenant * 1_000_000 + round * BAIT;
            let numbers = (from..from + BAIT).map(number).collect();
            let (client, tenants) = (self.client.clone(), self.tenants.clone());
            // The key of a request whose api died is free again after a minute, and one may meet several that die.
            let until = Instant::now() + Duration::from_secs(400);
            self.baits.spawn(async move { client.run(&tenants, tenant, numbers, until).await.map(drop) });
        }
        Ok(())
    }

    /// Waits until a replica has come to its killpoint; true where it did.
    pub(crate) async fn comes_to(&mut self, who: Who, how: How) -> anyhow::Result<bool> {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while begun.elapsed() < COMES {
            let there = match how {
                How::Abort => !self.site.stores.children().runs(who.name())?,
                How::Freeze => self.site.is_stopped(who)?,
            };
            if there {
                return Ok(true);
            }
            ticks.tick().await;
        }
        Ok(false)
    }
}
