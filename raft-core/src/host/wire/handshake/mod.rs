//! The handshake: what two nodes say before the first message, so that only nodes that may talk to
//! each other do.
//!
//! ```text
//! dialer                                     acceptor
//!   │ ── Hello: versions, cluster, from, to, ──► │  is it for me, from my cluster, with the store
//!   │           store id, address                │  that the cluster knows, in a version I know?
//!   │ ◄── Welcome: version, store id ─────────── │  yes: messages follow, from dialer to acceptor
//!   │ ◄── Refused: reason ────────────────────── │  no: both close
//! ```
//!
//! Both sides also say what their stores hold, and whether they know each other as members: an
//! [`Introduction`](crate::host::Introduction). The host judges it, the same on every transport.
//!
//! The dialer also says how long its messages are at most. A message that is too long for the
//! acceptor would be lost each time it is sent, and nothing behind it would ever commit. So an
//! acceptor that takes only shorter messages refuses the dialer: [`Refusal::LongMessages`].
//!
//! Both sides say the [`Timeouts`](crate::host::Timeouts) with which they are configured, because a
//! server that has others than the rest of its cluster makes elections strange.
//!
//! The address in the hello is where the dialer itself is reached, so that an acceptor which does
//! not know it yet can answer. A configuration reaches its members one by one, and §6 wants servers
//! to hear requests from servers that are not in their configuration.
//!
//! Each message is the payload of one frame of at most [`HANDSHAKE_BYTES_MAX`]: eight bytes that
//! name the protocol, then a CBOR array by the rules of [`codec`](crate::codec), so that later
//! versions can add to it. Nothing here does I/O.

mod codec;
mod messages;
mod refusals;
#[cfg(test)]
mod tests;

pub use messages::{Answer, Hello, Welcome};
pub(in crate::host) use refusals::other_store;
pub use refusals::{HandshakeError, Refusal};

/// The most bytes in the payload of a handshake frame. Most of it is the longest address and the
/// longest note. The versions of this library that say no timeouts take 640. A hello is longer only
/// if address, note and all numbers in it are as long as they may be, the term beyond 2³² among
/// them.
pub const HANDSHAKE_BYTES_MAX: usize = 672;

/// The oldest version of the protocol that this one still speaks; the newest is
/// [`codec::VERSION`](crate::codec::VERSION).
pub const VERSION_OLDEST: u16 = 1;

/// The longest note of a node that a [`Hello`] carries, in bytes.
pub const SAID_NOTE_BYTES_MAX: usize = 260;
