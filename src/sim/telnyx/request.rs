//! A dial as Telnyx reads it: which fields there are, and the code for each bad one.
use std::{ops::RangeInclusive, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::{Refusal, streaming::Streaming};
use crate::sim::{
    dial::{self, Dial},
    twilio::token_of,
};

/// Every field of a dial that the sandbox has seen documented (Telnyx's OpenAPI file, 2026-07).
const KNOWN: &str = "answering_machine_detection answering_machine_detection_config assistant audio_url bidirectional_relay \
    billing_group_id bridge_intent bridge_on_answer client_state command_id conference_config connection_id \
    conversation_relay_config custom_headers deepfake_detection dialogflow_config enable_dialogflow from from_display_name \
    link_to media_encryption media_name park_after_unbridge preferred_codecs prevent_double_bridge privacy record \
    record_channels record_custom_file_name record_format record_max_length record_timeout_secs record_track record_trim \
    retry_on_timeout send_digits_on_answer send_silence_when_idle sip_auth_password sip_auth_username sip_headers sip_region \
    sip_transport_protocol sound_modifications stream_auth_token stream_bidirectional_codec stream_bidirectional_mode \
    stream_bidirectional_sampling_rate stream_bidirectional_target_legs stream_codec stream_establish_before_call_originate \
    stream_track stream_url supervise_call_control_id supervisor_role time_limit_secs timeout_secs to transcription \
    transcription_config webhook_retries_policies webhook_url webhook_url_method webhook_urls webhook_urls_method";

/// What is listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detects {
    Nothing,
    /// Who picked up.
    Who,
    /// The end of a machine's greeting, too.
    Greeting,
}

/// What only Telnyx's dial asks for.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(super) client_state: Option<String>,
    pub(super) webhook_url: Option<String>,
    /// Pauses before each repeat of a webhook, by event, ms.
    pub(super) retries: Map<String, Value>,
    pub(super) detects: Detects,
    /// The media stream that opens with the answer.
    pub(super) streaming: Option<Streaming>,
    pub(crate) record: bool,
    pub(super) leg: Uuid,
    pub(super) session: Uuid,
}

/// Reads a dial, or says what Telnyx would refuse it with.
pub(super) fn read(body: &Map<String, Value>) -> Result<Dial, Refusal> {
    let text = |name: &'static str, pointer: &'static str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Refusal::field(10026, pointer, format!("{name} is not a string"))),
    };
    let required = |name: &'static str, pointer: &'static str| {
        text(name, pointer)?.ok_or_else(|| Refusal::field(10004, pointer, format!("{name} is required")))
    };
    let to = required("to", "/to")?;
    let from = required("from", "/from")?;
    for (number, pointer) in [(to, "/to"), (from, "/from")] {
        if !is_e164(number) {
            return Err(Refusal::field(10016, pointer, "Phone number must be in +E164 format"));
        }
    }
    let client_state = text("client_state", "/client_state")?;
    if client_state.is_some_and(|state| STANDARD.decode(state).is_err()) {
        return Err(Refusal::field(90017, "/client_state", "client_state is not base64"));
    }
    let webhook_url = text("webhook_url", "/webhook_url")?;
    if webhook_url.is_some_and(|url| Url::parse(url).is_err()) {
        return Err(Refusal::field(10015, "/webhook_url", "webhook_url is not a URL"));
    }
    if text("webhook_url_method", "/webhook_url_method")?.is_some_and(|method| method != "POST") {
        return Err(Refusal::field(10032, "/webhook_url_method", "The sandbox sends webhooks by POST"));
    }
    let ring = seconds(body, ("timeout_secs", "/timeout_secs"), 5..=600, 90028)?.unwrap_or(30);
    let talk = seconds(body, ("time_limit_secs", "/time_limit_secs"), 30..=14_400, 90029)?.unwrap_or(14_400);
    let detection = text("answering_machine_detection", "/answering_machine_detection")?;
    let order = Order {
        client_state: client_state.map(str::to_owned),
        webhook_url: webhook_url.map(str::to_owned),
        retries: retries(body)?,
        detects: match detection {
            None | Some("disabled") => Detects::Nothing,
            Some("detect" | "detect_words") => Detects::Who,
            Some("greeting_end" | "detect_beep") => Detects::Greeting,
            Some(_) => {
                let pointer = "/answering_machine_detection";
                return Err(Refusal::field(
                    10032,
                    pointer,
                    "The sandbox knows detect, detect_words, detect_beep, greeting_end",
                ));
            }
        },
        streaming: Streaming::read(body)?,
        record: text("record", "/record")? == Some("record-from-answer"),
        leg: Uuid::new_v4(),
        session: Uuid::new_v4(),
    };
    Ok(Dial {
        to: to.to_owned(),
        from: from.to_owned(),
        ring_limit: Duration::from_secs(ring),
        time_limit: Duration::from_secs(talk),
        token: webhook_url.and_then(token_of),
        order: dial::Order::Telnyx(order),
        inbound: false,
    })
}

/// Names that Telnyx would not know, each once.
pub(super) fn unknown_fields(body: &Map<String, Value>) -> Vec<String> {
    body.keys().filter(|name| !KNOWN.split_whitespace().any(|known| known == *name)).cloned().collect()
}

/// Strictly: a comma would be dialed on as tones.
fn is_e164(number: &str) -> bool {
    let digits = number.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

fn seconds(
    body: &Map<String, Value>,
    (name, pointer): (&'static str, &'static str),
    range: RangeInclusive<u64>,
    code: u32,
) -> Result<Option<u64>, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|seconds| range.contains(seconds)) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(Refusal::field(code, pointer, format!("{name} is not within {range:?}"))),
        },
    }
}

/// At most five repeats and a minute in all for each event.
pub(super) fn retries(body: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let wrong = || Refusal::field(10015, "/webhook_retries_policies", "webhook_retries_policies cannot be used");
    let Some(policies) = body.get("webhook_retries_policies") else { return Ok(Map::new()) };
    let policies = policies.as_object().ok_or_else(wrong)?;
    for policy in policies.values() {
        let pauses = policy["retries_ms"].as_array().ok_or_else(wrong)?;
        let sum: Option<u64> = pauses.iter().map(Value::as_u64).sum();
        if pauses.len() > 5 || sum.is_none_or(|sum| sum > 60_000) {
            return Err(wrong());
        }
    }
    Ok(policies.clone())
}
