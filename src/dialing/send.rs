//! One POST per claimed attempt, and what its answer does.
//!
//! A send is a tracked task outside the queue's handler, so that a worker that loses its queue connection does not cancel a
//! POST, and a drain waits for it.

use std::time::{Duration, Instant, SystemTime};

use backon::{ExponentialBuilder, Retryable};
use rand::RngExt;
use secrecy::ExposeSecret;
use sqlx::error::DatabaseError;

use crate::{
    attempts::{
        events::{self, Event},
        ledger::{self, Change, Closing, JobThen, Said},
        state::{AttemptState, Disposition, Source},
    },
    businesses::health::{self, Hold},
    carriers::{Account, Detect, DialAnswer, DialRequest, How, RefusalClass, StatusEvent},
    config::{self, Times},
    context::Context,
    dialing::{finish, machine, next::Owner},
    ids::{AttemptId, BusinessId},
    jobs::{claim::Claimed, queue::Rang},
    killpoints::{Bug, Point, lacks, reach},
    runs,
    slots::Learned,
    telemetry::{metrics, traces},
};

/// When a claim began, by both clocks: the wall clock also counts the time that a machine slept.
#[derive(Debug, Clone, Copy)]
pub struct ClaimedAt {
    steady: Instant,
    wall: SystemTime,
    rang: Option<Rang>,
}

impl ClaimedAt {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self::after(None)
    }

    /// Now, because of this ring.
    #[must_use]
    pub fn after(rang: Option<Rang>) -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now(), rang }
    }

    /// The larger of the two ages; a wall clock that went back counts as too old.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.steady.elapsed().max(self.wall.elapsed().unwrap_or(Duration::MAX))
    }

    /// Counts what led to the POST that starts now, and writes it into its trace.
    fn posts(&self, attempt: AttemptId) {
        traces::between(attempt, "claim", self.steady, Instant::now());
        let Some(rang) = self.rang else { return };
        traces::between(attempt, "bell", rang.at, rang.taken);
        metrics::bell_to_post(rang.at.elapsed());
        if rang.freed {
            metrics::slot_turnaround(rang.at.elapsed());
        }
    }
}

/// Longest that a carrier's `Retry-After` is believed: one bad header must not stall an account for years.
const MOST_BACK_OFF: Duration = Duration::from_secs(15 * 60);
/// An account that nothing can be sent with (gone, sealed under another key) is left alone for this long.
const UNSENDABLE: Duration = Duration::from_secs(30);
/// A carrier that cannot be reached is left alone for this long, at least.
const DOWN: Duration = Duration::from_secs(2);
/// A claim this young was not cancelled without the cancel having listed it; an older one asks again.
const SURELY_WANTED: Duration = Duration::from_millis(250);

/// Sends one claimed attempt, or closes it as not sent where that is no longer allowed.
pub async fn send(ctx: Context, owner: Owner, business: BusinessId, claimed: Claimed, at: ClaimedAt) {
    let attempt = claimed.attempt;
    reach(Point::K2).await;
    let account = match ctx.account(business, &claimed.account).await {
        Ok(Some(account)) => account,
        Ok(None) => return unsendable(&ctx, business, &claimed, "the account is gone").await,
        Err(error) => {
            return unsendable(&ctx, business, &claimed, &format!("the account cannot be opened: {error:#}")).await;
        }
    };
    let detect = match machine::to_listen(&ctx, business, &claimed).await {
        Ok(detect) => detect,
        Err(error) => return not_sent(&ctx, attempt, &format!("its rule for machines is not known: {error:#}")).await,
    };
    let request = request(&ctx, business, &claimed, detect);
    if at.age() > SURELY_WANTED
        && !lacks(Bug::StaleClaimSent)
        && !ledger::still_wanted(&ctx.stores.pg, attempt).await.unwrap_or(false)
    {
        return not_sent(&ctx, attempt, "it is no longer wanted").await;
    }
    // Nothing may be awaited between this check and the first byte, but for a test's pause.
    let too_old = at.age() > Times::ms(ctx.settings.times.claim_max_age_ms) && !lacks(Bug::StaleClaimSent);
    if owner.draining.is_cancelled() || too_old {
        return not_sent(&ctx, attempt, "draining, or the claim is too old").await;
    }
    reach(Point::K3).await;
    let sent = Instant::now();
    at.posts(attempt);
    let mut step = traces::asking(attempt, "dial");
    let still_wanted = async { ledger::still_wanted(&ctx.stores.pg, attempt).await.unwrap_or(false) };
    let dial = ctx.carriers.dial(&account, &request, Times::ms(ctx.settings.times.post_timeout_ms), still_wanted);
    let answer = watched(dial).await;
    reach(Point::K5).await;
    step.says("outcome", answer.word());
    drop(step);
    let _step = traces::step(attempt, "store answer");
    store_answer(&ctx, business, &account, attempt, answer, sent).await;
    reach(Point::K6).await;
}

#[cfg(not(feature = "killpoints"))]
async fn watched(dial: impl Future<Output = DialAnswer>) -> DialAnswer {
    dial.await
}

/// K4 lies inside the exchange: the request has left and its answer is outstanding.
#[cfg(feature = "killpoints")]
async fn watched(dial: impl Future<Output = DialAnswer>) -> DialAnswer {
    let mut dial = std::pin::pin!(dial);
    tokio::select! {
        answer = &mut dial => return answer,
        () = tokio::time::sleep(Duration::from_millis(30)) => {}
    }
    reach(Point::K4).await;
    dial.await
}

fn request(ctx: &Context, business: BusinessId, claimed: &Claimed, detect: Option<Detect>) -> DialRequest {
    let events = ctx.settings.status_events.iter().map(|event| match event {
        config::StatusEvent::Initiated => StatusEvent::Initiated,
        config::StatusEvent::Ringing => StatusEvent::Ringing,
        config::StatusEvent::Answered => StatusEvent::Answered,
        config::StatusEvent::Completed => StatusEvent::Ended,
    });
    DialRequest {
        from: claimed.from.clone(),
        to: claimed.to.clone(),
        key: claimed.attempt.0,
        token: ctx.tokens.make(business, claimed.attempt),
        callback_base: ctx.settings.public_base_url.clone(),
        events: events.collect(),
        ring_timeout_secs: claimed.ring_timeout_secs.unsigned_abs(),
        call_time_limit_secs: claimed.call_time_limit_secs.unsigned_abs(),
        detect,
        record: claimed.record,
    }
}

async fn store_answer(
    ctx: &Context,
    business: BusinessId,
    account: &Account,
    attempt: AttemptId,
    answer: DialAnswer,
    sent: Instant,
) {
    let sent_ms_ago = || i32::try_from(sent.elapsed().as_millis()).ok();
    match answer {
        DialAnswer::Placed { call_id, carrier_status } => {
            let change = insist(|| async {
                let said = Said {
                    call_id: Some(&call_id),
                    carrier_status: Some(&carrier_status),
                    sent_ms_ago: sent_ms_ago(),
                    ..Said::default()
                };
                let placed = (AttemptState::Placed, None);
                let placed = Event::new((business, attempt), Source::Response, placed, &said);
                Ok(ctx.batches.apply(placed).await?.0)
            })
            .await;
            placed(ctx, account, attempt, (&call_id, sent), change).await;
        }
        DialAnswer::NotSent { why } => {
            metrics::call_not_sent();
            // Jittered, so that many businesses do not come back to a carrier that recovers in the same second.
            let jitter = Duration::from_millis(rand::rng().random_range(0..3_000));
            hold(ctx, business, &account.reference, Hold::Down, DOWN + jitter, &why).await;
            not_sent(ctx, attempt, &why).await;
        }
        DialAnswer::Unknown { why } if lacks(Bug::UnknownRequeued) => not_sent(ctx, attempt, &why).await,
        DialAnswer::Unknown { why } => {
            metrics::call_in_doubt();
            tracing::warn!(attempt.id = %attempt, business.id = %business, why, "the carrier may have the call; it will be asked");
            let said = Said { sent_ms_ago: sent_ms_ago(), ..Said::default() };
            let unknown = (AttemptState::Unknown, None);
            insist(|| events::apply(&ctx.stores.pg, (business, attempt), Source::Response, unknown, &said)).await;
        }
        DialAnswer::Refused { class, http, code, message, retry_after } => {
            tracing::warn!(
                attempt.id = %attempt, business.id = %business, http, carrier.code = code, class = ?class, message, "the carrier refused"
            );
            refused(ctx, business, account, attempt, class, (http, code), (&message, retry_after)).await;
        }
    }
}

async fn placed(
    ctx: &Context,
    account: &Account,
    attempt: AttemptId,
    (call_id, sent): (&str, Instant),
    change: Option<Change>,
) {
    metrics::call_placed();
    let Some(change) = change else { return };
    finish::after(ctx, attempt, &change, Learned::NoCall).await;
    if change.hangup_wanted && !change.closed {
        // The sweep asks again until a final status comes.
        if let Err(error) = ctx.carriers.hang_up(account, call_id, How::Complete).await {
            tracing::warn!(attempt.id = %attempt, %error, "the hang-up was not taken; it is asked for again");
        }
    }
    let healthy = ctx.profile(change.business).await.ok().flatten();
    let healthy = healthy.is_some_and(|p| p.accounts.iter().any(|a| a.reference == account.reference && a.healthy));
    if !healthy {
        if let Err(error) = health::works(&ctx.stores.pg, change.business, &account.reference, sent.elapsed()).await {
            tracing::warn!(%error, "the account's health could not be written; the next call writes it");
        }
        ctx.profiles.forget(change.business);
        ctx.ring(change.business).await;
    }
}

/// A definite refusal: the account or run is held first, then the attempt is closed, so that its job is not taken at once
/// into the same wall.
async fn refused(
    ctx: &Context,
    business: BusinessId,
    account: &Account,
    attempt: AttemptId,
    class: RefusalClass,
    (http, code): (u16, Option<i64>),
    (message, retry_after): (&str, Option<Duration>),
) {
    let detail = match code {
        Some(code) => format!("HTTP {http}, code {code}: {message}"),
        None => format!("HTTP {http}: {message}"),
    };
    let (job, reason) = match class {
        RefusalClass::BackOff | RefusalClass::Requeue => {
            let jitter = Duration::from_millis(rand::rng().random_range(200..1_200));
            hold(
                ctx,
                business,
                &account.reference,
                Hold::BackOff,
                retry_after.unwrap_or_default().min(MOST_BACK_OFF) + jitter,
                &detail,
            )
            .await;
            (JobThen::Requeue, None)
        }
        // It was sent with what has been replaced since: that says nothing of the account.
        RefusalClass::StopAccount if was_replaced(ctx, business, account).await => (JobThen::Requeue, None),
        RefusalClass::StopAccount => {
            let retry = Times::ms(ctx.settings.times.refused_retry_ms);
            hold(ctx, business, &account.reference, Hold::Refused, retry, &detail).await;
            (JobThen::Requeue, None)
        }
        RefusalClass::StopRun => {
            if let Err(error) = insist_run_paused(ctx, attempt).await {
                tracing::error!(attempt.id = %attempt, error = format!("{error:#}"), "the run could not be paused");
            }
            (JobThen::Requeue, None)
        }
        RefusalClass::LeadPermanent => (JobThen::Fail, Some("invalid_at_carrier")),
        RefusalClass::StopDestination => (JobThen::Fail, Some("blocked_at_carrier")),
        RefusalClass::RequestBug | RefusalClass::Unrecognised => {
            tracing::error!(attempt.id = %attempt, http, carrier.code = code, "the carrier refused a request as wrong");
            (JobThen::Fail, Some("refused"))
        }
    };
    metrics::call_refused();
    let status = http.to_string();
    let closing = Closing {
        state: AttemptState::Refused,
        job,
        disposition: Some(Disposition::Refused),
        reason,
        carrier_status: Some(&status),
        carrier_code: code.and_then(|code| i32::try_from(code).ok()),
    };
    close(ctx, attempt, closing).await;
}

/// True where the account has another secret by now than the one that was sent. What is remembered of it is read anew.
async fn was_replaced(ctx: &Context, business: BusinessId, account: &Account) -> bool {
    ctx.profiles.forget(business);
    let now = ctx.account(business, &account.reference).await;
    now.is_ok_and(|now| now.is_some_and(|now| now.secret.expose_secret() != account.secret.expose_secret()))
}

async fn insist_run_paused(ctx: &Context, attempt: AttemptId) -> anyhow::Result<()> {
    runs::refusal::pause_run_of(&ctx.stores.pg, attempt).await?;
    Ok(())
}

async fn hold(ctx: &Context, business: BusinessId, account: &str, why: Hold, time: Duration, detail: &str) {
    insist(|| health::hold(&ctx.stores.pg, business, account, why, time, detail)).await;
    ctx.profiles.forget(business);
}

/// Something on our side keeps every call of this account from being sent: it is held, or its jobs would go round at full
/// pace.
async fn unsendable(ctx: &Context, business: BusinessId, claimed: &Claimed, why: &str) {
    tracing::error!(business.id = %business, why, "nothing can be sent with this account");
    hold(ctx, business, &claimed.account, Hold::Down, UNSENDABLE, why).await;
    not_sent(ctx, claimed.attempt, why).await;
}

/// Closes an own intent of which no byte left: its slot is free and its job back in the queue, uncharged.
pub async fn not_sent(ctx: &Context, attempt: AttemptId, why: &str) {
    tracing::info!(attempt.id = %attempt, why, "not sent");
    let closing = Closing {
        state: AttemptState::NotSent,
        job: JobThen::Requeue,
        disposition: None,
        reason: None,
        carrier_status: None,
        carrier_code: None,
    };
    close(ctx, attempt, closing).await;
}

async fn close(ctx: &Context, attempt: AttemptId, closing: Closing<'_>) {
    let change = insist(|| ledger::close(&ctx.stores.pg, attempt, Source::Response, closing)).await;
    if let Some(change) = change {
        finish::after(ctx, attempt, &change, Learned::NoCall).await;
    }
}

/// Writes what is known until Postgres takes it, for a minute: it is known to nobody else. After that the reconciler finds
/// out by asking the carrier.
async fn insist<T: Default, F: Future<Output = sqlx::Result<T>>>(write: impl FnMut() -> F) -> T {
    let patience = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .with_max_times(60)
        .with_jitter();
    // A call id that another attempt has is refused however often it is written: a carrier that gives one twice cannot be believed.
    let may_change = |error: &sqlx::Error| !error.as_database_error().is_some_and(DatabaseError::is_unique_violation);
    match write.retry(patience).when(may_change).await {
        Ok(value) => value,
        Err(error) => {
            tracing::error!(%error, "what the carrier answered could not be stored; it will be asked again");
            T::default()
        }
    }
}
