//! A blocking client: enough for the demonstration and for tests. Users take any Redis client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::server::batch::{FORWARD_WAIT_MAX, LEADER_WAIT_MAX};
use crate::server::resp::{Decoder, Frame, encode_request};

/// How long a client waits for an answer: longer than a server that looks for a leader and asks it.
const ANSWER_WAIT_MAX: Duration =
    LEADER_WAIT_MAX.saturating_add(FORWARD_WAIT_MAX).saturating_add(Duration::from_secs(5));
/// How long a client waits for a connection.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// The most requests sent before answers are read, so that neither side can fill the other's
/// buffers while both write.
const PIPELINE_MAX: usize = 256;

/// A connection to one server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    decoder: Decoder,
}

impl Client {
    /// Connects to the server at `address`.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_WAIT_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        stream.set_write_timeout(Some(ANSWER_WAIT_MAX))?;
        Ok(Self { stream, decoder: Decoder::of_replies() })
    }

    /// Waits no longer than this for each piece of an answer, instead of as long as a server may
    /// look for a leader.
    pub fn set_answer_wait(&self, wait: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(wait))?;
        self.stream.set_write_timeout(Some(wait))
    }

    /// Sends one request and waits for its answer. After an error the connection is of no more use,
    /// and whether the request was carried out is unknown.
    pub fn call<W: Into<Bytes>>(
        &mut self,
        words: impl IntoIterator<Item = W>,
    ) -> io::Result<Frame> {
        let mut out = BytesMut::new();
        encode_request(&mut out, words.into_iter().map(Into::into));
        self.stream.write_all(&out)?;
        self.reply()
    }

    /// Sends many small requests without waiting in between. The answers come in their order.
    pub fn pipeline(&mut self, requests: &[Vec<Bytes>]) -> io::Result<Vec<Frame>> {
        let mut replies = Vec::with_capacity(requests.len());
        let mut out = BytesMut::new();
        for part in requests.chunks(PIPELINE_MAX) {
            out.clear();
            for words in part {
                encode_request(&mut out, words.iter().cloned());
            }
            self.stream.write_all(&out)?;
            for _ in part {
                replies.push(self.reply()?);
            }
        }
        Ok(replies)
    }

    fn reply(&mut self) -> io::Result<Frame> {
        let mut chunk = [0; 16 << 10];
        loop {
            let decoded = self.decoder.decode();
            if let Some(reply) =
                decoded.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?
            {
                return Ok(reply);
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.decoder.buffer.extend_from_slice(&chunk[..read]),
            }
        }
    }
}
