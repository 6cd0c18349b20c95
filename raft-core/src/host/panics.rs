//! What a panic said.

use std::any::Any;
use std::string::String;
use std::sync::Arc;

/// The message of a caught panic.
pub(super) fn message(panic: &(dyn Any + Send)) -> Arc<str> {
    if let Some(message) = panic.downcast_ref::<&str>() {
        Arc::from(*message)
    } else if let Some(message) = panic.downcast_ref::<String>() {
        Arc::from(message.as_str())
    } else {
        Arc::from("a panic without a message")
    }
}
