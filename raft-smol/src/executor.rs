//! The executor that runs the tasks: smol, async-std, or an application's own.

use std::future::Future;

/// Runs the tasks of nodes, networks and transports.
///
/// # Example
///
/// Nodes on an executor of one's own, with two threads of its own: no other task of the application
/// keeps them waiting, and their loops may apply quick commands:
///
/// ```
/// use std::future::{Future, pending};
/// use std::sync::LazyLock;
/// use std::thread;
///
/// use raft_smol::on;
/// use smol::Executor;
///
/// enum Own {}
///
/// impl on::Executor for Own {
///     fn spawn(task: impl Future<Output = ()> + Send + 'static) {
///         static EXECUTOR: LazyLock<&'static Executor<'static>> = LazyLock::new(|| {
///             let executor: &'static Executor<'static> = Box::leak(Box::default());
///             for _ in 0..2 {
///                 thread::spawn(|| smol::block_on(executor.run(pending::<()>())));
///             }
///             executor
///         });
///         EXECUTOR.spawn(task).detach();
///     }
///
///     fn has_several_threads() -> bool {
///         true
///     }
/// }
///
/// let network = on::Network::<Own>::new(7);
/// # assert_eq!(network.traffic().sent, 0);
/// ```
pub trait Executor: 'static {
    /// Runs a task until it ends. If the executor drops the task instead, what the task ran for
    /// ends.
    fn spawn(task: impl Future<Output = ()> + Send + 'static);

    /// Whether several threads run the tasks, so that the others go on while one task is held up.
    /// Only then may a node's loop [apply quick commands
    /// itself](raft_core::host::StateMachine::blocks). If a command is slow there, the state
    /// machine's thread can take the loop's part, but not that of the tasks that read and write the
    /// node's sockets: no other thread may run those. So on a single thread no heartbeat would be
    /// sent or heard until that command has ended, and no other task of the application would run.
    fn has_several_threads() -> bool {
        false
    }
}

/// smol's global executor: [`smol::spawn`].
///
/// It has as many threads as the environment variable `SMOL_THREADS` says, one by default.
#[cfg(feature = "smol")]
#[derive(Debug)]
pub enum Smol {}

#[cfg(feature = "smol")]
impl Executor for Smol {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    fn has_several_threads() -> bool {
        threads("SMOL_THREADS").is_some_and(|threads| threads > 1)
    }
}

/// async-std's executor: [`task::spawn`](::async_std::task::spawn).
///
/// It has as many threads as the environment variable `ASYNC_STD_THREAD_COUNT` says, one for each
/// core by default.
#[cfg(feature = "async-std")]
#[derive(Debug)]
pub enum AsyncStd {}

#[cfg(feature = "async-std")]
impl Executor for AsyncStd {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        // The task goes on if its handle is dropped.
        drop(::async_std::task::spawn(task));
    }

    fn has_several_threads() -> bool {
        let cores = || std::thread::available_parallelism().ok().map(usize::from);
        threads("ASYNC_STD_THREAD_COUNT").or_else(cores).is_some_and(|threads| threads > 1)
    }
}

/// The number of threads that the environment asks for, as these executors read it.
#[cfg(any(feature = "smol", feature = "async-std"))]
fn threads(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}
