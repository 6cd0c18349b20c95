//! raft-rs under measurement, driven as its documentation says: step, ready, advance; over its own
//! `MemStorage`.

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode};
use std::hint::black_box;

use super::{COMMAND_BYTES, Server, received};

/// One server of raft-rs. With `ONE_MESSAGE` the commands of a batch are proposed as one message
/// with many entries, which suits raft-rs best; else each by its method `propose`, which wants a
/// vector.
pub struct RaftRsServer<const ONE_MESSAGE: bool> {
    node: RawNode<MemStorage>,
    received: Bytes,
    commands_applied: usize,
}

impl<const ONE_MESSAGE: bool> RaftRsServer<ONE_MESSAGE> {
    fn new(position: usize, voters: usize, pre_vote: bool) -> Self {
        let ids: Vec<_> = (0..voters).map(id_of).collect();
        let storage = MemStorage::new_with_conf_state(ConfState::from((ids, vec![])));
        let config = Config {
            id: id_of(position),
            pre_vote,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 128,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&config, storage, &logger).expect("the configuration is valid");
        node.set_batch_append(true);
        Self { node, received: received(), commands_applied: 0 }
    }

    fn send_all(messages: Vec<Message>, send: &mut impl FnMut(usize, Message)) {
        messages.into_iter().for_each(|message| send(position_of(message.to), message));
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        let commands = black_box(&entries).iter().filter(|entry| !entry.data.is_empty());
        self.commands_applied += commands.count();
    }
}

impl<const ONE_MESSAGE: bool> Server for RaftRsServer<ONE_MESSAGE> {
    type Message = Message;

    fn cluster(voters: usize, pre_vote: bool) -> Vec<Self> {
        (0..voters).map(|position| Self::new(position, voters, pre_vote)).collect()
    }

    /// The next in the row. Without `check_quorum` raft-rs lets anyone stand at any time, so no
    /// time has to pass.
    fn next_candidate(servers: &mut [Self], leader: usize) -> usize {
        (leader + 1) % servers.len()
    }

    fn campaign(&mut self) {
        self.node.campaign().expect("a voter may stand");
    }

    fn propose(&mut self, commands: usize) {
        let command = || self.received.slice(..COMMAND_BYTES);
        if ONE_MESSAGE {
            let entry = || Entry { data: command(), ..Entry::default() };
            let mut message = Message { from: self.node.raft.id, ..Message::default() };
            message.set_msg_type(MessageType::MsgPropose);
            message.entries = (0..commands).map(|_| entry()).collect::<Vec<_>>().into();
            self.node.step(message).expect("the leader has room");
        } else {
            for _ in 0..commands {
                self.node.propose(vec![], command().to_vec()).expect("the leader has room");
            }
        }
    }

    fn turn(
        &mut self,
        inbox: &mut Vec<Self::Message>,
        send: &mut impl FnMut(usize, Self::Message),
    ) {
        for message in inbox.drain(..) {
            self.node.step(message).expect("the sender is a member");
        }
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            Self::send_all(ready.take_messages(), send);
            self.apply(ready.take_committed_entries());
            let mut storage = self.node.store().wl();
            if !ready.entries().is_empty() {
                storage.append(ready.entries()).expect("entries follow each other");
            }
            if let Some(hard_state) = ready.hs() {
                storage.set_hardstate(hard_state.clone());
            }
            drop(storage);
            Self::send_all(ready.take_persisted_messages(), send);
            let mut light_ready = self.node.advance(ready);
            if let Some(commit) = light_ready.commit_index() {
                self.node.store().wl().mut_hard_state().set_commit(commit);
            }
            Self::send_all(light_ready.take_messages(), send);
            self.apply(light_ready.take_committed_entries());
            self.node.advance_apply();
        }
    }

    fn leader(&self) -> Option<usize> {
        let leader = self.node.raft.leader_id;
        (leader != raft::INVALID_ID).then(|| position_of(leader))
    }

    fn commands_applied(&self) -> usize {
        self.commands_applied
    }

    fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }
}

fn id_of(position: usize) -> u64 {
    position as u64 + 1
}

fn position_of(id: u64) -> usize {
    id as usize - 1
}
