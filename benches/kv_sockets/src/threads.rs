//! Connections on threads: one for each, which reads, and one for all, which writes what the node
//! answers.
//!
//! ```text
//!   client ═► thread of the connection ─ propose ─► node ─ answer ─► thread of answers ═► client
//!             reads on                                               takes all there are
//! ```
//!
//! The thread of the answers never blocks for one client, because all others would wait. If there
//! is more to do for a client than to write a short reply, a new thread does that.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use kv::server::connection::{Answer, Connection, LinkStep, Step};
use kv::server::pipeline::INPUT_BYTES;
use kv::server::{ACCEPT_PAUSE, Server};

/// Lets clients in.
pub fn accept(clients: &TcpListener, server: &Arc<Server>) {
    let answers = loop {
        match start_answering() {
            Ok(answers) => break answers,
            Err(e) => {
                tracing::warn!("no thread to answer clients: {e}");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    };
    loop {
        if let Err(e) = clients.accept().and_then(|(client, _)| admit(client, server, &answers)) {
            tracing::warn!("a client could not be let in: {e}");
            thread::sleep(ACCEPT_PAUSE);
        }
    }
}

/// What the node answers, and to whom.
type Answers = Sender<(Arc<Client>, Answer)>;

fn start_answering() -> io::Result<Answers> {
    let (answers, answered): (Answers, Receiver<_>) = mpsc::channel();
    let answer_all = move || answered.iter().for_each(|(client, answer)| client.on_answer(answer));
    thread::Builder::new().name("kv-answer".into()).spawn(answer_all)?;
    Ok(answers)
}

fn admit(mut client: TcpStream, server: &Arc<Server>, answers: &Answers) -> io::Result<()> {
    match Connection::admit(server) {
        Ok(connection) => {
            let client = Arc::new(Client::new(client, connection, answers.clone()));
            // That a client went away is its own affair.
            let serve_client = move || drop(client.serve());
            thread::Builder::new().name("kv-client".into()).spawn(serve_client)?;
        }
        // A client that does not wait for the reason needs none.
        Err(reason) => drop(client.write_all(&reason)),
    }
    Ok(())
}

/// A client. Its own thread reads what it sends.
struct Client {
    socket: TcpStream,
    exchange: Mutex<Exchange>,
    /// Notified when the exchange rests or is closed.
    rests: Condvar,
    answers: Answers,
}

/// What goes on between a client and the cluster.
struct Exchange {
    connection: Connection,
    leader: Option<TcpStream>,
    phase: Phase,
}

/// Where an exchange stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits for what the client sends next.
    Rests,
    UnderWay,
    /// Nothing more is read.
    Closed,
}

/// Whether a thread may block for one client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Blocks,
    NeverBlocks,
}

impl Client {
    fn new(socket: TcpStream, connection: Connection, answers: Answers) -> Self {
        let exchange = Exchange { connection, leader: None, phase: Phase::Rests };
        Self { socket, exchange: Mutex::new(exchange), rests: Condvar::new(), answers }
    }

    /// Reads until the client goes away. What is read while the exchange is under way waits, and
    /// nothing more is read.
    fn serve(self: &Arc<Self>) -> io::Result<()> {
        self.socket.set_nodelay(true)?;
        let mut chunk = vec![0; INPUT_BYTES];
        loop {
            let read = receive(&self.socket, &mut chunk)?;
            let under_way = |exchange: &mut Exchange| exchange.phase == Phase::UnderWay;
            let waited = self.rests.wait_while(self.lock(), under_way);
            let mut exchange = waited.unwrap_or_else(PoisonError::into_inner);
            if exchange.phase == Phase::Closed {
                return Ok(());
            }
            exchange.connection.input().extend_from_slice(read);
            self.go_on(exchange, None);
        }
    }

    /// The node has answered.
    fn on_answer(self: &Arc<Self>, answer: Answer) {
        let mut exchange = self.lock();
        exchange.connection.on_answer(answer);
        match self.run(&mut exchange, Patience::NeverBlocks) {
            Ok(None) => self.unlock(exchange),
            Err(_) => self.close(exchange),
            Ok(Some(step)) => {
                let client = Arc::clone(self);
                let go_on = move || client.go_on(client.lock(), Some(step));
                if thread::Builder::new().name("kv-client".into()).spawn(go_on).is_err() {
                    self.close(exchange);
                }
            }
        }
    }

    /// Does this step, if there is one, and those that follow. For a thread that may block.
    fn go_on(self: &Arc<Self>, mut exchange: MutexGuard<'_, Exchange>, step: Option<Step>) {
        let done = step.map_or(Ok(()), |step| self.block_for(&mut exchange, step));
        match done.and_then(|()| self.run(&mut exchange, Patience::Blocks)) {
            Ok(_) => self.unlock(exchange),
            Err(_) => self.close(exchange),
        }
    }

    /// Does what is to be done until the exchange is at rest or the node has to answer. Returns the
    /// first step for which this thread has not the patience.
    fn run(self: &Arc<Self>, exchange: &mut Exchange, by: Patience) -> io::Result<Option<Step>> {
        exchange.phase = Phase::UnderWay;
        loop {
            let step = match exchange.connection.step() {
                Step::Read => {
                    exchange.phase = Phase::Rests;
                    return Ok(None);
                }
                Step::Write => {
                    if write_at_once(&self.socket, exchange.connection.output())? {
                        continue;
                    }
                    Step::Write
                }
                Step::Ask(question) => {
                    let (client, answers) = (Arc::clone(self), self.answers.clone());
                    match question.then(move |answer| drop(answers.send((client, answer)))) {
                        Ok(()) => return Ok(None),
                        Err(question) => Step::Ask(question),
                    }
                }
                step @ (Step::Link(..) | Step::Pause(..) | Step::End) => step,
            };
            if by == Patience::NeverBlocks {
                return Ok(Some(step));
            }
            self.block_for(exchange, step)?;
        }
    }

    fn block_for(&self, exchange: &mut Exchange, step: Step) -> io::Result<()> {
        match step {
            Step::Write => write(&self.socket, exchange.connection.output())?,
            Step::Ask(question) => exchange.connection.on_answer(question.wait()),
            Step::Link(step, deadline) => {
                let done = exchange.link(step, deadline);
                exchange.connection.on_link(done);
            }
            Step::Pause(change, span) => drop(change.wait_timeout(span)),
            Step::Read | Step::End => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the client's thread if that waits for the exchange to rest.
    fn unlock(&self, exchange: MutexGuard<'_, Exchange>) {
        let is_under_way = exchange.phase == Phase::UnderWay;
        drop(exchange);
        if !is_under_way {
            self.rests.notify_one();
        }
    }

    /// Ends the connection.
    fn close(&self, mut exchange: MutexGuard<'_, Exchange>) {
        exchange.phase = Phase::Closed;
        self.unlock(exchange);
        // This fails if the connection is gone.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Exchange {
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
                let mut chunk = vec![0; INPUT_BYTES];
                let read = receive(leader, &mut chunk)?;
                self.connection.link_input().extend_from_slice(read);
                Ok(())
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

/// What a read brings.
fn receive<'c>(mut socket: &TcpStream, chunk: &'c mut [u8]) -> io::Result<&'c [u8]> {
    match socket.read(chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => Ok(&chunk[..read]),
    }
}

fn write(mut socket: &TcpStream, output: &mut BytesMut) -> io::Result<()> {
    socket.write_all(output)?;
    output.clear();
    Ok(())
}

/// Writes what the socket takes without blocking. Returns whether that is all.
#[cfg(target_os = "linux")]
fn write_at_once(socket: &TcpStream, output: &mut BytesMut) -> io::Result<bool> {
    use rustix::io::Errno;
    use rustix::net::{SendFlags, send};

    match send(socket, output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(written) => output.advance(written),
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(output.is_empty())
}

/// The standard library cannot write to a blocking socket without blocking.
#[cfg(not(target_os = "linux"))]
fn write_at_once(_socket: &TcpStream, _output: &mut BytesMut) -> io::Result<bool> {
    Ok(false)
}
