//! Which node the present thread works for, and whether the thread is inside of the application's
//! code.
//!
//! If a state machine waited for its own node, inside of `apply` say, it would wait for ever,
//! because the answer comes from the thread that waits. So [`Pending`](crate::host::Pending) asks
//! here, and refuses.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::host::sync::atomic::{AtomicU64, Ordering};
use crate::host::sync::thread_local;
use crate::types::NodeId;

thread_local! {
    static NODE: RefCell<Option<Arc<ThreadsNode>>> = const { RefCell::new(None) };
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The node that threads work for, as they know it. Each node has one of its own.
#[derive(Debug, Default)]
pub(in crate::host) struct ThreadsNode {
    id: NodeId,
    /// How often the code of a waiting client panicked.
    panics: AtomicU64,
}

impl ThreadsNode {
    pub(in crate::host) fn new(id: NodeId) -> Self {
        Self { id, panics: AtomicU64::new(0) }
    }

    /// The node's id.
    pub(in crate::host) fn id(&self) -> NodeId {
        self.id
    }

    /// How often the code of a waiting client panicked.
    pub(in crate::host) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

/// What the thread was inside of before. Dropping this restores it.
pub(in crate::host) struct Entered {
    node: Option<Arc<ThreadsNode>>,
    inside: bool,
}

/// Until the returned guard is dropped, the thread works for this node. `inside` says whether it
/// runs code that must not wait for the node.
pub(in crate::host) fn enter(node: &Arc<ThreadsNode>, inside: bool) -> Entered {
    Entered {
        node: NODE.with(|place| place.replace(Some(Arc::clone(node)))),
        inside: INSIDE.with(|place| place.replace(inside)),
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        NODE.with(|place| place.replace(self.node.take()));
        INSIDE.with(|place| place.set(self.inside));
    }
}

/// Runs code that may wait for the node, such as the waker of a client.
pub(in crate::host) fn outside(code: impl FnOnce()) {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            INSIDE.with(|place| place.set(self.0));
        }
    }
    let _restore = Restore(INSIDE.with(|place| place.replace(false)));
    code();
}

/// Whether the present thread would wait for itself if it waited for this node.
pub(in crate::host) fn is_inside(waits_for: &Arc<ThreadsNode>) -> bool {
    let works_for = |node: &Arc<ThreadsNode>| Arc::ptr_eq(node, waits_for);
    INSIDE.with(Cell::get) && NODE.with(|node| node.borrow().as_ref().is_some_and(works_for))
}

/// Counts a panic of a client's code, if the thread works for a node, and logs it.
pub(in crate::host) fn count_panic(message: &str) {
    let node = NODE.with(|node| {
        node.borrow().as_ref().map(|node| {
            node.panics.fetch_add(1, Ordering::Relaxed);
            node.id.get()
        })
    });
    tracing::error!(
        node,
        panic = message,
        "code that waits for an answer panicked: a waker, or the drop of a reply"
    );
}
