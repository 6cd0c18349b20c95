//! What a service needs beside the log: typed commands, and clients whose commands take effect
//! exactly once (thesis 6.3).

mod another_attempt;
mod call;
mod client;
mod client_error;
mod envelope;
mod format;
mod numbering;
mod sessions;
mod table;
mod ticket;
mod typed;
mod varint;
mod wakers;

pub use call::Call;
pub use client::Client;
pub use client_error::ClientError;
pub use envelope::{CommandNumber, SessionCommand};
pub use format::{Format, FormatError, Postcard};
pub use sessions::{SessionReply, Sessions};
pub use table::{SessionId, SessionLimits, SessionRefused, SessionTable, StoredSession};
pub use typed::{Typed, TypedStateMachine};
