//! What a call hears that asks for its words: when it was answered, when all was said, and when a message is to be left.

use crate::{
    attempts::{
        detection::{self, Noted},
        ledger::Said,
        state::Source,
    },
    carriers::{AnsweredBy, CallEvent},
    config::without_slash,
    context::Context,
    dialing::{
        answer::{self, Hears},
        machine::{Deed, LEAVING_MS, LISTENS_MS, deed, last_words, late::ask_carrier, listened},
    },
    error::ApiError,
    ids::{AttemptId, BusinessId},
};

/// A carrier that asks for words has told who picked up by then, seconds after the answer, or its word is lost.
const TOLD_SECS: i32 = 45;

/// What a call hears that is listened to and asks for words: now that it was answered, or now that it is known by whom.
///
/// # Errors
/// Where a store does not answer: nothing is known then.
pub async fn hears(ctx: &Context, key: (BusinessId, AttemptId), event: &CallEvent) -> Result<Hears, ApiError> {
    let by = event.answered_by.map(AnsweredBy::as_str);
    let said = Said {
        call_id: event.call_id.as_deref(),
        answered_by: by,
        carrier_status: Some(&event.carrier_status),
        ..Said::default()
    };
    let more_ms = if by.is_some() { LISTENS_MS } else { 0 };
    let Some(may) = answer::may_hear(ctx, key, Source::Webhook, &said, more_ms).await? else {
        return Ok(Hears::Nothing);
    };
    let Some((rule, it)) = listened(ctx, key).await? else { return answer::heard(ctx, key, may).await };
    match deed(&rule, by) {
        Some(Deed::HangUp) => Ok(Hears::Nothing),
        Some(Deed::Leave) => {
            detection::note(&ctx.stores.pg, key, Noted::GreetingOver).await?;
            match last_words(&rule, &it)? {
                Some(speech) => {
                    detection::takes_leave(&ctx.stores.pg, key.1, 0).await?;
                    detection::decided(&ctx.stores.pg, key.1).await?;
                    Ok(Hears::Voicemail(speech))
                }
                None => answer::heard(ctx, key, may).await,
            }
        }
        Some(Deed::Talk) | None => Ok(match answer::heard(ctx, key, may).await? {
            // Who it was may be told when all was said: until then the call is kept.
            Hears::Speech(speech) if by.is_none() && rule.leaves() => Hears::SpeechThenAsk(speech),
            hears => hears,
        }),
    }
}

/// Why a call that is listened to asks what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing is known of it: a media stream was closed.
    Stream,
    /// All was said that is said to a person.
    Message,
    /// It was told to ask, to be left a message.
    Detection,
    /// The message for machines was said.
    Voicemail,
}

impl After {
    /// What stands in the address that is asked.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Message => "message",
            Self::Detection => "detection",
            Self::Voicemail => "voicemail",
        }
    }

    /// What a word in the address says; any other one says nothing.
    #[must_use]
    pub fn read(word: Option<&str>) -> Self {
        let all = [Self::Message, Self::Detection, Self::Voicemail];
        all.into_iter().find(|after| Some(after.word()) == word).unwrap_or(Self::Stream)
    }
}

/// Where a call is to ask what comes next.
#[must_use]
pub fn resume_url(ctx: &Context, token: &str, after: After) -> String {
    let base = without_slash(&ctx.settings.public_base_url);
    match after {
        After::Stream => format!("{base}/webhooks/twilio/resume/{token}"),
        after => format!("{base}/webhooks/twilio/resume/{token}?after={}", after.word()),
    }
}

/// What a call hears that asks what comes next.
///
/// # Errors
/// Where a store does not answer.
pub async fn goes_on(
    ctx: &Context,
    key: (BusinessId, AttemptId),
    event: &CallEvent,
    after: After,
) -> Result<Hears, ApiError> {
    let pg = &ctx.stores.pg;
    if after == After::Voicemail {
        detection::note(pg, key, Noted::Left).await?;
        return Ok(Hears::Nothing);
    }
    let Some((rule, mut it)) = listened(ctx, key).await?.filter(|_| after != After::Stream) else {
        return answer::once_more(ctx, key).await;
    };
    if it.by.is_none() && it.answered_secs.is_none_or(|secs| secs >= TOLD_SECS) {
        if let (Some(account), Some(call_id)) = (&event.account, &event.call_id)
            && let Some(account) = ctx.account(key.0, account).await?
        {
            ask_carrier(ctx, &account, key, call_id).await;
        }
        it = listened(ctx, key).await?.map_or(it, |(_, it)| it);
        it.by.get_or_insert_with(|| AnsweredBy::Unknown.as_str().to_owned());
    }
    if !it.open {
        return Ok(Hears::Nothing);
    }
    match deed(&rule, it.by.as_deref()) {
        None => Ok(Hears::Waits),
        Some(Deed::Talk | Deed::HangUp) => Ok(Hears::Nothing),
        Some(Deed::Leave) if after == After::Message && !detection::takes_leave(pg, key.1, LEAVING_MS).await? => {
            Ok(Hears::Waits)
        }
        Some(Deed::Leave) => {
            detection::decided(pg, key.1).await?;
            Ok(last_words(&rule, &it)?.map_or(Hears::Nothing, Hears::Voicemail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_says_why_it_is_asked() {
        for after in [After::Stream, After::Message, After::Detection, After::Voicemail] {
            assert_eq!(After::read(Some(after.word())), after);
        }
        assert_eq!(After::read(None), After::Stream);
    }
}
