//! House rules that neither compiler nor clippy checks: floors, sizes, module docs, what must not be written anywhere, and that
//! the documents name only commands that there are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{CommandFactory, Parser};
use regex::Regex;
use rollcall::{config::Settings, ops::Cli};

/// Which module stands on which floor. A module may import only what stands below it: this list is the architecture.
const FLOORS: &[(u8, &[&str])] = &[
    (1, &["arenas", "clock", "ids", "error", "country", "killpoints", "objects"]),
    // Rules without a store: every fact may be judged by them.
    (2, &["config", "policy"]),
    (3, &["stores", "telemetry", "shutdown"]),
    // Facts: one store or one outside party each. They do not know each other.
    (
        4,
        &[
            "businesses",
            "leads",
            "runs",
            "jobs",
            "attempts",
            "slots",
            "calls",
            "carriers",
            "agents",
            "models",
            "hooks",
            "heartbeats",
        ],
    ),
    // One of each fact, built once, lent everywhere.
    (5, &["context"]),
    // Flows: the only place where two facts meet.
    (6, &["dialing"]),
    // Doors: they do not know each other.
    (7, &["api", "pages", "webhooks", "voice", "worker", "ops"]),
    (8, &["server"]),
];
/// The sandbox carrier stands beside the house: it imports nothing of it, and only its own program and tests import it.
const ASIDE: &str = "sim";
/// Longer files are read by nobody.
const MOST_LINES: usize = 400;

/// A source file as the rules see it.
struct Source {
    /// Path below the repository, with slashes.
    name: String,
    text: String,
    /// The text without its comment lines, so that prose may name what code may not.
    code: String,
}

impl Source {
    fn read(path: &Path) -> Self {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        Self { name, text, code }
    }

    fn is_test(&self) -> bool {
        self.name.starts_with("tests/") || self.name.ends_with("/tests.rs") || self.name.contains("/tests/")
    }

    /// The part of the code that is only compiled for tests.
    fn test_code(&self) -> &str {
        if self.is_test() { &self.code } else { self.code.split_once("#[cfg(test)]").map_or("", |(_, tests)| tests) }
    }

    /// The module that the file belongs to; none for `lib.rs`, programs and tests.
    fn module(&self) -> Option<&str> {
        let first = self.name.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
        (!matches!(first, "lib" | "bin")).then_some(first)
    }

    /// Every `name` of `crate::name` and `crate::{name, other::…}`.
    fn imports(&self) -> Vec<&str> {
        self.code.split("crate::").skip(1).flat_map(first_names).collect()
    }
}

/// The first name of a path, or of each path of a brace list.
fn first_names(path: &str) -> Vec<&str> {
    let name = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(list) = path.strip_prefix('{') else { return vec![&path[..name(path)]] };
    let (mut depth, mut names, mut expects_name) = (1_u32, Vec::new(), true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => expects_name = true,
            _ if c.is_whitespace() => {}
            _ if expects_name => {
                names.push(&list[at..at + name(&list[at..])]);
                expects_name = false;
            }
            _ => {}
        }
    }
    names
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder`, but for what is built or fetched.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let skipped = ["target", ".git", ".scratch", "node_modules", ".env"].iter().any(|name| path.ends_with(name));
        if skipped {
            continue;
        }
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let rust = |folder: &str| {
        files(&root().join(folder)).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"))
    };
    rust("src").chain(rust("tests")).map(|path| Source::read(&path)).collect()
}

/// Fails with every source that breaks a rule, not only with the first.
fn no_source(breaks: impl Fn(&Source) -> Option<String>) {
    let broken: Vec<String> =
        sources().iter().filter_map(|source| Some(format!("{}: {}", source.name, breaks(source)?))).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, modules)| modules.contains(&module)).map(|(floor, _)| *floor)
}

#[test]
fn a_module_imports_only_from_floors_below_its_own() {
    no_source(|source| {
        let module = source.module().filter(|module| *module != ASIDE)?;
        let Some(own) = floor(module) else { return Some(format!("`{module}` stands on no floor; add it to FLOORS")) };
        let too_high = |name: &&str| *name != module && floor(name).is_some_and(|other| other >= own);
        let wrong = source.imports().into_iter().find(too_high);
        wrong.map(|other| format!("`{module}` on floor {own} imports `{other}` on floor {}", floor(other).unwrap_or(0)))
    });
}

#[test]
fn the_sandbox_knows_nothing_of_ours_and_only_its_program_and_tests_know_it() {
    no_source(|source| {
        if source.module() == Some(ASIDE) {
            let ours = source.imports().into_iter().find(|name| floor(name).is_some());
            return ours.map(|name| format!("imports `{name}`"));
        }
        let may = source.is_test() || source.name == "src/bin/carrier.rs";
        let names = source.imports().contains(&ASIDE) || source.code.contains(&format!("rollcall::{ASIDE}"));
        (names && !may).then(|| "imports the sandbox".to_owned())
    });
}

#[test]
fn every_file_says_what_it_is_for_and_every_module_what_holds_in_it() {
    no_source(|source| {
        if !source.text.starts_with("//!") {
            return Some("the first line is no `//!`".to_owned());
        }
        let is_module = source.name.starts_with("src/") && source.name.ends_with("/mod.rs");
        let lacks = ["//! Invariant:", "//! Not here:"].into_iter().find(|line| !source.text.contains(line));
        lacks.filter(|_| is_module).map(|line| format!("no `{line}` line"))
    });
}

#[test]
fn no_file_is_too_long_to_be_read() {
    no_source(|source| {
        let lines = source.text.lines().count();
        (lines > MOST_LINES).then(|| format!("{lines} lines; {MOST_LINES} are allowed"))
    });
}

#[test]
fn programs_are_parse_build_run() {
    no_source(|source| {
        let lines = source.text.lines().count();
        (source.name.starts_with("src/bin/") && lines > 60).then(|| format!("{lines} lines; 60 are allowed"))
    });
}

#[test]
fn every_target_names_its_file() {
    // Where it does not, cargo looks for the file, and the image's first layer, which has Cargo.toml alone, cannot be built.
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let targets: Vec<&str> = manifest.split("\n[[").skip(1).collect();
    assert!(!targets.is_empty(), "no target was found");
    let nameless: Vec<&str> = targets.into_iter().filter(|target| !target.contains("\npath = ")).collect();
    assert!(nameless.is_empty(), "{nameless:?}");
}

#[test]
fn the_library_is_a_list_of_modules() {
    no_source(|source| {
        let code = source.code.lines().find(|line| !line.is_empty() && !line.starts_with("pub mod "));
        code.filter(|_| source.name == "src/lib.rs").map(|line| format!("`{line}` is code"))
    });
}

#[test]
fn the_queue_library_is_named_in_the_queue_and_the_worker_only() {
    no_source(|source| {
        let may = source.is_test() || source.name == "src/jobs/queue.rs" || source.name.starts_with("src/worker/");
        (source.code.contains("apalis") && !may).then(|| "names the queue's library".to_owned())
    });
}

#[test]
fn no_import_climbs_over_its_parent() {
    let climbs = concat!("super::", "super");
    no_source(|source| source.code.contains(climbs).then(|| format!("`{climbs}` hides the floor: write crate::")));
}

#[test]
fn no_test_waits_by_the_clock() {
    let waits = concat!("sleep", "(");
    no_source(|source| {
        source.test_code().contains(waits).then(|| format!("`{waits}` in a test: wait for a named event"))
    });
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let mut named = Vec::new();
    for path in files(root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        named.extend(
            places.iter().filter(|place| text.contains(**place)).map(|place| format!("{}: {place}", path.display())),
        );
    }
    assert!(named.is_empty(), "\n{}\n", named.join("\n"));
}

#[test]
fn the_example_settings_are_those_that_the_programs_read() {
    let command = Settings::command();
    let known: Vec<String> = command
        .get_arguments()
        .filter_map(|argument| {
            let name = argument.get_env()?.to_str()?;
            let default = argument.get_default_values().iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
            // Clap splits a default with commas; the file shows it as a person writes it.
            let meaning = argument.get_long_help().or(argument.get_help())?.to_string().replace('\n', " ");
            Some(format!("# {meaning}\n#{name}={}", default.join(",")))
        })
        .collect();
    let text = fs::read_to_string(root().join(".env.example")).unwrap();
    let listed: Vec<&str> = text.lines().filter(|line| line.starts_with('#') && !line.starts_with("##")).collect();
    let expected = known.join("\n");
    assert!(listed.join("\n") == expected, "\n.env.example should hold, in this order:\n\n{expected}\n");
}

/// Every command of `rollcall-ops` that a document names: in a line of its own or in backticks, also by way of the containers.
fn commands_in(text: &str) -> Vec<String> {
    let begin = Regex::new(r"(?:rollcall-ops|docker compose run --rm(?: -T)?(?: -v \S+)? ops) ([a-z][^`]*)").unwrap();
    let shell = Regex::new(r" (?:[|<>&#]|&&) ?.*$|;.*$").unwrap();
    let fenced = text.split("```").skip(1).step_by(2).flat_map(str::lines).map(ToOwned::to_owned);
    let prose: String = text.split("```").step_by(2).collect();
    let spans = prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " "));
    fenced
        .chain(spans.collect::<Vec<_>>())
        .filter_map(|line| Some(shell.replace(begin.captures(&line)?[1].trim(), "").trim().to_owned()))
        .collect()
}

/// What stands for something that the reader puts in, as something of its kind.
fn filled_in(word: &str) -> String {
    match word.trim_matches('"') {
        "$ADMIN" => "http://127.0.0.1:9090".to_owned(),
        "$HEAD" => "0".repeat(64),
        id if id.starts_with('$') && id[1..].bytes().all(|b| b.is_ascii_uppercase() || b == b'_') => {
            uuid::Uuid::max().to_string()
        }
        word => word.to_owned(),
    }
}

#[test]
fn every_command_of_the_runbook_and_the_manual_is_one_that_the_program_takes() {
    let mut wrong = Vec::new();
    for (document, least) in [("RUNBOOK.md", 30), ("docs/operations.md", 4)] {
        let commands = commands_in(&fs::read_to_string(root().join(document)).unwrap());
        assert!(commands.len() >= least, "{document} names only {commands:?}");
        for command in commands {
            let words = std::iter::once("rollcall-ops".to_owned()).chain(command.split_whitespace().map(filled_in));
            let refused = Cli::try_parse_from(words).err().filter(clap::Error::use_stderr);
            wrong.extend(refused.map(|error| format!("{document}: `{command}`: {error}")));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_reason_of_a_failed_conversation_begins_at_zero_and_is_in_the_runbook() {
    let told = Regex::new(r#"session_failed\("(\w+)"\)"#).unwrap();
    let figures = fs::read_to_string(root().join("src/telemetry/voice.rs")).unwrap();
    let runbook = fs::read_to_string(root().join("RUNBOOK.md")).unwrap();
    let begun = figures.split_once("const FAILED_BY").unwrap().1.split_once(';').unwrap().1.split_once(';').unwrap().0;
    no_source(|source| {
        let reasons = told.captures_iter(&source.code).map(|found| found[1].to_owned());
        let lacks = |why: &String| !begun.contains(&format!("\"{why}\"")) || !runbook.contains(&format!("`{why}`"));
        let lacking: Vec<String> = reasons.filter(lacks).collect();
        (!lacking.is_empty() && !source.is_test())
            .then(|| format!("{lacking:?} begin nowhere, or RUNBOOK.md does not say them"))
    });
}
