//! Why a single call is not admitted, as its client reads it.

use crate::{
    context::Context,
    dialing::overview::count_rejected,
    error::{ApiError, FieldError, Slug},
    telemetry::metrics::TurnedAway,
};

/// The problem for each of `admit_call`'s words.
pub(super) async fn refusal(ctx: &Context, why: &str) -> ApiError {
    let field = |pointer: &str, code: &'static str, detail: &str| {
        ApiError::validation(vec![FieldError::new(pointer, code, detail)])
    };
    match why {
        "business" => ApiError::new(Slug::Conflict, "The business is suspended; nothing is dialed for it."),
        "account" => field("/carrier", "no_account", "The business has no account to call with there. PUT it first."),
        "suppressed" => field("/to", "suppressed", "This number is on the business's suppression list."),
        "in_call" => {
            ApiError::new(Slug::Conflict, "This number is being called already; see GET /v1/jobs?to= and /v1/calls.")
        }
        "attempt_cap" => {
            let detail = "This number was dialed as often as the business dials one, for now or for good; see GET /v1/numbers/{number}.";
            ApiError::new(Slug::Conflict, detail).with("code", "attempt_cap")
        }
        "caller" => {
            let detail = "No number to call from is free: each has as many calls as it may have, at once or today, or is switched off. Try again.";
            ApiError::new(Slug::AtCapacity, detail).retry_after(5)
        }
        "held" => ApiError::new(Slug::AtCapacity, "The carrier holds this account back. Try again.").retry_after(5),
        _ => {
            count_rejected(ctx, TurnedAway::Rejected).await;
            ApiError::new(Slug::AtCapacity, "No slot or line is free for this call now. Try again.").retry_after(1)
        }
    }
}
