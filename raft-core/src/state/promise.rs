//! What this server has promised to leaders (thesis 6.4.1). The rules are in `promise.rs`.

use core::time::Duration;

use crate::checkpoint::stored;
use crate::config::Config;
use crate::time::{Instant, micros};

/// What this server has promised to leaders.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Promise {
    /// The longest promise that may still last, in microseconds; stored with the term and the vote.
    stored_micros: u32,
    /// The longest promise given since the last tick, which counts it from its own time.
    due_micros: u32,
    pub(crate) until: Instant,
}

stored! { struct Promise { stored_micros, due_micros, until } }

impl Promise {
    /// A server that starts is bound by what its disk holds. With versions that stored no promise,
    /// a leader with a lease relied on a whole election timeout of each voter.
    pub(crate) fn after_restart(stored_micros: u32, config: &Config, has_run: bool) -> Self {
        let unstored = match config.lease {
            Some(_) if has_run => {
                u32::try_from(micros(config.election_timeout_min)).unwrap_or(u32::MAX)
            }
            Some(_) | None => 0,
        };
        let due_micros = if stored_micros == 0 { unstored } else { stored_micros };
        Self { stored_micros, due_micros, until: Instant::ZERO }
    }

    pub(crate) fn stored_micros(&self) -> u32 {
        self.stored_micros
    }

    /// Gives a promise of so many microseconds. Returns whether the disk must hear of it first.
    pub(crate) fn give(&mut self, micros: u32) -> bool {
        let grows = micros > self.stored_micros;
        self.stored_micros = self.stored_micros.max(micros);
        self.due_micros = self.due_micros.max(micros);
        grows
    }

    pub(crate) fn on_tick(&mut self, now: Instant) {
        if self.due_micros > 0 {
            let span = Duration::from_micros(self.due_micros.into());
            self.until = self.until.max(now + span);
            self.due_micros = 0;
        }
    }

    /// Forgets longer promises than the configuration gives, if all have lapsed. For when a write
    /// is due anyway.
    pub(crate) fn on_new_term(&mut self, config: &Config, now: Instant) {
        if self.due_micros == 0 && self.until <= now {
            self.stored_micros = config.promise_micros();
        }
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`](crate::Raft::canonical).
    pub(crate) fn move_in_time(&mut self, future: impl Fn(Instant) -> Instant) {
        self.until = future(self.until);
    }
}

impl Config {
    /// How long a follower promises its leader to elect nobody else, in microseconds; 0 without a
    /// lease. Longer than a `u32` holds, over an hour, is promised by nobody.
    pub(crate) fn promise_micros(&self) -> u32 {
        match self.lease {
            Some(_) => {
                let sticky = self.stickiness_at(self.configured_timeout());
                u32::try_from(sticky).unwrap_or(u32::MAX)
            }
            None => 0,
        }
    }
}
