//! The configuration of a node.

use std::format;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::config_error::ConfigError;
use crate::host::identity::ClusterId;
use crate::host::recorder::RecorderConfig;
use crate::host::transport::Transport;
use crate::host::versions::Versions;

/// Everything that can be chosen about a node besides its state machine, journal and transport.
///
/// # Example
///
/// ```
/// use raft_core::host::{ClusterId, NodeConfig};
/// use raft_core::{Config, NodeId};
///
/// let raft = Config::new(NodeId::new(1), [1, 2, 3].map(NodeId::new));
/// let config = NodeConfig { inbox_max: 1024, ..NodeConfig::new(ClusterId::new(7), raft) };
/// # assert_eq!(config.inbox_max, 1024);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// The cluster, so that the node never takes a message or a journal of another cluster for its
    /// own.
    pub cluster: ClusterId,
    /// The configuration of Raft itself.
    pub raft: Config,
    /// The most requests, and the most messages, that wait for the node's next turn. Beyond it a
    /// request is refused as busy, and a message is dropped.
    pub inbox_max: usize,
    /// The same in bytes. A single request or message that is larger passes if nothing else waits.
    pub inbox_bytes_max: usize,
    /// Makes the node draw the same election timeouts each time it starts; for tests. Nodes with
    /// the same seed still draw different timeouts. `None` takes a seed from the operating system.
    pub seed: Option<u64>,
    /// What the application says of this node to its peers, such as the address for clients: at
    /// most [`SAID_NOTE_BYTES_MAX`](crate::host::handshake::SAID_NOTE_BYTES_MAX) bytes. A leader
    /// with `records_addresses` copies it into the [note](crate::host::Label::note) of the member's
    /// label. An empty note says nothing.
    pub note: Bytes,
    /// The versions of the application that this program understands: of its commands, and of its
    /// snapshots. The node says them to its peers, and does not run while another one is
    /// [in force](crate::Membership::version). The default says that nothing is known of versions.
    /// See the [guide](crate::guide::upgrade).
    pub versions: Versions,
    /// Whether this node, while it leads, keeps the address and the note in each member's
    /// [`Label`](crate::host::Label) as the member says them, so that the members with which a
    /// cluster begins are in the configuration with their addresses, too. The leader takes an
    /// address only if it reaches the member there and the member itself says that it is there. Of
    /// itself the leader notes the address that its transport was told to
    /// [advertise](crate::host::tcp::Config::advertise), if the label has none.
    pub records_addresses: bool,
    /// How long the journal, the state machine or the snapshots may work on one unit (a sync, a
    /// command, a read, a block of a snapshot) before the thread counts as stuck. The node logs
    /// that once and shows it in [`NodeStatus::stuck`](crate::host::NodeStatus::stuck). It refuses
    /// reads that wait for a stuck state machine, and a leader whose state machine is stuck hands
    /// over.
    pub stuck_after: Duration,
    /// Where the node records what its core is told, so that its run can be replayed. `None`
    /// records nothing.
    pub record: Option<RecorderConfig>,
    /// How long a node that stops waits for threads that hang. See
    /// [`Handle::left_behind`](crate::host::Handle::left_behind).
    pub shutdown_max: Duration,
}

/// The least [`NodeConfig::stuck_after`].
const STUCK_AFTER_MIN: Duration = Duration::from_millis(1);

impl NodeConfig {
    /// The default configuration.
    pub fn new(cluster: ClusterId, raft: Config) -> Self {
        Self {
            cluster,
            raft,
            inbox_max: 16_384,
            inbox_bytes_max: 64 << 20,
            seed: None,
            note: Bytes::new(),
            versions: Versions::default(),
            records_addresses: true,
            stuck_after: Duration::from_secs(10),
            record: None,
            shutdown_max: Duration::from_secs(30),
        }
    }

    /// Whether a node can run with this configuration over that transport. The error says what
    /// would work instead.
    pub(super) fn validate(&self, transport: &dyn Transport) -> Result<(), ConfigError> {
        self.raft.validate()?;
        if self.inbox_max == 0 {
            return Err(ConfigError::of_host(
                "inbox_max must not be zero: nothing would ever come in",
            ));
        }
        let Versions { oldest, newest } = self.versions;
        if oldest > newest {
            return Err(ConfigError::of_host(format!(
                "versions {oldest} to {newest} are none: name the oldest that the program understands first"
            )));
        }
        if self.stuck_after < STUCK_AFTER_MIN {
            return Err(ConfigError::of_host(format!(
                "stuck_after {:?} must be at least {STUCK_AFTER_MIN:?}: or every call of the state machine counts as stuck",
                self.stuck_after
            )));
        }
        let longest = self.raft.message_bytes_max();
        let carried = transport.message_bytes_max();
        if longest > carried {
            let Config { append_bytes_max: append, snapshot_chunk_bytes: chunk, .. } = self.raft;
            return Err(ConfigError::of_host(format!(
                "append_bytes_max {append} and snapshot_chunk_bytes {chunk} bring messages of {longest} bytes, and the transport carries \
                 {carried}: lower them, or raise what the transport carries, which is frame_bytes_max over TCP, on all nodes"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use crate::host::identity::Identity;
    use crate::host::transport::MessageInbox;
    use crate::message::Message;
    use crate::types::NodeId;

    struct Narrow(usize);

    impl Transport for Narrow {
        fn start(&mut self, _: Identity, _: MessageInbox) -> std::io::Result<()> {
            Ok(())
        }

        fn send(&mut self, _: Message<Bytes>) {}

        fn message_bytes_max(&self) -> usize {
            self.0
        }
    }

    fn error(
        transport: usize,
        change: impl FnOnce(&mut NodeConfig),
    ) -> Option<std::string::String> {
        let raft = Config::new(NodeId::new(1), [NodeId::new(1)]);
        let mut config = NodeConfig::new(ClusterId::new(1), raft);
        change(&mut config);
        config.validate(&Narrow(transport)).err().map(|error| error.to_string())
    }

    #[test]
    fn messages_that_the_transport_does_not_carry_are_refused_at_the_start() {
        let longest = (1 << 20) + 32;
        assert_eq!(error(longest, |_| ()), None);
        let appends = error(longest - 1, |_| ()).expect("too long");
        assert!(appends.contains("append_bytes_max") && appends.contains("frame_bytes_max"));
        let chunks = error(longest, |config| config.raft.snapshot_chunk_bytes = longest + 1);
        assert!(chunks.expect("too long").contains("snapshot_chunk_bytes"));
        let none = error(longest, |config| config.versions = Versions::new(2, 1));
        assert!(none.expect("no version").contains("versions 2 to 1"));
        assert!(
            error(longest, |config| config.inbox_max = 0).expect("no inbox").contains("inbox_max")
        );
    }
}
