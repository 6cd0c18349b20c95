//! Connections on threads: one for each.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use kv::server::connection::{Connection, LinkStep, Step};
use kv::server::pipeline::INPUT_BYTES;
use kv::server::{ACCEPT_PAUSE, Server};

/// Lets clients in.
pub fn accept(clients: &TcpListener, server: &Arc<Server>) {
    loop {
        if let Err(e) = clients.accept().and_then(|(client, _)| admit(client, server)) {
            tracing::warn!("a client could not be let in: {e}");
            thread::sleep(ACCEPT_PAUSE);
        }
    }
}

fn admit(mut client: TcpStream, server: &Arc<Server>) -> io::Result<()> {
    match Connection::admit(server) {
        Ok(connection) => {
            let serve_client = move || serve_client(client, connection);
            thread::Builder::new().name("kv-client".into()).spawn(serve_client)?;
        }
        // A client that does not wait for the reason needs none.
        Err(reason) => drop(client.write_all(&reason)),
    }
    Ok(())
}

fn serve_client(client: TcpStream, connection: Connection) {
    let chunk = vec![0; INPUT_BYTES];
    // That a client went away is its own affair.
    let _ = Sockets { client, leader: None, connection, chunk }.run();
}

struct Sockets {
    client: TcpStream,
    leader: Option<TcpStream>,
    connection: Connection,
    /// What a read brings, before its length is known.
    chunk: Vec<u8>,
}

impl Sockets {
    fn run(&mut self) -> io::Result<()> {
        self.client.set_nodelay(true)?;
        loop {
            match self.connection.step() {
                Step::Read => {
                    read(&mut self.client, &mut self.chunk, self.connection.input())?;
                }
                Step::Write => write(&mut self.client, self.connection.output())?,
                Step::Ask(question) => self.connection.on_answer(question.wait()),
                Step::Link(step, deadline) => {
                    let done = self.link(step, deadline);
                    self.connection.on_link(done);
                }
                Step::Pause(change, span) => drop(change.wait_timeout(span)),
                Step::End => return Ok(()),
            }
        }
    }

    fn link(&mut self, step: LinkStep, deadline: Instant) -> io::Result<()> {
        match step {
            LinkStep::Dial(address) => {
                self.leader = None;
                self.leader = Some(dial(&address, deadline)?);
                Ok(())
            }
            LinkStep::Probe => probe(open(&mut self.leader)?),
            LinkStep::Send => {
                let (leader, output) = (open(&mut self.leader)?, self.connection.link_output());
                while !output.is_empty() {
                    leader.set_write_timeout(Some(until(deadline)?))?;
                    output.advance(leader.write(output)?);
                }
                Ok(())
            }
            LinkStep::Receive => {
                let leader = open(&mut self.leader)?;
                leader.set_read_timeout(Some(until(deadline)?))?;
                read(leader, &mut self.chunk, self.connection.link_input())
            }
        }
    }
}

fn dial(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, until(deadline)?) {
            Ok(leader) => {
                leader.set_nodelay(true)?;
                return Ok(leader);
            }
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

fn probe(leader: &TcpStream) -> io::Result<()> {
    leader.set_nonblocking(true)?;
    let silence = leader.peek(&mut [0]);
    leader.set_nonblocking(false)?;
    match silence {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(e) => Err(e),
        Ok(_) => Err(io::ErrorKind::NotConnected.into()),
    }
}

/// The time that is left.
fn until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn open(socket: &mut Option<TcpStream>) -> io::Result<&mut TcpStream> {
    socket.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

fn read(socket: &mut TcpStream, chunk: &mut [u8], input: &mut BytesMut) -> io::Result<()> {
    match socket.read(chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            input.extend_from_slice(&chunk[..read]);
            Ok(())
        }
    }
}

fn write(socket: &mut TcpStream, output: &mut BytesMut) -> io::Result<()> {
    socket.write_all(output)?;
    output.clear();
    Ok(())
}
