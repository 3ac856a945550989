//! What a rule for machines needs to be carried out: words, and what stands in them.

use serde_json::Map;

use crate::{agents::Definition, error::FieldError, leads::Template, runs::Machine};

/// What does not fit: a text that is no template, or nothing to leave on a machine. `agent` talks, where one does.
pub(in crate::dialing) fn faults(rule: &Machine, agent: Option<&Definition>) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if let Some(Err(error)) = rule.message.as_ref().map(|message| Template::parse(&message.text)) {
        faults.push(FieldError::new("/machine/message/text", "invalid_template", error.to_string()));
    }
    let nothing = rule.message.is_none() && agent.is_some_and(|agent| agent.voicemail.is_none());
    if rule.leaves() && nothing {
        let detail = "The agent leaves nothing on answering machines: give it a voicemail, or write a message here.";
        faults.push(FieldError::new("/machine/message", "missing", detail));
    }
    faults
}

/// The variables that the message for machines names.
///
/// # Errors
/// Where its text, which was stored, is no template.
pub(in crate::dialing) fn needed(rule: &Machine) -> anyhow::Result<Vec<String>> {
    let Some(message) = &rule.message else { return Ok(Vec::new()) };
    Ok(Template::parse(&message.text)?.missing(&Map::new()))
}
