//! What a server bounds, where more than one of its files must know it.

/// The most connections that a server takes, also those of other servers: a client of a server that
/// does not lead has one there and, as long as it lives, one on which that server forwards. Both
/// count towards a process's open files, often 1024.
pub const CONNECTIONS_MAX: usize = 480;
/// The most requests of one connection that are on their way through the cluster at once.
pub const BATCH_REQUESTS_MAX: usize = 256;
