//! An in-process network, with faults as a test wants them.

mod faults;
mod network;

pub use faults::{Faults, Traffic};
pub use network::{Endpoint, InProcessNetwork, LateDelivery};
