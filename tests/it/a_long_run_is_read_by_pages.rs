//! What a business reads of a long run, through the second guard: as many rows as it asked for, and not the run.

use rollcall::{
    ids::JobId,
    jobs::{JobState, read},
    stores::tenant,
};

use crate::house::{House, Options, numbers};

/// Queued jobs of the run, and how many are asked for at once.
const JOBS: usize = 3_000;
const PAGE: i64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_queued_jobs_reads_no_more_than_itself() {
    let house = House::open(Options::default()).await;
    let business = house.business(3).await;
    let run = house.started(business, &numbers(JOBS)).await;
    let stores = house.ctx.stores.clone();
    let (pages, read) = tenant::request(async move {
        tenant::bind(business);
        let mut tx = stores.tenant.begin().await.unwrap();
        let mut pages: Vec<Vec<JobId>> = Vec::new();
        for _ in 0..2 {
            let after = pages.last().and_then(|page| page.last()).map(|last| last.0);
            let page = read::of_run(&mut *tx, business, run, Some(JobState::Queued), after, PAGE).await.unwrap();
            pages.push(page.iter().map(|job| job.id).collect());
        }
        let read = sqlx::query_scalar!(
            r#"SELECT (seq_tup_read + idx_tup_fetch)::bigint AS "n!" FROM pg_stat_xact_user_tables WHERE relname = 'job'"#
        );
        (pages, read.fetch_one(&mut *tx).await.unwrap())
    })
    .await;
    let mut all = pages.concat();
    assert_eq!((pages[0].len(), pages[1].len()), (20, 20));
    assert!(all.is_sorted(), "in the order of the list");
    all.dedup();
    assert_eq!(all.len(), 40, "each once");
    assert!(read < 200, "{read} rows of the table were read for 40");
    house.close().await;
}
