//! Where the leader is reached, for the clients that a node sends to it.

use std::string::String;
use std::sync::Arc;

use crate::host::error::NamesLeader;
use crate::host::transport::Transport;
use crate::host::wire::label::Label;
use crate::membership::Membership;
use crate::types::NodeId;

/// The address of the leader that was asked for last. It is looked up anew when the members or the
/// leader change, and not for each client.
#[derive(Default, Debug)]
pub(super) struct LeaderAddress {
    known: Option<(NodeId, Arc<str>)>,
}

impl LeaderAddress {
    /// To be called when the leader or the members have changed.
    pub(super) fn forget(&mut self) {
        self.known = None;
    }

    /// The address in this member's [`Label`], or else the one that the transport knows.
    pub(super) fn of(
        &mut self,
        leader: NodeId,
        membership: &Membership,
        transport: &dyn Transport,
    ) -> Option<Arc<str>> {
        if let Some((known, address)) = &self.known {
            if *known == leader {
                return Some(Arc::clone(address));
            }
        }
        let address = labelled(leader, membership).or_else(|| transport.address(leader))?;
        let address = Arc::<str>::from(address);
        self.known = Some((leader, Arc::clone(&address)));
        Some(address)
    }

    /// Adds the address of the leader that an error names.
    pub(super) fn complete(
        &mut self,
        error: &mut impl NamesLeader,
        membership: &Membership,
        transport: &dyn Transport,
    ) {
        if let Some((leader, address)) = error.leader_mut() {
            *address = self.of(leader, membership, transport);
        }
    }
}

/// The address in the label of a member. An application may use labels in its own way, and then
/// there is none.
fn labelled(id: NodeId, membership: &Membership) -> Option<String> {
    Label::decode(&membership.member(id)?.label).ok()?.address
}
