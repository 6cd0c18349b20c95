//! Tokio's sockets, timers and tasks.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use raft_core::host::tcp::asynchronous;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// The runtime in which the transport was made. The loop that starts the tasks may be elsewhere.
pub(super) struct Runtime(Handle);

pub(super) struct Socket(TcpStream);

impl Runtime {
    pub(super) fn current() -> Self {
        Self(Handle::current())
    }
}

impl asynchronous::Runtime for Runtime {
    type Listener = TcpListener;
    type Socket = Socket;

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    async fn accept(listener: &TcpListener) -> io::Result<(Socket, SocketAddr)> {
        let (stream, address) = listener.accept().await?;
        Ok((Socket(stream), address))
    }

    async fn connect(address: SocketAddr) -> io::Result<Socket> {
        Ok(Socket(TcpStream::connect(address).await?))
    }

    async fn sleep(span: Duration) {
        tokio::time::sleep(span).await;
    }
}

impl asynchronous::Socket for Socket {
    fn set_nodelay(&self) -> io::Result<()> {
        self.0.set_nodelay(true)
    }

    // Tokio makes a task that always reads wait now and then.
    fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut bytes = ReadBuf::new(bytes);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut bytes))?;
        Poll::Ready(Ok(bytes.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
