//! A watch over a node's members.

use std::fmt;
use std::mem;
use std::sync::{Arc, PoisonError};
use std::vec::Vec;

use super::pending::Pending;
use crate::host::error::Stopped;
use crate::host::sync::atomic::{AtomicU32, Ordering};
use crate::host::sync::{Mutex, MutexGuard};
use crate::host::threads::lifecycle::Lifecycle;
use crate::membership::Membership;

/// Watches a node's [`Membership`] (§6): the newest configuration in its log, committed or not.
/// Cheap to clone. It does not keep the node running.
///
/// # Example
///
/// ```
/// # use raft_core::host::{MembershipWatch, Stopped};
/// fn follow(watch: &MembershipWatch) -> Result<(), Stopped> {
///     let mut now = watch.current();
///     loop {
///         println!("{} members", now.members().len());
///         now = watch.changed_from(&now).wait()?; // or `.await?`
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct MembershipWatch {
    members: Arc<Members>,
}

/// What the node's loop knows of the members, for all who watch them.
pub(super) struct Members {
    published: Mutex<Published>,
    /// The version of the application that is in force for good.
    version: AtomicU32,
    lifecycle: Arc<Lifecycle>,
}

struct Published {
    membership: Membership,
    /// Each waits until the members are others.
    waiting: Vec<oneshot::Sender<Result<Membership, Stopped>>>,
    closed: bool,
}

impl MembershipWatch {
    pub(super) fn new(members: Arc<Members>) -> Self {
        Self { members }
    }

    /// The members as the node knows them now, or knew them when it stopped.
    pub fn current(&self) -> Membership {
        self.members.current()
    }

    /// Resolves when the members differ from `known`, at once if they already do.
    ///
    /// # Errors
    ///
    /// The node has stopped.
    pub fn changed_from(&self, known: &Membership) -> Pending<Membership, Stopped> {
        let (answer, receiver) = oneshot::channel();
        let mut published = self.members.lock();
        if published.closed {
            // A dropped answer says that the node has stopped.
        } else if published.membership != *known {
            drop(answer.send(Ok(published.membership.clone())));
        } else {
            published.waiting.retain(|waiting| !waiting.is_closed());
            published.waiting.push(answer);
        }
        drop(published);
        Pending::new(receiver, Arc::clone(&self.members.lifecycle))
    }
}

impl Members {
    pub(super) fn new(membership: Membership, lifecycle: Arc<Lifecycle>) -> Self {
        let published = Published { membership, waiting: Vec::new(), closed: false };
        Self { published: Mutex::new(published), version: AtomicU32::new(0), lifecycle }
    }

    pub(super) fn current(&self) -> Membership {
        self.lock().membership.clone()
    }

    /// As [`Handle::version`](super::Handle::version).
    pub(super) fn version(&self) -> u32 {
        self.version.load(Ordering::Relaxed)
    }

    /// Takes the version of a committed configuration.
    pub(super) fn publish_version(&self, version: u32) {
        self.version.store(version, Ordering::Relaxed);
    }

    /// Answers all clients that wait for other members.
    pub(super) fn publish(&self, membership: Membership) {
        let mut published = self.lock();
        if published.membership == membership {
            return;
        }
        published.membership = membership.clone();
        let told = mem::take(&mut published.waiting);
        drop(published);
        for answer in told {
            drop(answer.send(Ok(membership.clone())));
        }
    }

    /// To be called when the node has stopped. Every waiting client learns that.
    pub(super) fn close(&self) {
        let mut published = self.lock();
        published.closed = true;
        // A dropped sender tells its receiver that the node has stopped.
        let waiting = mem::take(&mut published.waiting);
        drop(published);
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().membership.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::error::StopReason;
    use crate::types::NodeId;

    fn voters(count: u64) -> Membership {
        Membership::of_voters((1..=count).map(NodeId::new))
    }

    #[test]
    fn a_change_answers_all_who_know_the_members_before_it() {
        let lifecycle = Arc::<Lifecycle>::default();
        let members = Arc::new(Members::new(voters(1), Arc::clone(&lifecycle)));
        let watch = MembershipWatch::new(Arc::clone(&members));
        let waits = watch.changed_from(&voters(1));
        members.publish(voters(1));
        members.publish(voters(3));
        assert_eq!(waits.wait().unwrap(), voters(3));
        assert_eq!(watch.changed_from(&voters(1)).wait().unwrap(), voters(3), "at once");

        let waits = watch.changed_from(&voters(3));
        lifecycle.end(StopReason::Shutdown);
        members.close();
        assert!(waits.wait().is_err());
        assert!(watch.changed_from(&voters(1)).wait().is_err());
        assert_eq!(watch.current(), voters(3));
    }

    #[test]
    fn those_who_gave_up_waiting_are_forgotten() {
        let members = Arc::new(Members::new(voters(1), Arc::default()));
        let watch = MembershipWatch::new(Arc::clone(&members));
        for _ in 0..100 {
            drop(watch.changed_from(&voters(1)));
        }
        assert!(members.lock().waiting.len() <= 1);
    }
}
