//! The body of a Twilio callback: any bytes are an event or a refusal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::carriers::twilio::{callback::call_event, form::Form};

fuzz_target!(|body: &[u8]| {
    let Ok(form) = Form::parse(body) else { return };
    if let Ok(event) = call_event(&form) {
        assert_eq!(form.get("CallSid"), event.call_id.as_deref());
        assert_eq!(form.get("AccountSid"), event.account.as_deref());
    }
});
