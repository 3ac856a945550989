//! What the processes of an installation use, from `/proc` (proc(5)): CPU time and memory of each with its children; and
//! what a worker has measured itself, from its `/metrics`.

use anyhow::Context as _;
use rollcall::ops::installation::Installation;

use crate::proc;

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
pub(crate) fn cpu(all: &mut Installation) -> anyhow::Result<Cpu> {
    let mut of = |name: &str| -> anyhow::Result<f64> {
        proc::tree_cpu_ms(all.children().pid(name).with_context(|| format!("{name} does not run"))?)
    };
    let (api, postgres, redis) = (of("api")?, of("postgres")?, of("redis")?);
    let mut sum = 0.0;
    for name in workers(all) {
        sum += proc::tree_cpu_ms(all.children().pid(name).with_context(|| format!("{name} does not run"))?)?;
    }
    Ok(Cpu { api, workers: sum, postgres, redis })
}

/// Memory of api and workers together, MiB (PSS).
pub(crate) fn pss_mib(all: &mut Installation) -> anyhow::Result<f64> {
    let mut names = workers(all);
    names.push("api");
    let mut kib = 0.0;
    for name in names {
        kib += proc::pss_kib(all.children().pid(name).with_context(|| format!("{name} does not run"))?)?;
    }
    Ok(kib / 1024.0)
}
