//! Watches as streams (feature `futures`).

use std::boxed::Box;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use super::leadership::{Leadership, LeadershipWatch};
use super::members::MembershipWatch;
use super::pending::Pending;
use crate::host::error::Stopped;
use crate::membership::Membership;

/// What a watch sees, as a stream: first what is so now, then each change. A reader that is slow
/// misses what lay between, and never the newest. The stream ends with the node.
pub struct WatchStream<T> {
    /// What the stream returned last.
    known: Option<T>,
    /// Resolves when it differs from this; at once, if there is none.
    changed: Changed<T>,
    waits: Option<Pending<T, Stopped>>,
    is_over: bool,
}

type Changed<T> = Box<dyn Fn(Option<&T>) -> Result<T, Pending<T, Stopped>> + Send + Sync>;

impl LeadershipWatch {
    /// The leadership now and each change, as a stream.
    ///
    /// # Example
    ///
    /// ```
    /// # use raft_core::host::LeadershipWatch;
    /// use futures::StreamExt;
    ///
    /// async fn follow(watch: LeadershipWatch) {
    ///     let mut changes = watch.stream();
    ///     while let Some(now) = changes.next().await {
    ///         println!("term {}: led by {:?}", now.term, now.leader);
    ///     }
    /// }
    /// ```
    pub fn stream(&self) -> WatchStream<Leadership> {
        let watch = self.clone();
        WatchStream::new(move |known| match known {
            None => Ok(watch.current()),
            Some(known) => Err(watch.changed_from(known.clone())),
        })
    }
}

impl MembershipWatch {
    /// The members now and each change, as a stream.
    ///
    /// # Example
    ///
    /// ```
    /// # use raft_core::host::MembershipWatch;
    /// use futures::StreamExt;
    ///
    /// async fn follow(watch: MembershipWatch) {
    ///     watch.stream().for_each(|now| async move { println!("{now:?}") }).await;
    /// }
    /// ```
    pub fn stream(&self) -> WatchStream<Membership> {
        let watch = self.clone();
        WatchStream::new(move |known| match known {
            None => Ok(watch.current()),
            Some(known) => Err(watch.changed_from(known)),
        })
    }
}

impl<T> WatchStream<T> {
    fn new(
        changed: impl Fn(Option<&T>) -> Result<T, Pending<T, Stopped>> + Send + Sync + 'static,
    ) -> Self {
        Self { known: None, changed: Box::new(changed), waits: None, is_over: false }
    }
}

impl<T: Clone + Unpin> Stream for WatchStream<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let mut waits = match this.waits.take() {
            Some(waits) => waits,
            None => match (this.changed)(this.known.as_ref()) {
                Ok(now) => {
                    this.known = Some(now.clone());
                    return Poll::Ready(Some(now));
                }
                Err(waits) => waits,
            },
        };
        match Pin::new(&mut waits).poll(cx) {
            Poll::Ready(Ok(now)) => {
                this.known = Some(now.clone());
                Poll::Ready(Some(now))
            }
            Poll::Ready(Err(_)) => {
                this.is_over = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                this.waits = Some(waits);
                Poll::Pending
            }
        }
    }
}

impl<T: Clone + Unpin> FusedStream for WatchStream<T> {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl<T: fmt::Debug> fmt::Debug for WatchStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream").field("known", &self.known).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt;
    use futures::future::FutureExt;

    use super::super::leadership::LeadershipState;
    use super::*;
    use crate::host::error::StopReason;
    use crate::host::threads::lifecycle::Lifecycle;
    use crate::types::Term;

    #[test]
    fn a_stream_returns_each_newest_state_and_ends_with_the_node() {
        let lifecycle = Arc::<Lifecycle>::default();
        let state = Arc::new(LeadershipState::new(Arc::clone(&lifecycle)));
        let term = |term| Leadership { term: Term::new(term), ..Leadership::default() };
        let mut changes = LeadershipWatch::new(Arc::clone(&state)).stream();
        let mut next = || changes.next().now_or_never();
        assert_eq!(next(), Some(Some(term(0))));
        assert_eq!(next(), None, "nothing has changed");
        state.publish(term(1));
        assert_eq!(next(), Some(Some(term(1))));
        state.publish(term(2));
        state.publish(term(3));
        assert_eq!(next(), Some(Some(term(3))), "what lay between is missed");
        lifecycle.end(StopReason::Shutdown);
        state.close();
        assert_eq!(next(), Some(None));
        assert_eq!(next(), Some(None));
    }
}
