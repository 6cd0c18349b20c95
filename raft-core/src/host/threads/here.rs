//! Which node the present thread works for, and whether the thread is inside of the application's
//! code.
//!
//! If a state machine waited for its own node, inside of `apply` say, it would wait for ever,
//! because the answer comes from the thread that waits. So [`Pending`](crate::host::Pending) asks
//! here, and refuses.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::lifecycle::Lifecycle;

std::thread_local! {
    static NODE: RefCell<Option<Arc<Lifecycle>>> = const { RefCell::new(None) };
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// What the thread was inside of before. Dropping this restores it.
pub(in crate::host) struct Entered {
    node: Option<Arc<Lifecycle>>,
    inside: bool,
}

/// Until the returned guard is dropped, the thread works for this node. `inside` says whether it
/// runs code that must not wait for the node.
pub(in crate::host) fn enter(lifecycle: &Arc<Lifecycle>, inside: bool) -> Entered {
    Entered { node: NODE.replace(Some(Arc::clone(lifecycle))), inside: INSIDE.replace(inside) }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Dropped outside of the thread-local, because dropping the last owner of a lifecycle runs
        // other code.
        let ours = NODE.replace(self.node.take());
        INSIDE.set(self.inside);
        drop(ours);
    }
}

/// Runs code that may wait for the node, such as the waker of a client.
pub(in crate::host) fn outside(code: impl FnOnce()) {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            INSIDE.set(self.0);
        }
    }
    let _restore = Restore(INSIDE.replace(false));
    code();
}

/// Whether the present thread would wait for itself if it waited for this node.
pub(in crate::host) fn is_inside(lifecycle: &Arc<Lifecycle>) -> bool {
    INSIDE.get()
        && NODE.with_borrow(|node| node.as_ref().is_some_and(|node| Arc::ptr_eq(node, lifecycle)))
}

/// Counts a panic of a client's code, if the thread works for a node, and logs it.
pub(in crate::host) fn count_panic(message: &str) {
    let node = NODE.with_borrow(|node| {
        node.as_ref().map(|lifecycle| {
            lifecycle.count_panic();
            lifecycle.node().get()
        })
    });
    tracing::error!(
        node,
        message,
        "code that waits for an answer panicked: a waker, or the drop of a reply"
    );
}
