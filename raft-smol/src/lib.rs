//! The adapter that will bind [`raft-core`](https://docs.rs/raft-core) to smol and async-std. It is empty as yet.
