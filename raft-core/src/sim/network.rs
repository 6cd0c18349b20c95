//! What happens to messages on their way, and which servers can reach each other.

use alloc::vec::Vec;
use core::time::Duration;

use super::delay::Delay;
use super::draw::Draw;
use crate::message::{Body, Message};
use crate::types::{Command, NodeId};

/// What the network does to every message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// The time a message travels.
    pub delay: Delay,
    /// Of 1000 requests, how many are lost.
    pub request_loss_per_mille: u32,
    /// Of 1000 replies, how many are lost.
    pub reply_loss_per_mille: u32,
    /// Of 1000 messages, how many arrive twice.
    pub duplicates_per_mille: u32,
    /// Of 1000 requests, how many are held back, so that later ones overtake them.
    pub requests_held_per_mille: u32,
    /// Of 1000 replies, how many are held back.
    pub replies_held_per_mille: u32,
    /// How long a message is held back.
    pub hold: Delay,
}

impl Network {
    /// Every message arrives, after exactly this time.
    pub const fn reliable(latency: Duration) -> Self {
        Self {
            delay: Delay::Constant(latency),
            request_loss_per_mille: 0,
            reply_loss_per_mille: 0,
            duplicates_per_mille: 0,
            requests_held_per_mille: 0,
            replies_held_per_mille: 0,
            hold: Delay::Constant(Duration::ZERO),
        }
    }

    /// What becomes of one message.
    #[inline]
    pub(super) fn fate(&self, is_request: bool, draw: &mut Draw) -> Fate {
        let (loss, held) = match is_request {
            true => (self.request_loss_per_mille, self.requests_held_per_mille),
            false => (self.reply_loss_per_mille, self.replies_held_per_mille),
        };
        if draw.per_mille(loss) {
            return Fate { arrives_after: None, again_after: None, held: false };
        }
        let mut delay = self.delay.draw(draw);
        let held = draw.per_mille(held);
        if held {
            delay = delay.saturating_add(self.hold.draw(draw));
        }
        let again = draw.per_mille(self.duplicates_per_mille);
        let again_after = again.then(|| {
            delay.saturating_add(self.delay.draw(draw)).saturating_add(self.hold.draw(draw))
        });
        Fate { arrives_after: Some(delay), again_after, held }
    }
}

/// What becomes of one message.
pub(super) struct Fate {
    /// None if it is lost.
    pub(super) arrives_after: Option<Duration>,
    /// When it arrives a second time.
    pub(super) again_after: Option<Duration>,
    pub(super) held: bool,
}

/// A division of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Partition {
    /// These servers on one side, all others on the other.
    Halves(Vec<NodeId>),
    /// One server neither receives messages nor gets one through.
    Isolated(NodeId),
    /// Two sides, and one server that both can reach.
    Bridge {
        /// One side. The other side has all servers that are neither here nor the bridge.
        side: Vec<NodeId>,
        /// The server that reaches both sides.
        bridge: NodeId,
    },
    /// Each server reaches only its neighbours in this order. A server that is not named reaches no
    /// other.
    Chain(Vec<NodeId>),
}

impl Partition {
    /// Whether messages pass between two servers.
    fn joins(&self, a: NodeId, b: NodeId) -> bool {
        match self {
            Self::Halves(side) => side.contains(&a) == side.contains(&b),
            Self::Isolated(alone) => a != *alone && b != *alone,
            Self::Bridge { side, bridge } => {
                a == *bridge || b == *bridge || side.contains(&a) == side.contains(&b)
            }
            Self::Chain(order) => order.windows(2).any(|pair| pair == [a, b] || pair == [b, a]),
        }
    }
}

/// The links that are cut, as sets of positions: one word for each sender.
pub(super) struct Links {
    /// One-way cuts.
    cut: Vec<u64>,
    /// The division in force, if any.
    divided: Vec<u64>,
    /// Servers cut off from all others.
    away: u64,
    /// Servers that receive no message.
    deaf: u64,
}

impl Links {
    pub(super) fn new(servers: usize) -> Self {
        Self { cut: alloc::vec![0; servers], divided: alloc::vec![0; servers], away: 0, deaf: 0 }
    }

    /// Adds a server that all others can reach.
    pub(super) fn put_server(&mut self) {
        self.cut.push(0);
        self.divided.push(0);
    }

    #[inline]
    pub(super) fn passes(&self, from: usize, to: usize) -> bool {
        let away = self.away & (1 << from | 1 << to) != 0 || self.deaf & (1 << to) != 0;
        !away && (self.cut[from] | self.divided[from]) & (1 << to) == 0
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cut[from] |= 1 << to;
    }

    pub(super) fn mend(&mut self, from: usize, to: usize) {
        self.cut[from] &= !(1 << to);
    }

    pub(super) fn set_away(&mut self, server: usize, away: bool) {
        self.away &= !(1 << server);
        self.away |= u64::from(away) << server;
    }

    pub(super) fn set_deaf(&mut self, server: usize, deaf: bool) {
        self.deaf &= !(1 << server);
        self.deaf |= u64::from(deaf) << server;
    }

    pub(super) fn is_away(&self, server: usize) -> bool {
        self.away & (1 << server) != 0
    }

    pub(super) fn divide(&mut self, partition: Option<&Partition>, ids: &[NodeId]) {
        for (from, blocked) in self.divided.iter_mut().enumerate() {
            *blocked = 0;
            let Some(partition) = partition else { continue };
            for (to, id) in ids.iter().enumerate() {
                *blocked |= u64::from(!partition.joins(ids[from], *id)) << to;
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.fill(0);
        self.divided.fill(0);
        self.away = 0;
        self.deaf = 0;
    }
}

/// Whether this asks for an answer.
pub(super) const fn is_request<C>(body: &Body<C>) -> bool {
    match body {
        Body::RequestPreVote(_)
        | Body::RequestVote(_)
        | Body::AppendEntries(_)
        | Body::InstallSnapshot(_)
        | Body::TimeoutNow(_)
        | Body::ReadIndex(_)
        | Body::Propose(_) => true,
        Body::RequestPreVoteReply(_)
        | Body::RequestVoteReply(_)
        | Body::AppendEntriesReply(_)
        | Body::InstallSnapshotReply(_)
        | Body::ReadIndexReply(_)
        | Body::ProposeReply(_) => false,
    }
}

/// Roughly what a message costs on the wire, in bytes.
pub(super) fn wire_bytes<C: Command>(message: &Message<C>) -> u64 {
    const HEAD_BYTES: usize = 32;
    HEAD_BYTES.saturating_add(message.size()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(partition: &Partition) -> Vec<(u64, u64)> {
        let ids = [1, 2, 3, 4].map(NodeId::new);
        let mut links = Links::new(4);
        links.divide(Some(partition), &ids);
        let pairs = (0..4).flat_map(|a| (a + 1..4).map(move |b| (a, b)));
        let joined = pairs.filter(|(a, b)| {
            assert_eq!(links.passes(*a, *b), links.passes(*b, *a));
            links.passes(*a, *b)
        });
        joined.map(|(a, b)| (a as u64 + 1, b as u64 + 1)).collect()
    }

    #[test]
    fn divisions_let_through_whom_they_should() {
        let [one, two, three, four] = [1, 2, 3, 4].map(NodeId::new);
        assert_eq!(links(&Partition::Halves([one, two].into())), [(1, 2), (3, 4)]);
        assert_eq!(links(&Partition::Isolated(three)), [(1, 2), (1, 4), (2, 4)]);
        let bridge = Partition::Bridge { side: [one].into(), bridge: two };
        assert_eq!(links(&bridge), [(1, 2), (2, 3), (2, 4), (3, 4)]);
        assert_eq!(
            links(&Partition::Chain([two, one, four, three].into())),
            [(1, 2), (1, 4), (3, 4)]
        );
    }

    #[test]
    fn cuts_have_one_direction_and_heal() {
        let mut links = Links::new(3);
        links.cut(0, 1);
        assert!(!links.passes(0, 1) && links.passes(1, 0));
        links.set_away(2, true);
        assert!(!links.passes(2, 0) && !links.passes(1, 2) && links.is_away(2));
        links.heal();
        assert!(links.passes(0, 1) && links.passes(1, 2));
    }
}
