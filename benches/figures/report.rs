//! The table, and what it was measured on.

use comfy_table::{Table, presets};

/// What stands beside a figure, in ms: how busy or late those were who measured it. Above a limit they, and not the product, are
/// what was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beside {
    /// The head of its column.
    pub(crate) heading: &'static str,
    /// Who measured.
    pub(crate) whose: &'static str,
    /// The limit, ms.
    pub(crate) most: f64,
}

/// What a figure must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    None,
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    pub(crate) fn least(value: Option<f64>) -> Self {
        value.map_or(Self::None, Self::AtLeast)
    }

    pub(crate) fn most(value: Option<f64>) -> Self {
        value.map_or(Self::None, Self::AtMost)
    }

    fn text(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtLeast(value) => format!("≥ {}", short(value)),
            Self::AtMost(value) => format!("≤ {}", short(value)),
        }
    }

    fn verdict(self, value: f64) -> &'static str {
        match self {
            Self::None => "",
            Self::AtLeast(least) if value >= least => "reached",
            Self::AtMost(most) if value <= most => "reached",
            _ => "MISSED",
        }
    }
}

/// Rows as they are measured; printed at once, so that an early end loses none.
pub(crate) struct Report {
    beside: Beside,
    rows: Vec<[String; 6]>,
    notes: Vec<String>,
}

impl Report {
    /// A table without rows.
    pub(crate) fn new(beside: Beside) -> Self {
        Self { beside, rows: Vec::new(), notes: Vec::new() }
    }

    /// A figure with the smallest and largest of its rounds, and what stands beside it; 0 where nothing does.
    pub(crate) fn row(&mut self, beside_ms: f64, what: String, target: Target, value: f64, (least, most): (f64, f64)) {
        let beside = if beside_ms > 0.0 { format!("{beside_ms:.2}") } else { String::new() };
        let is_valid = beside_ms <= self.beside.most;
        let verdict =
            if is_valid { target.verdict(value).to_owned() } else { format!("invalid: {}", self.beside.whose) };
        println!("  {what}: {} ({} to {}) {} {verdict}", short(value), short(least), short(most), target.text());
        self.rows.push([
            what,
            target.text(),
            short(value),
            format!("{} to {}", short(least), short(most)),
            beside,
            verdict,
        ]);
    }

    /// A figure that was taken once.
    pub(crate) fn once(&mut self, what: String, target: Target, value: f64) {
        self.row(0.0, what, target, value, (value, value));
    }

    /// A line below the table.
    pub(crate) fn note(&mut self, line: String) {
        println!("  {line}");
        self.notes.push(line);
    }

    /// The whole table.
    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["figure", "must be", "is", "all rounds", self.beside.heading, ""]);
        for row in &self.rows {
            table.add_row(row);
        }
        println!("\n{table}\n");
        for note in &self.notes {
            println!("- {note}");
        }
    }
}

fn short(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
