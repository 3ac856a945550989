//! The messages of one stream: texts that go out whole and come in whole, until it is closed (RFC 6455, section 5.2).
//!
//! Not here: the handshake; messages in pieces, which nobody sends.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// So much is read at once, bytes: four frames of sound.
const READ: usize = 2_048;

/// A stream behind its handshake.
pub(crate) struct Frames {
    stream: TcpStream,
    read: BytesMut,
    /// The message before, which is still lent.
    lent: usize,
}

/// A text as it goes over the wire from a client. It is masked, as it has to be, with zeros.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut frame = vec![FINAL | TEXT];
    match u16::try_from(text.len()) {
        Ok(short @ ..126) => frame.push(MASKED | short.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(MASKED | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(MASKED | 127);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.bytes());
    frame
}

impl Frames {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, read: BytesMut::with_capacity(READ), lent: 0 }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends what [`text`] made.
    pub(crate) async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame).await
    }

    /// The next text; `None` where the stream is closed. What it had read of one is not lost where it is dropped.
    pub(crate) async fn next(&mut self) -> Option<&[u8]> {
        self.read.advance(std::mem::take(&mut self.lent));
        loop {
            if let Some((kind, begin, end)) = self.whole() {
                if kind == CLOSE {
                    return None;
                }
                if kind == TEXT {
                    self.lent = end;
                    return self.read.get(begin..end);
                }
                self.read.advance(end);
                continue;
            }
            self.read.reserve(READ);
            if self.stream.read_buf(&mut self.read).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// The kind of the first frame, and where what it says begins and ends, once all of it was read.
    fn whole(&self) -> Option<(u8, usize, usize)> {
        let (kind, length) = (self.read.first()? & 0x0f, self.read.get(1)? & 0x7f);
        let (begin, length) = match length {
            126 => (4, u64::from(u16::from_be_bytes(*self.read.get(2..)?.first_chunk()?))),
            127 => (10, u64::from_be_bytes(*self.read.get(2..)?.first_chunk()?)),
            short => (2, u64::from(short)),
        };
        let end = begin + usize::try_from(length).ok()?;
        (self.read.len() >= end).then_some((kind, begin, end))
    }
}
