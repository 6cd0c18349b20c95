//! The loop's half of the recorder: a buffer in memory, and the queue to the thread that writes.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};
use std::vec::Vec;

use bytes::Bytes;

use super::files::{Files, begin_frame, end_frame};
use super::input::{Input, put_propose, put_step};
use super::random::Random;
use super::{QUEUE_MAX, RecorderConfig};
use crate::checkpoint::{Out, Stored};
use crate::config::Config;
use crate::host::identity::Identity;
use crate::message::Message;
use crate::output::Restored;
use crate::raft::Raft;
use crate::role::Role;
use crate::time::Instant;

/// A buffer leaves once it holds so many bytes, or as many as a segment.
const BUFFER_BYTES: usize = 64 << 10;

/// A buffer leaves so long after the one before, in microseconds.
const FLUSH_INTERVAL_MICROS: u64 = 100_000;

/// After how many inputs the digest of the state is noted.
const DIGEST_INTERVAL: u64 = 256;

/// How long a node that ends waits for its last buffers to be written.
const END_MAX: Duration = Duration::from_secs(1);

pub(super) const HEADER: u8 = 0;
pub(super) const START: u8 = 1;
pub(super) const STATE: u8 = 2;
pub(super) const INPUTS: u8 = 3;

/// Asks the loop to write what it has recorded so far.
#[derive(Clone, Debug)]
pub(crate) struct Flusher(Arc<AtomicBool>);

impl Flusher {
    pub(crate) fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What a node records.
pub(crate) struct Tape {
    config: RecorderConfig,
    identity: Identity,
    run: u64,
    sink: Sink,
    flush_asked: Arc<AtomicBool>,
    /// The frame that is being filled.
    buffer: Vec<u8>,
    /// What a digest is computed of; kept for its memory.
    scratch: Vec<u8>,
    /// How many inputs were recorded or left out.
    inputs: u64,
    digested: u64,
    /// The bytes of this segment.
    segment_bytes: u64,
    /// Inputs were left out: the next segment begins behind them.
    gap: bool,
    polls: u64,
    now: Instant,
    flushed: Instant,
    led: bool,
}

/// Where full buffers go.
enum Sink {
    /// To the files at once.
    Files(Files),
    /// To a thread, over a queue, which sends empty buffers back.
    Thread { full: SyncSender<Job>, empty: Receiver<Vec<u8>>, queued: Arc<AtomicUsize> },
    /// Nowhere: the node ends.
    Ended,
}

enum Job {
    Begin(Vec<u8>),
    Append(Vec<u8>),
}

impl Tape {
    /// Begins a recording with what the node starts with.
    pub(crate) fn start(
        config: RecorderConfig,
        identity: Identity,
        raft: &Config,
        restored: &Restored<Bytes>,
        random: &Random,
    ) -> io::Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let files = Files::new(config.clone(), identity.node, run)?;
        let sink = if config.write_ahead { Sink::Files(files) } else { Sink::start(files)? };
        let mut tape = Self {
            config,
            identity,
            run,
            sink,
            flush_asked: Arc::default(),
            buffer: new_buffer(),
            scratch: Vec::new(),
            inputs: 0,
            digested: 0,
            segment_bytes: 0,
            gap: false,
            polls: 0,
            now: Instant::ZERO,
            flushed: Instant::ZERO,
            led: false,
        };
        let mut first = Vec::new();
        tape.put_frame(&mut first, |out| {
            out.byte(START);
            raft.put(out);
            restored.put(out);
            random.put(out);
        });
        tape.begin_segment(first);
        Ok(tape)
    }

    pub(crate) fn flusher(&self) -> Flusher {
        Flusher(Arc::clone(&self.flush_asked))
    }

    pub(crate) fn step(&mut self, raft: &Raft<Bytes, Random>, message: &Message<Bytes>) {
        self.record(raft, |out| put_step(message, out));
    }

    pub(crate) fn propose(&mut self, raft: &Raft<Bytes, Random>, command: &Bytes) {
        self.record(raft, |out| put_propose(command, out));
    }

    pub(crate) fn tick(&mut self, raft: &Raft<Bytes, Random>, now: Instant) {
        let elapsed = now.as_micros().saturating_sub(self.now.as_micros());
        self.record(raft, |out| Input::<Bytes>::Tick(elapsed).put(out));
        self.now = self.now.max(now);
        let leads = raft.role() == Role::Leader;
        let lost = mem::replace(&mut self.led, leads) && !leads;
        let old = self.now.as_micros() - self.flushed.as_micros() >= FLUSH_INTERVAL_MICROS;
        if lost || old || self.flush_asked.swap(false, Ordering::Acquire) {
            self.flush();
        }
    }

    pub(crate) fn input(&mut self, raft: &Raft<Bytes, Random>, input: &Input<Bytes>) {
        self.record(raft, |out| input.put(out));
    }

    /// The outputs are about to be polled: a server that sees them may see all that led to them.
    pub(crate) fn before_poll(&mut self) {
        if self.polls == 0 && self.config.write_ahead {
            self.flush();
        }
        self.polls += 1;
    }

    /// The outputs were polled, and none was left.
    pub(crate) fn polled_all(&mut self) {
        self.polls = 0;
        self.put(|out| Input::<Bytes>::PollAll.put(out));
    }

    fn record(&mut self, raft: &Raft<Bytes, Random>, put: impl FnOnce(&mut Out<'_>)) {
        if self.polls > 0 {
            let polls = mem::take(&mut self.polls);
            self.put(|out| Input::<Bytes>::Poll(polls).put(out));
        }
        self.make_room(raft);
        if self.inputs - self.digested >= DIGEST_INTERVAL {
            self.put_digest(raft);
        }
        self.put(put);
    }

    /// Notes the last state of a node that ends as it should.
    pub(crate) fn end(&mut self, raft: &Raft<Bytes, Random>) {
        if self.polls == 0 {
            self.put_digest(raft);
        }
    }

    fn put_digest(&mut self, raft: &Raft<Bytes, Random>) {
        self.digested = self.inputs;
        let digest = digest(raft, &mut self.scratch);
        self.put(|out| Input::<Bytes>::Digest(digest).put(out));
    }

    /// Sends the buffer on if it is full, and begins a new segment if it is time.
    fn make_room(&mut self, raft: &Raft<Bytes, Random>) {
        let limit = self.config.segment_bytes().min(BUFFER_BYTES as u64);
        if self.buffer.len() as u64 >= limit {
            self.flush();
        }
        if self.gap || self.segment_bytes >= self.config.segment_bytes() {
            self.flush();
            if !self.sink.has_room() {
                self.gap = true;
                return;
            }
            let mut first = Vec::new();
            self.put_frame(&mut first, |out| {
                out.byte(STATE);
                raft.put(out);
            });
            self.gap = false;
            self.begin_segment(first);
        }
    }

    fn put(&mut self, put: impl FnOnce(&mut Out<'_>)) {
        self.inputs += 1;
        if self.gap {
            return;
        }
        if self.buffer.is_empty() {
            begin_frame(&mut self.buffer);
            self.buffer.push(INPUTS);
            self.buffer.extend_from_slice(&(self.inputs - 1).to_le_bytes());
        }
        let contents = self.config.contents;
        put(&mut Out { bytes: &mut self.buffer, contents, entries: true });
    }

    fn put_frame(&self, frame: &mut Vec<u8>, put: impl FnOnce(&mut Out<'_>)) {
        begin_frame(frame);
        put(&mut Out { bytes: frame, contents: self.config.contents, entries: true });
        end_frame(frame);
    }

    /// Begins a segment with a header and the frame of its first state.
    fn begin_segment(&mut self, first: Vec<u8>) {
        let Identity { cluster, node, store_id } = self.identity;
        let mut frames = Vec::new();
        self.put_frame(&mut frames, |out| {
            out.byte(HEADER);
            cluster.get().put(out);
            node.get().put(out);
            store_id.get().put(out);
            self.run.put(out);
            self.inputs.put(out);
            self.now.as_micros().put(out);
            self.config.contents.put(out);
            self.config.write_ahead.put(out);
        });
        frames.extend_from_slice(&first);
        self.segment_bytes = 0;
        self.sink.begin(frames);
    }

    /// Sends the buffer on.
    fn flush(&mut self) {
        self.flushed = self.now;
        if self.buffer.is_empty() {
            return;
        }
        end_frame(&mut self.buffer);
        self.segment_bytes += self.buffer.len() as u64;
        if !self.sink.append(&mut self.buffer) {
            self.gap = true;
        }
        self.buffer.clear();
    }
}

impl Drop for Tape {
    /// Also when the loop panics: the last input is then the one that the core panicked at.
    fn drop(&mut self) {
        self.flush();
        self.sink.end();
    }
}

impl Sink {
    fn start(mut files: Files) -> io::Result<Self> {
        let (full, jobs) = sync_channel::<Job>(QUEUE_MAX);
        let (back, empty) = sync_channel(QUEUE_MAX);
        let queued = Arc::new(AtomicUsize::new(0));
        let done = Arc::clone(&queued);
        let body = move || {
            for job in jobs {
                match job {
                    Job::Begin(frames) => files.begin_segment(&frames),
                    Job::Append(mut buffer) => {
                        files.append(&buffer);
                        buffer.clear();
                        // A buffer too many is dropped.
                        let _ = back.try_send(buffer);
                    }
                }
                done.fetch_sub(1, Ordering::Release);
            }
        };
        thread::Builder::new().name("raft recorder".into()).spawn(body)?;
        Ok(Self::Thread { full, empty, queued })
    }

    /// Whether a new segment finds room in the queue.
    fn has_room(&self) -> bool {
        match self {
            Self::Files(_) | Self::Ended => true,
            Self::Thread { queued, .. } => queued.load(Ordering::Acquire) < QUEUE_MAX / 2,
        }
    }

    fn begin(&mut self, frames: Vec<u8>) {
        match self {
            Self::Files(files) => files.begin_segment(&frames),
            Self::Thread { full, queued, .. } => {
                queued.fetch_add(1, Ordering::Relaxed);
                // There is room, or the thread is gone.
                let _ = full.try_send(Job::Begin(frames));
            }
            Self::Ended => {}
        }
    }

    /// Takes the contents of the buffer, and leaves another. Returns false if the thread is too far
    /// behind.
    fn append(&mut self, buffer: &mut Vec<u8>) -> bool {
        match self {
            Self::Files(files) => files.append(buffer),
            Self::Thread { full, empty, queued } => {
                let next = empty.try_recv().unwrap_or_else(|_| new_buffer());
                let job = Job::Append(mem::replace(buffer, next));
                if full.try_send(job).is_err() {
                    return false;
                }
                queued.fetch_add(1, Ordering::Relaxed);
            }
            Self::Ended => {}
        }
        true
    }

    /// Waits until all is written, for [`END_MAX`] at most.
    fn end(&mut self) {
        let Self::Thread { full, empty, .. } = mem::replace(self, Self::Ended) else { return };
        drop(full);
        let until = StdInstant::now() + END_MAX;
        // The thread ends when it has written all, and its half of the channel with it.
        while empty.recv_timeout(until.saturating_duration_since(StdInstant::now())).is_ok() {}
    }
}

fn new_buffer() -> Vec<u8> {
    Vec::with_capacity(2 * BUFFER_BYTES)
}

/// The digest of a state without the entries of its log.
pub(super) fn digest<C: Stored>(raft: &Raft<C, Random>, scratch: &mut Vec<u8>) -> u32 {
    scratch.clear();
    raft.put(&mut Out { bytes: scratch, contents: false, entries: false });
    crc32fast::hash(scratch)
}
