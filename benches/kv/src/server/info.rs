//! What INFO tells about a server: its place in the cluster, and what its own memory holds.
//!
//! It is the server's own view, asked of nobody else: a server that was cut off may still believe
//! in an old leader.

use std::fmt;
use std::process;

use raft_core::{Index, NodeId, Role, Term};

use super::store::Summary;

/// The view of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// The server.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// Its current term.
    pub term: Term,
    /// The leader of that term, if it knows one.
    pub leader: Option<NodeId>,
    /// The last entry that it knows to be committed.
    pub commit: Index,
    /// What its own store holds.
    pub store: Summary,
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leader = self.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        write!(f, "# Server\r\nserver_name:kv\r\nprocess_id:{}\r\n\r\n", process::id())?;
        write!(f, "# Raft\r\nid:{}\r\nrole:{}\r\n", self.id, role_name(self.role))?;
        write!(f, "term:{}\r\nleader:{leader}\r\ncommit:{}\r\n\r\n", self.term, self.commit)?;
        write!(f, "# Store\r\napplied:{}\r\n", self.store.applied)?;
        write!(f, "keys:{}\r\ndigest:{}\r\n", self.store.keys, self.store.digest)
    }
}

/// The value of one field in the text of INFO.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_read_back_by_field() {
        let info = Info {
            id: NodeId::new(2),
            role: Role::Follower,
            term: Term::new(7),
            leader: None,
            commit: Index::new(9),
            store: Summary::default(),
        };
        let text = info.to_string();
        assert_eq!(field(&text, "id"), Some("2"));
        assert_eq!(field(&text, "role"), Some("follower"));
        assert_eq!(field(&text, "leader"), Some("none"));
        assert_eq!(field(&text, "digest"), Some("0000000000000000"));
        assert_eq!(field(&text, "nothing"), None);
    }
}
