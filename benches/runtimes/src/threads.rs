//! Nodes on plain threads.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use raft_core::host::tcp::{self, Counters};
use raft_core::host::tls::Tls;
use raft_core::host::{
    ChangeError, Handle, InProcessNetwork, Journal, Lead, LeadershipWatch, NodeConfig, NodeStatus,
    ProposeError, ReadError, SnapshotError, StartError, StopReason, Stopped, TransferError,
    Transport, WaitError,
};
use raft_core::{Change, LogId, Membership, NodeId};
use raft_threads::{Node, channel};

use super::answer::Answer;
use super::log::Log;
use super::{Member, Runtime};

/// Threads, which the operating system runs.
#[derive(Clone, Copy, Debug)]
pub struct Threads;

impl Runtime for Threads {
    fn start(
        &self,
        config: NodeConfig,
        log: Log,
        journal: Box<dyn Journal>,
        transport: Box<dyn Transport>,
    ) -> Result<Box<dyn Member>, StartError> {
        Ok(Box::new(Node::start(config, log, journal, transport)?))
    }

    fn network(&self, seed: u64) -> InProcessNetwork {
        InProcessNetwork::clone(&channel::Network::new(seed))
    }

    fn secured(
        &self,
        _node: NodeId,
        listener: TcpListener,
        peers: Vec<(NodeId, String)>,
        config: tcp::Config,
        tls: Option<Tls>,
    ) -> io::Result<(Box<dyn Transport>, Counters)> {
        let mut transport = raft_threads::tcp::Transport::new(listener, peers, config)?;
        if let Some(tls) = tls {
            transport = transport.with_tls(tls);
        }
        let counters = transport.counters();
        Ok((Box::new(transport), counters))
    }
}

/// Each verb blocks a thread of its own.
impl Member for Node<Log> {
    fn another(&self) -> Box<dyn Member> {
        Box::new(self.clone())
    }

    fn propose(&self, command: Bytes) -> Answer<Result<usize, ProposeError>> {
        let node = self.clone();
        Answer::of(move || Handle::propose(&node, command).wait())
    }

    fn propose_within(
        &self,
        command: Bytes,
        timeout: Duration,
    ) -> Answer<Result<usize, WaitError<ProposeError>>> {
        let node = self.clone();
        Answer::of(move || Handle::propose(&node, command).within(timeout).wait())
    }

    fn propose_anywhere(&self, command: Bytes) -> Answer<Result<usize, ProposeError>> {
        let node = self.clone();
        Answer::of(move || Handle::propose_anywhere(&node, command).wait())
    }

    fn read(&self) -> Answer<Result<Vec<Bytes>, ReadError>> {
        let node = self.clone();
        Answer::of(move || Handle::read(&node, Log::commands).wait())
    }

    fn lead(&self) -> Answer<Result<Lead, Stopped>> {
        let node = self.clone();
        Answer::of(move || Handle::lead(&node).wait())
    }

    fn change_membership(&self, changes: Vec<Change>) -> Answer<Result<Membership, ChangeError>> {
        let node = self.clone();
        Answer::of(move || Handle::change_membership(&node, changes).wait())
    }

    fn transfer_leadership(&self, to: Option<NodeId>) -> Answer<Result<NodeId, TransferError>> {
        let node = self.clone();
        Answer::of(move || Handle::transfer_leadership(&node, to).wait())
    }

    fn take_snapshot(&self) -> Answer<Result<LogId, SnapshotError>> {
        let node = self.clone();
        Answer::of(move || Handle::take_snapshot(&node).wait())
    }

    fn membership(&self) -> Membership {
        Handle::membership(self)
    }

    fn status(&self) -> Answer<Result<NodeStatus, ReadError>> {
        let node = self.clone();
        Answer::of(move || Handle::status(&node).wait())
    }

    fn shutdown(&self) -> Answer<StopReason> {
        let node = self.clone();
        Answer::of(move || Handle::shutdown(&node).wait())
    }

    fn stopped(&self) -> Answer<StopReason> {
        let node = self.clone();
        Answer::of(move || Handle::stopped(&node).wait())
    }

    fn leadership(&self) -> LeadershipWatch {
        Handle::leadership(self)
    }

    fn stop_reason(&self) -> Option<StopReason> {
        Handle::stop_reason(self)
    }
}
