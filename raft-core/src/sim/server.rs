//! One simulated server: the core, its disk, its clock and its state machine.

use alloc::collections::VecDeque;
use core::time::Duration;

use rand_pcg::Pcg32;

use super::application::Application;
use super::clock::Clock;
use super::disk::Disk;
use super::files::Files;
use super::state_machine::StateMachine;
use super::worker::Worker;
use crate::message::Message;
use crate::raft::Raft;
use crate::types::{NodeId, WriteId};

/// The core as the simulator runs it.
pub type SimRaft<C> = Raft<C, Pcg32>;

/// The most messages that wait for a paused server; more are lost.
pub(super) const INBOX_MAX: usize = 1024;

pub(super) struct Server<S: StateMachine> {
    pub(super) id: NodeId,
    /// None while crashed.
    pub(super) raft: Option<SimRaft<S::Command>>,
    pub(super) disk: Disk<S::Command>,
    pub(super) files: Files<S::Command>,
    pub(super) clock: Clock,
    pub(super) application: Application<S>,
    pub(super) worker: Worker<S::Command>,
    pub(super) is_paused: bool,
    /// The messages that arrived while the server was paused, and the last write that its disk
    /// synced meanwhile.
    pub(super) inbox: VecDeque<Message<S::Command>>,
    pub(super) synced_in_pause: Option<WriteId>,
    /// Counts the server's lives, so that an event of one life does not happen in the next.
    pub(super) life: u64,
    /// The server was a voter when the cluster began, and its configuration names the first voters.
    pub(super) is_founder: bool,
    /// The server was switched off for good.
    pub(super) is_retired: bool,
}

impl<S: StateMachine> Server<S> {
    pub(super) fn new(
        id: NodeId,
        disk: Disk<S::Command>,
        files: Files<S::Command>,
        worker: Worker<S::Command>,
        is_founder: bool,
    ) -> Self {
        Self {
            id,
            raft: None,
            disk,
            files,
            clock: Clock::new(Duration::ZERO),
            application: Application::new(),
            worker,
            is_paused: false,
            inbox: VecDeque::new(),
            synced_in_pause: None,
            life: 0,
            is_founder,
            is_retired: false,
        }
    }
}
