//! A backup on its way to an operator: a thread writes it, and a connection takes it chunk by
//! chunk.
//!
//! The thread holds one chunk, and waits until that is asked for. So a client that is slow delays
//! nothing but its own backup, and the thread ends with the connection.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use bytes::Bytes;
use raft_core::host::{Backup, BackupError, ReadError};

use super::resp::{Frame, TRY_AGAIN, error};

/// How long a chunk is, but for the last one.
const CHUNK_BYTES: usize = 256 << 10;

/// What a connection gets when it asks for a chunk: an empty one is the end.
pub(super) type Chunk = Result<Bytes, String>;

/// A backup that a connection takes.
#[derive(Debug)]
pub(super) struct BackupStream {
    asks: Sender<oneshot::Sender<Chunk>>,
}

impl BackupStream {
    /// Begins to write this backup, on a thread of its own.
    pub(super) fn begin(backup: Backup) -> io::Result<Self> {
        let (asks, asked) = mpsc::channel();
        let write = move || {
            let mut chunks = Chunks { asked, chunk: Vec::with_capacity(CHUNK_BYTES) };
            let written = backup.write_to(&mut chunks);
            chunks.end(written.map(drop));
        };
        thread::Builder::new().name("kv-backup".into()).spawn(write)?;
        Ok(Self { asks })
    }

    /// Asks for the next chunk.
    pub(super) fn next(&self) -> oneshot::Receiver<Chunk> {
        let (reply, chunk) = oneshot::channel();
        // If the thread has ended, the receiver says so.
        let _ = self.asks.send(reply);
        chunk
    }
}

/// Hands out what is written, a chunk for each that asks.
struct Chunks {
    asked: Receiver<oneshot::Sender<Chunk>>,
    chunk: Vec<u8>,
}

impl Chunks {
    /// Waits until a chunk is asked for, and hands out what there is.
    fn hand_out(&mut self) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let reply = self.asked.recv().map_err(|_| gone())?;
        let chunk =
            Bytes::from(std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES)));
        reply.send(Ok(chunk)).map_err(|_| gone())
    }

    /// Says that the backup ends, or why it is none.
    fn end(mut self, written: io::Result<()>) {
        let ended = written.and_then(|()| {
            if !self.chunk.is_empty() {
                self.hand_out()?;
            }
            self.hand_out()
        });
        let Err(why) = ended else { return };
        if let Ok(reply) = self.asked.recv() {
            // The client that asked may be gone, too.
            let _ = reply.send(Err(why.to_string()));
        }
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            self.hand_out()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What an operator is told when a backup begins.
pub(super) fn begun(backup: &Backup) -> Frame {
    let last = backup.last();
    Frame::SimpleString(format!("begun: holds all up to entry {}", last.index).into())
}

/// What an operator is told of a backup that cannot be had.
pub(super) fn refused(why: &BackupError) -> Frame {
    let is_for_now = matches!(
        why,
        BackupError::NotReady
            | BackupError::Refused(
                ReadError::NoLeader | ReadError::LeadershipLost | ReadError::Busy
            )
    );
    let kind = if is_for_now { TRY_AGAIN } else { "ERR" };
    error(format!("{kind} {why}"))
}

/// The reply to a request for a chunk, and whether the backup goes on.
pub(super) fn chunk_reply(chunk: Result<Chunk, oneshot::RecvError>) -> (Frame, bool) {
    match chunk {
        Ok(Ok(chunk)) => {
            let goes_on = !chunk.is_empty();
            (Frame::BulkString(chunk), goes_on)
        }
        Ok(Err(why)) => (error(format!("ERR the backup cannot be written: {why}")), false),
        Err(_) => (no_backup(), false),
    }
}

/// The reply to a request for a chunk of no backup.
pub(super) fn no_backup() -> Frame {
    error("ERR no backup is under way on this connection: BACKUP begins one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks() -> (Sender<oneshot::Sender<Chunk>>, Chunks) {
        let (asks, asked) = mpsc::channel();
        (asks, Chunks { asked, chunk: Vec::new() })
    }

    fn take(asks: &Sender<oneshot::Sender<Chunk>>) -> Chunk {
        let (reply, chunk) = oneshot::channel();
        asks.send(reply).unwrap();
        chunk.recv().unwrap()
    }

    #[test]
    fn what_is_written_comes_in_chunks_and_ends_with_an_empty_one() {
        for bytes in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let (asks, mut chunks) = chunks();
            let written: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
            let expected = written.clone();
            let thread = thread::spawn(move || {
                let done = chunks.write_all(&written);
                chunks.end(done);
            });
            let mut taken = Vec::new();
            loop {
                let chunk = take(&asks).unwrap();
                assert!(chunk.len() <= CHUNK_BYTES);
                if chunk.is_empty() {
                    break;
                }
                taken.extend_from_slice(&chunk);
            }
            thread.join().unwrap();
            assert_eq!(taken, expected);
        }
    }

    #[test]
    fn a_writer_that_fails_says_why_and_one_that_nobody_asks_ends() {
        let (asks, chunks) = chunks();
        let thread = thread::spawn(move || chunks.end(Err(io::Error::other("not today"))));
        assert_eq!(take(&asks), Err("not today".to_owned()));
        thread.join().unwrap();
        let (asks, mut chunks) = self::chunks();
        drop(asks);
        assert!(chunks.write_all(&vec![7; CHUNK_BYTES]).is_err());
        chunks.end(Ok(()));
    }
}
