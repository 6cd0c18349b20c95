//! No trace.

use crate::host::recorder::Random;
use bytes::Bytes;

use crate::output::{Output, Restored};
use crate::raft::Raft;
use crate::types::{NodeId, ReadId, WriteId};

pub(in crate::host::node) struct Trace;

impl Trace {
    pub(in crate::host::node) fn start(_node: NodeId, _restored: &Restored<Bytes>) -> Self {
        Self
    }

    pub(in crate::host::node) fn polled(&mut self, _output: &Output<Bytes>) {}

    pub(in crate::host::node) fn asked(&mut self, _read: ReadId) {}

    pub(in crate::host::node) fn persisted(&mut self, _id: WriteId, _raft: &Raft<Bytes, Random>) {}

    pub(in crate::host::node) fn look(&mut self, _raft: &Raft<Bytes, Random>) {}
}
