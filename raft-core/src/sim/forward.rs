//! Commands that a follower forwards to its leader.

use super::cluster::Cluster;
use super::state_machine::StateMachine;
use super::trace::What;
use super::violation::Verdict;
use crate::error::ProposeError;
use crate::output::ForwardOutcome;
use crate::types::{NodeId, ProposalId};

impl<S: StateMachine> Cluster<S> {
    /// Gives a command to a server that forwards it to its leader.
    ///
    /// # Errors
    ///
    /// As [`Raft::forward`](crate::Raft::forward); a server that does not run knows no leader.
    pub fn forward(
        &mut self,
        id: NodeId,
        command: S::Command,
    ) -> Result<ProposalId, ProposeError<S::Command>> {
        let at = self.at(id);
        let Some(raft) = self.servers[at].raft.as_mut() else {
            return Err(ProposeError::NotLeader { leader: None, command });
        };
        let forwarded = raft.forward(command)?;
        self.counts.forwards += 1;
        self.trace.note(self.now, id, What::Forwards);
        self.turn(at);
        Ok(forwarded)
    }

    /// A server learned what became of a command. If the command was appended, its client waits for
    /// the entry to be applied at that server.
    pub(super) fn end_forward(
        &mut self,
        at: usize,
        id: ProposalId,
        outcome: ForwardOutcome<S::Command>,
    ) -> Verdict {
        let server = &mut self.servers[at];
        let operation = server.application.take_forward(id);
        match (outcome, operation) {
            (ForwardOutcome::Appended(entry), operation) => {
                self.observer.check_forward(server.id, id, entry)?;
                if let Some(operation) = operation {
                    server.application.wait(entry.term, entry.index, operation);
                }
            }
            (ForwardOutcome::Refused(_), Some(operation)) => {
                self.history.lost(operation);
                self.counts.lost_operations += 1;
            }
            (ForwardOutcome::Refused(_), None) | (ForwardOutcome::Unknown, _) => {}
        }
        Ok(())
    }
}
