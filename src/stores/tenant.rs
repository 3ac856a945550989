//! The second guard behind `WHERE business_id`: connections that see one business, because Postgres shows them no other.
//!
//! A request of a business is bound to it by the extractor that names its caller, and every connection that the request takes
//! from `Stores::tenant` is bound to the same. What is bound to nobody sees nothing.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
};

use futures::{Stream, stream};
use sqlx::{PgConnection, postgres::PgPoolOptions};

use crate::ids::BusinessId;

tokio::task_local! {
    static BOUND: Arc<OnceLock<BusinessId>>;
}

/// Runs a request that can be bound to a business. One inside of another is the same request.
pub async fn request<F: Future>(work: F) -> F::Output {
    match BOUND.try_with(Arc::clone) {
        Ok(bound) => BOUND.scope(bound, work).await,
        Err(_) => BOUND.scope(Arc::default(), work).await,
    }
}

/// Binds this request to a business. The first binding stays: nothing that comes later shows a request another business.
pub fn bind(business: BusinessId) {
    // Outside of a request there is nothing to bind, and nothing will be seen.
    let _ = BOUND.try_with(|bound| bound.set(business));
}

/// The same request in a task of its own.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    BOUND.scope(BOUND.try_with(Arc::clone).unwrap_or_default(), work)
}

/// The same request in a body that is still read when its handler has returned.
pub fn carried_stream<S: Stream>(parts: S) -> impl Stream<Item = S::Item> {
    let bound = BOUND.try_with(Arc::clone).unwrap_or_default();
    let mut parts: Pin<Box<S>> = Box::pin(parts);
    stream::poll_fn(move |cx| BOUND.sync_scope(Arc::clone(&bound), || parts.as_mut().poll_next(cx)))
}

/// Connections under the guard: each is bound anew whenever it is taken, which is also the proof that it still answers.
pub(super) fn guarded(options: PgPoolOptions) -> PgPoolOptions {
    options
        .test_before_acquire(false)
        .after_connect(|connection, _| Box::pin(enter(connection)))
        .before_acquire(|connection, _| Box::pin(async move { enter(connection).await.map(|()| true) }))
}

async fn enter(connection: &mut PgConnection) -> sqlx::Result<()> {
    let business = BOUND.try_with(|bound| bound.get().copied()).ok().flatten();
    sqlx::query!(
        "SELECT set_config('role', 'rollcall_tenant', false) AS role, set_config('rollcall.business', $1, false) AS business",
        business.map(|business| business.to_string()).unwrap_or_default()
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}
