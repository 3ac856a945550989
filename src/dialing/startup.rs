//! What a start of the api tidies up after an end that nobody had planned: one pass, on evidence only.
//!
//! Each part reads what is, as the sweep's do, and judges nothing by its age or by who seems to be alive: a run ends because
//! all its jobs are final, a holder goes because its attempt is closed. So any number of starts in the middle of a healthy
//! run change nothing. Open attempts are never touched here: only the carrier knows about them, and workers ask it.

use crate::{attempts::looks, businesses::answers, context::Context, dialing::cancel, dialing::gate, runs::ending};

/// One pass over gate, cancelled runs, finished runs and old answers. A store that does not answer is logged; the start goes
/// on, and the workers' sweep does the rest. Postgres makes the plans of events meanwhile.
pub async fn clean_up(ctx: &Context) {
    let pg = &ctx.stores.pg;
    let gate = done("the gate", gate::correct(ctx).await);
    let cancelled = done("cancelled runs", cancel::finish(pg).await);
    let ended = done("finished runs", ending::end_finished(pg).await);
    let forgotten = done("old answers", answers::prune(pg).await);
    ctx.batches.warm().await;
    let open = done("open attempts", looks::on_the_line(pg, &[]).await).len();
    tracing::info!(
        jobs.cancelled = cancelled,
        answers.forgotten = forgotten,
        "[STARTUP] cleanup: {} runs ended, {} holders evicted, {} added, {open} open attempts left alone",
        ended.len(),
        gate.evicted,
        gate.added,
    );
}

/// What a part did; nothing where its store did not answer.
fn done<T: Default, E: std::fmt::Display>(part: &str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| {
        tracing::warn!(error = format!("{error:#}"), "[STARTUP] {part} could not be tidied up; the sweep does it");
        T::default()
    })
}
