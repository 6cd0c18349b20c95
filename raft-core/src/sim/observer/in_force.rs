//! The configuration that is in force on a server (§6).

use crate::membership::Membership;
use crate::types::Index;

/// The newest configuration of a log, and where it stands.
#[derive(Clone, Default, Debug)]
pub(super) struct InForce {
    pub(super) index: Index,
    pub(super) membership: Membership,
}
