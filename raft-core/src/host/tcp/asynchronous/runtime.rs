//! What a transport needs of a runtime.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

/// A runtime of tasks, with sockets and timers.
pub trait Runtime: Send + Sync + 'static {
    /// A socket that listens.
    type Listener: Send + Sync + 'static;

    /// A connection.
    type Socket: Socket;

    /// Runs a task until it ends. If the runtime drops the task instead, what the task ran for
    /// ends.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Waits for the next connection, and says from where it comes.
    fn accept(
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;

    /// Connects.
    fn connect(address: SocketAddr) -> impl Future<Output = io::Result<Self::Socket>> + Send;

    /// Waits for that long. A sleep that is never polled should cost nothing.
    fn sleep(span: Duration) -> impl Future<Output = ()> + Send;
}

/// A connection's socket, owned by one task.
pub trait Socket: Send + 'static {
    /// Lets small writes leave at once (TCP_NODELAY).
    ///
    /// # Errors
    ///
    /// The system's.
    fn set_nodelay(&self) -> io::Result<()>;

    /// Reads once, as [`Read::read`](io::Read::read) does, or wakes the task when bytes have
    /// arrived. However much arrives, it is pending now and then, so that other tasks can run.
    fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes once, as [`Write::write`](io::Write::write) does, or wakes the task when the socket
    /// takes bytes again.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Says to the other side that nothing more is written.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}
