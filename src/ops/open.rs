//! Opens the stores for a command, without waiting for one that is down.

use serde_json::Value;

use crate::{
    config::{LogLevel, Settings},
    context::Context,
    error::ApiError,
    ops::exit::Contradiction,
    stores::Stores,
    telemetry,
};

const NAME: &str = "rollcall-ops";

/// At INFO the flows tell what the command's own answer tells: warnings are enough, unless more was asked for.
fn start_logs(settings: &Settings) {
    let level = if settings.log_level == LogLevel::Info { LogLevel::Warn } else { settings.log_level };
    telemetry::start_logs(&Settings { log_level: level, ..settings.clone() });
}

/// The stores, for commands that need no secret.
///
/// # Errors
/// Where an address cannot be read.
pub(super) fn stores(settings: &Settings) -> anyhow::Result<Stores> {
    start_logs(settings);
    let wrong = settings.addresses_wrong();
    if !wrong.is_empty() {
        return Err(Contradiction::Unreadable(wrong.join("\n")).into());
    }
    Stores::lazily(settings, NAME).map_err(|error| Contradiction::Unreadable(format!("{error:#}")).into())
}

/// One of everything, for commands that talk to carriers.
///
/// # Errors
/// With a [`Contradiction`] where no program would start with these settings.
pub(super) fn context(settings: Settings) -> anyhow::Result<Context> {
    let wrong = settings.contradictions();
    if !wrong.is_empty() {
        return Err(Contradiction::Fight(wrong.join("\n")).into());
    }
    uncertain(settings)
}

/// A flow's refusal as a sentence, with every field that does not fit.
pub(super) fn plain(error: ApiError) -> anyhow::Error {
    let body = error.body();
    let fields = body["errors"].as_array().into_iter().flatten();
    let whole = body["detail"].as_str().unwrap_or_default();
    let told = |field: &Value| {
        let said = |part: &str| field[part].as_str().unwrap_or_default().to_owned();
        // The whole document has no pointer.
        let parts: Vec<String> =
            [said("pointer"), said("detail")].into_iter().filter(|part| !part.is_empty()).collect();
        // Of one fault the whole says all.
        parts.iter().any(|part| !whole.contains(part)).then(|| parts.join(" "))
    };
    let lines = std::iter::once(whole.to_owned()).chain(fields.filter_map(told));
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    match error.into_inner() {
        Some(inner) => inner,
        None => anyhow::anyhow!("{}", lines.join("\n  ")),
    }
}

/// One of everything, for the doctor, who judges settings himself: only what cannot be opened is refused.
///
/// # Errors
/// With a [`Contradiction`] where there is no usable sealing key, or the address of a store cannot be read.
pub(super) fn uncertain(settings: Settings) -> anyhow::Result<Context> {
    start_logs(&settings);
    Context::lazily(settings, NAME).map_err(|error| Contradiction::Fight(format!("{error:#}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FieldError;

    #[test]
    fn a_refusal_says_each_fault_once_and_where() {
        let said = |error: ApiError| plain(error).to_string();
        let fault = |pointer: &str| FieldError::new(pointer, "invalid", "This does not fit.");
        assert_eq!(said(ApiError::validation(vec![fault("")])), "This does not fit.");
        assert_eq!(said(ApiError::validation(vec![fault("/to")])), "/to: This does not fit.");
        assert_eq!(
            said(ApiError::validation(vec![fault("/to"), fault("/from")])),
            "2 fields do not fit.\n  /to This does not fit.\n  /from This does not fit."
        );
        assert!(said(ApiError::not_available("/hooks", "Hooks")).contains("/hooks"));
    }
}
