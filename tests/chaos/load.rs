//! What the client does while things break: a list for every tenant, and where the trial says so, everything else besides.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::{
    client::{Client, Said, Stop, Tenant, number},
    plan::{Load, Plan},
};

/// Places of numbers that one tenant has.
const PLACES: usize = 1_000_000;
/// So long after the last fault the client still repeats itself: the key of a request whose api died is free after a minute,
/// and the machine may be slow.
const PATIENCE: Duration = Duration::from_secs(180);

/// A tenant's client.
struct Desk {
    client: Client,
    tenants: Vec<Tenant>,
    tenant: usize,
    random: StdRng,
    next: usize,
    /// No new move from here on.
    last: Instant,
}

impl Desk {
    fn numbers(&mut self, count: usize) -> Vec<String> {
        let from = self.tenant * PLACES + self.next;
        self.next += count;
        (from..from + count).map(number).collect()
    }

    /// Numbers of the first list, which may be called by it now, have been, or are still to be.
    fn numbers_again(&mut self, count: usize, list: usize) -> Vec<String> {
        let from = self.tenant * PLACES + self.random.random_range(0..list.saturating_sub(count).max(1));
        (from..from + count.min(list)).map(number).collect()
    }

    fn until(&self) -> Instant {
        self.last + PATIENCE
    }

    async fn wait(&mut self, ms: std::ops::Range<u64>) {
        let pause = Duration::from_millis(self.random.random_range(ms));
        tokio::time::sleep_until((Instant::now() + pause).min(self.last)).await;
    }

    async fn run(&mut self, count: usize) -> anyhow::Result<Uuid> {
        let numbers = self.numbers(count);
        self.run_of(numbers).await
    }

    async fn run_of(&mut self, numbers: Vec<String>) -> anyhow::Result<Uuid> {
        let until = self.until();
        self.client.run(&self.tenants, self.tenant, numbers, until).await
    }

    /// Everything that a client does, in any order, until the time is over.
    async fn work(mut self, load: Load) -> anyhow::Result<()> {
        let run = self.run(load.jobs).await?;
        while load.moves && Instant::now() < self.last {
            self.wait(700..2_500).await;
            let me = self.tenants[self.tenant].clone();
            match self.random.random_range(0..6) {
                0 => {
                    // One whose api died after it had paused is answered with a conflict later: the run is paused all the same.
                    self.client.stop(&me, run, Stop::Pause, self.until()).await?;
                    self.wait(300..1_500).await;
                    self.client.resume(&me, run, self.until()).await?;
                }
                1 => {
                    // From the end of the list, which is dialed last.
                    let place = self.tenant * PLACES + load.jobs - 1 - self.random.random_range(0..load.jobs / 2);
                    self.client.suppress(&self.tenants, self.tenant, &number(place), self.until()).await?;
                }
                2 => {
                    // Some are on another list as well: the business calls nobody twice.
                    let mut numbers = self.numbers(4);
                    numbers.extend(self.numbers_again(4, load.jobs));
                    self.run_of(numbers).await?;
                }
                3 => {
                    let doomed = self.run(15).await?;
                    self.wait(200..1_500).await;
                    self.client.stop(&me, doomed, Stop::Cancel, self.until()).await?;
                }
                4 => {
                    let to = self.numbers(1);
                    self.client.call(&self.tenants, self.tenant, &to[0]).await;
                }
                _ => {
                    let stranger = &self.tenants[(self.tenant + 1) % self.tenants.len()];
                    self.client.foreign(stranger, run).await;
                }
            }
        }
        Ok(())
    }
}

/// Starts every tenant's client, and one who watches all runs. The last one ends when its set is dropped.
pub(crate) fn start(
    plan: &Plan,
    client: &Client,
    tenants: &[Tenant],
    begun: Instant,
) -> (JoinSet<anyhow::Result<()>>, JoinSet<()>) {
    let (mut desks, mut watching) = (JoinSet::new(), JoinSet::new());
    for tenant in 0..tenants.len() {
        let desk = Desk {
            client: client.clone(),
            tenants: tenants.to_vec(),
            tenant,
            random: StdRng::seed_from_u64(plan.terms.seed.wrapping_mul(31).wrapping_add(tenant as u64)),
            next: 0,
            last: begun + plan.lasts,
        };
        desks.spawn(desk.work(plan.load));
    }
    watching.spawn(watch(client.clone(), tenants.to_vec()));
    (desks, watching)
}

/// Reads the progress of every run again and again.
async fn watch(client: Client, tenants: Vec<Tenant>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut over: Vec<Uuid> = Vec::new();
    loop {
        ticks.tick().await;
        for said in client.log.all() {
            let Said::Made { run, tenant, .. } = said else { continue };
            if over.contains(&run) {
                continue;
            }
            let state = client.progress(&tenants[tenant], run).await;
            if matches!(state.as_deref(), Some("completed" | "cancelled")) {
                over.push(run);
            }
        }
    }
}
