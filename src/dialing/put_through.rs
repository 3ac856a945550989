//! Whom a caller may be put through to: a number that the business may call, and none that would ring here again.
//!
//! Asked when the number is set, and again when it is to be dialed: rules, caller ids and suppressions change meanwhile.

use crate::{
    businesses::{answering, suppressions},
    context::Context,
    dialing::{create, import},
    error::{ApiError, FieldError},
    ids::BusinessId,
    leads::NumberError,
};

/// Reads a number that callers are to be put through to, and adds to `wrong` at `pointer` what speaks against it.
///
/// # Errors
/// Where Postgres does not answer.
pub async fn check(
    ctx: &Context,
    business: BusinessId,
    (pointer, text): (&str, &str),
    wrong: &mut Vec<FieldError>,
) -> Result<(), ApiError> {
    let pg = &ctx.stores.tenant;
    let home = create::home(pg, business).await?;
    let fault = match number(&home, text)? {
        Err(error) => Some((error.code(), error.to_string())),
        Ok(number) if number != text => Some(("invalid_number", format!("Write it in E.164: {number}."))),
        Ok(_) if answering::is_ours(pg, business, text).await? => {
            Some(("own_number", "This is a number of the business: the call would come back.".to_owned()))
        }
        Ok(_) => None,
    };
    wrong.extend(fault.map(|(code, detail)| FieldError::new(pointer, code, detail)));
    Ok(())
}

/// Why nobody is put through to this number now, in a word; `None` where somebody may be.
///
/// # Errors
/// Where Postgres does not answer.
pub(super) async fn refused(ctx: &Context, business: BusinessId, to: &str) -> anyhow::Result<Option<&'static str>> {
    let pg = &ctx.stores.pg;
    let Some(home) = create::known_home(pg, business).await? else { return Ok(Some("business")) };
    Ok(match number(&home, to)? {
        Err(error) => Some(error.code()),
        Ok(_) if answering::is_anybodys(pg, &[to]).await? => Some("own_number"),
        Ok(_) if suppressions::is_suppressed(pg, business, to).await? => Some("suppressed"),
        Ok(_) => None,
    })
}

fn number(home: &create::Home, text: &str) -> anyhow::Result<Result<String, NumberError>> {
    let rules = import::number_rules(&home.default_region, home.allowed_countries.as_deref())?;
    Ok(rules.read(text).map(|number| number.e164.as_str().to_owned()))
}
