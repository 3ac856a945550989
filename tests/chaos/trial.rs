//! A trial from its beginning to its verdict.

use std::{path::Path, time::Duration};

use anyhow::Context;
use rollcall::{
    ops::private::{Durability, PrivateStores},
    sim::Faults,
    stores::MIGRATOR,
};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    checker::{self, Verdict},
    client::{Client, LONG_LIST, Stop, Tenant, now_ms, number},
    evidence::Evidence,
    figures::{Figure, Marks, completed, figures},
    load,
    plan::Plan,
    site::Site,
    storm::{self, Storm},
    watch::Watch,
};

/// Between two looks at replicas that may have ended.
const TEND: Duration = Duration::from_millis(100);

/// Nobody waits for more than so many patiences, though something goes on.
const PATIENT: u32 = 8;

/// Where the logs of a trial are kept that went wrong.
const KEPT: &str = "target/chaos";

/// A trial under way.
pub(crate) struct Trial {
    pub(crate) plan: Plan,
    pub(crate) site: Site,
    pub(crate) client: Client,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) faults: Faults,
    pub(crate) marks: Marks,
    pub(crate) storm: Option<JoinHandle<anyhow::Result<Storm>>>,
    pub(crate) memory_before: Option<f64>,
    pub(crate) filled: bool,
    /// Small runs that are being made besides.
    pub(crate) baits: JoinSet<anyhow::Result<()>>,
}

/// What goes on beside the steps.
pub(crate) struct UnderWay {
    begun: Instant,
    pg: PgPool,
    watch: Watch,
    desks: JoinSet<anyhow::Result<()>>,
    readers: JoinSet<()>,
    long_list: Option<uuid::Uuid>,
}

/// What came of a trial.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) figures: Vec<(Figure, f64)>,
    pub(crate) bounds: Vec<(Figure, f64)>,
    pub(crate) jobs: usize,
    pub(crate) creates: usize,
    pub(crate) completed: usize,
    pub(crate) ended_alone: Vec<String>,
}

impl Outcome {
    /// Violations of all promises.
    pub(crate) fn violations(&self) -> usize {
        self.verdicts.iter().map(|verdict| verdict.violations.len()).sum()
    }

    /// The names of the promises that were broken.
    pub(crate) fn broken(&self) -> Vec<&'static str> {
        self.verdicts.iter().filter(|verdict| !verdict.kept()).map(|verdict| verdict.invariant).collect()
    }

    /// What a figure is.
    pub(crate) fn value(&self, figure: Figure) -> Option<f64> {
        self.figures.iter().find(|(name, _)| *name == figure).map(|(_, value)| *value)
    }

    /// Figures that miss their bound. One that was never taken misses it too.
    pub(crate) fn missed(&self) -> Vec<String> {
        let missed = self.bounds.iter().filter_map(|(figure, bound)| match self.value(*figure) {
            Some(value) if figure.holds(value, *bound) => None,
            Some(value) => Some(format!("{}: {value:.2} ({})", figure.name(), figure.bound_text(*bound))),
            None => Some(format!("{}: not seen ({})", figure.name(), figure.bound_text(*bound))),
        });
        missed.collect()
    }
}

impl Trial {
    /// Opens an installation for a plan, with its tenants and everything ready.
    pub(crate) async fn open(plan: &Plan) -> anyhow::Result<Self> {
        let mut site = Site::open(&plan.terms).await?;
        if plan.small_disk {
            Self::shrink_disk(&mut site).await?;
        }
        break_schema(&mut site, &plan.broken).await?;
        site.start_replicas(plan.terms.workers).await?;
        let client = Client::of(&site);
        let mut tenants = Vec::new();
        for n in 0..plan.load.tenants {
            tenants.push(client.tenant(&site, n, plan.load.slots, plan.terms.both_carriers && n % 2 == 1).await?);
        }
        Ok(Self {
            plan: plan.clone(),
            site,
            client,
            tenants,
            faults: Faults::default(),
            marks: Marks::default(),
            storm: None,
            memory_before: None,
            filled: false,
            baits: JoinSet::new(),
        })
    }

    /// Does every step at its time, ends every fault, waits until all is over, and judges.
    pub(crate) async fn run(mut self) -> anyhow::Result<Outcome> {
        let under_way = self.begin().await?;
        for step in self.plan.ordered() {
            self.tend_until(under_way.begun + step.at).await?;
            self.act(&step.act).await.with_context(|| format!("{:?}", step.act))?;
        }
        self.tend_until(under_way.begun + self.plan.lasts).await?;
        self.finish(under_way).await
    }

    /// Starts the client's load, and those who watch.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<UnderWay> {
        let pg = self.site.sql()?;
        let watch = Watch::start(pg.clone());
        let long_list = self.long_list().await?;
        let begun = Instant::now();
        let (desks, readers) = load::start(&self.plan, &self.client, &self.tenants, begun);
        if let Some(run) = long_list {
            self.marks.long_list_at = Some(now_ms());
            self.client.start(&self.tenants[0], run).await?;
        }
        Ok(UnderWay { begun, pg, watch, desks, readers, long_list })
    }

    /// Ends every fault, waits until all is over, and judges.
    pub(crate) async fn finish(mut self, mut under_way: UnderWay) -> anyhow::Result<Outcome> {
        self.heal().await?;
        let healed = Instant::now();
        if let Some(run) = under_way.long_list {
            self.client.stop(&self.tenants[0], run, Stop::Cancel, healed + self.plan.patience).await?;
        }
        self.calm().await?;
        while let Some(done) = self.baits.join_next().await {
            done??;
        }
        while let Some(desk) = under_way.desks.join_next().await {
            desk??;
        }
        // What the client has ordered last is not older than the last fault.
        self.settle(&under_way.pg, Instant::now()).await?;
        if !self.marks.weights.is_empty() {
            self.weigh().await?;
        }
        drop(under_way.readers);
        let seen = under_way.watch.end();
        self.marks.ended_alone.append(&mut self.site.ended_alone);
        let (lines, may_be_late) = (self.plan.load.lines, self.plan.may_be_late);
        let evidence = Evidence::read(&mut self.site, &self.client, &self.tenants, lines, seen, may_be_late).await?;
        let outcome = Outcome {
            verdicts: checker::check(&evidence),
            figures: figures(&evidence, &self.marks),
            bounds: self.plan.bounds.clone(),
            jobs: evidence.jobs.len(),
            creates: evidence.log.len(),
            completed: completed(&evidence),
            ended_alone: self.marks.ended_alone.clone(),
        };
        under_way.pg.close().await;
        if outcome.violations() > 0 || !outcome.missed().is_empty() {
            keep_logs(self.site.stores.children().scratch(), &self.plan)?;
        }
        self.site.stores.end().await?;
        Ok(outcome)
    }

    /// A run with a long list, uploaded and not started.
    async fn long_list(&self) -> anyhow::Result<Option<uuid::Uuid>> {
        if self.plan.load.long_list == 0 {
            return Ok(None);
        }
        let run = self.client.draft(&self.tenants[0]).await?;
        let mut csv = "phone\n".to_owned();
        for place in 0..self.plan.load.long_list {
            csv.push_str(&number(LONG_LIST + place));
            csv.push('\n');
        }
        self.client.upload(&self.tenants[0], run, csv).await?;
        Ok(Some(run))
    }

    /// Keeps replicas running until then.
    pub(crate) async fn tend_until(&mut self, until: Instant) -> anyhow::Result<()> {
        loop {
            self.site.tend()?;
            let next = (Instant::now() + TEND).min(until);
            tokio::time::sleep_until(next).await;
            if next == until {
                return Ok(());
            }
        }
    }

    /// Waits for the storm to be over.
    async fn calm(&mut self) -> anyhow::Result<()> {
        let Some(storm) = self.storm.take() else { return Ok(()) };
        self.marks.storm = Some(storm.await??);
        let after = storm::memory_mib(&self.site.api_pids());
        self.marks.memory_mib = self.memory_before.map(|before| after - before);
        Ok(())
    }

    /// Waits until every job is final and nothing is held, or until nothing has gone on for as long as patience lasts: the
    /// checker then says what is left. A machine that is slow is no fault, and one that goes round in circles is.
    async fn settle(&mut self, pg: &PgPool, healed: Instant) -> anyhow::Result<()> {
        let (mut done, mut went_on) = (0, Instant::now());
        while went_on.elapsed() < self.plan.patience && healed.elapsed() < self.plan.patience * PATIENT {
            self.site.tend()?;
            if self.is_at_rest(pg).await.unwrap_or(false) {
                self.marks.settle_secs = Some(healed.elapsed().as_secs_f64());
                return Ok(());
            }
            let now_done = count_done(pg).await.unwrap_or(done);
            if now_done != done {
                (done, went_on) = (now_done, Instant::now());
            }
            tokio::time::sleep_until(Instant::now() + TEND).await;
        }
        Ok(())
    }

    async fn is_at_rest(&mut self, pg: &PgPool) -> anyhow::Result<bool> {
        let busy = sqlx::query_scalar!(
            r#"SELECT (EXISTS (SELECT 1 FROM job WHERE finished_at IS NULL) OR EXISTS (SELECT 1 FROM attempt WHERE open)
                      OR EXISTS (SELECT 1 FROM stray_call WHERE ended_at IS NULL)
                      OR EXISTS (SELECT 1 FROM run WHERE state NOT IN ('draft', 'completed', 'cancelled'))) AS "busy!""#
        )
        .fetch_one(pg)
        .await?;
        if busy {
            return Ok(false);
        }
        let client = redis::Client::open(self.site.stores.redis_url())?;
        let mut redis = client.get_multiplexed_async_connection().await?;
        let (held, active): (i64, Option<i64>) =
            redis::pipe().hlen("gate:holders").get("calls:active_count").query_async(&mut redis).await?;
        let waiting: serde_json::Value = self.site.carrier("/_wait?idle=1&timeout_ms=1").await.unwrap_or_default();
        Ok(held == 0 && active.unwrap_or(0) == 0 && waiting["reached"] == true)
    }
}

/// How many jobs and attempts are over.
async fn count_done(pg: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT (SELECT count(*) FROM job WHERE finished_at IS NOT NULL) + (SELECT count(*) FROM attempt WHERE NOT open) AS "done!""#
    )
    .fetch_one(pg)
    .await
}

/// Keeps what the programs printed, for whoever looks for the reason.
fn keep_logs(scratch: &Path, plan: &Plan) -> anyhow::Result<()> {
    let kept = Path::new(KEPT).join(format!("{}-{}", plan.name.replace(':', "-"), plan.terms.seed));
    std::fs::create_dir_all(&kept)?;
    for entry in std::fs::read_dir(scratch)? {
        let path = entry?.path();
        if let (Some("log"), Some(name)) = (path.extension().and_then(|end| end.to_str()), path.file_name()) {
            std::fs::copy(&path, kept.join(name))?;
        }
    }
    println!("the logs are in {}", kept.display());
    Ok(())
}

/// Changes functions of the schema, so that a guard is missing.
async fn break_schema(site: &mut Site, statements: &[String]) -> anyhow::Result<()> {
    let pg = site.sql()?;
    break_by(&mut *pg.acquire().await?, statements).await?;
    pg.close().await;
    Ok(())
}

async fn break_by(db: &mut PgConnection, statements: &[String]) -> anyhow::Result<()> {
    for statement in statements {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone())).execute(&mut *db).await;
        done.with_context(|| format!("the schema could not be broken by: {statement}"))?;
    }
    Ok(())
}

/// Takes out of a schema what each of these plans leaves out, and puts it back.
///
/// # Errors
/// Where it is not in there any more: such a plan would break nothing.
pub(crate) async fn schema_has(plans: impl IntoIterator<Item = Plan>) -> anyhow::Result<()> {
    let stores = PrivateStores::start(Durability::Scratch).await?;
    stores.migrate(&MIGRATOR).await?;
    let mut db = PgConnection::connect(&stores.database_url()).await?;
    for mut plan in plans {
        // A setting of the server is none of the schema's, and takes no transaction.
        plan.broken.retain(|statement| !statement.starts_with("ALTER SYSTEM"));
        let mut tx = db.begin().await?;
        break_by(&mut tx, &plan.broken).await.with_context(|| plan.name.clone())?;
        tx.rollback().await?;
    }
    db.close().await?;
    stores.end().await
}
