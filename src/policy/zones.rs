//! Time zones that a number may be in, by libphonenumber's table of prefixes.
//!
//! A set, not a guess: a rule about the callee's local time must hold in every one of them. A number that is not bound to a
//! place (most mobile, toll-free and internet numbers) may be anywhere in its country, so it has all zones of its country
//! code. People who move take their number along; no table knows that, and the list can say better (`time_zone`).

use std::{collections::HashMap, sync::LazyLock};

use chrono_tz::Tz;

/// One line per prefix: its digits, then its zones. `#` begins a comment, which names source and licence.
const BY_PREFIX: &str = include_str!("time_zones.txt");

static TABLE: LazyLock<Table> = LazyLock::new(Table::read);

struct Table {
    /// No prefix begins with a zero, so a prefix is a number.
    sets: HashMap<u64, Vec<Tz>>,
    longest: usize,
}

impl Table {
    fn read() -> Self {
        let sets: HashMap<u64, Vec<Tz>> = lines().filter_map(entry).collect();
        let longest = sets.keys().map(|prefix| prefix.to_string().len()).max().unwrap_or(0);
        Self { sets, longest }
    }
}

fn lines() -> impl Iterator<Item = &'static str> {
    BY_PREFIX.lines().filter(|line| !line.starts_with('#'))
}

/// A line of the table; `None` where it is none, or where a zone of it is unknown here.
fn entry(line: &str) -> Option<(u64, Vec<Tz>)> {
    let (prefix, names) = line.split_once(' ')?;
    let zones: Result<Vec<Tz>, _> = names.split(' ').map(str::parse).collect();
    Some((prefix.parse().ok()?, zones.ok()?))
}

/// The zones that `e164` may be in, sorted by name; none where nothing is known, as for +800, which belongs to no country.
///
/// `at_a_place` says that the numbering plan binds the number to a place, so that all of its digits count and not only its
/// country code.
#[must_use]
pub fn of_number(e164: &str, at_a_place: bool) -> &'static [Tz] {
    let digits = e164.trim_start_matches('+');
    let table = &*TABLE;
    // Every country code is a prefix of its own, and none begins with another: the shortest one that fits is the country's.
    let mut prefixes = (1..=table.longest.min(digits.len())).filter_map(|length| digits.get(..length)?.parse().ok());
    let fitting = |prefix: u64| table.sets.get(&prefix);
    let found = if at_a_place { prefixes.rev().find_map(fitting) } else { prefixes.find_map(fitting) };
    found.map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_known_and_its_zones_are_sorted() {
        assert_eq!(TABLE.sets.len(), 3240);
        for line in lines() {
            let (prefix, zones) = entry(line).unwrap_or_else(|| panic!("{line}"));
            assert!(!zones.is_empty() && zones.is_sorted_by_key(|zone| zone.name()), "{prefix}");
            assert!(!prefix.to_string().starts_with('0') && TABLE.sets[&prefix] == zones, "{prefix}");
        }
    }

    #[test]
    fn every_country_code_has_an_entry_and_no_shorter_prefix_has_one() {
        let shorter = |prefix: u64| TABLE.sets.contains_key(&(prefix / 10)) || TABLE.sets.contains_key(&(prefix / 100));
        let codes: Vec<u64> = TABLE.sets.keys().copied().filter(|prefix| *prefix < 1000 && !shorter(*prefix)).collect();
        // As many as libphonenumber has country codes of countries, of which +1 and +7 have one digit.
        assert_eq!(codes.len(), 206);
        assert!(TABLE.sets.keys().all(|prefix| (1..=3).any(|digits| {
            codes.contains(&prefix.to_string()[..digits.min(prefix.to_string().len())].parse().unwrap())
        })));
    }

    #[test]
    fn the_longest_prefix_wins_and_a_number_without_a_place_has_all_zones_of_its_country() {
        let names =
            |e164: &str, at_a_place| of_number(e164, at_a_place).iter().map(|zone| zone.name()).collect::<Vec<_>>();
        assert_eq!(names("+12125550137", true), ["America/New_York"]);
        assert_eq!(names("+73952123456", true), ["Asia/Irkutsk"]);
        assert_eq!(names("+4915123456789", false), ["Europe/Berlin"]);
        assert_eq!(names("+351912345670", false), ["Atlantic/Azores", "Europe/Lisbon"]);
        assert_eq!(names("+12125550137", false).len(), 42);
        for unknown in ["+80012345678", "+0", "+", "", "+ab", "é"] {
            assert_eq!(names(unknown, true), [""; 0], "{unknown}");
        }
    }
}
