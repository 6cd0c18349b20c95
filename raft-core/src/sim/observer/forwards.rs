//! Forwarded commands: each is appended once, and the answer names its own entry.

use alloc::collections::BTreeMap;

use super::super::violation::{Verdict, hold};
use crate::message::ProposeReply;
use crate::types::{LogId, NodeId, ProposalId, Term};

/// The forwarded commands that leaders have answered for.
#[derive(Clone, Default, Debug)]
pub(super) struct Forwards {
    /// Where each was appended. No two lives of a server number alike.
    appended: BTreeMap<(NodeId, ProposalId), LogId>,
    /// The command of each of these entries.
    commands: BTreeMap<LogId, (NodeId, ProposalId)>,
}

impl Forwards {
    /// A leader of this term answers to the server that forwarded the commands.
    pub(super) fn check_reply(&mut self, to: NodeId, term: Term, reply: &ProposeReply) -> Verdict {
        for place in 0..u64::from(reply.appended) {
            let command = (to, ProposalId::new(reply.id.get() + place));
            let entry = LogId::new(term, crate::Index::new(reply.first.get() + place));
            let id = command.1;
            let at = *self.appended.entry(command).or_insert(entry);
            hold!(
                at == entry,
                Forwarding,
                "command {id} of server {to} was appended at {at} and again at {entry}"
            );
            let (of, other) = *self.commands.entry(entry).or_insert(command);
            hold!(
                (of, other) == command,
                Forwarding,
                "entry {entry} is named as command {id} of server {to} and as {other} of server {of}"
            );
        }
        Ok(())
    }

    /// A server learned that its command stands there.
    pub(super) fn check_answer(&self, server: NodeId, id: ProposalId, entry: LogId) -> Verdict {
        let at = self.appended.get(&(server, id));
        hold!(
            at == Some(&entry),
            Forwarding,
            "server {server} takes {entry} for its command {id}, which stands at {at:?}"
        );
        Ok(())
    }
}
