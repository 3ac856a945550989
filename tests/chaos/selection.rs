//! The part that `make test` runs: each is a test of its own, by the words of nextest and of cargo's own runner.

use crate::{bugs, is_caught, mixed, report::Summary, rows, trial, trial::schema_has};

/// What is run.
#[derive(Debug, Clone, Copy)]
enum Part {
    Mixed(u64),
    Row(&'static str),
    Bug(&'static str),
    Schema,
}

/// The tests by their names.
const PARTS: &[(&str, Part)] = &[
    ("a_schedule_of_everything_breaks_no_promise", Part::Mixed(1)),
    ("postgres_may_restart_under_load", Part::Row("F10")),
    ("the_checker_finds_an_unknown_that_is_dialed_again", Part::Bug("unknown-requeued")),
    ("the_checker_finds_a_slot_that_is_freed_on_a_timeout", Part::Bug("slot-freed-on-timeout")),
    ("the_checker_finds_events_without_a_rank", Part::Bug("no-rank-guard")),
    ("what_seeded_bugs_leave_out_of_the_schema_is_in_it", Part::Schema),
];

/// What a person begins with.
const ORDERS: [&str; 8] = ["mixed", "row", "bug", "killpoint", "names", "help", "--help", "-h"];
/// How long the faults of the schedule last here, s.
const MIXED_SECS: u32 = 15;

/// Which tests are asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    List,
    Nothing,
    Tests(Vec<&'static str>),
}

/// What a test runner asks with these words; nothing where they are a person's.
pub(crate) fn asked(words: &[String]) -> Option<Asked> {
    let has = |word: &str| words.iter().any(|one| one == word);
    if has("--list") {
        // Nothing here is ignored.
        return Some(if has("--ignored") { Asked::Nothing } else { Asked::List });
    }
    if words.first().is_some_and(|word| ORDERS.contains(&word.as_str())) {
        return None;
    }
    let names: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let fits = |name: &str, wanted: &str| if has("--exact") { name == wanted } else { name.contains(wanted) };
    let all = PARTS.iter().map(|(name, _)| *name);
    Some(Asked::Tests(all.filter(|name| names.is_empty() || names.iter().any(|wanted| fits(name, wanted))).collect()))
}

/// Does what a test runner asks; false where a promise was broken.
pub(crate) async fn run(asked: Asked) -> anyhow::Result<bool> {
    let tests = match asked {
        Asked::Nothing => return Ok(true),
        Asked::List => {
            PARTS.iter().for_each(|(name, _)| println!("{name}: test"));
            return Ok(true);
        }
        Asked::Tests(tests) => tests,
    };
    let mut passed = true;
    for (_, part) in PARTS.iter().filter(|(name, _)| tests.contains(name)) {
        passed &= one(*part).await?;
    }
    Ok(passed)
}

/// Times are not judged here: other tests share the machine.
async fn one(part: Part) -> anyhow::Result<bool> {
    let plan = match part {
        Part::Mixed(seed) => mixed::plan(seed, MIXED_SECS),
        Part::Row(name) => {
            let row = rows::find(name);
            let Some(row) = row else { anyhow::bail!("there is no row {name}") };
            row.plan(1)
        }
        Part::Bug(name) => {
            let bug = bugs::BUGS.iter().find(|bug| bug.name == name);
            let Some(bug) = bug else { anyhow::bail!("there is no seeded bug {name}") };
            return is_caught(bug, &bug.plan(1)).await;
        }
        Part::Schema => {
            schema_has(bugs::BUGS.iter().map(|bug| bug.plan(1))).await?;
            return Ok(true);
        }
    };
    let mut summary = Summary::default();
    trial(&plan, true, &mut summary).await?;
    Ok(summary.kept())
}
