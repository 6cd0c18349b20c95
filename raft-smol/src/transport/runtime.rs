//! smol's sockets and timers, with the tasks on an executor of choice.

use std::future::Future;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::net::{self, Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::{Async, Timer};
use async_net::{TcpListener, TcpStream};
use raft_core::host::tcp::asynchronous;

use crate::executor::Executor;

pub(super) struct Runtime<E>(PhantomData<fn() -> E>);

pub(super) struct Socket(Arc<Async<net::TcpStream>>);

impl<E> Runtime<E> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Executor> asynchronous::Runtime for Runtime<E> {
    type Listener = TcpListener;
    type Socket = Socket;

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        E::spawn(task);
    }

    async fn accept(listener: &TcpListener) -> io::Result<(Socket, SocketAddr)> {
        let (stream, address) = listener.accept().await?;
        Ok((Socket(stream.into()), address))
    }

    async fn connect(address: SocketAddr) -> io::Result<Socket> {
        Ok(Socket(TcpStream::connect(address).await?.into()))
    }

    async fn sleep(span: Duration) {
        Timer::after(span).await;
    }
}

impl asynchronous::Socket for Socket {
    fn set_nodelay(&self) -> io::Result<()> {
        self.0.get_ref().set_nodelay(true)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            // Waiting before each read lets other tasks run, however much a peer sends.
            ready!(self.0.poll_readable(cx))?;
            match self.0.get_ref().read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.0.get_ref().write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
            ready!(self.0.poll_writable(cx))?;
        }
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown(Shutdown::Write))
    }
}
