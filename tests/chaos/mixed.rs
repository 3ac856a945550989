//! The mixed schedule: faults of every kind in an order, at moments and for lengths that a seed says.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rollcall::{
    ops::children::Stop,
    sim::{ApiFault, CallbackFault, CreateFault, Millis, Rule},
};

use crate::{
    plan::{Act, BEYOND_GRACE, Plan, Road, Times},
    proxy::{Cut, Weather},
    site::{ALL, Who},
};

/// Before this nothing breaks, and after the end of the time less this nothing begins.
const CALM: f64 = 1.0;

/// What can be in one fault only at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Thing {
    Replica(usize),
    Redis,
    Postgres,
    Creates,
    Callbacks,
    Looks,
    Road(u8),
    Queue,
}

/// A fault with a begin and an end, and what it keeps busy.
struct Window {
    thing: Thing,
    name: &'static str,
    begin: Vec<Act>,
    length: f64,
    end: Vec<Act>,
}

/// The plan of a seed.
pub(crate) fn plan(seed: u64, secs: u32) -> Plan {
    let mut random = StdRng::seed_from_u64(seed);
    let mut plan = Plan::quiet("mixed", "", seed, secs, Times::Scaled);
    plan.load.moves = true;
    plan.may_be_late = true;
    let mut busy_until: HashMap<Thing, f64> = HashMap::new();
    let mut names: Vec<&'static str> = Vec::new();
    let mut at = CALM;
    let last = f64::from(secs) - CALM;
    while at < last {
        let window = window(&mut random);
        if busy_until.get(&window.thing).is_none_or(|until| *until < at) {
            let end = at + window.length;
            for act in window.begin {
                plan.at(at, act);
            }
            for act in window.end {
                plan.at(end.min(last + CALM), act);
            }
            busy_until.insert(window.thing, end + 0.5);
            if !names.contains(&window.name) {
                names.push(window.name);
            }
            at += random.random_range(0.2..1.8);
        }
    }
    plan.what = names.join(", ");
    plan
}

fn window(random: &mut StdRng) -> Window {
    match random.random_range(0..15) {
        0 | 1 => kill(random),
        2 => freeze(random),
        3 => {
            let who = random.random_range(0..ALL.len());
            once(Thing::Replica(who), "drain", vec![Act::Roll(ALL[who])])
        }
        4 => redis(random),
        5 => postgres(random),
        6 | 7 => creates(random),
        8 | 9 => callbacks(random),
        10 => {
            let rules = vec![Rule::share(ApiFault::Unavailable, random.random_range(0.3..=1.0))];
            let length = random.random_range(1.0..5.0);
            Window {
                thing: Thing::Looks,
                name: "list down",
                begin: vec![Act::Looks(rules)],
                length,
                end: vec![Act::Looks(Vec::new())],
            }
        }
        11..=13 => road(random),
        _ if random.random_bool(0.5) => once(Thing::Queue, "poison", vec![Act::Poison(random.random_range(4..40))]),
        _ => once(Thing::Queue, "cleanup", vec![Act::Ops(&["cleanup", "--apply"])]),
    }
}

fn once(thing: Thing, name: &'static str, begin: Vec<Act>) -> Window {
    Window { thing, name, begin, length: 0.0, end: Vec::new() }
}

fn kill(random: &mut StdRng) -> Window {
    let who = random.random_range(0..ALL.len());
    once(Thing::Replica(who), "kill -9", vec![Act::Kill(ALL[who])])
}

fn freeze(random: &mut StdRng) -> Window {
    let who = random.random_range(0..ALL.len());
    // An api has no grace to exceed: carriers give it up after their own time.
    let length = if matches!(ALL[who], Who::Worker(_)) && random.random_bool(0.5) {
        BEYOND_GRACE
    } else {
        random.random_range(0.2..3.0)
    };
    let (begin, end) = (vec![Act::Freeze(ALL[who])], vec![Act::Thaw(ALL[who])]);
    Window { thing: Thing::Replica(who), name: "freeze", begin, length, end }
}

fn redis(random: &mut StdRng) -> Window {
    let length = random.random_range(0.1..3.0);
    let (name, begin, end) = match random.random_range(0..4) {
        0 => ("Redis empty", vec![Act::RedisKill, Act::RedisForget], vec![Act::RedisStart]),
        1 => ("Redis killed", vec![Act::RedisKill], vec![Act::RedisStart]),
        2 => ("Redis frozen", vec![Act::RedisFreeze], vec![Act::RedisThaw]),
        _ => ("Redis flushed", vec![Act::RedisFlush], Vec::new()),
    };
    Window { thing: Thing::Redis, name, begin, length, end }
}

fn postgres(random: &mut StdRng) -> Window {
    let how = if random.random_bool(0.5) { Stop::Interrupt } else { Stop::Quit };
    let name = if how == Stop::Quit { "Postgres crashed" } else { "Postgres stopped" };
    let length = if random.random_bool(0.5) { 0.0 } else { random.random_range(0.5..4.0) };
    let (begin, end) = (vec![Act::PostgresStop(how)], vec![Act::PostgresStart]);
    Window { thing: Thing::Postgres, name, begin, length, end }
}

fn creates(random: &mut StdRng) -> Window {
    use CreateFault as C;
    let kinds = [
        C::Http429,
        C::Http500BeforeAccept,
        C::Http500AfterAccept,
        C::TimeoutBeforeAccept,
        C::TimeoutAfterAccept,
        C::ResetBeforeAccept,
        C::ResetAfterAccept,
        C::GarbageAfterAccept,
        C::FinalCallbackFirst,
    ];
    let mut rules = Vec::new();
    for _ in 0..random.random_range(1..4) {
        rules.push(Rule::share(kinds[random.random_range(0..kinds.len())], random.random_range(0.03..0.2)));
    }
    rules.push(Rule { ms: Some(Millis::between(200, 4_000)), ..Rule::share(C::Slow, 0.05) });
    let length = random.random_range(1.0..6.0);
    Window {
        thing: Thing::Creates,
        name: "creates fail",
        begin: vec![Act::Creates(rules)],
        length,
        end: vec![Act::Creates(Vec::new())],
    }
}

fn callbacks(random: &mut StdRng) -> Window {
    let share = |random: &mut StdRng| random.random_range(0.0..0.3);
    let rules = if random.random_bool(0.2) {
        vec![Rule::share(CallbackFault::Lost, 1.0)]
    } else {
        vec![
            Rule::share(CallbackFault::Lost, share(random)),
            Rule { times: Some(random.random_range(2..6)), ..Rule::share(CallbackFault::Doubled, share(random)) },
            Rule::share(CallbackFault::Reordered, share(random)),
            Rule { ms: Some(Millis::between(0, 5_000)), ..Rule::share(CallbackFault::Delayed, share(random) / 3.0) },
        ]
    };
    let length = random.random_range(1.0..6.0);
    let (begin, end) = (vec![Act::Callbacks(rules)], vec![Act::Callbacks(Vec::new())]);
    Window { thing: Thing::Callbacks, name: "callbacks odd or lost", begin, length, end }
}

fn road(random: &mut StdRng) -> Window {
    let roads = [Road::Postgres, Road::Redis, Road::Carrier, Road::Door];
    let n = random.random_range(0..roads.len());
    let short = matches!(roads[n], Road::Postgres | Road::Redis);
    let (name, weather, length) = match random.random_range(0..3) {
        0 => {
            let latency = std::time::Duration::from_millis(random.random_range(5..if short { 30 } else { 200 }));
            ("slow road", Weather { latency, ..Weather::default() }, random.random_range(1.0..4.0))
        }
        1 => {
            let resets = random.random_range(0.001..if short { 0.01 } else { 0.05 });
            ("resets", Weather { resets, ..Weather::default() }, random.random_range(1.0..4.0))
        }
        _ => {
            let cut = [Cut::Closed, Cut::Silent, Cut::Deaf][random.random_range(0..3)];
            ("cut", Weather { cut, ..Weather::default() }, random.random_range(0.3..2.5))
        }
    };
    let (begin, end) = (vec![Act::Weather(roads[n], weather)], vec![Act::Weather(roads[n], Weather::default())]);
    Window { thing: Thing::Road(u8::try_from(n).unwrap_or_default()), name, begin, length, end }
}
