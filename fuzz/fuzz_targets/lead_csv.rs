//! A file of leads: any bytes are leads and rejections, or no list, and every lead may be dialed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::leads::{Country, CsvLeads, NumberRules};

fuzz_target!(|file: &[u8]| {
    let region: Country = "US".parse().expect("a country");
    let rules = NumberRules::new(region);
    let read = async {
        let Ok(mut leads) = CsvLeads::open(file, rules).await else { return };
        let mut lines = 0;
        while let Ok(Some(batch)) = leads.next_batch(100).await {
            lines += batch.rows();
            assert!(batch.leads.iter().all(|(_, lead)| lead.to.as_str().starts_with('+')));
        }
        assert!(lines <= file.len());
    };
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(read);
});
