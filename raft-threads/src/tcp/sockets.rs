//! The sockets that a stop closes while their threads are blocked on them.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use raft_core::host::tcp::Closed;

/// Open sockets of one kind.
#[derive(Default, Debug)]
pub(super) struct Sockets {
    state: Mutex<State>,
    /// Notified when a socket was closed, or all are to be closed.
    changed: Condvar,
}

#[derive(Default, Debug)]
struct State {
    stopping: bool,
    /// How many sockets were ever entered.
    entered: u64,
    open: BTreeMap<u64, Arc<TcpStream>>,
}

/// One of the [`Sockets`].
#[derive(Debug)]
pub(super) struct Socket {
    sockets: Arc<Sockets>,
    number: u64,
    stream: Arc<TcpStream>,
}

impl Sockets {
    /// Enters a socket, unless all are to be closed.
    pub(super) fn enter(self: &Arc<Self>, stream: TcpStream) -> Result<Socket, Closed> {
        let stream = Arc::new(stream);
        let mut state = self.lock();
        if state.stopping {
            return Err(Closed::Stopped);
        }
        state.entered += 1;
        let number = state.entered;
        state.open.insert(number, stream.clone());
        Ok(Socket { sockets: self.clone(), number, stream })
    }

    /// Ends all reads and writes, now and later.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        for stream in state.open.values() {
            // This fails if the connection is gone, and then reads and writes have ended as well.
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits until fewer than `max` sockets are open. Returns false if all are to be closed.
    pub(super) fn wait_for_place(&self, max: usize) -> bool {
        let full = |state: &mut State| !state.stopping && state.open.len() >= max;
        let state = self.changed.wait_while(self.lock(), full).expect(UNPOISONED);
        !state.stopping
    }

    /// Waits for `span`, or until all sockets are to be closed.
    pub(super) fn pause(&self, span: Duration) {
        let waited = self.changed.wait_timeout_while(self.lock(), span, |state| !state.stopping);
        drop(waited.expect(UNPOISONED));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "nothing panics while it holds this lock";

impl Socket {
    /// The socket alone. A stop does not close it any more.
    pub(super) fn leave(self) -> Arc<TcpStream> {
        self.stream.clone()
    }
}

impl Deref for Socket {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.sockets.lock().open.remove(&self.number);
        self.sockets.changed.notify_all();
    }
}
