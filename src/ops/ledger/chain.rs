//! Lines that hold on to each other: each carries the hash of the one before it and its own.
//!
//! The hash of a line is SHA-256 over its text up to `,"hash":"`, so that anybody can check it with a shell.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What stands before a line's own hash.
const MARK: &str = r#","hash":""#;
/// What the first line follows.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The end of a chain.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    line: u64,
    last: String,
}

/// What every line says of its place.
#[derive(Deserialize)]
struct Place {
    line: u64,
    prev: String,
}

impl Chain {
    /// One without a line.
    pub(super) fn new() -> Self {
        Self { line: 0, last: NOTHING.into() }
    }

    /// The hash of the last line.
    pub(super) fn head(&self) -> &str {
        &self.last
    }

    /// Puts `record`, a JSON object, behind the last line, and gives its text.
    ///
    /// # Errors
    /// Where the record cannot be written as JSON.
    pub(super) fn add(&mut self, record: &impl Serialize) -> serde_json::Result<String> {
        self.line += 1;
        let record = serde_json::to_string(record)?;
        let fields = record.strip_suffix('}').unwrap_or(&record);
        let text = format!(r#"{fields},"line":{},"prev":"{}""#, self.line, self.last);
        self.last = hash(&text);
        Ok(format!(r#"{text}{MARK}{}"}}"#, self.last))
    }

    /// Reads the next line of a file: what is wrong with its place or its text, if anything. After a line that is not where it
    /// says the chain goes on from that line, so that every fault is named once.
    pub(super) fn read(&mut self, text: &str) -> Option<String> {
        self.line += 1;
        let own = text.rfind(MARK).and_then(|at| {
            let (body, rest) = text.split_at(at);
            Some((body, rest.strip_prefix(MARK)?.strip_suffix("\"}")?))
        });
        let place: Option<Place> = serde_json::from_str(text).ok();
        let (Some((body, own)), Some(place)) = (own, place) else {
            return Some("it is no line of a ledger".into());
        };
        let (here, expected) = (self.line, std::mem::replace(&mut self.last, own.to_owned()));
        self.line = place.line;
        if hash(body) != own {
            return Some("its text is not the one that its hash was made of: it was edited".into());
        }
        if place.line > here {
            return Some(format!(
                "it says that it is line {}, not {here}: lines before it were removed or moved",
                place.line
            ));
        }
        if place.line < here {
            return Some(format!(
                "it says that it is line {}, not {here}: a line before it was inserted or moved",
                place.line
            ));
        }
        (place.prev != expected).then(|| "it does not follow the line before it: that line was replaced".into())
    }
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(count: u64) -> Vec<String> {
        let mut chain = Chain::new();
        (1..=count).map(|i| chain.add(&json!({ "value": i })).unwrap()).collect()
    }

    /// The numbers of the lines that are named, as they stand in the file.
    fn named(lines: &[String]) -> Vec<usize> {
        let mut chain = Chain::new();
        (1..).zip(lines).filter_map(|(at, line)| chain.read(line).map(|_| at)).collect()
    }

    #[test]
    fn a_chain_that_nobody_touched_has_no_fault() {
        assert_eq!(named(&lines(5)), [0_usize; 0]);
    }

    #[test]
    fn an_edited_line_is_named_alone() {
        let mut lines = lines(5);
        lines[2] = lines[2].replace(r#""value":3"#, r#""value":4"#);
        assert_eq!(named(&lines), [3]);
    }

    #[test]
    fn a_line_that_was_edited_with_its_hash_is_named_by_the_next() {
        let mut lines = lines(5);
        let mut forger = Chain { line: 2, last: serde_json::from_str::<Place>(&lines[2]).unwrap().prev };
        lines[2] = forger.add(&json!({"value": 4})).unwrap();
        assert_eq!(named(&lines), [4]);
    }

    #[test]
    fn a_removed_line_is_named_by_the_one_behind_it() {
        let mut lines = lines(5);
        lines.remove(1);
        assert_eq!(named(&lines), [2]);
    }

    #[test]
    fn an_inserted_line_and_moved_lines_are_named() {
        let mut twice = lines(5);
        twice.insert(2, twice[1].clone());
        assert_eq!(named(&twice), [3]);
        let mut moved = lines(5);
        moved.swap(1, 2);
        assert_eq!(named(&moved), [2, 3, 4]);
    }
}
