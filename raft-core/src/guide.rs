//! A page for each capability: what it guarantees, how it goes, the calls, and what can go wrong.

#[doc = include_str!("../docs/operation.md")]
pub mod operation {}

#[doc = include_str!("../docs/services.md")]
pub mod services {}

#[doc = include_str!("../docs/membership.md")]
pub mod membership {}

#[doc = include_str!("../docs/snapshots.md")]
pub mod snapshots {}

#[doc = include_str!("../docs/transfer.md")]
pub mod transfer {}

#[doc = include_str!("../docs/writes.md")]
pub mod writes {}

#[doc = include_str!("../docs/reads.md")]
pub mod reads {}

#[doc = include_str!("../docs/disks.md")]
pub mod disks {}

#[doc = include_str!("../docs/limits.md")]
pub mod limits {}

#[doc = include_str!("../docs/evidence.md")]
pub mod evidence {}
