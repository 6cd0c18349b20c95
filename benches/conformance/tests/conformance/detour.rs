//! A stretch of network on the way to a node, on which a test breaks connections.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Passes connections on for as long as it lives.
pub(crate) struct Detour {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Both halves of each connection.
    open: Mutex<Vec<[TcpStream; 2]>>,
    over: AtomicBool,
}

impl Detour {
    /// A way to there.
    pub(crate) fn to(there: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::<Shared>::default();
        let passing = Arc::clone(&shared);
        thread::spawn(move || passing.pass_all(&listener, there));
        Self { address, shared }
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks the connections that there are.
    pub(crate) fn break_all(&self) {
        self.shared.break_all();
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        // It sleeps until somebody comes.
        let _ = TcpStream::connect(self.address);
        self.shared.break_all();
    }
}

impl Shared {
    fn pass_all(self: &Arc<Self>, listener: &TcpListener, there: SocketAddr) {
        for here in listener.incoming() {
            if self.over.load(Relaxed) {
                return;
            }
            // A connection that cannot be passed on is closed, and dialed again.
            let _ = here.and_then(|here| self.pass(here, TcpStream::connect(there)?));
        }
    }

    fn pass(&self, here: TcpStream, there: TcpStream) -> io::Result<()> {
        here.set_nodelay(true)?;
        there.set_nodelay(true)?;
        self.lock().push([here.try_clone()?, there.try_clone()?]);
        for (from, to) in [(here.try_clone()?, there.try_clone()?), (there, here)] {
            thread::spawn(move || {
                // However it ends, it ends for both.
                let _ = io::copy(&mut &from, &mut &to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        Ok(())
    }

    fn break_all(&self) {
        for half in self.lock().drain(..).flatten() {
            // A socket that is closed already is broken, too.
            let _ = half.shutdown(Shutdown::Both);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<[TcpStream; 2]>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
