//! Nodes whose methods are awaited.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::answer::Answer;

/// What is run.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where it runs.
pub(super) trait Spawns: Clone + Send + Sync + 'static {
    /// Runs a task until it ends.
    fn spawn(&self, task: Task);
}

/// The output of a future that a runtime drives.
///
/// It is polled here first, so that requests are made in the order of the calls, and a refusal is
/// there at once.
pub(super) fn ask<T: Send + 'static>(
    runtime: &impl Spawns,
    future: impl Future<Output = T> + Send + 'static,
) -> Answer<T> {
    let (sender, answer) = Answer::new();
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => drop(sender.send(output)),
        Poll::Pending => runtime.spawn(Box::pin(async move {
            // A caller that no longer waits needs no answer.
            drop(sender.send(future.await));
        })),
    }
    answer
}

/// A [`Member`](super::Member) whose node has async methods.
pub(super) struct Awaited<N, R> {
    pub(super) node: N,
    pub(super) runtime: R,
}

macro_rules! awaited_member {
    ($node:ty, $runtime:ty $(, $executor:ident: $bound:path)?) => {
        impl$(<$executor: $bound>)? $crate::Member for $crate::awaited::Awaited<$node, $runtime> {
            fn another(&self) -> Box<dyn $crate::Member> {
                Box::new(Self { node: self.node.clone(), runtime: self.runtime.clone() })
            }

            fn propose(
                &self,
                command: bytes::Bytes,
            ) -> Answer<Result<usize, raft_core::host::ProposeError>> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.propose(command).await })
            }

            fn propose_within(
                &self,
                command: bytes::Bytes,
                timeout: std::time::Duration,
            ) -> Answer<Result<usize, raft_core::host::WaitError<raft_core::host::ProposeError>>> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.propose(command).within(timeout).await })
            }

            fn propose_anywhere(
                &self,
                command: bytes::Bytes,
            ) -> Answer<Result<usize, raft_core::host::ProposeError>> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.propose_anywhere(command).await })
            }

            fn read(&self) -> Answer<Result<Vec<bytes::Bytes>, raft_core::host::ReadError>> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.read(Log::commands).await })
            }

            fn lead(&self) -> Answer<Result<raft_core::host::Lead, raft_core::host::Stopped>> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.lead().await })
            }

            fn change_membership(&self, changes: Vec<raft_core::Change>) -> Answer<Result<raft_core::Membership, raft_core::host::ChangeError>> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.change_membership(changes).await })
            }

            fn transfer_leadership(&self, to: Option<raft_core::NodeId>) -> Answer<Result<raft_core::NodeId, raft_core::host::TransferError>> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.transfer_leadership(to).await })
            }

            fn take_snapshot(&self) -> Answer<Result<raft_core::LogId, raft_core::host::SnapshotError>> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.take_snapshot().await })
            }

            fn membership(&self) -> raft_core::Membership {
                self.node.membership()
            }

            fn status(
                &self,
            ) -> Answer<Result<raft_core::host::NodeStatus, raft_core::host::ReadError>> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.status().await })
            }

            fn shutdown(&self) -> Answer<raft_core::host::StopReason> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.shutdown().await })
            }

            fn stopped(&self) -> Answer<raft_core::host::StopReason> {
                let node = self.node.clone();
                ask(&self.runtime, async move { node.stopped().await })
            }

            fn leadership(&self) -> raft_core::host::LeadershipWatch {
                self.node.leadership()
            }

            fn stop_reason(&self) -> Option<raft_core::host::StopReason> {
                self.node.stop_reason()
            }
        }
    };
}

pub(super) use awaited_member;
