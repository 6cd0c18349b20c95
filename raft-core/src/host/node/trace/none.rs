//! No trace.

use crate::host::recorder::Random;
use bytes::Bytes;

use crate::output::{Restored, Write};
use crate::raft::Raft;
use crate::types::{NodeId, WriteId};

pub(in crate::host::node) struct Trace;

impl Trace {
    pub(in crate::host::node) fn start(_node: NodeId, _restored: &Restored<Bytes>) -> Self {
        Self
    }

    pub(in crate::host::node) fn handed(&mut self, _write: &Write<Bytes>) {}

    pub(in crate::host::node) fn persisted(&mut self, _id: WriteId, _raft: &Raft<Bytes, Random>) {}

    pub(in crate::host::node) fn look(&mut self, _raft: &Raft<Bytes, Random>) {}
}
