//! Forced recovery: the way back if most voters are lost for good. It makes a cluster of one from
//! the journal of one server that is left.

use std::boxed::Box;
use std::path::{Path, PathBuf};
use std::vec;

use super::{FileJournal, Journal};
use crate::entries::{Entry, Payload};
use crate::host::identity::{ClusterId, StoreId};
use crate::host::storage_error::StorageError;
use crate::host::wire::label::Label;
use crate::identity::MemberStore;
use crate::membership::{Member, Membership, Suffrage};
use crate::output::Write;
use crate::types::{HardState, LogId, NodeId, Term, WriteId};

/// How many terms are skipped, so that no term in which a lost server may have led without this
/// server's knowledge is ever used again.
const TERMS_SKIPPED: u64 = 1 << 20;

/// What [`FileJournal::restore_from_survivor`] found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Survivor {
    /// The last entry of this server's log. All entries up to it will be committed, and no others
    /// of the old cluster.
    pub last_log: LogId,
    /// The members by this server's log. None of the others may be started again with its old
    /// journal.
    pub members_before: Membership,
}

impl FileJournal {
    /// Forced recovery: makes a stopped node the only voter of its cluster, **without asking the
    /// others**. Use it only if a majority of voters is lost for good.
    ///
    /// What this costs:
    ///
    /// - Acknowledged commands may be lost: those that the lost majority held and this node did
    ///   not. Of all servers that are left, choose the one with the longest log (the highest
    ///   [`Survivor::last_log`], term first).
    /// - Commands that were never acknowledged may be committed.
    /// - **None of the other nodes may ever run again with its old journal:** it would be a second
    ///   cluster under the same name. Empty their directories first, then add them again as
    ///   learners.
    ///
    /// It appends to the journal a configuration with this node alone, in a term far above those
    /// that the node knows. The node then starts as usual and leads at once, and other servers can
    /// be added.
    ///
    /// # Errors
    ///
    /// [`StorageError::NothingThere`] if there is no journal, or one that never knew of a cluster,
    /// or another reason why the journal cannot be used.
    pub fn restore_from_survivor(
        directory: impl Into<PathBuf>,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<Survivor, StorageError> {
        let directory = directory.into();
        if !Self::exists(&directory)? {
            return Err(StorageError::NothingThere { directory });
        }
        let mut journal = Self::open(&directory, cluster, node)?;
        let restored = journal.recover()?;
        let configurations =
            restored.entries.iter().rev().filter_map(|entry| match &entry.payload {
                Payload::Configuration(membership) => Some(&**membership),
                Payload::Noop | Payload::Command(_) => None,
            });
        let snapshot = restored.snapshot.as_ref().map(|snapshot| &snapshot.membership);
        let Some(before) = configurations.chain(snapshot).next().cloned() else {
            return Err(StorageError::NothingThere { directory });
        };
        let last_log = restored.entries.last().map_or(restored.base, Entry::id);
        let term = Term::new(restored.hard_state.current_term.get().saturating_add(TERMS_SKIPPED));
        let write = Write {
            id: WriteId::new(1),
            hard_state: Some(HardState {
                current_term: term,
                voted_for: None,
                ..restored.hard_state
            }),
            entries: vec![Entry {
                term,
                index: last_log.index.next(),
                payload: Payload::Configuration(Box::new(alone(node, journal.store_id(), &before))),
            }]
            .into(),
            ..Write::default()
        };
        journal.append(&write)?;
        journal.sync()?;
        warn(&directory, node, last_log);
        Ok(Survivor { last_log, members_before: before })
    }
}

/// This node as the only voter, in the cluster and with the label that it had. Its store is the
/// present one: the configuration may have named another store, which would keep the node from ever
/// leading.
fn alone(node: NodeId, store: StoreId, before: &Membership) -> Membership {
    let (priority, label) = before
        .member(node)
        .map_or_else(Default::default, |member| (member.priority, member.label.clone()));
    // Older versions named the store in the label.
    let label = match Label::decode(&label) {
        Ok(known) => Label { store_id: None, ..known }.encode().unwrap_or(label),
        Err(_) => label,
    };
    let store = MemberStore::Recorded(store.get());
    Membership::of_members([Member { id: node, suffrage: Suffrage::Voter, priority, label, store }])
        .expect("one voter, whose label was within its limit")
        .identified(before.identity())
        .at_version(before.version())
}

fn warn(directory: &Path, node: NodeId, last_log: LogId) {
    let directory = directory.display();
    tracing::warn!(
        node = node.get(), %directory, %last_log,
        "the cluster was reduced to this node: what other nodes had acknowledged beyond its last entry is lost, and none of \
         them may run again with its old journal"
    );
}
