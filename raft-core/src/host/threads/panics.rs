//! Panics of the application's code on the node's threads: one policy for each kind of code.
//!
//! | what panics | what follows |
//! |---|---|
//! | the journal, the state machine | the node stops, with a reason that says so |
//! | a snapshot store, a capture | that snapshot fails as on a full disk, and is tried again |
//! | a read's closure | that read fails |
//! | code of a waiting client: a waker, the `Drop` of a reply | caught, counted and logged |
//! | other code on a worker's thread, which is a bug of ours | the node stops: [`WorkerPanicked`] |
//!
//! [`WorkerPanicked`]: crate::host::StopReason::WorkerPanicked

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::String;
use std::sync::Arc;

use super::here;

/// Runs code of the application. The error is the message of its panic.
///
/// The code may have left its work half done, which the caller must take into account.
pub(in crate::host) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, Arc<str>> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let message = message(&*panic);
        // A payload of the application's own type may panic when it is dropped.
        if !panic.is::<&str>() && !panic.is::<String>() {
            std::mem::forget(panic);
        }
        message
    })
}

/// Runs code of a waiting client. A panic in it is counted, and reaches nobody else.
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
