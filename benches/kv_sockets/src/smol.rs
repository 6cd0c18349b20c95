//! Connections on smol's sockets: a task for each, on any executor.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use kv::server::connection::{Connection, LinkStep, Step};
use kv::server::pipeline::INPUT_BYTES;
use kv::server::{ACCEPT_PAUSE, Server};
use smol::Timer;
use smol::future::{Boxed, or, poll_once};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

/// Lets clients in. Their tasks run wherever `spawn` puts them.
pub async fn accept(clients: TcpListener, server: Arc<Server>, spawn: fn(Boxed<()>)) {
    loop {
        match clients.accept().await {
            Ok((mut client, _)) => match Connection::admit(&server) {
                Ok(connection) => spawn(Box::pin(serve_client(client, connection))),
                // A client that does not wait for the reason needs none.
                Err(reason) => drop(client.write_all(&reason).await),
            },
            Err(e) => {
                tracing::warn!("a client could not be let in: {e}");
                Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_client(client: TcpStream, connection: Connection) {
    let chunk = vec![0; INPUT_BYTES];
    // That a client went away is its own affair.
    let _ = Sockets { client, leader: None, connection, chunk }.run().await;
}

struct Sockets {
    client: TcpStream,
    leader: Option<TcpStream>,
    connection: Connection,
    /// What a read brings, before its length is known.
    chunk: Vec<u8>,
}

impl Sockets {
    async fn run(&mut self) -> io::Result<()> {
        self.client.set_nodelay(true)?;
        loop {
            match self.connection.step() {
                Step::Read => {
                    read(&mut self.client, &mut self.chunk, self.connection.input()).await?;
                }
                Step::Write => write(&mut self.client, self.connection.output()).await?,
                Step::Ask(question) => self.connection.on_answer(question.answer().await),
                Step::Link(step, deadline) => {
                    let done = or(self.link(step), late(deadline)).await;
                    self.connection.on_link(done);
                }
                Step::Pause(change, span) => {
                    let passed = async {
                        Timer::after(span).await;
                    };
                    or(async { drop(change.await) }, passed).await;
                }
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
            LinkStep::Probe => {
                match poll_once(open(&mut self.leader)?.peek(&mut self.chunk[..1])).await {
                    None => Ok(()),
                    Some(_) => Err(io::ErrorKind::NotConnected.into()),
                }
            }
            LinkStep::Send => write(open(&mut self.leader)?, self.connection.link_output()).await,
            LinkStep::Receive => {
                let input = self.connection.link_input();
                read(open(&mut self.leader)?, &mut self.chunk, input).await
            }
        }
    }
}

async fn late(deadline: Instant) -> io::Result<()> {
    Timer::at(deadline).await;
    Err(io::ErrorKind::TimedOut.into())
}

fn open(socket: &mut Option<TcpStream>) -> io::Result<&mut TcpStream> {
    socket.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

async fn read(socket: &mut TcpStream, chunk: &mut [u8], input: &mut BytesMut) -> io::Result<()> {
    match socket.read(chunk).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            input.extend_from_slice(&chunk[..read]);
            Ok(())
        }
    }
}

async fn write(socket: &mut TcpStream, output: &mut BytesMut) -> io::Result<()> {
    socket.write_all(output).await?;
    output.clear();
    Ok(())
}
