//! What a person reads: every promise with its violations, every figure with its bound, and a table of many seeds.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets};

use crate::{figures::Figure, plan::Plan, rows, trial::Outcome};

/// Prints a trial.
pub(crate) fn print(plan: &Plan, outcome: &Outcome) {
    println!("\n{} · seed {} · {}", plan.name, plan.terms.seed, plan.what);
    println!("{} jobs, {} creates, {} completed calls", outcome.jobs, outcome.creates, outcome.completed);
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["", "promise", "looked at", "violations"]);
    for verdict in &outcome.verdicts {
        let violations =
            if verdict.kept() { "0".to_owned() } else { format!("{}\n{}", verdict.violations.len(), verdict.shown()) };
        table.add_row([verdict.invariant, verdict.promise, &verdict.looked_at, &violations]);
    }
    println!("{table}");
    let mut figures = Table::new();
    figures.load_preset(presets::UTF8_FULL_CONDENSED).set_header(["figure", "seen", "must be", ""]);
    for (figure, value) in &outcome.figures {
        let bound = outcome.bounds.iter().find(|(bounded, _)| bounded == figure).map(|(_, bound)| *bound);
        let verdict = bound.map_or("", |bound| if figure.holds(*value, bound) { "reached" } else { "MISSED" });
        let must = bound.map(|bound| figure.bound_text(bound)).unwrap_or_default();
        figures.add_row([figure.name(), &format!("{value:.2}"), &must, verdict]);
    }
    println!("{figures}");
    for line in &outcome.ended_alone {
        println!("  {line}");
    }
    if outcome.violations() > 0 || !outcome.missed().is_empty() {
        println!("again: {}", again(plan));
    }
}

/// The command that repeats a trial.
pub(crate) fn again(plan: &Plan) -> String {
    let both = if plan.terms.both_carriers { " BOTH=1" } else { "" };
    let what = match plan.name.as_str() {
        "mixed" => format!("FOR={}s", plan.lasts.as_secs()),
        rows::SOAK => format!("ROW={} FOR={}s", rows::SOAK, plan.lasts.as_secs()),
        name if rows::find(name).is_some() => format!("ROW={name}"),
        name => match name.split_once(':') {
            Some((point, _)) => format!("KILLPOINT={point}"),
            None => format!("BUG={name}"),
        },
    };
    format!("make chaos SEED={}{both} {what}", plan.terms.seed)
}

/// A line per trial, as Markdown.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    rows: Vec<[String; 9]>,
    jobs: usize,
    creates: usize,
    violations: usize,
    missed: usize,
    failed: usize,
}

impl Summary {
    /// Adds a trial and prints its line, so that an early end loses none.
    pub(crate) fn add(&mut self, plan: &Plan, outcome: &Outcome) {
        let value = |figure| outcome.value(figure).map_or_else(String::new, |value| format!("{value:.1}"));
        let broken = outcome.broken();
        let violations = match broken.as_slice() {
            [] => "0".to_owned(),
            names => format!("{} ({})", outcome.violations(), names.join(" ")),
        };
        let row = [
            plan.name.clone(),
            plan.terms.seed.to_string(),
            outcome.jobs.to_string(),
            outcome.creates.to_string(),
            violations,
            value(Figure::Gap),
            value(Figure::Settle),
            value(Figure::StoodStill),
            outcome.missed().join("; "),
        ];
        println!("| {} |", row.join(" | "));
        self.jobs += outcome.jobs;
        self.creates += outcome.creates;
        self.violations += outcome.violations();
        self.missed += outcome.missed().len();
        self.rows.push(row);
    }

    /// A trial that could not be made.
    pub(crate) fn skip(&mut self, plan: &Plan, why: &str) {
        println!("SKIPPED {} seed {}: {why}", plan.name, plan.terms.seed);
        let mut row: [String; 9] = Default::default();
        (row[0], row[1], row[8]) = (plan.name.clone(), plan.terms.seed.to_string(), format!("skipped: {why}"));
        self.rows.push(row);
    }

    /// A trial that broke off before it could be judged.
    pub(crate) fn fail(&mut self, plan: &Plan, error: &anyhow::Error) {
        println!("BROKE OFF {} seed {}: {error:#}", plan.name, plan.terms.seed);
        let mut row: [String; 9] = Default::default();
        (row[0], row[1], row[8]) = (plan.name.clone(), plan.terms.seed.to_string(), format!("broke off: {error:#}"));
        self.failed += 1;
        self.rows.push(row);
    }

    /// The whole table.
    pub(crate) fn markdown(&self) -> String {
        let head = [
            "row",
            "seed",
            "jobs",
            "creates",
            "violations",
            "gap, s",
            "all over after, s",
            "own pause, s",
            "figures missed",
        ];
        let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
        for row in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        let _ = writeln!(text, "\n{}", self.line());
        text
    }

    /// All in one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} trials, {} jobs, {} creates: {} violations, {} figures missed, {} trials broke off",
            self.rows.len(),
            self.jobs,
            self.creates,
            self.violations,
            self.missed,
            self.failed
        )
    }

    /// True where every trial was judged and no promise was broken.
    pub(crate) fn kept(&self) -> bool {
        self.violations == 0 && self.failed == 0
    }

    /// True where every figure was reached as well.
    pub(crate) fn reached(&self) -> bool {
        self.kept() && self.missed == 0
    }
}
