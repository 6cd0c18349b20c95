//! ZooKeeper's protocol, as much as it takes to set a node's data.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, VALUE, ask, key, strange};

const CREATE: i32 = 1;
const SET_DATA: i32 = 5;
const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;
/// All that one may do with a node.
const ALL_PERMISSIONS: i32 = 31;
const SESSION_TIMEOUT_MS: i32 = 10_000;
/// A reply's head: the request's number, the transaction's, an error.
const REPLY_HEAD_BYTES: usize = 16;

pub(crate) struct Connection {
    stream: TcpStream,
    requests: i32,
}

impl Connection {
    pub(super) async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, requests: 0 };
        let mut hello = BytesMut::new();
        // Version, the last transaction seen.
        hello.put_i32(0);
        hello.put_i64(0);
        hello.put_i32(SESSION_TIMEOUT_MS);
        // A new session, without a password.
        hello.put_i64(0);
        put_buffer(&mut hello, &[0; 16]);
        connection.send(&hello).await?;
        connection.receive().await?;
        Ok(connection)
    }

    pub(super) async fn write(&mut self, number: usize) -> io::Result<Answer> {
        let key = format!("/{}", key(number));
        let mut body = BytesMut::new();
        put_buffer(&mut body, key.as_bytes());
        put_buffer(&mut body, &VALUE);
        // Whatever the node's version is.
        body.put_i32(-1);
        let mut error = self.call(SET_DATA, &body).await?;
        if error == NO_NODE {
            body.truncate(body.len() - 4);
            body.put_i32(1);
            body.put_i32(ALL_PERMISSIONS);
            put_buffer(&mut body, b"world");
            put_buffer(&mut body, b"anyone");
            // Neither ephemeral nor numbered.
            body.put_i32(0);
            error = self.call(CREATE, &body).await?;
        }
        Ok(match error {
            0 | NODE_EXISTS => Answer::Acknowledged,
            error => Answer::Refused(format!("ZooKeeper's error {error}")),
        })
    }

    async fn call(&mut self, kind: i32, body: &[u8]) -> io::Result<i32> {
        self.requests = self.requests.wrapping_add(1);
        let mut request = BytesMut::with_capacity(8 + body.len());
        request.put_i32(self.requests);
        request.put_i32(kind);
        request.put_slice(body);
        self.send(&request).await?;
        loop {
            let mut reply = self.receive().await?;
            if reply.len() < REPLY_HEAD_BYTES {
                return Err(strange("a short reply of ZooKeeper"));
            }
            if reply.get_i32() == self.requests {
                reply.advance(8);
                return Ok(reply.get_i32());
            }
        }
    }

    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut framed = BytesMut::with_capacity(4 + message.len());
        put_buffer(&mut framed, message);
        self.stream.write_all(&framed).await
    }

    async fn receive(&mut self) -> io::Result<Bytes> {
        let length = self.stream.read_u32().await? as usize;
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message).await?;
        Ok(message.into())
    }
}

fn put_buffer(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

pub(super) async fn leads(server: SocketAddr) -> io::Result<bool> {
    let answer = ask(server, b"srvr").await?;
    let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "));
    mode.map(|mode| mode == "leader").ok_or_else(|| strange("ZooKeeper does not serve yet"))
}
