//! A carrier that says, cuts and forgets what a test tells it to.
//!
//! It is a bare socket: it counts the requests that it has read whole, however it then behaves.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// What the server does once it has read a request whole.
pub(crate) enum Reply {
    /// Answers and keeps the connection.
    Json(u16, String),
    /// Answers, then closes the connection without saying so beforehand.
    JsonThenClose(u16, String),
    /// Writes these bytes and closes.
    Bytes(Vec<u8>),
    /// Resets the connection.
    Reset,
    /// Never answers.
    Silence,
}

/// One carrier on a port of its own. Replies are used in order; none left means silence.
pub(crate) struct Fake {
    /// Where it listens.
    pub(crate) base: Url,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Starts one that will give these replies.
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let fake = Self { base, seen: seen.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, replies.clone(), seen.clone()));
            }
        });
        fake
    }

    /// Every request read whole so far, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, replies: Arc<Mutex<VecDeque<Reply>>>, seen: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = read_request(&mut stream).await {
        seen.lock().unwrap().push(request);
        let reply = replies.lock().unwrap().pop_front().unwrap_or(Reply::Silence);
        match reply {
            Reply::Json(status, body) => stream.write_all(&http(status, &body)).await.unwrap(),
            Reply::JsonThenClose(status, body) => return stream.write_all(&http(status, &body)).await.unwrap(),
            // The client may have hung up before the end.
            Reply::Bytes(bytes) => return drop(stream.write_all(&bytes).await),
            Reply::Reset => return stream.set_zero_linger().unwrap(),
            Reply::Silence => std::future::pending().await,
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// An answer as it stands on the wire.
pub(crate) fn http(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
