//! Numbers that reach an emergency service, so that their rejection can be named.
//!
//! None of them is a valid E.164 number, so each would be rejected in any case: the table only picks the word,
//! and a number missing from it is still rejected, as a short code.

use crate::country::Country;

/// One line per country: its code, then its numbers. `#` begins a comment, which names the source.
const BY_COUNTRY: &str = include_str!("emergency_numbers.txt");

/// Numbers that mean an emergency to people and to telephones wherever they are: 112 and 911 (ITU-T E.161.1), and
/// those that whole continents know.
const EVERYWHERE: [&str; 4] = ["000", "112", "911", "999"];

/// True where `digits`, dialed in `country`, would ring an emergency service.
pub(super) fn is_emergency(digits: &str, country: Country) -> bool {
    let country = country.to_string();
    let mut listed = numbers().filter(|(code, _)| *code == country).flat_map(|(_, numbers)| numbers);
    EVERYWHERE.contains(&digits) || listed.any(|number| fits(number, digits))
}

/// The countries with their numbers.
fn numbers() -> impl Iterator<Item = (&'static str, std::str::Split<'static, char>)> {
    let lines = BY_COUNTRY.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).map(|(code, numbers)| (code, numbers.split(' ')))
}

/// Whether `digits` is the number; its question marks stand for any digit.
fn fits(number: &str, digits: &str) -> bool {
    number.len() == digits.len() && number.bytes().zip(digits.bytes()).all(|(n, d)| n == d || n == b'?')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::{NumberError, NumberRules};

    #[test]
    fn no_emergency_number_of_any_country_is_ever_accepted() {
        let mut countries = 0;
        for (code, listed) in numbers() {
            countries += 1;
            let rules = NumberRules::new(code.parse().unwrap());
            for number in listed.chain(EVERYWHERE) {
                let digits = number.replace('?', "7");
                assert_eq!(rules.read(&digits), Err(NumberError::Emergency), "{digits} in {code}");
            }
        }
        assert_eq!(countries, 240);
    }
}
