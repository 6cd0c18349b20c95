//! The stores of the members, as their labels record them: the leader's host writes them down, and each compares its own.
//!
//! What they are for, and how a node comes back that has lost its store, tells [`tcp::Peers`](super::tcp::Peers).
//!
//! A node that finds another store than its own in its own label is not the member that the configuration means. It was refused by
//! whoever knows that configuration; but it may have been removed and added again under the same id, and be given the log from
//! the beginning, with the configurations of its earlier life in it. So it goes on, takes entries, and neither votes nor
//! stands for election until a configuration is in force that does not name the other store.

use core::time::Duration;
use std::vec::Vec;

use bytes::Bytes;
use rand_pcg::Pcg32;

use super::identity::{Identity, Incarnation};
use super::label::Label;
use super::transport::Transport;
use crate::membership::{Change, Membership};
use crate::raft::Raft;
use crate::role::Role;
use crate::time::Instant;
use crate::types::NodeId;

/// How often a leader looks for members whose store is not recorded.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// A node's part in it.
#[derive(Debug)]
pub(super) struct Recorder {
    identity: Identity,
    /// When to look next.
    next: Instant,
}

impl Recorder {
    pub(super) fn new(identity: Identity) -> Self {
        Self { identity, next: Instant::ZERO + RECORD_INTERVAL }
    }

    /// These are the members now.
    pub(super) fn members(&self, raft: &mut Raft<Bytes, Pcg32>, membership: &Membership) {
        let Identity { node, incarnation, .. } = self.identity;
        let recorded = membership.member(node).and_then(|member| Label::decode(&member.label).ok());
        let recorded = recorded.and_then(|label| label.incarnation);
        let is_other = recorded.is_some_and(|recorded| recorded != incarnation);
        if is_other {
            tracing::warn!(
                %node,
                "this node's store is not the one that this configuration names, so it does not vote. If it was added again, that \
                 passes with the rest of the log; else remove node {node} from the cluster and add it again as a learner"
            );
        }
        raft.abstain(is_other);
    }

    /// If this node leads, records the stores of those who are connected where the labels do not name any. It is a change like any
    /// other: when one is pending, it waits.
    pub(super) fn record(
        &mut self,
        raft: &mut Raft<Bytes, Pcg32>,
        transport: &dyn Transport,
        now: Instant,
    ) {
        if now < self.next || raft.role() != Role::Leader {
            return;
        }
        self.next = now + RECORD_INTERVAL;
        let changes = unrecorded(raft.membership(), &transport.incarnations());
        if changes.is_empty() {
            return;
        }
        match raft.change_membership(&changes) {
            Ok(_) => tracing::info!(members = changes.len(), "the stores of members are recorded"),
            Err(refused) => tracing::debug!(%refused, "the stores of members are not recorded yet"),
        }
    }
}

/// The changes that complete the labels. One that is not a [`Label`] is left alone.
fn unrecorded(membership: &Membership, stores: &[(NodeId, Incarnation)]) -> Vec<Change> {
    let change = |(id, incarnation): &(NodeId, Incarnation)| {
        let label = Label::decode(&membership.member(*id)?.label).ok()?;
        if label.incarnation.is_some() {
            return None;
        }
        let label = Label { incarnation: Some(*incarnation), ..label }.encode().ok()?;
        Some(Change::Relabel { id: *id, label })
    };
    stores.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::vec;

    use super::*;
    use crate::config::Config;
    use crate::host::identity::ClusterId;
    use crate::host::transport::MessageInbox;
    use crate::identity::MemberStore;
    use crate::membership::{Member, Seat};
    use crate::message::Message;
    use crate::output::{Output, Restored, SnapshotMeta};
    use crate::types::LogId;

    fn id(number: u64) -> NodeId {
        NodeId::new(number)
    }

    fn member(number: u64, label: Vec<u8>) -> Member {
        Member {
            id: id(number),
            seat: Seat::Voter,
            priority: 0,
            label,
            store: MemberStore::Unrecorded,
        }
    }

    /// Carries nothing, and knows these stores.
    struct Known(Vec<(NodeId, Incarnation)>);

    impl Transport for Known {
        fn start(&mut self, _identity: Identity, _inbox: MessageInbox) -> io::Result<()> {
            Ok(())
        }

        fn send(&mut self, _message: Message<Bytes>) {}

        fn incarnations(&self) -> Vec<(NodeId, Incarnation)> {
            self.0.clone()
        }
    }

    fn labelled(store: u64) -> Vec<u8> {
        let incarnation = Some(Incarnation::new(store));
        Label { incarnation, ..Label::default() }.encode().unwrap()
    }

    /// Node 1, alone in its cluster, with store 1.
    fn alone(label: Vec<u8>) -> (Raft<Bytes, Pcg32>, Recorder) {
        let membership = Membership::of_members([member(1, label)]).unwrap();
        let snapshot = Some(SnapshotMeta { last: LogId::ZERO, membership });
        let restored = Restored { snapshot, ..Restored::default() };
        let raft = Raft::new(Config::new(id(1), []), restored, Pcg32::new(1, 1)).unwrap();
        let (cluster, incarnation) = (ClusterId::new(7), Incarnation::new(1));
        (raft, Recorder::new(Identity { cluster, node: id(1), incarnation }))
    }

    fn turn(raft: &mut Raft<Bytes, Pcg32>, now: Instant) {
        raft.tick(now);
        while let Some(output) = raft.poll_outbox() {
            if let Output::Persist(write) = output {
                raft.persisted(write.id);
            } else if let Output::Apply(entries) = output {
                raft.applied(entries.last().unwrap().index);
            }
        }
    }

    #[test]
    fn a_leader_records_stores_once_and_now_and_then() {
        let (mut raft, mut recorder) = alone(Vec::new());
        let transport = Known(vec![(id(1), Incarnation::new(1)), (id(2), Incarnation::new(2))]);
        let second = |second| Instant::ZERO + RECORD_INTERVAL * second;
        recorder.record(&mut raft, &transport, second(1));
        assert_eq!(raft.membership().members(), [member(1, Vec::new())], "it does not lead");
        for moment in 1..=2 {
            turn(&mut raft, second(moment));
        }
        assert_eq!(raft.role(), Role::Leader);
        recorder.record(&mut raft, &transport, Instant::ZERO + RECORD_INTERVAL / 2);
        assert_eq!(raft.membership().members(), [member(1, Vec::new())], "too soon");
        recorder.record(&mut raft, &transport, second(3));
        assert_eq!(raft.membership().members(), [member(1, labelled(1))]);
        turn(&mut raft, second(3));
        let last = raft.status().last_log;
        recorder.record(&mut raft, &transport, second(9));
        assert_eq!(raft.status().last_log, last, "nothing is left to record");
    }

    #[test]
    fn a_node_with_another_store_than_its_label_names_does_not_stand() {
        for (store, expected) in [(1, Role::Leader), (2, Role::Follower)] {
            let (mut raft, recorder) = alone(labelled(store));
            let membership = raft.membership().clone();
            recorder.members(&mut raft, &membership);
            for second in 1..=3 {
                turn(&mut raft, Instant::ZERO + RECORD_INTERVAL * second);
            }
            assert_eq!(raft.role(), expected);
        }
    }

    #[test]
    fn labels_without_a_store_get_one_and_keep_what_they_have() {
        let store = Some(Incarnation::new(7));
        let known = Label { incarnation: store, ..Label::default() }.encode().unwrap();
        let here = Label::at("c:1");
        let membership = Membership::of_members([
            member(1, known),
            member(2, Vec::new()),
            member(3, here.encode().unwrap()),
            member(4, b"not a label".to_vec()),
            member(5, Vec::new()),
        ]);
        let stores = [1, 2, 3, 4, 9].map(|number| (id(number), Incarnation::new(7)));
        let label = |label: Label| label.encode().unwrap();
        assert_eq!(
            unrecorded(&membership.unwrap(), &stores),
            vec![
                Change::Relabel {
                    id: id(2),
                    label: label(Label { incarnation: store, ..Label::default() })
                },
                Change::Relabel { id: id(3), label: label(Label { incarnation: store, ..here }) },
            ]
        );
    }
}
