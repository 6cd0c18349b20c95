//! The Redis protocol: ours, the drivers and Redis itself.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use kv::server::resp::{Decoder, Frame, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, VALUE, key, strange};

pub(crate) struct Connection {
    stream: TcpStream,
    replies: Decoder,
    out: BytesMut,
}

impl Connection {
    pub(super) async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, replies: Decoder::of_replies(), out: BytesMut::new() })
    }

    pub(super) async fn write(&mut self, number: usize) -> io::Result<Answer> {
        let words = [Bytes::from_static(b"SET"), key(number).into(), Bytes::from_static(&VALUE)];
        match self.call(words).await? {
            Frame::SimpleString(_) => Ok(Answer::Acknowledged),
            Frame::Error(text) => {
                let moved = text.strip_prefix("MOVED 0 ").and_then(|place| place.parse().ok());
                Ok(moved.map_or_else(|| Answer::Refused(text.to_string()), Answer::Moved))
            }
            other @ (Frame::Integer(_) | Frame::BulkString(_) | Frame::Array(_) | Frame::Null) => {
                Err(strange(format!("an answer to SET: {other:?}")))
            }
        }
    }

    async fn call(&mut self, words: impl IntoIterator<Item = Bytes>) -> io::Result<Frame> {
        encode_request(&mut self.out, words);
        self.stream.write_all_buf(&mut self.out).await?;
        loop {
            if let Some(reply) = self.replies.decode().map_err(|e| strange(format!("{e:?}")))? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.replies.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

pub(super) async fn leads(server: SocketAddr) -> io::Result<bool> {
    let reply = Connection::open(server).await?.call([Bytes::from_static(b"INFO")]).await?;
    let Frame::BulkString(text) = reply else { return Err(strange("an answer to INFO")) };
    let text = String::from_utf8_lossy(&text);
    // Redis calls a server that replicates nobody a master.
    Ok(text.lines().any(|line| ["role:leader", "role:master"].contains(&line)))
}
