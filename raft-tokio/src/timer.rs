//! Sleeping until a moment, as precisely as the operating system can.
//!
//! `tokio::time` rounds up to whole milliseconds and is late by about one; an election on a fast
//! network takes less. On Linux a timerfd in tokio's own event loop is late by some tens of
//! microseconds.

#[cfg(target_os = "linux")]
pub(crate) use timerfd::Timer;
#[cfg(not(target_os = "linux"))]
pub(crate) use wheel::Timer;

#[cfg(target_os = "linux")]
mod timerfd {
    use std::io;
    use std::task::{Context, Poll, ready};
    use std::time::Instant;

    use raft_core::host::tasks::Alarm;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::net::unix::pipe::Receiver;

    /// One timer, for one task.
    pub(crate) struct Timer {
        /// Tokio's type for a special file that is read, such as a pipe. Unlike `AsyncFd`, it needs
        /// no unsafe code.
        file: Receiver,
        /// When the timer fires, if it is armed. That may be sooner than needed: if a deadline
        /// moves on, a system call is not worth it, so the timer is armed anew when it has fired
        /// too soon.
        armed: Option<Instant>,
    }

    impl Timer {
        /// A timer for the current runtime.
        pub(crate) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let file = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(Self { file: Receiver::from_owned_fd_unchecked(file)?, armed: None })
        }

        fn arm(&self, deadline: Instant, now: Instant) -> io::Result<()> {
            let span = deadline.saturating_duration_since(now);
            let it_value = Timespec::try_from(span).map_err(io::Error::other)?;
            let time = Itimerspec { it_interval: Timespec::default(), it_value };
            timerfd_settime(&self.file, TimerfdTimerFlags::empty(), &time)?;
            Ok(())
        }
    }

    impl Alarm for Timer {
        const RUNS_WOKEN_FIRST: bool = true;

        // Ready also if the operating system fails.
        fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
            loop {
                if self.armed.is_none_or(|armed| armed > deadline) {
                    let now = Instant::now();
                    if deadline <= now || self.arm(deadline, now).is_err() {
                        return Poll::Ready(());
                    }
                    self.armed = Some(deadline);
                }
                if ready!(self.file.poll_read_ready(cx)).is_err() {
                    return Poll::Ready(());
                }
                // Reading resets the readiness of the file, at the latest the second read, which
                // finds nothing to read.
                match self.file.try_read(&mut [0; 8]) {
                    Ok(_) => self.armed = None,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return Poll::Ready(()),
                }
            }
        }

        async fn yield_now() {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod wheel {
    use std::future::Future;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Instant;

    use raft_core::host::tasks::Alarm;
    use tokio::time::Sleep;

    /// One timer, for one task.
    pub(crate) struct Timer {
        sleep: Pin<Box<Sleep>>,
    }

    impl Timer {
        /// A timer for the current runtime.
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self { sleep: Box::pin(tokio::time::sleep_until(Instant::now().into())) })
        }
    }

    impl Alarm for Timer {
        const RUNS_WOKEN_FIRST: bool = true;

        fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
            if self.sleep.deadline() != deadline.into() {
                self.sleep.as_mut().reset(deadline.into());
            }
            self.sleep.as_mut().poll(cx)
        }

        async fn yield_now() {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::{Duration, Instant};

    use raft_core::host::tasks::Alarm;

    use super::*;

    async fn wait(timer: &mut Timer, deadline: Instant) {
        poll_fn(|cx| timer.poll_until(cx, deadline)).await;
    }

    #[tokio::test]
    async fn a_wait_ends_with_its_deadline_and_not_before() {
        let mut timer = Timer::new().unwrap();
        for micros in [0, 1, 300, 5_000] {
            let deadline = Instant::now() + Duration::from_micros(micros);
            wait(&mut timer, deadline).await;
            assert!(Instant::now() >= deadline);
        }
    }

    #[tokio::test]
    async fn a_deadline_may_move_either_way() {
        let mut timer = Timer::new().unwrap();
        let now = Instant::now();
        let spans = [3_600_000, 2, 4, 3].map(Duration::from_millis);
        let far = poll_fn(|cx| Poll::Ready(timer.poll_until(cx, now + spans[0]))).await;
        assert!(far.is_pending());
        for span in &spans[1..] {
            wait(&mut timer, now + *span).await;
        }
        assert!(now.elapsed() >= spans[2]);
    }
}
