//! Numbers are read as libphonenumber reads them.

use rollcall::{
    leads::{E164, NumberError, NumberKind, NumberRules, mask},
    policy::zones,
};

/// Rows that do not agree with the file, each with its reason: none do today. A later release of the numbering
/// plan may differ; then each row stands here as (raw, why), and there may be at most 0.5 % of them.
const KNOWN_TO_DIFFER: [(&str, &str); 0] = [];

fn rules(region: &str) -> NumberRules {
    NumberRules::new(region.parse().unwrap())
}

fn kind_word(kind: NumberKind) -> String {
    serde_json::to_value(kind).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn twelve_hundred_numbers_as_people_write_them_are_read_as_libphonenumber_reads_them() {
    let mut file = csv::Reader::from_path("tests/data/leads_check.csv").unwrap();
    let rows: Vec<_> = file.records().map(Result::unwrap).collect();
    let mut differing = Vec::new();
    for row in &rows {
        let read = rules(&row[1]).read(&row[0]);
        let (said, kind) = match &read {
            Ok(number) => (format!("ok {}", number.e164.as_str()), kind_word(number.kind)),
            Err(_) => ("reject ".to_owned(), String::new()),
        };
        if said != format!("{} {}", &row[2], &row[3]) || kind != row[4] {
            differing.push(row[0].to_owned());
        }
    }
    assert_eq!(rows.len(), 1200);
    assert!(KNOWN_TO_DIFFER.len() * 200 <= rows.len(), "more than 0.5 % differ");
    assert_eq!(differing, KNOWN_TO_DIFFER.map(|(raw, _)| raw.to_owned()));
}

#[test]
fn twelve_hundred_numbers_may_be_in_the_zones_that_libphonenumber_says() {
    let mut file = csv::Reader::from_path("tests/data/leads_check.csv").unwrap();
    let (mut rows, mut zoned, mut differing) = (0, 0, Vec::new());
    for row in file.records().map(Result::unwrap) {
        rows += 1;
        let said = rules(&row[1]).read(&row[0]).map_or_else(
            |_| String::new(),
            |number| {
                let names = zones::of_number(number.e164.as_str(), number.at_a_place).iter().map(|zone| zone.name());
                names.collect::<Vec<_>>().join(";")
            },
        );
        zoned += usize::from(!said.is_empty());
        if said != row[5] {
            differing.push((row[0].to_owned(), said));
        }
    }
    assert_eq!((rows, zoned), (1200, 1099));
    assert_eq!(differing, []);
}

#[test]
fn a_number_that_is_never_dialed_is_refused_by_the_word_for_it() {
    for (region, text, code) in [
        ("US", "", "missing_number"),
        ("US", " \t\u{a0}", "missing_number"),
        ("US", "1 (900) 234-5678", "premium_number"),
        ("GB", "0909 879 0000", "premium_number"),
        ("US", "+979 1 2345 6789", "premium_number"),
        ("US", "+870 773 111 632", "satellite_number"),
        ("US", "+881 6 1234 5678", "satellite_number"),
        ("US", "011 881 6 1234 5678", "satellite_number"),
        ("US", "+882 16 5555 0123", "satellite_number"),
        ("US", "+883 5100 1234 5678", "satellite_number"),
        ("US", "911", "emergency_number"),
        ("US", "9-1-1", "emergency_number"),
        ("US", "９１１", "emergency_number"),
        ("US", "+911", "emergency_number"),
        ("DE", "tel:112", "emergency_number"),
        ("GB", "999", "emergency_number"),
        ("ZA", "10111", "emergency_number"),
        ("US", "411", "short_code"),
        ("US", "24273", "short_code"),
        ("DE", "11833", "short_code"),
        ("US", "555-0134", "invalid_number"),
        ("US", "(212) 555-01", "invalid_number"),
        ("US", "+999 123 456 789", "invalid_number"),
        ("US", "call reception", "invalid_number"),
        ("US", "2.12556E+09", "invalid_number"),
        ("US", "+44 7700 900123", "invalid_number"),
        ("US", "212\u{0}555\u{0}0137", "invalid_number"),
        ("US", "212-555-0123/0124", "too_long"),
        ("US", "+1 212 555 0137 0000 0000", "too_long"),
    ] {
        let error = rules(region).read(text).unwrap_err();
        assert_eq!(error.code(), code, "{text:?} in {region}: {error:?}");
        assert!(error.to_string().ends_with('.'), "{error}");
    }
    for huge in ["1".repeat(10_000_000), "+1".repeat(1000), "ü".repeat(5000), "2125550137;ext=1".repeat(100)] {
        assert_eq!(rules("US").read(&huge), Err(NumberError::TooLong));
    }
}

#[test]
fn a_fictional_number_is_read_in_every_spelling_with_its_extension_apart() {
    for (text, extension) in [
        ("(212) 555-0137", None),
        ("+1 212.555.0137", None),
        ("1-212-555-0137", None),
        ("２１２-５５５-０１３７", None),
        ("tel:+1-212-555-0137;ext=204", Some("204")),
        ("tel:555-0137;phone-context=+1-212", None),
        ("212 555 0137 ext. 7", Some("7")),
        ("(212)555-0137x0012", Some("0012")),
        ("212\u{a0}555\u{2011}0137", None),
        ("\u{202a}+1 212 555 0137\u{202c}", None),
        ("'2125550137", None),
        ("=\"2125550137\"", None),
    ] {
        let number = rules("US").read(text).unwrap();
        assert_eq!((number.e164.as_str(), number.extension.as_deref()), ("+12125550137", extension), "{text}");
        assert_eq!(number.country.unwrap().to_string(), "US");
    }
}

#[test]
fn a_number_with_a_country_code_is_read_alike_in_every_region() {
    for (text, e164) in [("+49 1512 3456789", "+4915123456789"), ("+39 06 1234 5678", "+390612345678")] {
        for region in ["US", "GB", "RU", "IT", "SM", "AC"] {
            assert_eq!(rules(region).read(text).unwrap().e164.as_str(), e164, "{text} in {region}");
        }
    }
}

#[test]
fn a_country_that_is_not_allowed_is_refused_even_with_a_shared_country_code() {
    let allowing = |codes: &[&str]| rules("US").allowing(Some(codes.iter().map(|c| c.parse().unwrap()).collect()));
    assert!(allowing(&["US", "GB"]).read("+44 20 7946 0123").is_ok());
    for (allowed, text) in [
        (&["US"][..], "+44 20 7946 0123"),
        (&["US"], "+1 416 555 0137"),
        (&["US"], "+800 1234 5678"),
        (&[], "+1 212 555 0137"),
    ] {
        let error = allowing(allowed).read(text).unwrap_err();
        assert_eq!(error.code(), "country_not_allowed", "{text}");
    }
    assert!(allowing(&["US"]).read("+44 20 7946 0123").unwrap_err().to_string().contains("GB"));
}

#[test]
fn a_log_line_never_shows_a_whole_number() {
    assert_eq!(mask("+12125550137"), "+*********37");
    assert_eq!(mask("+1 (212) 555-0137"), "+**************37");
    for short in ["", "9", "911", "12345"] {
        assert_eq!(mask(short), "*".repeat(short.len()));
    }
    let number = rules("US").read("212 555 0137 x12").unwrap();
    assert!(!format!("{number:?}").contains("5550137"));
}

#[test]
fn only_the_shape_of_e164_becomes_one_without_being_read() {
    assert!(E164::try_from("+12125550137".to_owned()).is_ok());
    for other in ["", "+", "12125550137", "+0123456", "+1212555013x", "+1234567890123456", "+1 212", "+１２１２５５"]
    {
        assert!(E164::try_from(other.to_owned()).is_err(), "{other}");
    }
}
