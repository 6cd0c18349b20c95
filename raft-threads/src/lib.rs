//! The adapter that will bind [`raft-core`](https://docs.rs/raft-core) to plain threads and std channels. It is empty as yet.
