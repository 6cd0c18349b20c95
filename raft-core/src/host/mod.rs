//! The runtime-neutral half of an adapter (feature `std`). None of it is asynchronous.

pub mod frame;
