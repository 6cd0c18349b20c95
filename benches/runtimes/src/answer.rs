//! Answers that come from a runtime to a thread outside of it.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Longer than anything takes on the slowest machine; what is not done by then never will be.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// An answer that has yet to come.
#[derive(Debug)]
#[must_use = "the answer says whether the request succeeded"]
pub struct Answer<T> {
    receiver: Receiver<T>,
}

impl<T> Answer<T> {
    /// An answer, and where it is to be sent.
    pub(super) fn new() -> (Sender<T>, Self) {
        let (sender, receiver) = mpsc::channel();
        (sender, Self { receiver })
    }

    /// The answer.
    ///
    /// # Panics
    ///
    /// If it does not come before the [`DEADLINE`], or its sender is gone.
    #[track_caller]
    pub fn wait(self, what: &str) -> T {
        match self.receiver.recv_timeout(DEADLINE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => panic!("{what} did not come within {DEADLINE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("{what} was given up by the runtime"),
        }
    }

    /// The answer, if it is there.
    pub fn take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T: Send + 'static> Answer<T> {
    /// The answer of something that blocks, which gets a thread.
    pub fn of(ask: impl FnOnce() -> T + Send + 'static) -> Self {
        let (sender, answer) = Self::new();
        // A caller that no longer waits needs no answer.
        thread::spawn(move || drop(sender.send(ask())));
        answer
    }
}
