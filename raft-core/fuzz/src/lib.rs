//! What the fuzz targets of `raft-core` do with the bytes that the fuzzer invents, and what must
//! hold whatever they are.
//!
//! | Target | Input | Must hold |
//! |---|---|---|
//! | `step` | messages, times, acknowledgements, snapshots, requests, crashes | no panic; nothing said that the disk would not back; bounded memory |
//! | `codec` | bytes | a value or an error; a value survives being encoded again; memory in proportion to the input |
//! | `frame` | payloads, damage, and where the stream is cut | whole payloads or an error, never another payload |
//! | `handshake` | dialers, bytes in their place, answers | an answer that the dialer understands; nobody in twice |
//! | `journal` | writes, syncs, and damage to the files | what was synced is there, or an error; never a silent loss |
//!
//! From the directory of `raft-core`, `cargo fuzz run step` searches until it is stopped, and keeps
//! what it finds in `fuzz/corpus/step`. The seeds there that belong to the repository were added
//! with `git add -f`.

#![forbid(unsafe_code)]

pub mod codec;
mod disk;
mod evidence;
mod files;
pub mod frame;
pub mod handshake;
pub mod journal;
mod memory;
mod oracle;
mod peers;
pub mod step;
