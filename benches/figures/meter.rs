//! What the processes of an installation use, from `/proc` (proc(5)): CPU time and memory of each with its children; and
//! what a worker has measured itself, from its `/metrics`.

use anyhow::Context as _;
use rollcall::ops::installation::Installation;

/// From the ring of a bell to the POST that it led to, as the first worker has counted since it started.
const BELL_TO_POST: &str = "rollcall_bell_to_post_seconds_bucket{le=\"";

/// Upper bounds in seconds and how many samples are not above each.
pub(crate) struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// ms below which this share of the samples lies, read off between the bounds of its bucket; none without a sample. A
    /// sample above the last bound counts as that bound.
    pub(crate) fn quantile_ms(&self, share: f64) -> Option<f64> {
        let all = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let wanted = share * all;
        let (mut from, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.0 {
            if count >= wanted {
                let within =
                    if bound.is_finite() { (bound - from) * (wanted - below) / (count - below).max(1.0) } else { 0.0 };
                return Some((from + within) * 1000.0);
            }
            (from, below) = (bound, count);
        }
        None
    }
}

/// The bell-to-POST histogram of the first worker.
pub(crate) async fn bell_to_post(all: &Installation) -> anyhow::Result<Buckets> {
    let url = format!("{}/metrics", all.worker_admin_url(0).context("there is no worker")?);
    let text = all.http().get(url).send().await?.error_for_status()?.text().await?;
    let bucket = |line: &str| {
        let (bound, count) = line.strip_prefix(BELL_TO_POST)?.split_once("\"} ")?;
        Some((bound.parse().ok()?, count.parse().ok()?))
    };
    Ok(Buckets(text.lines().filter_map(bucket).collect()))
}

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
