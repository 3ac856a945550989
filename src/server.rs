//! All doors of a process on its listeners: request ids, log lines, and an end that lets requests finish.
//!
//! Invariant: a log line names the route by its template, never the path, which may hold a number or a token.
//! Not here: routes (the doors), and when the process stops (`shutdown`).

use std::{net::SocketAddr, pin::pin, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue},
    response::Response,
    routing::get,
    serve::{Listener, ListenerExt},
};
use hyper::server::conn::http1::Builder;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::{catch_panic::CatchPanicLayer, request_id::PropagateRequestIdLayer, trace::TraceLayer};
use tower_service::Service;
use tracing::Span;
use uuid::Uuid;

use crate::{
    api,
    config::Role,
    context::Context,
    error::ApiError,
    heartbeats::{Doing, Who},
    voice,
    voice::Sessions,
    webhooks,
};

/// The header that carries a request's id back; what a client sends in it is replaced, because it would reach the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A connection on which the head of a request has not come for so long is closed, be it the first one or the next: whoever only
/// opens connections keeps none. nginx gives up its own before this; a proxy that keeps them for longer has to be told
/// (docs/operations.md).
const HEAD: Duration = Duration::from_secs(75);

/// Every door of the api on one router: REST, webhooks, health.
pub fn doors(ctx: Context) -> Router {
    let webhooks = webhooks::router()
        .layer((axum::middleware::from_fn(api::frame::time_limit), CatchPanicLayer::custom(api::frame::panicked)))
        .with_state(ctx.clone());
    // The pages begin here.
    let pages = Router::new().route("/", get(async || ApiError::not_available("", "The pages")));
    api::router(ctx.clone()).merge(api::admin::health(ctx)).merge(webhooks).merge(pages)
}

/// Every door of the calls program on one router: media streams, health.
pub fn media_doors(ctx: Context, sessions: Sessions) -> Router {
    voice::router(sessions)
        .merge(api::admin::health(ctx))
        .fallback(api::frame::not_found)
        .method_not_allowed_fallback(api::frame::method_not_allowed)
        .layer((
            axum::middleware::from_fn(api::frame::headers),
            axum::middleware::from_fn(api::frame::time_limit),
            CatchPanicLayer::custom(api::frame::panicked),
        ))
}

/// Serves `router` on `listener` until `stopping` is cancelled and the requests under way are answered.
///
/// # Errors
/// Where the listener breaks.
pub async fn serve(listener: TcpListener, router: Router, stopping: CancellationToken) -> std::io::Result<()> {
    serve_within(HEAD, at_once(listener), router, stopping).await
}

/// Serves `router` on `listener` while something is `opening`; returns the listener, for what is served then, and what was opened.
///
/// # Errors
/// Where the listener breaks.
pub async fn serve_while<T>(
    listener: TcpListener,
    router: Router,
    opening: impl Future<Output = T>,
) -> std::io::Result<(TcpListener, T)> {
    tracing::info!(admin = %listener.local_addr()?, "[STARTUP] the stores are being opened");
    let listener = listener.into_std()?;
    let (served, opened) = serve_beside(TcpListener::from_std(listener.try_clone()?)?, router, opening).await;
    served?;
    Ok((TcpListener::from_std(listener)?, opened))
}

/// Serves `router` on `listener` until `work` is done; how both ended.
pub async fn serve_beside<T>(
    listener: TcpListener,
    router: Router,
    work: impl Future<Output = T>,
) -> (std::io::Result<()>, T) {
    let done = CancellationToken::new();
    let work = async {
        let worked = work.await;
        done.cancel();
        worked
    };
    tokio::join!(serve(listener, router, done.clone()), work)
}

/// What is written is sent: a frame of sound, or an answer's second part, does not wait until the one before it was acknowledged
/// (Nagle's algorithm, RFC 9293 §3.7.4), which takes the other side up to 40 ms.
fn at_once(listener: TcpListener) -> impl Listener<Io = TcpStream, Addr = SocketAddr> {
    listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
        }
    })
}

/// As axum does it, which has no limit for the head of a request.
async fn serve_within(
    head: Duration,
    mut listener: impl Listener<Io = TcpStream, Addr = SocketAddr>,
    router: Router,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    let mut services = watched(router).into_make_service_with_connect_info::<SocketAddr>();
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head);
    let connections = TaskTracker::new();
    loop {
        let (socket, peer) = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok(service) = services.call(peer).await;
        let (builder, stopping) = (builder.clone(), stopping.clone());
        connections.spawn(async move {
            let served = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
            let mut served = pin!(served.with_upgrades());
            let done = tokio::select! {
                done = served.as_mut() => done,
                () = stopping.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = done {
                tracing::debug!(%error, "a connection broke off");
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// The heartbeat of a program that only serves, until it stops.
pub async fn beats(ctx: &Context, role: Role) {
    let who = Who::new(role, &Who::new_name(), &ctx.settings);
    ctx.heartbeats.beat(who, Doing::default, ctx.stopping.clone(), ctx.stopping.clone()).await;
}

/// Everything that a calls program does besides answering at its doors, until its conversations are over or handed over:
/// then `ended` is cancelled.
pub async fn holds_conversations(ctx: &Context, sessions: &Sessions, name: &str, ended: CancellationToken) {
    let who = Who::new(Role::Calls, name, &ctx.settings);
    let models = || json!({ "data": ctx.permits.status(), "voice_activity": ctx.hearing.status() });
    let doing = || Doing { in_flight: sessions.count(), models: Some(models()) };
    let beats = ctx.heartbeats.beat(who, doing, ctx.stopping.clone(), ended.clone());
    tokio::join!(beats, sessions.keep(ended.clone()), sessions.drain(ended.clone()));
}

/// Puts a request id and a log line around every route.
///
/// As one layer, the first the outermost: each layer by itself is one more box around every route, and each box copies all that are in
/// it for each request.
fn watched(router: Router) -> Router {
    let trace = TraceLayer::new_for_http().make_span_with(span).on_request(()).on_response(answered).on_failure(());
    router.layer((axum::middleware::map_request(with_own_id), trace, PropagateRequestIdLayer::new(REQUEST_ID)))
}

async fn with_own_id(mut request: Request) -> Request {
    let id = Uuid::now_v7().hyphenated().to_string();
    request.headers_mut().insert(REQUEST_ID, HeaderValue::try_from(id).expect("hexadecimal digits and hyphens"));
    request
}

fn span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::info_span!("request", method = %request.method(), route, request.id = id)
}

fn answered(response: &Response, took: std::time::Duration, _: &Span) {
    let (status, ms) = (response.status().as_u16(), took.as_millis());
    if response.status().is_server_error() {
        tracing::warn!(status, ms, "answered");
    } else {
        tracing::debug!(status, ms, "answered");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    async fn ends(mut socket: TcpStream) -> bool {
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await.is_ok()
    }

    #[tokio::test]
    async fn what_is_written_to_a_connection_is_sent_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut listener = at_once(listener);
        let (_theirs, (ours, _)) = tokio::join!(TcpStream::connect(addr), listener.accept());
        assert!(ours.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_connection_without_a_request_is_closed_and_one_that_is_used_again_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, stopping) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/", get(async || "here"));
        let limit = Duration::from_millis(400);
        let server = tokio::spawn(serve_within(limit, listener, router, stopping.clone()));
        assert!(ends(TcpStream::connect(addr).await.unwrap()).await, "nothing comes");
        let mut half = TcpStream::connect(addr).await.unwrap();
        half.write_all(&WHOLE[..20]).await.unwrap();
        assert!(ends(half).await, "half of a head");
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let begin = Instant::now();
        let mut answers = 0;
        // Longer than the limit in all.
        while begin.elapsed() < limit * 2 {
            socket.write_all(WHOLE).await.unwrap();
            let mut answer = [0; 1_024];
            let length = socket.read(&mut answer).await.unwrap();
            assert!(answer[..length].ends_with(b"here"));
            answers += 1;
        }
        assert!(answers > 1 && ends(socket).await, "nothing more comes");
        stopping.cancel();
        server.await.unwrap().unwrap();
    }
}
