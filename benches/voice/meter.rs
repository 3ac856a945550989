//! What the programs of a place use.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{place::Place, proc};

/// Connections to the model are kept for half a minute, and looked at as often.
const KEPT: Duration = Duration::from_secs(65);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// CPU time used so far, ms.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) calls: f64,
    pub(crate) api: f64,
    pub(crate) postgres: f64,
    pub(crate) redis: f64,
    /// The sandbox's providers.
    pub(crate) providers: f64,
    /// This process.
    pub(crate) callers: f64,
}

impl Cpu {
    pub(crate) fn now(place: &mut Place) -> anyhow::Result<Self> {
        let mut of = |name| proc::tree_cpu_ms(pid(place, name)?);
        Ok(Self {
            calls: of("calls")?,
            api: of("api")?,
            postgres: of("postgres")?,
            redis: of("redis")?,
            providers: of("carrier")?,
            callers: own_ms()?,
        })
    }

    /// What was used since `earlier`, with the name of who used it.
    pub(crate) fn since(&self, earlier: &Self) -> [(&'static str, f64); 6] {
        [
            ("rollcall-calls", self.calls - earlier.calls),
            ("api", self.api - earlier.api),
            ("Postgres", self.postgres - earlier.postgres),
            ("Redis", self.redis - earlier.redis),
            ("the providers' sandbox", self.providers - earlier.providers),
            ("the callers", self.callers - earlier.callers),
        ]
    }
}

/// What the calls program holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) pss_kib: f64,
    pub(crate) files: usize,
}

impl Held {
    pub(crate) fn now(place: &mut Place) -> anyhow::Result<Self> {
        let pid = pid(place, "calls")?;
        Ok(Self { pss_kib: proc::pss_kib(pid)?, files: files(pid)? })
    }

    /// The same once connections that are kept in case they are needed again have run out: when there are no more files than so
    /// many, or after their time.
    pub(crate) async fn at_rest(place: &mut Place, files: usize) -> anyhow::Result<Self> {
        let begun = Instant::now();
        loop {
            let held = Self::now(place)?;
            if held.files <= files || begun.elapsed() > KEPT {
                return Ok(held);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn pid(place: &mut Place, name: &str) -> anyhow::Result<u32> {
    place.all.children().pid(name).with_context(|| format!("{name} does not run"))
}

#[cfg(target_os = "linux")]
fn own_ms() -> anyhow::Result<f64> {
    let stat = procfs::process::Process::myself()?.stat()?;
    Ok((stat.utime + stat.stime) as f64 * 1000.0 / procfs::ticks_per_second() as f64)
}

#[cfg(target_os = "linux")]
fn files(pid: u32) -> anyhow::Result<usize> {
    Ok(procfs::process::Process::new(i32::try_from(pid)?)?.fd_count()?)
}

#[cfg(not(target_os = "linux"))]
fn own_ms() -> anyhow::Result<f64> {
    anyhow::bail!("the bench reads /proc; it runs on Linux")
}

#[cfg(not(target_os = "linux"))]
fn files(_: u32) -> anyhow::Result<usize> {
    anyhow::bail!("the bench reads /proc; it runs on Linux")
}
