//! Many callers, who come one after the other, and what they saw together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    caller::{self, Leaves, Seen},
    client::Client,
    script::Script,
};

/// Between two callers: fifty begin, and hang up, in a second.
pub(crate) const APART: Duration = Duration::from_millis(20);
/// One of so many callers notes when frames come.
const TIMED: usize = 10;
/// Whoever has not heard the agent after this will not.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all callers share.
pub(crate) struct Hall {
    pub(crate) script: Script,
    /// Gaps and lateness are kept while this is true.
    pub(crate) measures: AtomicBool,
    /// Callers who have heard their agent, and are still there.
    pub(crate) talking: AtomicUsize,
    /// They all hang up.
    pub(crate) over: CancellationToken,
}

/// Callers on their way.
pub(crate) struct Crowd {
    pub(crate) hall: Arc<Hall>,
    callers: JoinSet<anyhow::Result<Seen>>,
}

/// What all of them saw.
pub(crate) struct Sum {
    /// µs.
    pub(crate) start: Histogram<u64>,
    pub(crate) close: Histogram<u64>,
    pub(crate) jitter: Histogram<u64>,
    pub(crate) late: Histogram<u64>,
    pub(crate) ran_out: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) measured: u64,
    /// Of these, those whose time was noted.
    pub(crate) timed: u64,
    /// Streams that ended before they should, or never began.
    pub(crate) broke: u64,
}

impl Crowd {
    /// Has so many callers come, who stay until it is over and then hang up so far apart.
    pub(crate) async fn gather(client: &Client, callers: usize, apart: Duration) -> Self {
        let hall = Arc::new(Hall {
            script: Script::new(),
            measures: AtomicBool::new(false),
            talking: AtomicUsize::new(0),
            over: CancellationToken::new(),
        });
        let mut crowd = Self { hall, callers: JoinSet::new() };
        let mut pace = tokio::time::interval(APART);
        for number in 0..callers {
            pace.tick().await;
            let leaves = Leaves::HangsUp(apart * u32::try_from(number).unwrap_or(u32::MAX));
            let (client, hall) = (client.clone(), Arc::clone(&crowd.hall));
            crowd.callers.spawn(async move {
                let session = client.session().await?;
                tokio::time::sleep(phase(number)).await;
                caller::talk(&session, &hall, leaves, number % TIMED == 0).await
            });
        }
        let begun = Instant::now();
        while crowd.talking() < callers && begun.elapsed() < PATIENCE {
            tokio::time::sleep(APART).await;
        }
        crowd
    }

    /// Callers who have heard their agent, and are still there.
    pub(crate) fn talking(&self) -> usize {
        self.hall.talking.load(Ordering::Relaxed)
    }

    /// Has gaps and lateness kept for so long.
    pub(crate) async fn watch(&self, time: Duration) {
        self.hall.measures.store(true, Ordering::Relaxed);
        tokio::time::sleep(time).await;
        self.hall.measures.store(false, Ordering::Relaxed);
    }

    /// Has all of them hang up.
    pub(crate) async fn disperse(mut self) -> anyhow::Result<Sum> {
        self.hall.over.cancel();
        let mut sum = Sum::new()?;
        while let Some(caller) = self.callers.join_next().await {
            match caller? {
                Ok(seen) => sum.add(&seen),
                Err(error) => sum.failed(&error),
            }
        }
        Ok(sum)
    }
}

/// Where in the 20 ms between two frames a caller begins: spread evenly, however many there are (by the golden ratio), as carriers'
/// calls are. All on one beat would be a queue that is as long as they are many, and the bench its cause.
fn phase(number: usize) -> Duration {
    APART.mul_f64((number as f64 * 0.618_033_988_749_895).fract())
}

impl Sum {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let empty = || Histogram::new_with_bounds(1, 60_000_000, 3);
        Ok(Self {
            start: empty()?,
            close: empty()?,
            jitter: empty()?,
            late: empty()?,
            ran_out: 0,
            sent: 0,
            received: 0,
            measured: 0,
            timed: 0,
            broke: 0,
        })
    }

    fn add(&mut self, seen: &Seen) {
        let record = |all: &mut Histogram<u64>, time: Option<Duration>| {
            if let Some(time) = time {
                all.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
            }
        };
        record(&mut self.start, seen.start);
        record(&mut self.close, seen.close);
        seen.jitter.iter().for_each(|us| self.jitter.saturating_record(u64::from(*us)));
        seen.late.iter().for_each(|us| self.late.saturating_record(u64::from(*us)));
        self.ran_out += seen.ran_out;
        self.sent += seen.sent;
        self.received += seen.received;
        self.measured += seen.measured;
        self.timed += seen.timed;
        self.broke += u64::from(seen.broke);
    }

    fn failed(&mut self, error: &anyhow::Error) {
        if self.broke == 0 {
            println!("  a caller did not get through: {error:#}");
        }
        self.broke += 1;
    }
}
