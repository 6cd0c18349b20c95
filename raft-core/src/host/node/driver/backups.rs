//! Backups of a running node: the state is captured between two commands, and its caller writes it
//! out.
//!
//! The loop names the position of a backup, because only the core knows the term and the members at
//! the last entry that it handed out. The capture is queued behind that entry, as the capture of a
//! snapshot is. So name and state belong together, whatever is committed meanwhile.

use std::boxed::Box;
use std::sync::Arc;

use super::NodeLoop;
use crate::host::error::{BackupError, ReadError};
use crate::host::node::inbox::{BackupReply, Query};
use crate::host::snapshot::Backup;
use crate::host::state_machine::StateMachine;
use crate::host::threads::panics;
use crate::host::threads::panics::answer;

impl<S: StateMachine> NodeLoop<S> {
    /// Hands a query to the state machine, which has every entry that the query must see.
    pub(super) fn serve(&mut self, query: Query<S>) {
        match query {
            Query::Read(read) => self.state_machine.read(read),
            Query::Backup(reply) => self.back_up(reply),
        }
    }

    fn back_up(&mut self, reply: BackupReply) {
        let position = self.raft.backup_position();
        let position = position.filter(|p| !self.state_machine.is_ahead_of(p.last.index));
        let Some(position) = position else {
            return answer(reply, Err(BackupError::NotReady));
        };
        let (node, cluster) = (self.raft.id(), self.stores.cluster());
        let lifecycle = Arc::clone(&self.lifecycle);
        self.state_machine.back_up(Box::new(move |state: Result<&S, ReadError>| match state {
            Ok(state_machine) => lifecycle.serve(reply, || {
                let captured = panics::caught(|| state_machine.snapshot());
                let captured = captured.map_err(|message| ReadError::Panicked { message })?;
                let capture = captured.ok_or(BackupError::Unsupported)?;
                Ok(Backup::new(node, cluster, position, capture))
            }),
            Err(error) => answer(reply, Err(error.into())),
        }));
    }
}
