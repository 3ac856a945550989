//! What is left of a request's body when its answer is there already, as where nobody's key came with it.
//!
//! Invariant: the next request on a connection is answered, or the answer before it said `Connection: close` (RFC 9112 §9.6): the rest
//! of a body is read to its end where little is left, since hyper ends the connection without a word where any is.
//! Not here: how much of a body a route reads (`api::body`).

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody},
    extract::Request,
    http::{HeaderValue, header},
    middleware::Next,
    response::Response,
};
use futures::{Stream, StreamExt};
use tokio::sync::oneshot;

/// Most bytes that are read for nothing.
const MOST: u64 = 64 * 1024;
/// Longest time that an answer waits for them.
const LONGEST: Duration = Duration::from_millis(500);

/// Keeps the connection, or says that it ends.
pub async fn layer(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    // Who waits to be asked for the body has not sent it, and will not where the answer is a refusal.
    let holds_back = parts.headers.contains_key(header::EXPECT);
    let (back, mut rest) = oneshot::channel();
    let lent = Lent { body: Some(body.into_data_stream()), back: Some(back) };
    let mut response = next.run(Request::from_parts(parts, Body::from_stream(lent))).await;
    let read = match rest.try_recv() {
        Ok(None) => true,
        Ok(Some(rest)) => !holds_back && passes(rest).await,
        // It is read by what goes on behind the answer.
        Err(_) => false,
    };
    if !read {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads what is left, where that is little and comes soon.
async fn passes(mut rest: BodyDataStream) -> bool {
    if HttpBody::size_hint(&rest).lower() > MOST {
        return false;
    }
    let to_its_end = async {
        let mut bytes = 0;
        while let Some(chunk) = rest.next().await {
            bytes += chunk.map_or(u64::MAX, |chunk| chunk.len() as u64);
            if bytes > MOST {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(LONGEST, to_its_end).await.unwrap_or(false)
}

/// A body that goes back to who lent it, where it is dropped before its end.
struct Lent {
    body: Option<BodyDataStream>,
    back: Option<oneshot::Sender<Option<BodyDataStream>>>,
}

impl Lent {
    fn give_back(&mut self, rest: Option<BodyDataStream>) {
        if let Some(back) = self.back.take() {
            // Nobody wants it back where the request was given up.
            let _ = back.send(rest);
        }
    }
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let read = ready!(body.poll_next_unpin(cx));
        if !matches!(read, Some(Ok(_))) {
            // At its end, or broken: nothing is left of it.
            self.body = None;
            self.give_back(None);
        }
        Poll::Ready(read)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let rest = self.body.take();
        self.give_back(rest);
    }
}
