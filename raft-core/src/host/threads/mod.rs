//! What all threads of a node have in common: their jobs, their panics, their watch and their end.

pub(super) mod alarm;
pub(super) mod ending;
pub(super) mod here;
pub(super) mod lifecycle;
pub(super) mod panics;
pub(super) mod watch;
pub(super) mod worker;
