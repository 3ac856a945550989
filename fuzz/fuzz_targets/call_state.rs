//! A call as the carrier's answer shows it: any JSON is a call or unreadable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::carriers::twilio::resource::Call;

fuzz_target!(|answer: &[u8]| {
    if let Ok(Call(view)) = serde_json::from_slice::<Call>(answer) {
        assert!(view.call_id.starts_with("CA") && view.call_id.len() == 34);
        let _ = format!("{view:?}");
    }
});
