//! One installation per test: its own database, its own Redis prefix, its own sandbox carrier, real workers and webhooks.
//!
//! `close` is part of every test: it fails where a slot, a line or an attempt is left behind, or where the tallies differ
//! from the jobs.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser;
use rollcall::{
    businesses::vault::Vault,
    config::Settings,
    context::Context,
    ids::{BusinessId, Carrier, JobId, RunId},
    server,
    sim::{self, Sim},
    worker,
};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::database::{database_url, new_database, redis_url, run};

/// Longest wait for something that must happen. It is no measurement: it ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sealing key of every test.
pub(crate) const SEALING_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// An installation.
pub(crate) struct House {
    pub(crate) ctx: Context,
    pub(crate) sim: Arc<Sim>,
    pub(crate) addr: SocketAddr,
    pub(crate) args: Vec<String>,
    /// To be dropped at the end; none where the stores are the test's own.
    database: Option<String>,
    stop: CancellationToken,
    workers: Vec<Worker>,
    server: JoinHandle<()>,
}

/// A worker in this process.
struct Worker {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// What differs from a quick, obedient carrier and the settings of every test.
#[derive(Default)]
pub(crate) struct Options {
    /// The sandbox carrier.
    pub(crate) sim: Option<sim::Config>,
    /// More settings, as on a command line.
    pub(crate) args: Vec<&'static str>,
    /// How many workers to begin with.
    pub(crate) workers: usize,
    /// Stores of the test's own, with the schema, in place of the test runner's.
    pub(crate) stores: Option<Urls>,
}

/// Where two stores are.
pub(crate) struct Urls {
    pub(crate) database: String,
    pub(crate) redis: String,
}

/// Times short enough for a test, in the same proportions as the real ones.
const SHORT_TIMES: [&str; 22] = [
    "--claim-max-age-ms",
    "1000",
    "--post-timeout-ms",
    "1500",
    "--intent-grace-ms",
    "3000",
    "--first-empty-look-ms",
    "800",
    "--second-empty-look-ms",
    "2000",
    "--empty-looks-apart-ms",
    "1000",
    "--look-give-up-ms",
    "4000",
    "--live-look-ms",
    "500",
    "--live-look-fast-ms",
    "200",
    "--silent-after-ms",
    "300",
    "--refused-retry-ms",
    "2000",
];

impl House {
    /// Opens an installation with one line per call of the default limit.
    pub(crate) async fn open(options: Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (database, urls) = match options.stores {
            Some(urls) => (None, urls),
            None => {
                let name = new_database().await;
                (Some(name.clone()), Urls { database: database_url(&name), redis: redis_url() })
            }
        };
        let config = options.sim.unwrap_or_else(|| sim::Config {
            shares: sim::Shares::all(sim::Outcome::Answered),
            ..sim::Config::quick()
        });
        let sim = Arc::new(Sim::start_local(config).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut args: Vec<String> = vec![
            "rollcall".into(),
            "--database-url".into(),
            urls.database,
            "--redis-url".into(),
            urls.redis,
            "--redis-prefix".into(),
            format!("{}:", database.as_deref().unwrap_or("own")),
            "--database-pool".into(),
            "8".into(),
            "--public-base-url".into(),
            format!("http://{addr}"),
            "--rollcall-sealing-key".into(),
            SEALING_KEY.into(),
            "--rollcall-operator-key".into(),
            OPERATOR_KEY.into(),
            "--twilio-api-base-url".into(),
            sim.base_url(),
            "--telnyx-api-base-url".into(),
            sim.base_url(),
        ];
        args.extend(SHORT_TIMES.map(String::from));
        args.extend(options.args.iter().map(|a| (*a).to_owned()));
        let settings = Settings::try_parse_from(&args).unwrap();
        rollcall::telemetry::start_logs(&settings);
        let ctx = Context::open(settings, "test").await.unwrap();
        let lines = ctx.settings.max_lines();
        sqlx::query!("INSERT INTO installation (max_lines) VALUES ($1)", lines).execute(&ctx.stores.pg).await.unwrap();
        let stop = CancellationToken::new();
        let (router, stopped) = (server::doors(ctx.clone()), stop.clone());
        let server = tokio::spawn(async move { server::serve(listener, router, stopped).await.unwrap() });
        let mut house = Self { ctx, sim, addr, args, database, stop, workers: Vec::new(), server };
        for _ in 0..options.workers {
            house.start_worker();
        }
        house
    }

    /// Starts one more worker in this process.
    pub(crate) fn start_worker(&mut self) {
        let stop = CancellationToken::new();
        let name = format!("w{}-{}", self.workers.len(), uuid::Uuid::now_v7());
        let (ctx, token) = (self.ctx.clone(), stop.clone());
        let task = tokio::spawn(async move { worker::run(ctx, &name, token).await });
        self.workers.push(Worker { stop, task });
    }

    /// Drains and ends every worker of this process.
    pub(crate) async fn stop_workers(&mut self) {
        for worker in self.workers.drain(..) {
            worker.stop.cancel();
            worker.task.await.unwrap().unwrap();
        }
    }

    /// A business with this many slots and an account at the sandbox.
    pub(crate) async fn business(&self, slots: i32) -> BusinessId {
        let business = BusinessId::new();
        let account = format!("AC{}", business.0.simple());
        self.business_with(business, slots, &account, "secret token of the account", 10_000.0).await
    }

    /// A business with everything given.
    pub(crate) async fn business_with(
        &self,
        business: BusinessId,
        slots: i32,
        account: &str,
        token: &str,
        cps: f64,
    ) -> BusinessId {
        let vault = Vault::from_setting(&SecretString::from(SEALING_KEY)).unwrap();
        let (secret, key) = vault.seal(business, Carrier::Twilio, &SecretString::from(token)).unwrap();
        let pg = &self.ctx.stores.pg;
        sqlx::query!(
            "INSERT INTO business (business_id, name, max_concurrent_calls, default_region, carriers)
             VALUES ($1, 'Test', $2, 'US', ARRAY['twilio'])",
            business.0,
            slots
        )
        .execute(pg)
        .await
        .unwrap();
        let caller = caller_id(business);
        sqlx::query!(
            "INSERT INTO carrier_account (business_id, carrier, reference, caller_ids, calls_per_second, secret, sealing_key)
             VALUES ($1, 'twilio', $2, ARRAY[$3::text], $4, $5, $6)",
            business.0,
            account,
            caller,
            cps,
            secret,
            key
        )
        .execute(pg)
        .await
        .unwrap();
        business
    }

    /// A running run over these numbers; nobody has been rung for yet.
    pub(crate) async fn run(&self, business: BusinessId, numbers: &[String]) -> RunId {
        let run = RunId::new();
        let mut tx = self.ctx.stores.pg.begin().await.unwrap();
        let count = i64::try_from(numbers.len()).unwrap();
        let message = serde_json::json!({ "text": "Hello {{name}}", "language": "en-US" });
        sqlx::query!(
            "INSERT INTO run (run_id, business_id, name, carriers, default_region, ring_timeout_secs, call_time_limit_secs, state,
                              message, rows, accepted, started_at)
             SELECT $1, $2, 'Test', carriers, 'US', 30, 600, 'running', $3, $4, $4, now() FROM business WHERE business_id = $2",
            run.0,
            business.0,
            message,
            count
        )
        .execute(&mut *tx)
        .await
        .unwrap();
        let ids: Vec<_> = numbers.iter().map(|_| JobId::new().0).collect();
        sqlx::query!(
            r#"INSERT INTO job (job_id, run_id, business_id, to_number, variables)
               SELECT id, $1, $2, number, '{"name": "Ada"}' FROM unnest($3::uuid[], $4::text[]) AS lead(id, number)"#,
            run.0,
            business.0,
            &ids,
            numbers
        )
        .execute(&mut *tx)
        .await
        .unwrap();
        tx.commit().await.unwrap();
        run
    }

    /// A run as `run`, rung for.
    pub(crate) async fn started(&self, business: BusinessId, numbers: &[String]) -> RunId {
        let run = self.run(business, numbers).await;
        self.ctx.ring(business).await;
        run
    }

    /// Waits until a condition holds; fails after a minute, saying which.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, what: &str, mut holds: impl FnMut() -> F) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let waited = tokio::time::timeout(PATIENCE, async {
            while !holds().await {
                ticks.tick().await;
            }
        });
        assert!(waited.await.is_ok(), "did not happen: {what}");
    }

    /// Waits until the run is in this state. A connection that a restart of Postgres has ended says so when it is used next.
    pub(crate) async fn until_run_is(&self, run: RunId, state: &str) {
        let is = || async { self.read_run_state(run).await.is_ok_and(|now| now == state) };
        self.until(&format!("the run is {state}"), is).await;
    }

    pub(crate) async fn run_state(&self, run: RunId) -> String {
        self.read_run_state(run).await.unwrap()
    }

    async fn read_run_state(&self, run: RunId) -> sqlx::Result<String> {
        let state = sqlx::query_scalar!("SELECT state FROM run WHERE run_id = $1", run.0);
        state.fetch_one(&self.ctx.stores.pg).await
    }

    /// Takes what is queued from a run, so that it ends with what is in flight.
    pub(crate) async fn stop_dialing(&self, run: RunId) {
        sqlx::query!(
            "WITH stopped AS (
                 UPDATE job SET state = 'cancelled', reason = 'cancelled', finished_at = now()
                 WHERE run_id = $1 AND state = 'queued' RETURNING job_id)
             SELECT tally_moved($1, 'queued', 'cancelled', NULL, count(*), 0) IS NULL AS told FROM stopped",
            run.0
        )
        .fetch_one(&self.ctx.stores.pg)
        .await
        .unwrap();
        self.until("what was in flight has ended", || async {
            self.open_attempts().await == 0 && self.jobs_in(run, "queued").await == 0
        })
        .await;
    }

    /// How many jobs of the run are in this state.
    pub(crate) async fn jobs_in(&self, run: RunId, state: &str) -> i64 {
        sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM job WHERE run_id = $1 AND state = $2"#, run.0, state)
            .fetch_one(&self.ctx.stores.pg)
            .await
            .unwrap()
    }

    /// How many attempts are in this state.
    pub(crate) async fn attempts_in(&self, state: &str) -> i64 {
        sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM attempt WHERE state = $1"#, state)
            .fetch_one(&self.ctx.stores.pg)
            .await
            .unwrap()
    }

    /// How many attempts are open.
    pub(crate) async fn open_attempts(&self) -> i64 {
        sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM attempt WHERE open"#)
            .fetch_one(&self.ctx.stores.pg)
            .await
            .unwrap()
    }

    /// Ends the test: nothing may be held, waiting or alive, and the tallies must equal the jobs.
    pub(crate) async fn close(mut self) {
        self.until("no attempt is open", || async { self.open_attempts().await == 0 }).await;
        self.until("the gate holds nobody", || async { self.ctx.gate.holders().await.unwrap().is_empty() }).await;
        self.stop_workers().await;
        // A worker process that is still there may be looking at a business with nothing to do.
        self.until("calls:active_count is 0", || async {
            let active: Option<i64> = redis::cmd("GET")
                .arg(self.ctx.stores.keys.key("calls:active_count"))
                .query_async(&mut self.ctx.stores.redis.clone())
                .await
                .unwrap();
            active.unwrap_or(0) == 0
        })
        .await;
        self.tallies_equal_the_jobs().await;
        let strays = sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM stray_call WHERE ended_at IS NULL"#)
            .fetch_one(&self.ctx.stores.pg)
            .await
            .unwrap();
        assert_eq!(strays, 0, "stray calls that are not ended");
        assert_eq!(self.sim.figures().total.created_twice, 0, "calls created twice for one attempt");
        self.stop.cancel();
        self.server.await.unwrap();
        self.ctx.close().await;
        if let Some(database) = self.database {
            let mut admin = PgConnection::connect(&database_url("postgres")).await.unwrap();
            run(&mut admin, &format!("DROP DATABASE {database} WITH (FORCE)")).await;
        }
    }

    /// I5: what the tallies say is what a count says.
    pub(crate) async fn tallies_equal_the_jobs(&self) {
        let wrong = sqlx::query!(
            r#"SELECT coalesce(t.run_id, j.run_id)::text AS "run!", coalesce(t.key, j.key) AS "key!", t.n::bigint AS tallied, j.n AS counted
               FROM (SELECT run_id, key, sum(n) AS n FROM tally WHERE key NOT IN ('changes', 'attempts', 'calls_started') GROUP BY run_id, key HAVING sum(n) <> 0) t
               FULL JOIN (SELECT run_id, state AS key, count(*) AS n FROM job GROUP BY run_id, state
                          UNION ALL SELECT run_id, 'd:' || disposition, count(*) FROM job WHERE disposition IS NOT NULL GROUP BY run_id, disposition) j
               ON t.run_id = j.run_id AND t.key = j.key
               WHERE t.n IS DISTINCT FROM j.n"#
        )
        .fetch_all(&self.ctx.stores.pg)
        .await
        .unwrap();
        let wrong: Vec<_> = wrong
            .iter()
            .map(|w| format!("{} {}: {:?} tallied, {:?} counted", w.run, w.key, w.tallied, w.counted))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// The operator key of every test.
pub(crate) const OPERATOR_KEY: &str = "operator key of the tests";

/// The caller id of a business: one of its own, fictional.
pub(crate) fn caller_id(business: BusinessId) -> String {
    format!("+1205555{:04}", 100 + business.0.as_u128() % 100)
}

/// So many different fictional numbers, none of them magic at the sandbox.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("+1{:03}555{:04}", 201 + i / 90, 100 + i % 90)).collect()
}
