//! Changes of membership (§6) and transfers of leadership (thesis 3.10) in a cluster, and servers
//! that come and go.

use super::cluster::Cluster;
use super::disk::Crash;
use super::state_machine::StateMachine;
use super::trace::What;
use crate::change::Change;
use crate::error::{ChangeRefused, NothingToSnapshot, TransferRefused};
use crate::quorum::MEMBERS_MAX;
use crate::types::{Index, NodeId, Term};

impl<S: StateMachine> Cluster<S> {
    /// Starts a new server with an empty disk, which knows of no cluster and waits to be added to
    /// this one. Its id is the next that nobody had.
    ///
    /// # Panics
    ///
    /// If there have been [`MEMBERS_MAX`] servers already.
    pub fn start_new(&mut self) -> NodeId {
        assert!(self.ids.len() < MEMBERS_MAX, "sim: more than {MEMBERS_MAX} servers in a run");
        self.put_server(false);
        let at = self.ids.len() - 1;
        self.start_at(at);
        self.ids[at]
    }

    /// Asks a server to change the membership.
    ///
    /// # Errors
    ///
    /// As [`Raft::change_membership`](crate::Raft::change_membership); a server that does not run
    /// knows no leader.
    pub fn change_membership(
        &mut self,
        id: NodeId,
        changes: &[Change],
    ) -> Result<(Term, Index), ChangeRefused> {
        let at = self.at(id);
        let refused = Err(ChangeRefused::NotLeader { leader: None });
        let Some(raft) = self.servers[at].raft.as_mut() else { return refused };
        let (term, index) = raft.change_membership(changes)?;
        self.trace.note(self.now, id, What::Changes(term, index));
        self.turn(at);
        Ok((term, index))
    }

    /// Asks a server to hand leadership over; to whom it does, if it does.
    ///
    /// # Errors
    ///
    /// As [`Raft::transfer_leadership`](crate::Raft::transfer_leadership); a server that does not
    /// run knows no leader.
    pub fn transfer_leadership(
        &mut self,
        id: NodeId,
        to: Option<NodeId>,
    ) -> Result<NodeId, TransferRefused> {
        let at = self.at(id);
        let refused = Err(TransferRefused::NotLeader { leader: None });
        let Some(raft) = self.servers[at].raft.as_mut() else { return refused };
        let to = raft.transfer_leadership(to)?;
        self.turn(at);
        Ok(to)
    }

    /// Asks a server for a snapshot.
    ///
    /// # Errors
    ///
    /// As [`Raft::take_snapshot`](crate::Raft::take_snapshot); a server that does not run has
    /// nothing to say.
    pub fn take_snapshot(&mut self, id: NodeId) -> Result<(), NothingToSnapshot> {
        let taken = self.with_raft(id, crate::Raft::take_snapshot);
        taken.unwrap_or(Err(NothingToSnapshot))
    }

    /// Tells a server that the connection to this leader died.
    pub fn suspect_leader(&mut self, id: NodeId, leader: NodeId) {
        self.with_raft(id, |raft| raft.suspect_leader(leader));
    }

    /// From now on whatever a server does with snapshot files fails, or works again.
    pub fn fail_files(&mut self, id: NodeId, fail: bool) {
        let at = self.at(id);
        self.servers[at].files.fail = fail;
    }

    /// Switches a server off for good.
    pub fn retire(&mut self, id: NodeId) {
        self.crash(id, Crash::Keep);
        let at = self.at(id);
        self.servers[at].is_retired = true;
        self.trace.note(self.now, id, What::Retired);
    }

    /// Kills a server, and takes all that its disk holds. If it is started again, it knows of no
    /// cluster. What it has promised is lost, so it should have been removed before, and may be
    /// added again as a learner.
    pub fn wipe(&mut self, id: NodeId) {
        self.crash(id, Crash::Lose);
        let at = self.at(id);
        let server = &mut self.servers[at];
        server.disk.wipe();
        server.files.wipe();
        server.is_founder = false;
        self.observer.on_wipe(id);
    }
}
