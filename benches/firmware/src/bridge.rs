//! The bridge between the firmware's serial line and the servers' network.
//!
//! To the servers it is the firmware's node: it has that one's id and address, and speaks their
//! protocol, handshake and all, by an adapter's own transport. On the line it speaks the firmware's
//! frames, and carries messages from one to the other unchanged.
//!
//! ```text
//! servers ◄═ TCP ═► Transport ─► inbox ─► queue ─► thread that writes ─► line ═ board
//!                       ▲                                                 │
//!                       └──────────────── thread that reads ◄─────────────┘
//! ```
//!
//! Both queues are bounded; what does not fit is dropped and counted. The bridge can make its line
//! noisy or stuck, for tests.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use firmware_line::line::{self, Decoder, FRAME_BYTES_MAX, Kind};
use firmware_line::report::Report;
use raft_core::host::{Identity, MessageInbox, Transport};
use raft_core::{
    AppendEntries, Body, Entry, Index, LogId, Message, NodeId, Payload, Round, Session, Term, codec,
};

use super::noise::Noise;

/// The most frames that wait for the line.
const QUEUED_FRAMES_MAX: usize = 64;

/// How long its threads sleep before they look whether they are still wanted.
const PATIENCE: Duration = Duration::from_millis(20);

/// The firmware's end of the servers' network. Everything ends with its drop.
#[derive(Debug)]
pub struct Bridge {
    shared: Arc<Shared>,
    queue: SyncSender<Vec<u8>>,
    line: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

/// What has passed the bridge; the counts only grow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Messages from the firmware to the servers.
    pub from_line: u64,
    /// Messages from the servers to the firmware that found room.
    pub to_line: u64,
    /// Those that found none.
    pub dropped: u64,
    /// Frames from the firmware that were damaged, by the line or on purpose.
    pub damaged: u64,
    /// Whole frames that held no message of the firmware's own.
    pub refused: u64,
}

#[derive(Debug)]
struct Shared {
    node: NodeId,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Where the thread that writes finds the line.
    line: Option<TcpStream>,
    /// The newest report on this line.
    report: Option<Report>,
    counts: Counts,
    noise: Noise,
    stuck: bool,
    closed: bool,
}

impl Bridge {
    /// Joins the servers' network as the firmware's node, by a transport that has not been started,
    /// and waits for the line.
    ///
    /// # Errors
    ///
    /// If the transport cannot receive, or no port or thread is free.
    pub fn start(identity: Identity, mut transport: Box<dyn Transport>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let line = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let state = State {
            line: None,
            report: None,
            counts: Counts::default(),
            noise: Noise::new(identity.node.get()),
            stuck: false,
            closed: false,
        };
        let node = identity.node;
        let shared = Arc::new(Shared { node, state: Mutex::new(state), changed: Condvar::new() });
        let (queue, queued) = mpsc::sync_channel(QUEUED_FRAMES_MAX);
        let (inbox, frames) = (Arc::clone(&shared), queue.clone());
        transport.start(identity, MessageInbox::new(move |m| inbox.deliver(&m, &frames)))?;
        let (reads, writes) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::Builder::new()
                .name("line-writes".into())
                .spawn(move || writes.write(&queued))?,
            thread::Builder::new()
                .name("line-reads".into())
                .spawn(move || reads.read(&listener, &mut *transport))?,
        ];
        Ok(Self { shared, queue, line, threads })
    }

    /// Where the board's serial line is to lead.
    pub fn line(&self) -> SocketAddr {
        self.line
    }

    /// Asks the firmware to propose a command. Whether it did, its reports will show.
    pub fn propose(&self, command: &[u8]) {
        self.shared.enqueue(Kind::Propose, command, &self.queue);
    }

    /// Sends a whole frame whose body would take the firmware forty times its bytes of memory: a
    /// message of nothing but empty entries.
    pub fn send_hostile_message(&self) {
        const ENTRIES: usize = 400;
        let entry = |index| Entry {
            term: Term::new(1),
            index: Index::new(index),
            payload: Payload::<Bytes>::Noop,
        };
        let append = AppendEntries {
            session: Session::new(1),
            round: Round::new(1),
            prev_log: LogId::ZERO,
            entries: (1..=ENTRIES as u64).map(entry).collect(),
            leader_commit: Index::ZERO,
            rank: None,
            election_timeout_micros: None,
            takes_proposals: true,
        };
        let (from, to, body) = (NodeId::new(1), self.shared.node, Body::AppendEntries(append));
        self.shared.deliver(&Message { from, to, term: Term::new(1), body }, &self.queue);
    }

    /// What the firmware last said about itself, since the line was connected.
    pub fn report(&self) -> Option<Report> {
        self.shared.lock().report
    }

    /// Waits until the firmware reports what `holds`; `None` if it does not within `timeout`.
    pub fn wait_for(&self, timeout: Duration, holds: impl Fn(&Report) -> bool) -> Option<Report> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            if let Some(report) = state.report.filter(&holds) {
                return Some(report);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What has passed so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }

    /// Damages so many of a hundred pieces, in both directions: changes a bit, cuts the rest off,
    /// or puts noise in between.
    pub fn set_noise(&self, percent: u32) {
        self.shared.lock().noise.set_percent(percent);
    }

    /// Takes nothing off the line and puts nothing on it, until told otherwise.
    pub fn set_stuck(&self, stuck: bool) {
        self.shared.lock().stuck = stuck;
        self.shared.changed.notify_all();
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // Its panic was printed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Puts a message from the servers into the queue for the line.
    fn deliver(&self, message: &Message<Bytes>, queue: &SyncSender<Vec<u8>>) {
        let mut body = Vec::new();
        codec::encode_message(message, &mut body);
        self.enqueue(Kind::Message, &body, queue);
    }

    fn enqueue(&self, kind: Kind, body: &[u8], queue: &SyncSender<Vec<u8>>) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let frame = line::encode(kind, body, &mut buffer);
        let queued = frame.is_ok_and(|frame| queue.try_send(frame.to_vec()).is_ok());
        let counts = &mut self.lock().counts;
        *(if queued { &mut counts.to_line } else { &mut counts.dropped }) += 1;
    }

    /// Puts what is queued on the line, damaged or not; without a line it is lost.
    fn write(&self, queue: &Receiver<Vec<u8>>) {
        while self.wait_while_stuck() {
            let mut frame = match queue.recv_timeout(PATIENCE) {
                Ok(frame) => frame,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let line = {
                let state = &mut *self.lock();
                state.noise.damage(&mut frame);
                state.line.as_ref().and_then(|line| line.try_clone().ok())
            };
            if let Some(mut line) = line {
                // The thread that reads notices the end of a line.
                let _ = line.write_all(&frame);
            }
        }
    }

    /// Takes each line in turn until it ends.
    fn read(&self, listener: &TcpListener, transport: &mut dyn Transport) {
        while self.wait_while_stuck() {
            match listener.accept() {
                // A line that cannot be set up is as good as none.
                Ok((line, _)) => drop(self.read_line(line, transport)),
                Err(_) => thread::sleep(PATIENCE),
            }
            let state = &mut *self.lock();
            state.line = None;
            state.report = None;
        }
    }

    fn read_line(&self, mut line: TcpStream, transport: &mut dyn Transport) -> io::Result<()> {
        line.set_nonblocking(false)?;
        line.set_nodelay(true)?;
        line.set_read_timeout(Some(PATIENCE))?;
        line.set_write_timeout(Some(PATIENCE))?;
        self.lock().line = Some(line.try_clone()?);
        let mut decoder = Decoder::new();
        let mut buffer = [0; 512];
        while self.wait_while_stuck() {
            let count = match line.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if is_timeout(&error) => continue,
                Err(error) => return Err(error),
            };
            let mut piece = buffer[..count].to_vec();
            self.lock().noise.damage(&mut piece);
            let damaged = decoder.counts().damaged;
            piece.iter().for_each(|byte| self.take(&mut decoder, *byte, transport));
            transport.flush();
            self.lock().counts.damaged += u64::from(decoder.counts().damaged - damaged);
        }
        Ok(())
    }

    /// Takes a byte off the line, and does what the frame that it completes asks for.
    fn take(&self, decoder: &mut Decoder, byte: u8, transport: &mut dyn Transport) {
        let Some(frame) = decoder.push(byte) else { return };
        match frame.kind {
            Kind::Message => {
                let message = codec::decode_message(frame.body, Bytes::copy_from_slice);
                let own = message.ok().filter(|message| message.from == self.node);
                let counts = &mut self.lock().counts;
                match own {
                    Some(message) => {
                        counts.from_line += 1;
                        transport.send(message);
                    }
                    None => counts.refused += 1,
                }
            }
            Kind::Report => {
                self.lock().report = Report::decode(frame.body);
                self.changed.notify_all();
            }
            Kind::Propose => self.lock().counts.refused += 1,
        }
    }

    /// Returns whether the bridge is still wanted.
    fn wait_while_stuck(&self) -> bool {
        let stuck = |state: &mut State| state.stuck && !state.closed;
        let state = self.changed.wait_while(self.lock(), stuck);
        !state.unwrap_or_else(PoisonError::into_inner).closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
