//! The guide, in the order in which it reads best. Each page says what is guaranteed, how it goes,
//! the calls, and what can go wrong.
//!
//! - To begin with: [start], the [questions] that people ask, and a [comparison] with other
//!   libraries.
//! - To build on it: [services], [writes], [reads], [membership], [snapshots], [transfer].
//! - To run it: [operation], [upgrade], [backup], [capacity], [monitoring],
//!   [timeouts](crate::timing), [disks], [limits], [containers], [security].
//! - To trust it: [simulation], [evidence].
//!
//! On a microcontroller, or in a loop of your own: the host in sixty lines on the [first
//! page](crate), and `examples/firmware` in the repository.

#[doc = include_str!("../docs/start.md")]
pub mod start {}

#[doc = include_str!("../docs/questions.md")]
pub mod questions {}

#[doc = include_str!("../docs/comparison.md")]
pub mod comparison {}

#[doc = include_str!("../docs/services.md")]
pub mod services {}

#[doc = include_str!("../docs/writes.md")]
pub mod writes {}

#[doc = include_str!("../docs/reads.md")]
pub mod reads {}

#[doc = include_str!("../docs/membership.md")]
pub mod membership {}

#[doc = include_str!("../docs/snapshots.md")]
pub mod snapshots {}

#[doc = include_str!("../docs/transfer.md")]
pub mod transfer {}

#[doc = include_str!("../docs/operation.md")]
pub mod operation {}

#[doc = include_str!("../docs/upgrade.md")]
pub mod upgrade {}

#[doc = include_str!("../docs/backup.md")]
pub mod backup {}

#[doc = include_str!("../docs/monitoring.md")]
pub mod monitoring {}

#[cfg(feature = "contract")]
#[doc = include_str!("../docs/own_parts.md")]
pub mod own_parts {}

#[doc = include_str!("../docs/disks.md")]
pub mod disks {}

#[doc = include_str!("../docs/limits.md")]
pub mod limits {}

#[doc = include_str!("../docs/capacity.md")]
pub mod capacity {}

#[doc = include_str!("../docs/containers.md")]
pub mod containers {}

#[doc = include_str!("../docs/security.md")]
pub mod security {}

#[doc = include_str!("../docs/simulation.md")]
pub mod simulation {}

#[doc = include_str!("../docs/recordings.md")]
pub mod recordings {}

#[doc = include_str!("../docs/evidence.md")]
pub mod evidence {}
