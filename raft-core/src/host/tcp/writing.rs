//! The writing side of a connection that was dialed, without its socket.

use std::borrow::Cow;
use std::sync::Arc;
use std::vec::Vec;

use super::closed::Closed;
use super::queue::SendQueue;
use super::security::Cipher;

/// Takes messages out of a peer's queue, as much as one write takes, and keeps what the socket has
/// not taken. Counts messages as sent once they are written. Those that are not are lost when this
/// is dropped, and the messages that wait with them.
///
/// # Example
///
/// ```
/// use std::io::Write;
///
/// use raft_core::host::tcp::{Cipher, Closed, Writing};
///
/// fn send(stream: &mut impl Write, cipher: &Cipher, writing: &mut Writing) -> Result<(), Closed> {
///     while writing.has_more() {
///         writing.take(cipher)?;
///         let written = stream.write(writing.bytes())?;
///         writing.on_written(written);
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Writing {
    queue: Arc<SendQueue>,
    /// The messages that were taken last, and how many they are. Kept for its memory.
    frames: Vec<u8>,
    messages: usize,
    /// The frames as they are written, if that is not as they are.
    sealed: Option<Vec<u8>>,
    /// How many bytes of that the socket has taken.
    written: usize,
}

impl Writing {
    /// For messages of this queue on one connection.
    pub fn new(queue: Arc<SendQueue>) -> Self {
        Self { queue, frames: Vec::new(), messages: 0, sealed: None, written: 0 }
    }

    /// Takes waiting messages, unless bytes are left to write.
    ///
    /// # Errors
    ///
    /// The session of the cipher has failed before.
    pub fn take(&mut self, cipher: &Cipher) -> Result<(), Closed> {
        if !self.bytes().is_empty() {
            return Ok(());
        }
        self.messages = self.queue.take(&mut self.frames);
        self.sealed = match cipher.seal(&self.frames)? {
            Cow::Owned(sealed) => Some(sealed),
            Cow::Borrowed(_) => None,
        };
        Ok(())
    }

    /// The bytes to write now.
    pub fn bytes(&self) -> &[u8] {
        &self.sealed.as_ref().unwrap_or(&self.frames)[self.written..]
    }

    /// Takes note that the socket has taken the first of [`bytes`](Self::bytes), this many.
    pub fn on_written(&mut self, bytes: usize) {
        self.written += bytes;
        if self.bytes().is_empty() {
            self.queue.sent(self.messages, self.frames.len());
            (self.messages, self.sealed, self.written) = (0, None, 0);
            self.frames.clear();
        }
    }

    /// Takes note that the socket has taken all [`bytes`](Self::bytes).
    pub fn on_all_written(&mut self) {
        self.on_written(self.bytes().len());
    }

    /// Whether bytes or messages are left to write.
    pub fn has_more(&self) -> bool {
        !self.bytes().is_empty() || !self.queue.is_empty()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.queue.clear(self.messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tcp::{Config, Counters};
    use crate::message::{Body, Message, RequestVote};
    use crate::types::{LogId, NodeId, Term};

    fn writing(messages: usize) -> (Writing, Counters) {
        let counters = Counters::default();
        let queue = Arc::new(SendQueue::new(&Config::default(), counters.clone()));
        (0..messages).for_each(|_| {
            let body = Body::RequestVote(RequestVote { last_log: LogId::ZERO, transfer: false });
            let (from, to) = (NodeId::new(1), NodeId::new(2));
            queue.push(Message { from, to, term: Term::new(1), body });
        });
        (Writing::new(queue), counters)
    }

    #[test]
    fn messages_are_sent_once_their_last_byte_is_written() {
        let (mut writing, counters) = writing(2);
        let plain = Cipher::none();
        writing.take(&plain).unwrap();
        let bytes = writing.bytes().to_vec();
        writing.on_written(bytes.len() - 1);
        writing.take(&plain).unwrap();
        assert_eq!(writing.bytes(), &bytes[bytes.len() - 1..], "nothing is taken before its end");
        assert!(writing.has_more());
        assert_eq!(counters.read().messages_sent, 0);
        writing.on_all_written();
        assert!(!writing.has_more());
        let counts = counters.read();
        assert_eq!((counts.messages_sent, counts.bytes_sent), (2, bytes.len() as u64));
        writing.on_all_written();
        drop(writing);
        let counts = counters.read();
        assert_eq!((counts.messages_sent, counts.dropped_unreachable), (2, 0));
    }

    #[test]
    fn messages_that_were_not_written_are_lost_with_those_that_wait() {
        let (mut writing, counters) = writing(2);
        writing.take(&Cipher::none()).unwrap();
        writing.on_written(1);
        let body = Body::RequestVote(RequestVote { last_log: LogId::ZERO, transfer: false });
        let (from, to) = (NodeId::new(1), NodeId::new(2));
        writing.queue.push(Message { from, to, term: Term::new(1), body });
        drop(writing);
        let counts = counters.read();
        assert_eq!((counts.messages_sent, counts.dropped_unreachable), (0, 3));
    }
}
