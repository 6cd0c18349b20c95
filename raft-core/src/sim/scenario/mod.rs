//! Scenarios: what happens to a cluster, told in a small language and played by real cores.
//!
//! A script has one sentence a line; what follows `#` is for people. Nothing happens by itself:
//! messages wait in flight until a server hears them, clocks and disks move when the script says
//! so. Random numbers are seeded, so a script plays the same each time. What a script leaves alone
//! is well: a disk writes at once, a state machine applies at once, and a server does what it has
//! to whenever it hears or is asked something.
//!
//! After every turn of every server all of them are checked: the properties of the paper's
//! Figure 3, commits on the disks of a majority, linearizable reads, and that no message was sent
//! that a crash could take back. So a line can fail although it expects nothing.
//!
//! ```
//! use raft_core::sim::scenario::Script;
//!
//! let text = "
//!     servers 1 2 3
//!     1 is elected by 2 3             # and has not told them
//!     1 proposes \"a\"
//!     expect 2 log is empty
//!     all talk
//!     expect 1 2 3 log 1:noop 1:\"a\"
//! ";
//! Script::parse("first.txt", text)?.play()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`language`] lists the sentences. Small words stand for themselves, `a|b` for either of two, and
//! these for what they name:
//!
//! | slot | stands for | example |
//! |---|---|---|
//! | `N`, `N's`, `N..` | a server; its possessive; one or more servers | `1`, `1's`, `2 3` |
//! | `COUNT` | a number, also of a term or of an index | `4` |
//! | `SPAN` | a span of time | `300ms`, `2s` |
//! | `NAME` | a name that the script gives | `late` |
//! | `ROLE` | what a server is | `candidate` |
//! | `KIND` | a message | `AppendEntries` |
//! | `DETAILS..` | words of a message, in their order; may be none | `entries 2:"b" commit 1` |
//! | `COMMAND..` | one or more commands | `"a" "b"` |
//! | `ENTRIES..` | one or more entries with their terms | `1:noop 1:"a"` |
//! | `CHANGE..` | one or more steps of a change of members | `add:4 promote:4` |
//!
//! [`describe`] puts a message into the words that scripts have for it.
//!
//! A panic of a core passes through. A program that plays many scripts catches it around
//! [`Stage::play`], and asks [`Stage::failure`] for the story so far.

mod actions;
mod expectations;
mod failure;
mod forgery;
mod host;
mod language;
mod membership;
mod play;
mod script;
mod sentence;
mod setup;
mod snapshots;
mod stage;
mod tell;
mod truth;
mod words;

pub use failure::Failure;
pub use host::Host;
pub use language::language;
pub use script::Script;
pub use stage::Stage;
pub use tell::message as describe;

use alloc::string::String;
use alloc::vec::Vec;

/// What the state machines of a scenario are told.
type Command = Vec<u8>;
/// What went wrong, if something did.
type Told = Result<(), String>;
