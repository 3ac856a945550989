//! The list that the demo calls: what is in it, and that nobody real is.

use std::collections::HashMap;

use rollcall::leads::{CsvLeads, Lead, NumberRules, Rejected};

/// What `examples/leads.csv` holds; the demo's summary counts the same.
const ROWS: usize = 500;
const DISTINCT: usize = 458;
const DUPLICATES: usize = 30;
const REJECTED: usize = 12;
const SUPPRESSED: usize = 8;

async fn example() -> (Vec<Lead>, Vec<Rejected>) {
    let file = std::fs::read("examples/leads.csv").unwrap();
    assert!(file.starts_with("\u{feff}Phone,".as_bytes()) && file.windows(2).any(|end| end == b"\r\n"));
    let mut list = CsvLeads::open(file.as_slice(), NumberRules::new("US".parse().unwrap())).await.unwrap();
    let batch = list.next_batch(1000).await.unwrap().unwrap();
    assert_eq!(list.next_batch(1000).await.unwrap(), None);
    (batch.leads.into_iter().map(|(_, lead)| lead).collect(), batch.rejected)
}

/// Numbers set aside for fiction: North American 555-0100 to 555-0199 (ATIS, NANP assignment guidelines) and the
/// drama ranges of Ofcom (telephone numbers for use in TV and radio drama).
fn is_fictional(e164: &str) -> bool {
    if let Some(national) = e164.strip_prefix("+1") {
        return national.len() == 10 && national[3..].starts_with("55501");
    }
    let cities = ["113496", "114496", "116496", "117496", "118496", "121496", "131496", "141496", "151496"];
    e164.strip_prefix("+44").is_some_and(|national| {
        let rest = ["207946", "161496", "191498"].iter().chain(&cities).find_map(|c| national.strip_prefix(c));
        rest.is_some_and(|rest| rest.len() == 4 && rest.starts_with('0'))
    })
}

#[tokio::test]
async fn the_example_list_holds_the_rows_that_the_demo_promises() {
    let (leads, rejected) = example().await;
    let mut by_number = HashMap::new();
    for lead in &leads {
        *by_number.entry(lead.to.as_str()).or_insert(0) += 1;
    }
    assert_eq!((leads.len() + rejected.len(), by_number.len()), (ROWS, DISTINCT));
    assert_eq!((leads.len() - by_number.len(), rejected.len()), (DUPLICATES, REJECTED));
    assert!(leads.iter().all(|lead| is_fictional(lead.to.as_str())), "only fictional numbers");
    assert!(leads.iter().all(|lead| lead.variables.contains_key("first_name")));
    assert!(leads.iter().any(|lead| lead.variables.contains_key("extension")));

    let mut codes: Vec<_> = rejected.iter().map(|row| row.code.as_ref()).collect();
    codes.sort_unstable();
    let mut expected = vec!["invalid_number"; 6];
    expected.extend(["emergency_number", "missing_number", "premium_number", "satellite_number"]);
    expected.extend(["short_code", "too_long"]);
    expected.sort_unstable();
    assert_eq!(codes, expected);

    let suppressed = std::fs::read_to_string("examples/suppressed.csv").unwrap();
    let numbers: Vec<_> = suppressed.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(numbers.len(), SUPPRESSED);
    assert!(numbers.iter().all(|number| by_number.contains_key(number)), "each is in the list");
}
