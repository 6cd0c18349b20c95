//! Which versions of an application a program understands, and which one is in force.
//!
//! Servers are upgraded one after another, so for a while programs of two versions share one log.
//! An application numbers its versions, from 1. Each node says which of them it understands
//! ([`NodeConfig::versions`](super::NodeConfig::versions)), to its peers with each connection. One
//! version is in force ([`Membership::version`](crate::Membership::version)); the program proposes
//! and writes only what that version understands. It rises by an entry in the log, which the leader
//! refuses while a member does not understand the version, or is not there to say so.
//!
//! A program that does not understand the version in force neither starts nor goes on: it would
//! meet commands that it cannot apply.

use std::fmt;

/// The versions of an application that a program understands: all from the oldest to the newest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Versions {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl Versions {
    /// The versions from `oldest` to `newest`.
    pub const fn new(oldest: u32, newest: u32) -> Self {
        Self { oldest, newest }
    }

    /// Whether a program of these versions works while `version` is in force. Version 0 is in force
    /// until one is raised, and keeps nobody away.
    pub const fn understand(self, version: u32) -> bool {
        version == 0 || (self.oldest <= version && version <= self.newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.oldest, self.newest)
    }
}

/// Says that a program does not understand the version that is in force.
pub(super) fn not_understood(
    f: &mut fmt::Formatter<'_>,
    version: u32,
    versions: Versions,
) -> fmt::Result {
    write!(
        f,
        "version {version} of the application is in force in this cluster, and this program understands {versions}: start a \
         program that understands {version}, on the same data"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_works_while_a_version_between_its_oldest_and_newest_is_in_force() {
        let versions = Versions::new(2, 4);
        let works: std::vec::Vec<_> = (0..6).filter(|v| versions.understand(*v)).collect();
        assert_eq!(works, [0, 2, 3, 4]);
        assert!(!Versions::default().understand(1), "it has said nothing of versions");
    }
}
