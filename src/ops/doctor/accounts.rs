//! Carrier accounts: they open with the sealing key, the carrier takes them, and it can be asked about their calls.

use super::{Check, Fault};
use crate::{
    businesses::{
        standing::{self, Standing},
        store::Health,
    },
    context::Context,
    dialing::cleanup::span,
};

/// Every account.
pub(super) async fn check(ctx: &Context) -> anyhow::Result<Check> {
    let accounts = standing::accounts(&ctx.stores.pg).await?;
    let faults = accounts.iter().flat_map(|account| faults_of(ctx, account)).collect();
    Ok(Check::of("accounts", format!("{} accounts, none refused, down or held shut", accounts.len()), faults))
}

fn faults_of(ctx: &Context, account: &Standing) -> Vec<Fault> {
    let whose = format!("{} of business {}", account.carrier, account.business);
    let why = account.detail.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    let until = account.hold_until.map(|at| format!(", next try {at}")).unwrap_or_default();
    let mut faults = Vec::new();
    if let Err(error) = ctx.vault.open(account.business, account.carrier, &account.secret, &account.sealing_key) {
        let advice = "start all programs with the ROLLCALL_SEALING_KEY that sealed it, or set the account anew";
        faults.push(Fault::fail(format!("{whose}: {error}"), advice));
    }
    match account.health {
        Health::Refused => faults.push(Fault::fail(
            format!("{whose}: the carrier refuses it{why}{until}"),
            format!("set its credentials anew: PUT /v1/businesses/{{id}}/carriers/{}; no job is lost", account.carrier),
        )),
        Health::Down => faults.push(Fault::warn(
            format!("{whose}: the carrier cannot be reached{why}{until}"),
            "look at the carrier's status page; it is tried again by itself",
        )),
        Health::Ok | Health::Unchecked => {}
    }
    if let Some(ms) = account.unreadable_ms {
        let evidence = format!("{whose}: its calls cannot be asked about for {}; their slots stay held", span(ms));
        faults.push(Fault::fail(evidence, "look at the carrier's status page and the worker's log"));
    }
    faults
}
