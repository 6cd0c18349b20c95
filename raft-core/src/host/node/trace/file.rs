//! A trace in a file of the directory that `RAFT_TRACE` names, whose name is the node's id.
//!
//! A line is a moment, in nanoseconds of the system's clock, and a record of what the node has in
//! memory and on its disk. It is written before any message leaves that tells of the change. So the
//! moments put the lines of all nodes of one machine into an order in which every cause comes
//! before its effect. A node that is killed leaves all lines that it wrote, and its successor goes
//! on in the same file.

use std::collections::VecDeque;
use std::format;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::string::String;
use std::time::{Duration, SystemTime};

use crate::host::recorder::Random;
use bytes::Bytes;

use crate::output::{Output, Restored, Write};
use crate::raft::Raft;
use crate::types::{NodeId, ReadId, WriteId};

/// Shared with the traces of the simulator.
#[path = "../../../../examples/spec_trace/record.rs"]
mod record;

pub(in crate::host::node) struct Trace {
    node: NodeId,
    /// `None` if nobody asked for a trace.
    file: Option<File>,
    /// What the journal has reported as durable.
    stored: Restored<Bytes>,
    /// The writes that it has not reported yet.
    under_way: VecDeque<Write<Bytes>>,
    /// The last record of the core and the disk.
    last: String,
}

impl Trace {
    /// Begins with what the node found on its disk.
    pub(in crate::host::node) fn start(node: NodeId, restored: &Restored<Bytes>) -> Self {
        let file = std::env::var_os("RAFT_TRACE").map(|directory| {
            let path = PathBuf::from(directory).join(format!("{node}"));
            let opened = File::options().create(true).append(true).open(&path);
            opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        });
        let stored = restored.clone();
        let mut trace =
            Self { node, file, stored, under_way: VecDeque::new(), last: String::new() };
        trace.write(record::of_stopped(node, &trace.stored));
        trace
    }

    /// The core asks for this: a write that the journal gets, or the end of a read.
    pub(in crate::host::node) fn polled(&mut self, output: &Output<Bytes>) {
        match output {
            Output::Persist(write) => self.under_way.push_back(write.clone()),
            Output::ReadReady { id, index } => {
                self.write(record::of_read_end(self.node, *id, Some(*index)));
            }
            Output::ReadLost { id } => self.write(record::of_read_end(self.node, *id, None)),
            Output::Send(_)
            | Output::Apply { .. }
            | Output::TakeSnapshot(_)
            | Output::ReadSnapshot(_)
            | Output::WriteSnapshot(_)
            | Output::Restore(_)
            | Output::MembershipChanged(_)
            | Output::Forwarded { .. }
            | Output::RoleChanged { .. } => {}
        }
    }

    /// The core has taken a read.
    pub(in crate::host::node) fn asked(&mut self, read: ReadId) {
        self.write(record::of_asked(self.node, read));
    }

    /// The journal has made this write, and those before it, durable.
    pub(in crate::host::node) fn persisted(&mut self, id: WriteId, raft: &Raft<Bytes, Random>) {
        let durable = self.under_way.partition_point(|write| write.id <= id);
        for write in self.under_way.drain(..durable) {
            self.stored.replay(write);
        }
        self.look(raft);
    }

    /// Writes a line if anything has changed.
    pub(in crate::host::node) fn look(&mut self, raft: &Raft<Bytes, Random>) {
        if self.file.is_some() {
            let record = record::of_running(&raft.status(), &self.stored);
            if record != self.last {
                self.last.clone_from(&record);
                self.write(record);
            }
        }
    }

    fn write(&mut self, record: String) {
        let Some(file) = &mut self.file else { return };
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |passed: Duration| passed.as_nanos());
        let line = format!("{now} {record}\n");
        file.write_all(line.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", self.node));
    }
}
