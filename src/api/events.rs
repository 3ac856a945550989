//! A run as it moves: server-sent events (WHATWG HTML, section 9.2).
//!
//! Invariant: the first event is the state of now, whatever `Last-Event-ID` says; the last is `end`, once the run is over.
//! Not here: what moves a run. Every connection looks at Postgres itself, twice a second at most.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{auth::Viewer, body::Ids},
    context::Context,
    error::ApiError,
    ids::{BusinessId, RunId},
    runs::{Progress, Run, RunState, store},
    stores::tenant,
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After so long a client that lost the connection comes back.
const RETRY: Duration = Duration::from_millis(2000);
/// Between two signs of life.
const PING_EVERY: Duration = Duration::from_secs(15);

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(events))
}

/// The run as it moves: `progress`, `run` where its state changed, `end` when it is over.
#[utoipa::path(get, path = "/v1/runs/{id}/events", tag = "runs", operation_id = "events_of_run", params(("id" = RunId, Path)),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
async fn events(
    viewer: Viewer,
    State(ctx): State<Context>,
    Ids(id): Ids<RunId>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let run = store::one(&ctx.stores.tenant, viewer.business, id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let watch = Watch::from(ctx, viewer.business, &run);
    let events = stream::unfold(watch, |mut watch| async { watch.next().await.map(|event| (Ok(event), watch)) });
    Ok(Sse::new(tenant::carried_stream(events)).keep_alive(KeepAlive::new().interval(PING_EVERY).text("ping")))
}

#[derive(Serialize)]
struct Data<'a> {
    run_id: RunId,
    state: RunState,
    progress: &'a Progress,
}

/// What a client knows of a run. The counts of open and live attempts move without a move of any job.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Told {
    state: RunState,
    sequence: i64,
    open: i64,
    live: i64,
}

impl Told {
    fn of(run: &Run) -> Self {
        let progress = &run.progress;
        Self { state: run.state, sequence: progress.sequence, open: progress.attempts_open, live: progress.calls_live }
    }
}

/// One connection: what it has been told, and what it is to be told next.
struct Watch {
    ctx: Context,
    business: BusinessId,
    run: RunId,
    told: Told,
    ready: VecDeque<Event>,
    over: bool,
}

impl Watch {
    fn from(ctx: Context, business: BusinessId, run: &Run) -> Self {
        let told = Told::of(run);
        let ready = VecDeque::from([Event::default().retry(RETRY)]);
        let mut watch = Self { ctx, business, run: run.id, told, ready, over: false };
        watch.tell("progress", run);
        watch.end_if_over(run);
        watch
    }

    /// The next event; `None` ends the connection, also when this process stops: the client comes back to another.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            tokio::select! {
                () = self.ctx.stopping.cancelled() => return None,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match store::one(&self.ctx.stores.tenant, self.business, self.run).await {
                Ok(Some(run)) => self.compare(&run),
                Ok(None) => return None,
                Err(error) => tracing::debug!(run.id = %self.run, error = %error, "a run could not be looked at"),
            }
        }
    }

    fn compare(&mut self, run: &Run) {
        let now = Told::of(run);
        if now == self.told {
            return;
        }
        self.tell(if now.state == self.told.state { "progress" } else { "run" }, run);
        self.told = now;
        self.end_if_over(run);
    }

    fn end_if_over(&mut self, run: &Run) {
        if run.state.is_final() {
            self.tell("end", run);
            self.over = true;
        }
    }

    fn tell(&mut self, kind: &str, run: &Run) {
        let data = Data { run_id: run.id, state: run.state, progress: &run.progress };
        let event = Event::default().id(run.progress.sequence.to_string()).event(kind).json_data(data);
        self.ready.extend(event);
    }
}
