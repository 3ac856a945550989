//! Standbys of Postgres: whether one that is promoted has every commit that was acknowledged.

use super::{Check, Fault};
use crate::{context::Context, stores::Standby};

const NAME: &str = "postgres_standbys";
const MAKE_ONE: &str = "never promote it, or name it in synchronous_standby_names (docs/operations.md, Failover)";

/// Warns where standbys are attached and no commit waits for any of them.
pub(super) async fn check(ctx: &Context) -> anyhow::Result<Check> {
    let commit = ctx.stores.postgres().await?.synchronous_commit;
    Ok(judge(&commit, &ctx.stores.standbys().await?))
}

fn judge(synchronous_commit: &str, standbys: &[Standby]) -> Check {
    if standbys.is_empty() {
        return Check::ok(NAME, "none is attached");
    }
    let waited_for = |standby: &Standby| matches!(standby.sync_state.as_deref(), Some("sync" | "quorum"));
    let mut faults: Vec<Fault> = Vec::new();
    if !standbys.iter().any(waited_for) {
        faults.extend(standbys.iter().map(not_waited_for));
    } else if matches!(synchronous_commit, "off" | "local") {
        let evidence = format!("synchronous_commit is {synchronous_commit}: no commit waits for a standby");
        faults.push(Fault::warn(evidence, "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()"));
    }
    let kinds = standbys.iter().map(|standby| {
        let kind = if waited_for(standby) { "commits wait for it" } else { "no commit waits for it: never promote it" };
        format!("{}: {kind}", standby.name)
    });
    Check::of(NAME, kinds.collect::<Vec<_>>().join("\n"), faults)
}

fn not_waited_for(standby: &Standby) -> Fault {
    let name = &standby.name;
    let Some(kind) = &standby.sync_state else {
        let evidence = format!("{name} takes the log of Postgres, and this role may not see how");
        return Fault::warn(evidence, "GRANT pg_monitor TO the role of DATABASE_URL, and ask again");
    };
    let bytes = standby.behind_bytes.map(|bytes| format!(", {bytes} bytes behind")).unwrap_or_default();
    let time = standby.behind_ms.map(|ms| format!(", {ms} ms late of late")).unwrap_or_default();
    let evidence = format!(
        "{name} is {kind}{bytes}{time}: promoted, it lacks commits that were acknowledged, and their numbers are called again"
    );
    Fault::warn(evidence, MAKE_ONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Verdict;

    fn standby(name: &str, kind: Option<&str>) -> Standby {
        let sync_state = kind.map(str::to_owned);
        Standby { name: name.to_owned(), sync_state, behind_bytes: Some(42), behind_ms: None }
    }

    #[test]
    fn standbys_are_well_where_commits_wait_for_one_of_them() {
        let of = |commit: &str, all: &[(&str, Option<&str>)]| {
            judge(commit, &all.iter().map(|(name, kind)| standby(name, *kind)).collect::<Vec<_>>())
        };
        assert_eq!(of("on", &[]).verdict, Verdict::Ok);
        for kind in ["sync", "quorum"] {
            assert_eq!(of("on", &[("a", Some(kind)), ("b", Some("async"))]).verdict, Verdict::Ok);
        }
        let local = of("local", &[("a", Some("sync"))]);
        assert_eq!(local.verdict, Verdict::Warn, "{local:?}");
        let alone = of("on", &[("b", Some("async"))]);
        assert!(
            alone.verdict == Verdict::Warn && alone.evidence.starts_with("b is async, 42 bytes behind"),
            "{alone:?}"
        );
        let hidden = of("on", &[("process 7", None)]);
        assert!(hidden.verdict == Verdict::Warn && hidden.advice.unwrap().contains("pg_monitor"));
    }
}
