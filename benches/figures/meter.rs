//! What the processes of an installation use, from `/proc` (proc(5)): CPU time and memory of each with its children.

use anyhow::Context as _;
use rollcall::ops::installation::Installation;

/// CPU time used so far, ms, by who used it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) api: f64,
    pub(crate) workers: f64,
    pub(crate) postgres: f64,
    pub(crate) redis: f64,
}

impl Cpu {
    /// Everything but the carrier.
    pub(crate) fn total(&self) -> f64 {
        self.api + self.workers + self.postgres + self.redis
    }

    /// What was used since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            api: self.api - earlier.api,
            workers: self.workers - earlier.workers,
            postgres: self.postgres - earlier.postgres,
            redis: self.redis - earlier.redis,
        }
    }
}

/// The names of the workers that run.
fn workers(all: &mut Installation) -> Vec<&'static str> {
    ["worker", "worker-2", "worker-3", "worker-4"]
        .into_iter()
        .filter(|name| all.children().runs(name).unwrap_or(false))
        .collect()
}

/// CPU time used so far by the processes of an installation.
#[cfg(target_os = "linux")]
pub(crate) fn cpu(all: &mut Installation) -> anyhow::Result<Cpu> {
    let mut of = |name: &str| -> anyhow::Result<f64> {
        tree_cpu(all.children().pid(name).with_context(|| format!("{name} does not run"))?)
    };
    let (api, postgres, redis) = (of("api")?, of("postgres")?, of("redis")?);
    let mut sum = 0.0;
    for name in workers(all) {
        sum += tree_cpu(all.children().pid(name).with_context(|| format!("{name} does not run"))?)?;
    }
    Ok(Cpu { api, workers: sum, postgres, redis })
}

/// Memory of api and workers together, MiB: their own pages and their share of common ones (PSS).
#[cfg(target_os = "linux")]
pub(crate) fn pss_mib(all: &mut Installation) -> anyhow::Result<f64> {
    let mut names = workers(all);
    names.push("api");
    let mut kib = 0;
    for name in names {
        let pid = all.children().pid(name).with_context(|| format!("{name} does not run"))?;
        let rollup = procfs::process::Process::new(i32::try_from(pid)?)?.smaps_rollup()?;
        // The kernel says "kB" and means KiB; procfs gives bytes.
        let bytes: u64 = rollup.memory_map_rollup.iter().filter_map(|map| map.extension.map.get("Pss")).sum();
        kib += bytes / 1024;
    }
    Ok(kib as f64 / 1024.0)
}

/// CPU of a process and of everything that it started, ms. Children that have ended are in their parent's own sum.
#[cfg(target_os = "linux")]
fn tree_cpu(root: u32) -> anyhow::Result<f64> {
    let stats: Vec<procfs::process::Stat> =
        procfs::process::all_processes()?.flatten().filter_map(|process| process.stat().ok()).collect();
    let mut family = vec![i32::try_from(root)?];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(stats.iter().filter(|stat| stat.ppid == parent).map(|stat| stat.pid));
        at += 1;
    }
    let ticks: i64 = stats
        .iter()
        .filter(|stat| family.contains(&stat.pid))
        .map(|stat| i64::try_from(stat.utime + stat.stime).unwrap_or(0) + stat.cutime + stat.cstime)
        .sum();
    Ok(ticks as f64 * 1000.0 / procfs::ticks_per_second() as f64)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu(_: &mut Installation) -> anyhow::Result<Cpu> {
    anyhow::bail!("the bench reads /proc; it runs on Linux")
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pss_mib(_: &mut Installation) -> anyhow::Result<f64> {
    anyhow::bail!("the bench reads /proc; it runs on Linux")
}
