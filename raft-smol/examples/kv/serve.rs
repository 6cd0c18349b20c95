//! A server on smol or async-std: its node, and a task for each client's connection.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use kv::server::conversation::{Conversation, LinkStep, Step};
use kv::server::session::INPUT_BYTES;
use kv::server::{ACCEPT_PAUSE, Parts, Server};
use raft_smol::on;
use smol::Timer;
use smol::future::{or, poll_once};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

/// Runs a server until it is told to stop.
pub(crate) fn serve<E: on::Executor>(parts: Parts) -> Result<(), Box<dyn Error>> {
    smol::block_on(start::<E>(parts))?.run_until_told()
}

async fn start<E: on::Executor>(parts: Parts) -> Result<Arc<Server>, Box<dyn Error>> {
    let Parts { config, store, journal, listener, peers, transport, clients, front } = parts;
    let (listener, clients) = (TcpListener::try_from(listener)?, TcpListener::try_from(clients)?);
    let transport = on::Transport::<E>::new(listener, peers, transport)?;
    let node = on::Node::<_, E>::start(config, store, journal, transport).await?;
    let server = front.open(node.handle());
    E::spawn(accept::<E>(clients, server.clone()));
    Ok(server)
}

/// Lets clients in.
async fn accept<E: on::Executor>(clients: TcpListener, server: Arc<Server>) {
    loop {
        match clients.accept().await {
            Ok((mut client, _)) => match server.admit() {
                Ok(conversation) => E::spawn(converse(client, conversation)),
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

async fn converse(client: TcpStream, conversation: Conversation) {
    let chunk = vec![0; INPUT_BYTES];
    // That a client went away is its own affair.
    let _ = Connection { client, leader: None, conversation, chunk }.run().await;
}

struct Connection {
    client: TcpStream,
    leader: Option<TcpStream>,
    conversation: Conversation,
    /// What a read brings, before its length is known.
    chunk: Vec<u8>,
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        self.client.set_nodelay(true)?;
        loop {
            match self.conversation.step() {
                Step::Read => {
                    read(&mut self.client, &mut self.chunk, self.conversation.input()).await?;
                }
                Step::Write => write(&mut self.client, self.conversation.output()).await?,
                Step::Ask(question) => self.conversation.on_answer(question.answer().await),
                Step::Link(step, deadline) => {
                    let done = or(self.link(step), late(deadline)).await;
                    self.conversation.on_link(done);
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
            LinkStep::Send => write(open(&mut self.leader)?, self.conversation.link_output()).await,
            LinkStep::Receive => {
                let input = self.conversation.link_input();
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
