//! One client's connection: reads requests, works on them run by run, writes the answers.

use std::future::{Future as _, poll_fn};
use std::io;
use std::task::Poll;

use benches::kv::local::{read_outcomes, write_outcome};
use benches::kv::once::Writer;
use benches::kv::run::{LEADER_WAIT_MAX, Outcome, RETRY_PAUSE, Run};
use benches::kv::session::{INPUT_BYTES, OUTPUT_BYTES_MAX, Session, Work};
use bytes::Bytes;
use raft_tokio::Leadership;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::Server;
use super::forwarder::Forwarder;

/// Serves a client until it goes away, and gives back the writer that named its writes.
pub(crate) async fn serve(socket: TcpStream, writer: Writer, server: &Server) -> Writer {
    let (session, forwarder) = (Session::new(writer), Forwarder::default());
    let mut connection = Connection { socket, session, forwarder, server };
    // That a client went away is its own affair.
    let _ = connection.run().await;
    connection.session.into_writer()
}

struct Connection<'a> {
    socket: TcpStream,
    session: Session,
    forwarder: Forwarder,
    server: &'a Server,
}

impl Connection<'_> {
    async fn run(&mut self) -> io::Result<()> {
        self.socket.set_nodelay(true)?;
        loop {
            while let Some(work) = self.session.next_work() {
                match work {
                    Work::Info => self.session.answer([self.server.info().await]),
                    Work::Run(run) => self.work_on(run).await?,
                }
            }
            self.flush().await?;
            if self.session.is_closing() {
                return Ok(());
            }
            let input = self.session.input();
            input.reserve(INPUT_BYTES);
            if self.socket.read_buf(input).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Brings a run to the leader, wherever it is, until every request has an answer.
    async fn work_on(&mut self, mut run: Run) -> io::Result<()> {
        let watch = self.server.node.leadership();
        let mut deadline = Instant::now() + LEADER_WAIT_MAX;
        loop {
            let leadership = watch.current();
            let outcomes = self.attempt(&run, leadership).await;
            let replies = run.settle(outcomes);
            let is_progress = !replies.is_empty();
            self.session.answer(replies);
            if self.session.output().len() >= OUTPUT_BYTES_MAX {
                self.flush().await?;
            }
            if run.is_empty() {
                return Ok(());
            }
            if is_progress {
                deadline = Instant::now() + LEADER_WAIT_MAX;
                continue;
            }
            if self.session.is_peer() {
                self.session.answer(run.hand_back());
            } else if Instant::now() >= deadline {
                self.session.answer(run.give_up());
            } else if let Ok(Err(stopped)) =
                timeout(RETRY_PAUSE, watch.changed_from(leadership).into_future()).await
            {
                return Err(io::Error::other(stopped));
            }
        }
    }

    async fn attempt(&mut self, run: &Run, leadership: Leadership) -> Vec<Outcome> {
        let Server { id, client_peers, .. } = self.server;
        match leadership.leader {
            Some(leader) if leader == *id => self.attempt_here(run).await,
            Some(leader) if !self.session.is_peer() => match client_peers.get(&leader) {
                Some(address) => {
                    let term = leadership.term;
                    self.forwarder.attempt(run, *id, (leader, term), address).await
                }
                None => run.untouched(),
            },
            Some(_) | None => run.untouched(),
        }
    }

    async fn attempt_here(&mut self, run: &Run) -> Vec<Outcome> {
        match run {
            Run::Writes(writes) => self.propose(writes.commands()).await,
            Run::Reads(reads) => {
                let reads = reads.clone();
                let answer = self.server.node.read(move |store| store.read(&reads)).await;
                read_outcomes(answer)
            }
        }
    }

    /// Proposes all, in order, before it waits for the first: they share a write to the disk and a message to each peer.
    async fn propose(&mut self, writes: &[Bytes]) -> Vec<Outcome> {
        let node = &self.server.node;
        let mut proposals: Vec<_> =
            writes.iter().map(|write| Box::pin(node.propose(write.clone()))).collect();
        // A future begins when it is polled first, so that is what sets the order.
        let begun = poll_fn(|context| {
            let begun = proposals.iter_mut().map(|proposal| proposal.as_mut().poll(context));
            Poll::Ready(begun.collect::<Vec<_>>())
        });
        let begun = begun.await;
        let mut outcomes = Vec::with_capacity(writes.len());
        for (begun, proposal) in begun.into_iter().zip(proposals) {
            outcomes.push(write_outcome(match begun {
                Poll::Ready(answer) => answer,
                Poll::Pending => proposal.await,
            }));
        }
        outcomes
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all_buf(self.session.output()).await
    }
}
