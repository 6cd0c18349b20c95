//! For which nodes the other side of a connection may speak.

use std::fmt;
use std::string::String;
use std::sync::Arc;

use crate::types::NodeId;

type Check = dyn Fn(NodeId) -> Result<(), String> + Send + Sync;

/// For which nodes the other side of an accepted connection may speak, by what it has proved before
/// the handshake of nodes. On plain TCP nothing is proved, and the default takes its word.
#[derive(Clone, Default)]
pub struct Speaker(Option<Arc<Check>>);

impl Speaker {
    /// The other side may speak for the nodes that this function accepts. Its error says what is
    /// missing.
    pub fn new(check: impl Fn(NodeId) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(check)))
    }

    /// Whether the other side may speak for this node.
    ///
    /// # Errors
    ///
    /// It may not: what is missing.
    pub fn check(&self, node: NodeId) -> Result<(), String> {
        self.0.as_ref().map_or(Ok(()), |check| check(node))
    }
}

impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Speaker").field(&self.0.as_ref().map(|_| "checked")).finish()
    }
}
