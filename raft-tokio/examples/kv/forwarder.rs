//! A client's requests on their way to the server that leads.

use std::io;

use benches::kv::run::{FORWARD_WAIT_MAX, Link, Outcome, Run};
use benches::kv::session::INPUT_BYTES;
use bytes::BytesMut;
use raft_tokio::{NodeId, Term};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Forwards one client's runs, one after another, on a connection that lasts as long as the leader does.
#[derive(Default)]
pub(crate) struct Forwarder {
    connected: Option<Connected>,
}

struct Connected {
    /// A leader that comes back in another term has been away: what it said on an old connection counts no more.
    leader: (NodeId, Term),
    socket: TcpStream,
    link: Link,
}

impl Forwarder {
    /// Brings the run to the leader and its answers back.
    pub(crate) async fn attempt(
        &mut self,
        run: &Run,
        from: NodeId,
        leader: (NodeId, Term),
        address: &str,
    ) -> Vec<Outcome> {
        let connected = self.connected.take().filter(|connected| connected.is_usable(leader));
        let mut connected = match connected {
            Some(connected) => connected,
            None => {
                let connect = Connected::new(from, leader, address);
                match timeout(FORWARD_WAIT_MAX, connect).await {
                    Ok(Ok(connected)) => connected,
                    // Nothing was sent.
                    Ok(Err(_)) | Err(_) => return run.untouched(),
                }
            }
        };
        // Whether it failed, or how, shows in what was answered.
        let _ = timeout(FORWARD_WAIT_MAX, connected.forward(run)).await;
        let outcomes = connected.link.finish();
        if !connected.link.is_spent() {
            self.connected = Some(connected);
        }
        outcomes
    }
}

impl Connected {
    async fn new(from: NodeId, leader: (NodeId, Term), address: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut out = BytesMut::new();
        let link = Link::new(from.get(), &mut out);
        let mut connected = Self { leader, socket, link };
        connected.socket.write_all(&out).await?;
        while !connected.link.poll_welcome().map_err(io::Error::other)? {
            connected.read().await?;
        }
        Ok(connected)
    }

    /// Whether this leads to the leader, and it is not known to be gone: what was never sent can be tried elsewhere.
    fn is_usable(&self, leader: (NodeId, Term)) -> bool {
        let silence = self.socket.try_read(&mut [0]);
        let is_open = silence.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        is_open && self.leader == leader
    }

    async fn forward(&mut self, run: &Run) -> io::Result<()> {
        let mut out = BytesMut::new();
        self.link.forward(run, &mut out);
        self.socket.write_all(&out).await?;
        while !self.link.poll().map_err(io::Error::other)? {
            self.read().await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> io::Result<()> {
        let input = self.link.input();
        input.reserve(INPUT_BYTES);
        match self.socket.read_buf(input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
