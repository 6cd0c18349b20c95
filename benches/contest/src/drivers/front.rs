//! What clients of a driver talk to: the commands SET, GET and INFO of the Redis protocol.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use kv::server::resp::{Decoder, Frame, encode, error, ok};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A replicated store.
pub(crate) trait Store: Clone + Send + Sync + 'static {
    /// Returns once the write is applied, or with the reason why it is not.
    fn write(&self, key: Bytes, value: Bytes) -> impl Future<Output = Result<(), Refusal>> + Send;
    /// What this server has applied.
    fn read(&self, key: &[u8]) -> Option<Bytes>;
    fn leads(&self) -> bool;
}

/// Why a write is not known to be done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Ask the leader, if it is known.
    NotLeader(Option<u64>),
    /// It may be done or not.
    Unknown(String),
}

/// Serves clients for ever.
pub(crate) async fn serve(
    store: impl Store,
    id: u64,
    clients: BTreeMap<u64, SocketAddr>,
) -> io::Result<()> {
    let listener = TcpListener::bind(clients[&id]).await?;
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let (store, clients) = (store.clone(), clients.clone());
        tokio::spawn(async move {
            // That a client went away is its own affair.
            let _ = converse(client, &store, &clients).await;
        });
    }
}

async fn converse(
    mut client: TcpStream,
    store: &impl Store,
    clients: &BTreeMap<u64, SocketAddr>,
) -> io::Result<()> {
    let mut requests = Decoder::of_requests();
    let mut out = BytesMut::new();
    loop {
        let decoded = requests.decode();
        match decoded.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{e:?}")))? {
            Some(request) => encode(&mut out, &answer(request, store, clients).await),
            None if !out.is_empty() => client.write_all_buf(&mut out).await?,
            None => match client.read_buf(&mut requests.buffer).await? {
                0 => return Ok(()),
                _ => continue,
            },
        }
    }
}

async fn answer(request: Frame, store: &impl Store, clients: &BTreeMap<u64, SocketAddr>) -> Frame {
    let Frame::Array(words) = request else { return error("ERR not a request") };
    let bytes = |word| if let Frame::BulkString(bytes) = word { Some(bytes) } else { None };
    let words: Vec<_> = words.into_iter().filter_map(bytes).collect();
    match &words[..] {
        [set, key, value] if set.eq_ignore_ascii_case(b"SET") => {
            match store.write(key.clone(), value.clone()).await {
                Ok(()) => ok(),
                Err(Refusal::NotLeader(leader)) => {
                    match leader.and_then(|leader| clients.get(&leader)) {
                        Some(leader) => error(format!("MOVED 0 {leader}")),
                        None => error("CLUSTERDOWN no leader is known"),
                    }
                }
                Err(Refusal::Unknown(why)) => error(format!("UNKNOWN {why}")),
            }
        }
        [get, key] if get.eq_ignore_ascii_case(b"GET") => {
            store.read(key).map_or(Frame::Null, Frame::BulkString)
        }
        [info, ..] if info.eq_ignore_ascii_case(b"INFO") => {
            let mut text = String::from("# Raft\r\n");
            let role = if store.leads() { "leader" } else { "follower" };
            let _ = write!(text, "role:{role}\r\n");
            Frame::BulkString(text.into())
        }
        _ => error("ERR SET, GET and INFO are what there is"),
    }
}
