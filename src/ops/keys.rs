//! `rollcall-ops keys`: the API keys of a business, where nobody has a key yet or the operator's is not at hand.

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::json;

use crate::{
    businesses::{
        audit,
        keys::{self, Key, Role},
        rules, store,
    },
    clock::Time,
    config::Settings,
    ids::{BusinessId, KeyId},
    ops::{
        exit, open,
        print::{Form, List, cell, moment, table},
        runs::word,
    },
};

/// Who did it, in the audit.
const ACTOR: &str = "rollcall-ops";
/// Keys per read.
const PAGE: i64 = 500;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// List keys, revoked ones too.
    List(Box<Of>),
    /// Make a key. It is printed this once and kept nowhere.
    Create(Box<Create>),
    /// Revoke a key: it is dead everywhere within 5 s.
    Revoke(Box<Revoke>),
}

/// Whose.
#[derive(Debug, Args)]
pub(super) struct Of {
    /// The business.
    business: BusinessId,
    #[command(flatten)]
    form: Form,
    #[command(flatten, next_help_heading = "Settings")]
    settings: Settings,
}

/// A key to be made.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    of: Of,
    /// What it may do: viewer reads, manager acts.
    #[arg(long, value_parser = role)]
    role: Role,
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
}

/// A key to be revoked.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    of: Of,
    /// The key's id, as `keys list` shows it.
    #[arg(long)]
    key: KeyId,
}

fn role(text: &str) -> Result<Role, String> {
    word(text)
}

/// A key as the API shows it.
#[derive(Debug, Serialize)]
struct Shown {
    id: KeyId,
    prefix: String,
    role: Role,
    name: Option<String>,
    created_at: Time,
    revoked_at: Option<Time>,
    /// The key itself, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Shown {
    fn of(key: Key, text: Option<String>) -> Self {
        let Key { id, prefix, role, name, created_at, revoked_at, .. } = key;
        Self {
            id,
            prefix,
            role,
            name,
            created_at: created_at.into(),
            revoked_at: revoked_at.map(Into::into),
            key: text,
        }
    }
}

/// Lists, makes or revokes.
///
/// # Errors
/// Where there is no such business or key, or Postgres does not answer.
pub(super) async fn keys(order: Keys) -> anyhow::Result<u8> {
    match order {
        Keys::List(order) => list(*order).await?,
        Keys::Create(order) => create(*order).await?,
        Keys::Revoke(order) => revoke(*order).await?,
    }
    Ok(exit::OK)
}

async fn list(order: Of) -> anyhow::Result<()> {
    let stores = open::stores(&order.settings)?;
    if !store::exists(&stores.pg, order.business).await? {
        anyhow::bail!("there is no business {}", order.business);
    }
    let mut found: Vec<Key> = Vec::new();
    loop {
        let page = keys::list(&stores.pg, order.business, found.last().map(|key| key.id), PAGE).await?;
        let full = i64::try_from(page.len())? == PAGE;
        found.extend(page);
        if !full {
            break;
        }
    }
    order.form.print(&List::whole(found.into_iter().map(|key| Shown::of(key, None)).collect()), text)
}

async fn create(order: Create) -> anyhow::Result<()> {
    let stores = open::stores(&order.of.settings)?;
    let name = match order.name.as_deref().map(rules::name).transpose() {
        Ok(name) => name,
        Err((_, why)) => anyhow::bail!("--name {why}"),
    };
    let mut tx = stores.pg.begin().await?;
    let made = keys::create(&mut *tx, order.of.business, name.as_deref(), order.role).await?;
    let Some((key, text)) = made else { anyhow::bail!("there is no business {}", order.of.business) };
    let detail = json!({"key_id": key.id, "role": order.role});
    audit::note(&mut *tx, Some(order.of.business.0), ACTOR, "key.create", &detail).await?;
    tx.commit().await?;
    order.of.form.print(&Shown::of(key, Some(text.expose_secret().to_owned())), |made| {
        format!("{}\nThe key, shown this once: {}", row_table([made]), cell(made.key.as_ref()))
    })
}

async fn revoke(order: Revoke) -> anyhow::Result<()> {
    let (stores, business) = (open::stores(&order.of.settings)?, order.of.business);
    let mut tx = stores.pg.begin().await?;
    if !keys::revoke(&mut *tx, business, order.key).await? {
        anyhow::bail!("business {business} has no key {}", order.key);
    }
    audit::note(&mut *tx, Some(business.0), ACTOR, "key.revoke", &json!({"key_id": order.key})).await?;
    tx.commit().await?;
    let answer = json!({"id": order.key, "revoked": true});
    order.of.form.print(&answer, |_| format!("{} is revoked; it is dead everywhere within 5 s.", order.key))
}

fn text(list: &List<Shown>) -> String {
    if list.data.is_empty() { "The business has no key.".into() } else { row_table(&list.data) }
}

fn row_table<'a>(keys: impl IntoIterator<Item = &'a Shown>) -> String {
    let rows = keys.into_iter().map(|key| {
        let role = match key.role {
            Role::Viewer => "viewer",
            Role::Manager => "manager",
        };
        [
            key.id.to_string(),
            format!("{}…", key.prefix),
            role.to_owned(),
            cell(key.name.as_ref()),
            moment(key.created_at),
            cell(key.revoked_at.map(moment)),
        ]
    });
    table(["key", "begins", "role", "name", "made", "revoked"], rows)
}
