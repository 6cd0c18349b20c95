//! How long a cluster is without a leader, measured: the trials behind the bench `election` and the
//! election report.
//!
//! [`Cluster`] loses its leader again and again, on any runtime, and takes the moments of each
//! election apart. [`virtual_time`] does the same without a clock, where the figures are exact and
//! hours pass in seconds.

mod failures;
pub mod load;
pub mod numbers;
#[cfg(target_os = "linux")]
pub mod processes;
pub mod quiet;
pub mod setting;
pub mod tape;
pub mod trial;
pub mod virtual_time;

pub use numbers::Sample;
pub use quiet::Quiet;
pub use setting::{Disk, Failure, Link, On, Setting, Timing, Wire};
pub use trial::{Cluster, Outcome};
