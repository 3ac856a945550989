//! Numbers that reach an emergency service, so that their rejection can be named.
//!
//! None of them is a valid E.164 number, so each would be rejected in any case: the table only picks the word,
//! and a number missing from it is still rejected, as a short code.

use super::country::Country;

/// Emergency numbers wherever one is: 112 and 911 (ITU-T E.161.1), and those that many plans share.
const EVERYWHERE: [&str; 6] = ["000", "08", "110", "112", "911", "999"];

/// Further emergency numbers per country (ITU-T E.129, national numbers for emergency services).
const BY_COUNTRY: [(&str, &[&str]); 40] = [
    ("AR", &["100", "101", "107"]),
    ("AT", &["122", "133", "144"]),
    ("AU", &["106"]),
    ("BE", &["100", "101"]),
    ("BR", &["190", "191", "192", "193"]),
    ("CH", &["117", "118", "144"]),
    ("CL", &["131", "132", "133"]),
    ("CN", &["119", "120", "122"]),
    ("CO", &["123", "125", "132"]),
    ("CR", &["118"]),
    ("CZ", &["150", "155", "156", "158"]),
    ("EG", &["122", "123", "180"]),
    ("ES", &["061", "062", "080", "085", "091", "092"]),
    ("FR", &["114", "115", "119", "15", "17", "18", "191", "196"]),
    ("GR", &["100", "108", "166", "199"]),
    ("HK", &["992"]),
    ("HU", &["104", "105", "107"]),
    ("ID", &["113", "115", "118", "119"]),
    ("IL", &["100", "101", "102"]),
    ("IN", &["100", "101", "102", "108"]),
    ("IR", &["115", "123", "125"]),
    ("IT", &["113", "115", "118"]),
    ("JP", &["118", "119"]),
    ("KE", &["114"]),
    ("KR", &["113", "118", "119", "125"]),
    ("MA", &["15", "150", "177", "19", "190"]),
    ("NG", &["199"]),
    ("NO", &["113"]),
    ("NZ", &["111"]),
    ("PE", &["105", "106", "116"]),
    ("PH", &["117"]),
    ("PK", &["115", "15", "16"]),
    ("PL", &["997", "998"]),
    ("RU", &["101", "102", "103", "104"]),
    ("SA", &["993", "997", "998"]),
    ("SG", &["995"]),
    ("TH", &["191", "1669"]),
    ("TR", &["155", "156", "158", "177"]),
    ("UA", &["101", "102", "103", "104"]),
    ("ZA", &["10111", "10177"]),
];

/// True where `digits`, dialed in `country`, would ring an emergency service.
pub(super) fn is_emergency(digits: &str, country: Country) -> bool {
    let country = country.to_string();
    EVERYWHERE.contains(&digits)
        || BY_COUNTRY.iter().any(|(code, numbers)| *code == country && numbers.contains(&digits))
}

#[cfg(test)]
mod tests {
    use crate::leads::{NumberError, NumberRules};

    use super::*;

    #[test]
    fn no_emergency_number_of_any_country_is_ever_accepted() {
        let listed = BY_COUNTRY.iter().flat_map(|(code, numbers)| numbers.iter().map(move |n| (*code, *n)));
        let shared = BY_COUNTRY.iter().flat_map(|(code, _)| EVERYWHERE.iter().map(move |n| (*code, *n)));
        for (code, digits) in listed.chain(shared) {
            let rules = NumberRules::new(code.parse().unwrap());
            assert_eq!(rules.read(digits), Err(NumberError::Emergency), "{digits} in {code}");
        }
    }
}
