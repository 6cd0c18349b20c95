//! The transport that the loop calls.

use std::fmt;
use std::io;
use std::string::String;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::super::{Listening, Starting};
use super::acceptor;
use super::dialer;
use super::runtime::Runtime;
use super::shared::{Peer, Shared};
use super::stop::Stop;
use crate::host::identity::Identity;
use crate::host::transport::{MessageInbox, Running};
use crate::membership::Membership;
use crate::message::Message;
use crate::types::NodeId;

/// A [`crate::host::Transport`] over TCP, whose tasks run on the [`Runtime`] `R`. `L` is the
/// runtime's socket that listens.
pub struct Transport<R, L> {
    listening: Listening<L>,
    /// Taken by `start`.
    runtime: Option<R>,
    started: Option<Started<R>>,
}

struct Started<R> {
    shared: Arc<Shared<R>>,
    /// When it is dropped, all tasks stop.
    stop: Stop,
}

impl<R, L> Transport<R, L> {
    /// A transport that listens already.
    pub fn new(runtime: R, listening: Listening<L>) -> Self {
        Self { listening, runtime: Some(runtime), started: None }
    }

    /// What it was made of: its address, its counters, its limits.
    pub fn listening(&self) -> &Listening<L> {
        &self.listening
    }

    /// The same, to be changed before the transport starts.
    pub fn listening_mut(&mut self) -> &mut Listening<L> {
        &mut self.listening
    }
}

impl<R: Runtime> Transport<R, R::Listener> {
    fn dial(&self, peers: impl IntoIterator<Item = Arc<Peer>>) {
        let Some(Started { shared, stop }) = &self.started else { return };
        for peer in peers {
            shared.runtime.spawn(dialer::run(Arc::clone(shared), peer, stop.stopping()));
        }
    }
}

impl<R: Runtime> crate::host::Transport for Transport<R, R::Listener> {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        let Starting { listener, shared, to_dial } = self.listening.start(identity, inbox)?;
        let runtime = self.runtime.take().expect("a transport starts once, as `Listening` checks");
        let shared = Arc::new(Shared { tcp: shared, runtime, running: OnceLock::new() });
        let stop = Stop::new();
        let acceptor = acceptor::run(Arc::clone(&shared), listener, stop.stopping());
        shared.runtime.spawn(acceptor);
        self.started = Some(Started { shared, stop });
        self.dial(to_dial);
        Ok(())
    }

    fn send(&mut self, message: Message<Bytes>) {
        match &self.started {
            Some(started) => self.dial(started.shared.peers.send(message)),
            None => self.listening.counters().count_unknown_peer(),
        }
    }

    fn flush(&mut self) {
        if let Some(started) = &self.started {
            started.shared.peers.flush();
        }
    }

    fn message_bytes_max(&self) -> usize {
        self.listening.config().message_bytes_max()
    }

    fn address(&self, node: NodeId) -> Option<String> {
        self.started.as_ref()?.shared.peers.address(node)
    }

    fn members(&mut self, membership: &Membership) {
        let Some(started) = &self.started else { return };
        self.dial(started.shared.peers.members(membership));
    }

    fn stop(&mut self, running: Running) {
        if let Some(started) = self.started.take() {
            // It was not set before, because `stop` is called once at most.
            let _ = started.shared.running.set(running);
        }
    }
}

impl<R, L> fmt::Debug for Transport<R, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("listening", &self.listening)
            .field("peers", &self.started.as_ref().map(|started| &started.shared.peers))
            .finish_non_exhaustive()
    }
}
