//! The rows: one kind of fault each, with what must hold beside the promises.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rollcall::{
    ops::children::Stop,
    sim::{ApiFault, CallbackFault, CreateFault, Millis, Rule},
};

use crate::{
    figures::Figure,
    plan::{Act, BEYOND_GRACE, Plan, Road, Times},
    proxy::{Cut, Weather},
    site::{ALL, Who},
    soak,
};

/// A row: its name, its fault in words, and how a seed makes a plan of it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    what: &'static str,
    secs: u32,
    times: Times,
    fill: fn(&mut Plan, &mut StdRng),
}

impl Row {
    /// The plan of this seed.
    pub(crate) fn plan(&self, seed: u64) -> Plan {
        self.plan_of(seed, self.secs)
    }

    /// The same for so long: of a row whose faults go on.
    pub(crate) fn plan_for(&self, seed: u64, secs: Option<u32>) -> anyhow::Result<Plan> {
        match secs {
            None => Ok(self.plan(seed)),
            Some(secs) if self.name == SOAK => Ok(self.plan_of(seed, secs)),
            Some(_) => anyhow::bail!("{} lasts as long as its faults; only {SOAK} takes FOR", self.name),
        }
    }

    fn plan_of(&self, seed: u64, secs: u32) -> Plan {
        let mut plan = Plan::quiet(self.name, self.what, seed, secs, self.times);
        (self.fill)(&mut plan, &mut StdRng::seed_from_u64(seed));
        plan
    }
}

const fn row(name: &'static str, what: &'static str, secs: u32, fill: fn(&mut Plan, &mut StdRng)) -> Row {
    Row { name, what, secs, times: Times::Scaled, fill }
}

const fn real(name: &'static str, what: &'static str, secs: u32, fill: fn(&mut Plan, &mut StdRng)) -> Row {
    Row { name, what, secs, times: Times::Real, fill }
}

/// Every row, in the order of their numbers.
pub(crate) const ROWS: &[Row] = &[
    row("F1", "kill -9 of a random worker every 2 s", 20, kills_of_workers),
    row("F3", "kill -9 of a random api while runs are made and callbacks come", 20, kills_of_apis),
    row("F4", "rolling SIGTERM of all replicas", 25, rolling),
    row("F5", "SIGSTOP of a worker for longer than every grace", 25, freezes),
    row("F6", "SIGSTOP of Redis for 0.8, 3 and 12 s", 26, redis_freezes),
    row("F7", "Redis killed and started empty", 20, redis_empty),
    row("F8", "Redis flushed, and with the last second lost", 20, redis_forgets),
    real("F9", "Redis down for 20 s", 28, redis_down),
    row("F10", "Postgres restarted, fast and immediately", 25, postgres_restarts),
    real("F11", "Postgres down for 20 s", 28, postgres_down),
    row("F12", "429 to everything for 8 s", 20, too_many),
    row("F14", "creates that fail before and after they are accepted", 20, creates_fail),
    real("F14r", "accepted creates without a clear answer, callbacks lost, times as in production", 40, doubts),
    real("F15", "no callback arrives, times as in production", 60, nothing_arrives),
    row("F15s", "callbacks lost, 10, 50 and 100 %", 24, callbacks_lost),
    row("F16", "callbacks five times, reordered, late, and before the answer of the POST", 20, callbacks_odd),
    row("F17", "a storm of 1,000 callbacks/s, one in ten forged", 25, storm),
    row("F18", "the clock of one worker off by 5 minutes, and jumping", 24, clocks),
    row("F19", "latency, resets and little bandwidth on every road", 24, roads),
    row("F19c", "every road cut in turn: closed, silent, deaf", 28, cuts),
    row("F20", "the disk of Postgres full", 20, disk),
    row("F21", "two connections to Postgres and 500 requests at once", 16, crowds),
    row("F22", "three reconcilers and a person's beside them, half of the callbacks lost", 20, many_reconcile),
    row("F23", "cleanup by people, again and again, under load", 20, cleanup),
    row("F24", "workers 1, 3, 1", 24, scale),
    row("F25", "a hundred poisoned tasks in the queue", 16, poison),
    row("F26", "100,000 jobs due at once", 12, long_list),
    row("F27", "list and fetch down with attempts in doubt", 20, lists_down),
    row(SOAK, "kills, a frozen Redis, callbacks lost and odd, bad roads, in turn", 53, soak::fill),
];

/// The row that lasts as long as one likes.
pub(crate) const SOAK: &str = "F29";

/// The row of this name.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name.eq_ignore_ascii_case(name))
}

fn worker(random: &mut StdRng) -> Who {
    Who::Worker(random.random_range(0..3))
}

fn kills_of_workers(plan: &mut Plan, random: &mut StdRng) {
    let mut at = 1.0;
    while at < 19.0 {
        plan.at(at, Act::Kill(worker(random)));
        at += random.random_range(1.2..2.5);
    }
    plan.bound(Figure::Gap, 3.0).bound(Figure::Settle, 30.0);
}

fn kills_of_apis(plan: &mut Plan, random: &mut StdRng) {
    plan.load.moves = true;
    let mut at = 0.2;
    while at < 19.0 {
        plan.at(at, Act::Kill(Who::Api(random.random_range(0..2))));
        at += random.random_range(0.8..2.0);
    }
    plan.bound(Figure::Settle, 30.0);
}

fn rolling(plan: &mut Plan, _: &mut StdRng) {
    for round in 0..3 {
        for (n, who) in ALL.into_iter().enumerate() {
            plan.at(1.0 + f64::from(round) * 7.0 + n as f64, Act::Roll(who));
        }
    }
    plan.bound(Figure::Broken, 0.0).bound(Figure::Unknown, 0.0).bound(Figure::Gap, 3.0);
}

fn freezes(plan: &mut Plan, random: &mut StdRng) {
    plan.may_be_late = true;
    for n in 0..3 {
        let begin = 0.5 + n as f64 * random.random_range(0.5..1.5);
        let mut at = begin;
        while at + BEYOND_GRACE < 24.0 {
            plan.at(at, Act::Freeze(Who::Worker(n))).at(at + BEYOND_GRACE, Act::Thaw(Who::Worker(n)));
            at += BEYOND_GRACE + random.random_range(0.5..2.5);
        }
    }
}

fn redis_freezes(plan: &mut Plan, _: &mut StdRng) {
    for (at, length) in [(2.0, 0.8), (5.0, 3.0), (11.0, 12.0)] {
        plan.at(at, Act::RedisFreeze).at(at + length, Act::RedisThaw);
    }
    plan.bound(Figure::Resume, 5.0);
}

fn redis_empty(plan: &mut Plan, random: &mut StdRng) {
    for at in [3.0, 9.0, 14.0] {
        let at = at + random.random_range(0.0..1.0);
        plan.at(at, Act::RedisKill).at(at, Act::RedisForget).at(at + random.random_range(0.0..1.5), Act::RedisStart);
    }
    plan.bound(Figure::Resume, 10.0);
}

fn redis_forgets(plan: &mut Plan, random: &mut StdRng) {
    let kept = 7.0 + random.random_range(0.0..2.0);
    plan.at(3.0 + random.random_range(0.0..2.0), Act::RedisFlush).at(kept, Act::RedisKeep);
    plan.at(kept + 1.0, Act::RedisKill).at(kept + 1.0, Act::RedisRecall).at(kept + 1.0, Act::RedisStart);
    plan.at(14.0 + random.random_range(0.0..2.0), Act::RedisFlush);
    plan.bound(Figure::Resume, 10.0);
}

fn redis_down(plan: &mut Plan, _: &mut StdRng) {
    plan.at(3.0, Act::RedisKill).at(23.0, Act::RedisStart);
    plan.bound(Figure::Resume, 10.0);
}

fn postgres_restarts(plan: &mut Plan, random: &mut StdRng) {
    for (n, at) in [2.0, 6.0, 10.0, 15.0, 20.0].into_iter().enumerate() {
        let how = if n % 2 == 0 { Stop::Interrupt } else { Stop::Quit };
        let at = at + random.random_range(0.0..1.5);
        plan.at(at, Act::PostgresStop(how)).at(at, Act::PostgresStart);
    }
    plan.bound(Figure::Resume, 10.0);
}

fn postgres_down(plan: &mut Plan, _: &mut StdRng) {
    plan.at(3.0, Act::PostgresStop(Stop::Interrupt)).at(23.0, Act::PostgresStart);
    plan.bound(Figure::Resume, 10.0).bound(Figure::Settle, 150.0);
}

fn too_many(plan: &mut Plan, _: &mut StdRng) {
    plan.at(3.0, Act::Creates(vec![Rule::share(CreateFault::Http429, 1.0)])).at(11.0, Act::Creates(Vec::new()));
}

fn creates_fail(plan: &mut Plan, _: &mut StdRng) {
    use CreateFault as C;
    let kinds = [
        C::Http500BeforeAccept,
        C::Http500AfterAccept,
        C::TimeoutAfterAccept,
        C::ResetBeforeAccept,
        C::ResetAfterAccept,
        C::GarbageAfterAccept,
        C::FinalCallbackFirst,
    ];
    let mut rules: Vec<_> = kinds.into_iter().map(|kind| Rule::share(kind, 0.04)).collect();
    rules.push(Rule { ms: Some(Millis::between(500, 4_000)), ..Rule::share(C::Slow, 0.04) });
    plan.at(1.0, Act::Creates(rules));
}

fn doubts(plan: &mut Plan, _: &mut StdRng) {
    use CreateFault as C;
    // 20 accepted and unanswered ones in the middle of a run whose newer calls are listed. Of those that were never accepted only so
    // many that they cannot have every slot of a business: nothing newer would be listed for it, and it would wait for ten minutes.
    let accepted = [C::Http500AfterAccept, C::TimeoutAfterAccept, C::ResetAfterAccept, C::GarbageAfterAccept];
    let mut rules = accepted.map(|kind| Rule::next(kind, 5)).to_vec();
    rules.push(Rule::next(C::ResetBeforeAccept, 2));
    plan.at(2.0, Act::Callbacks(vec![Rule::share(CallbackFault::Lost, 0.5)]));
    plan.at(4.0, Act::Creates(rules));
    // Something newer must be listed when the second look comes, a minute and a half later.
    plan.load.jobs = plan.load.jobs * 5 / 2;
    plan.bound(Figure::DoubtResolved, 90.0).bound(Figure::SlotFreed, 60.0);
}

fn nothing_arrives(plan: &mut Plan, _: &mut StdRng) {
    // Calls as long as a short message, or the pace of the looks would be all that is measured.
    plan.carrier("--talk-ms", "4000..9000").carrier("--ring-ms", "1000..3000");
    plan.load.jobs = 22;
    plan.at(5.0, Act::Phase("normal")).at(25.0, Act::Phase("loss"));
    plan.at(25.0, Act::Callbacks(vec![Rule::share(CallbackFault::Lost, 1.0)])).at(60.0, Act::Phase("end"));
    plan.bound(Figure::SlotFreed, 60.0).bound(Figure::LossThroughput, 0.25);
}

fn callbacks_lost(plan: &mut Plan, _: &mut StdRng) {
    for (at, share) in [(1.0, 0.1), (8.0, 0.5), (15.0, 1.0)] {
        plan.at(at, Act::Callbacks(vec![Rule::share(CallbackFault::Lost, share)]));
    }
    plan.bound(Figure::SlotFreed, 60.0);
}

fn callbacks_odd(plan: &mut Plan, _: &mut StdRng) {
    let rules = vec![
        Rule { times: Some(5), ..Rule::share(CallbackFault::Doubled, 0.3) },
        Rule::share(CallbackFault::Reordered, 0.3),
        Rule { ms: Some(Millis::between(0, 8_000)), ..Rule::share(CallbackFault::Delayed, 0.3) },
    ];
    plan.at(0.0, Act::Callbacks(rules)).at(0.0, Act::Creates(vec![Rule::share(CreateFault::FinalCallbackFirst, 0.1)]));
}

fn storm(plan: &mut Plan, _: &mut StdRng) {
    plan.at(4.0, Act::Storm { per_second: 1_000, secs: 18 });
    plan.bound(Figure::StormP99, 250.0).bound(Figure::StormBroken, 0.0).bound(Figure::StormRate, 900.0);
    plan.bound(Figure::Memory, 100.0).bound(Figure::Gap, 2.0).bound(Figure::Broken, 0.0);
}

fn clocks(plan: &mut Plan, _: &mut StdRng) {
    plan.at(0.5, Act::Clock(Who::Worker(0), "+300s")).at(1.5, Act::Clock(Who::Worker(1), "+300s"));
    for (at, offset) in [(6.0, "-300s"), (11.0, "+0s"), (15.0, "+3600s"), (19.0, "-7s")] {
        plan.at(at, Act::ClockJump(offset));
    }
    plan.bound(Figure::Gap, 5.0);
}

fn roads(plan: &mut Plan, _: &mut StdRng) {
    let bad = |ms, resets, bytes_per_sec| Weather {
        latency: std::time::Duration::from_millis(ms),
        resets,
        bytes_per_sec,
        cut: Cut::No,
    };
    plan.at(1.0, Act::Weather(Road::Postgres, bad(20, 0.001, 0)));
    plan.at(1.0, Act::Weather(Road::Redis, bad(20, 0.001, 0)));
    plan.at(1.0, Act::Weather(Road::Carrier, bad(100, 0.02, 100_000)));
    plan.at(1.0, Act::Weather(Road::Door, bad(100, 0.02, 0)));
    plan.at(12.0, Act::Weather(Road::Postgres, bad(0, 0.01, 2_000_000)));
    plan.at(12.0, Act::Weather(Road::Redis, bad(0, 0.01, 2_000_000)));
}

fn cuts(plan: &mut Plan, random: &mut StdRng) {
    let mut at = 1.5;
    for road in [Road::Redis, Road::Postgres, Road::Carrier, Road::Door] {
        for cut in [Cut::Closed, Cut::Silent, Cut::Deaf] {
            let length = random.random_range(0.8..1.4);
            plan.at(at, Act::Weather(road, Weather { cut, ..Weather::default() }));
            plan.at(at + length, Act::Weather(road, Weather::default()));
            at += length + 0.9;
        }
    }
}

fn disk(plan: &mut Plan, _: &mut StdRng) {
    plan.small_disk = true;
    plan.at(5.0, Act::DiskFill).at(11.0, Act::DiskFree);
    plan.bound(Figure::Gap, 10.0);
}

fn crowds(plan: &mut Plan, _: &mut StdRng) {
    plan.terms.settings.push(("DATABASE_POOL", "2".to_owned()));
    plan.at(3.0, Act::Crowd(500)).at(9.0, Act::Crowd(500));
    plan.bound(Figure::Broken, 0.0).bound(Figure::WithoutRetryAfter, 0.0).bound(Figure::Gap, 5.0);
}

fn many_reconcile(plan: &mut Plan, _: &mut StdRng) {
    plan.at(0.5, Act::Callbacks(vec![Rule::share(CallbackFault::Lost, 0.5)]));
    plan.at(0.5, Act::Creates(vec![Rule::share(CreateFault::ResetAfterAccept, 0.1)]));
    for at in [3.0, 6.0, 9.0, 12.0, 15.0, 18.0] {
        plan.at(at, Act::Ops(&["reconcile"]));
    }
}

fn cleanup(plan: &mut Plan, _: &mut StdRng) {
    plan.load.moves = true;
    plan.at(0.5, Act::Callbacks(vec![Rule::share(CallbackFault::Lost, 0.2)]));
    for second in 1..19 {
        plan.at(f64::from(second), Act::Ops(&["cleanup", "--apply"]));
    }
}

fn scale(plan: &mut Plan, _: &mut StdRng) {
    plan.terms.workers = 1;
    plan.at(5.0, Act::Join(Who::Worker(1))).at(5.0, Act::Join(Who::Worker(2)));
    plan.at(13.0, Act::Leave(Who::Worker(0))).at(14.0, Act::Leave(Who::Worker(2)));
    plan.at(20.0, Act::Join(Who::Worker(0)));
    plan.bound(Figure::Unknown, 0.0).bound(Figure::Gap, 3.0);
}

fn poison(plan: &mut Plan, _: &mut StdRng) {
    plan.at(2.0, Act::Poison(50)).at(7.0, Act::Poison(100));
    plan.bound(Figure::Gap, 10.0);
}

fn long_list(plan: &mut Plan, _: &mut StdRng) {
    plan.load.long_list = 100_000;
    plan.load.tenants = 2;
    plan.load.jobs = 20;
    plan.bound(Figure::FirstDial, 2.0);
}

fn lists_down(plan: &mut Plan, _: &mut StdRng) {
    plan.at(1.0, Act::Looks(vec![Rule::share(ApiFault::Unavailable, 1.0)]));
    plan.at(1.0, Act::Callbacks(vec![Rule::share(CallbackFault::Lost, 0.3)]));
    plan.at(
        1.0,
        Act::Creates(vec![
            Rule::share(CreateFault::ResetAfterAccept, 0.05),
            Rule::share(CreateFault::ResetBeforeAccept, 0.05),
        ]),
    );
}
