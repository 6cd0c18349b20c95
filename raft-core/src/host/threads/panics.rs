//! Panics of the application's code on the node's threads: one policy, by kind.
//!
//! | what panics | what follows |
//! |---|---|
//! | the journal, the state machine | the node stops, with a reason that says so |
//! | a snapshot store, a capture | that snapshot fails, as if the disk were full, and is tried
//! again |
//! | a read's closure | that read fails |
//! | code of a waiting client: a waker, the `Drop` of a reply | caught, counted and logged |
//! | anything else on a worker's thread, and so a fault of ours | the node stops:
//! [`WorkerPanicked`] |
//!
//! [`WorkerPanicked`]: crate::host::StopReason::WorkerPanicked

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::String;
use std::sync::Arc;

use super::here;

/// Runs code of the application; the error is the message of its panic.
///
/// The caller must know that the code may have left its work half done.
pub(in crate::host) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, Arc<str>> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let message = message(&*panic);
        // A payload of the application's own may panic when it is dropped.
        if !panic.is::<&str>() && !panic.is::<String>() {
            std::mem::forget(panic);
        }
        message
    })
}

/// Runs code of a client that waits for an answer: its panic concerns nobody else, and is counted.
pub(in crate::host) fn contained(code: impl FnOnce()) {
    if let Err(message) = caught(|| here::outside(code)) {
        here::count_panic(&message);
    }
}

/// Answers a client, which may no longer listen.
///
/// Sending the answer runs code of the client: its waker or, if the client went away, the `Drop` of
/// the answer. A panic in that code does not reach the node.
pub(in crate::host) fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    contained(|| drop(reply.send(value)));
}

/// The message of a caught panic.
fn message(panic: &(dyn Any + Send)) -> Arc<str> {
    if let Some(message) = panic.downcast_ref::<&str>() {
        Arc::from(*message)
    } else if let Some(message) = panic.downcast_ref::<String>() {
        Arc::from(message.as_str())
    } else {
        Arc::from("a panic without a message")
    }
}
