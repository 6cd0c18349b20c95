//! Connections on tokio: a task for each.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use kv::server::connection::{Connection, LinkStep, Step};
use kv::server::pipeline::INPUT_BYTES;
use kv::server::{ACCEPT_PAUSE, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout, timeout_at};

/// A listener that listens already, as tokio's.
///
/// # Errors
///
/// If the operating system refuses, or outside of a runtime.
pub fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Lets clients in.
pub async fn accept(clients: TcpListener, server: Arc<Server>) {
    loop {
        match clients.accept().await {
            Ok((mut client, _)) => match Connection::admit(&server) {
                Ok(connection) => drop(tokio::spawn(serve_client(client, connection))),
                // A client that does not wait for the reason needs none.
                Err(reason) => drop(client.write_all(&reason).await),
            },
            Err(e) => {
                tracing::warn!("a client could not be let in: {e}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_client(client: TcpStream, connection: Connection) {
    // That a client went away is its own affair.
    let _ = Sockets { client, leader: None, connection }.run().await;
}

struct Sockets {
    client: TcpStream,
    leader: Option<TcpStream>,
    connection: Connection,
}

impl Sockets {
    async fn run(&mut self) -> io::Result<()> {
        self.client.set_nodelay(true)?;
        loop {
            match self.connection.step() {
                Step::Read => read(&mut self.client, self.connection.input()).await?,
                Step::Write => self.client.write_all_buf(self.connection.output()).await?,
                Step::Ask(question) => self.connection.on_answer(question.answer().await),
                Step::Link(step, deadline) => {
                    let done = timeout_at(deadline.into(), self.link(step)).await;
                    self.connection.on_link(done.unwrap_or_else(|late| Err(late.into())));
                }
                Step::Pause(change, span) => drop(timeout(span, change).await),
                Step::End => return Ok(()),
            }
        }
    }

    async fn link(&mut self, step: LinkStep) -> io::Result<()> {
        match step {
            LinkStep::Dial(address) => {
                self.leader = None;
                let leader = TcpStream::connect(address).await?;
                leader.set_nodelay(true)?;
                self.leader = Some(leader);
                Ok(())
            }
            LinkStep::Probe => match open(&mut self.leader)?.try_read(&mut [0]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Err(e) => Err(e),
                Ok(_) => Err(io::ErrorKind::NotConnected.into()),
            },
            LinkStep::Send => {
                open(&mut self.leader)?.write_all_buf(self.connection.link_output()).await
            }
            LinkStep::Receive => read(open(&mut self.leader)?, self.connection.link_input()).await,
        }
    }
}

fn open(socket: &mut Option<TcpStream>) -> io::Result<&mut TcpStream> {
    socket.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

async fn read(socket: &mut TcpStream, input: &mut BytesMut) -> io::Result<()> {
    input.reserve(INPUT_BYTES);
    match socket.read_buf(input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
