//! The clients of every contestant: one connection each, one write at a time.

mod etcd;
mod nats;
mod resp;
mod zookeeper;

use std::io;
use std::net::SocketAddr;

/// Every key and value has so many bytes.
pub(crate) const VALUE_BYTES: usize = 16;

/// What a contestant's servers speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Resp,
    Etcd,
    ZooKeeper,
    Nats,
}

/// A connection to one server.
pub(crate) enum Connection {
    Resp(resp::Connection),
    Etcd(etcd::Connection),
    ZooKeeper(zookeeper::Connection),
    Nats(nats::Connection),
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Answer {
    Acknowledged,
    /// Another server leads.
    Moved(SocketAddr),
    Refused(String),
}

impl Connection {
    pub(crate) async fn open(protocol: Protocol, server: SocketAddr) -> io::Result<Self> {
        Ok(match protocol {
            Protocol::Resp => Self::Resp(resp::Connection::open(server).await?),
            Protocol::Etcd => Self::Etcd(etcd::Connection::open(server).await?),
            Protocol::ZooKeeper => Self::ZooKeeper(zookeeper::Connection::open(server).await?),
            Protocol::Nats => Self::Nats(nats::Connection::open(server).await?),
        })
    }

    /// Writes a value under the key with this number, and waits for the answer. After an error the
    /// connection is of no more use.
    pub(crate) async fn write(&mut self, key: usize) -> io::Result<Answer> {
        match self {
            Self::Resp(connection) => connection.write(key).await,
            Self::Etcd(connection) => connection.write(key).await,
            Self::ZooKeeper(connection) => connection.write(key).await,
            Self::Nats(connection) => connection.write().await,
        }
    }
}

/// Whether this server says that it leads.
pub(crate) async fn leads(protocol: Protocol, server: SocketAddr, name: &str) -> io::Result<bool> {
    match protocol {
        Protocol::Resp => resp::leads(server).await,
        Protocol::Etcd => etcd::leads(server).await,
        Protocol::ZooKeeper => zookeeper::leads(server).await,
        Protocol::Nats => nats::leads(server, name).await,
    }
}

/// What must be there before the first write.
pub(crate) async fn prepare(protocol: Protocol, server: SocketAddr) -> io::Result<()> {
    match protocol {
        Protocol::Nats => nats::create_stream(server).await,
        Protocol::Resp | Protocol::Etcd | Protocol::ZooKeeper => Ok(()),
    }
}

fn key(number: usize) -> String {
    format!("key{number:0width$}", width = VALUE_BYTES - 3)
}

const VALUE: [u8; VALUE_BYTES] = *b"sixteen of bytes";

fn strange(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// What a server answers to a word, until it closes the connection.
async fn ask(server: SocketAddr, question: &[u8]) -> io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(server).await?;
    stream.write_all(question).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
