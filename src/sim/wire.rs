//! The listening side of a connection, with a switch that resets it (RST) instead of answering.
use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};

/// A listener whose connections can be reset, with TLS where it is given.
pub(crate) struct Doors {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
}

/// One accepted connection.
pub(crate) struct Wire {
    line: Line,
    cut: Cut,
}

/// What a connection runs over. The handshake is made by whoever first reads or writes, so that a slow client holds up
/// nobody but itself.
enum Line {
    Plain(TcpStream),
    Shaking(Box<Accept<TcpStream>>),
    Secure(Box<TlsStream<TcpStream>>),
}

/// Resets its connection: the next write fails, and the socket closes with a linger time of zero,
/// which makes the kernel send RST. The client sees a reset, never half an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut(Arc<AtomicBool>);

impl Cut {
    pub(crate) fn pull(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Listener for Doors {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    // Small answers must not wait for an acknowledgement. A socket that is already
                    // gone cannot be set and will show it at the first read.
                    stream.set_nodelay(true).ok();
                    let line = match &self.tls {
                        Some(tls) => Line::Shaking(Box::new(tls.accept(stream))),
                        None => Line::Plain(stream),
                    };
                    return (Wire { line, cut: Cut::default() }, from);
                }
                // Out of file descriptors, as a rule: connections that close make room.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Doors>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Doors>) -> Self {
        stream.io().cut.clone()
    }
}

impl Wire {
    /// The stream, once it is there to be used.
    fn ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Ready<'_>>> {
        if let Line::Shaking(handshake) = &mut self.line {
            self.line = Line::Secure(Box::new(ready!(Pin::new(&mut **handshake).poll(cx))?));
        }
        Poll::Ready(Ok(match &mut self.line {
            Line::Plain(stream) => Ready::Plain(Pin::new(stream)),
            Line::Secure(stream) => Ready::Secure(Pin::new(stream)),
            Line::Shaking(_) => return Poll::Pending,
        }))
    }

    fn socket(&self) -> Option<&TcpStream> {
        match &self.line {
            Line::Plain(stream) => Some(stream),
            Line::Shaking(handshake) => handshake.get_ref(),
            Line::Secure(stream) => Some(stream.get_ref().0),
        }
    }
}

/// A stream that can be read and written.
enum Ready<'a> {
    Plain(Pin<&'a mut TcpStream>),
    Secure(Pin<&'a mut TlsStream<TcpStream>>),
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(self.ready(cx))? {
            Ready::Plain(stream) => stream.poll_read(cx, buf),
            Ready::Secure(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.0.load(Ordering::Acquire) {
            if let Some(socket) = self.socket() {
                socket.set_zero_linger()?;
            }
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        match ready!(self.ready(cx))? {
            Ready::Plain(stream) => stream.poll_write(cx, buf),
            Ready::Secure(stream) => stream.poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.ready(cx))? {
            Ready::Plain(stream) => stream.poll_flush(cx),
            Ready::Secure(stream) => stream.poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.ready(cx))? {
            Ready::Plain(stream) => stream.poll_shutdown(cx),
            Ready::Secure(stream) => stream.poll_shutdown(cx),
        }
    }
}

/// Where to listen with TLS, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Address and port.
    pub at: SocketAddr,
    /// Certificate chain, a PEM file.
    pub chain: PathBuf,
    /// Its key, a PEM file.
    pub key: PathBuf,
}

impl FromStr for Tls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ',');
        let (Some(at), Some(chain), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("write ADDR,CHAIN,KEY".to_owned());
        };
        let at = at.parse().map_err(|error| format!("`{at}`: {error}"))?;
        Ok(Self { at, chain: chain.into(), key: key.into() })
    }
}

impl Tls {
    /// What makes the handshakes. An error when a file cannot be read, or the two do not belong together.
    pub(crate) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        provide_tls();
        let wrong = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
        let chain = CertificateDer::pem_file_iter(&self.chain).and_then(Iterator::collect);
        let chain = chain.map_err(|error| wrong(&error))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| wrong(&error))?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        Ok(TlsAcceptor::from(Arc::new(config.map_err(|error| wrong(&error))?)))
    }
}

/// Gives TLS its provider, where the program has not done so: for URLs of the client's that are https or wss.
pub(crate) fn provide_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // A second one to arrive loses, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
}
