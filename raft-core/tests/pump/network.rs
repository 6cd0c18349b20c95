//! What the network does to messages, and what they cost.

use std::time::Duration;

use raft_core::{Body, Message};

use super::{Command, ms, us};

/// What the network does to messages.
#[derive(Clone, Debug)]
pub struct Network {
    /// One-way latency, drawn from this range.
    pub latency: (Duration, Duration),
    /// Of 1000 requests and of 1000 replies, how many are lost.
    pub request_loss: u64,
    pub reply_loss: u64,
    /// Of 1000 replies, how many are held back, and for how long.
    pub reply_hold: (u64, Duration, Duration),
}

impl Network {
    pub fn reliable(latency: Duration) -> Self {
        let none = (0, Duration::ZERO, Duration::ZERO);
        Self { latency: (latency, latency), request_loss: 0, reply_loss: 0, reply_hold: none }
    }

    /// "Unreliable" as the laboratory has it: messages delayed by 0-26 ms, one in ten requests and
    /// replies lost.
    pub fn unreliable() -> Self {
        Self {
            latency: (Duration::ZERO, ms(26)),
            request_loss: 100,
            reply_loss: 100,
            ..Self::reliable(ms(1))
        }
    }

    /// "Long reordering" as the laboratory has it: unreliable, and two of three replies come
    /// 200-2199 ms late.
    pub fn long_reordering() -> Self {
        Self { reply_hold: (667, ms(200), ms(2199)), ..Self::unreliable() }
    }

    /// How long a message travels; none if it is lost. `random` draws a number below its argument.
    pub(super) fn fate(
        &self,
        is_request: bool,
        mut random: impl FnMut(u64) -> u64,
    ) -> Option<Duration> {
        let mut within =
            |(min, max): (Duration, Duration)| min + us(random((max - min).as_micros() as u64 + 1));
        let latency = within(self.latency);
        let (held, hold_min, hold_max) = self.reply_hold;
        let hold = within((hold_min, hold_max));
        let loss = if is_request { self.request_loss } else { self.reply_loss };
        if random(1000) < loss {
            return None;
        }
        let is_held = !is_request && random(1000) < held;
        Some(if is_held { latency + hold } else { latency })
    }
}

pub(super) fn is_request(message: &Message<Command>) -> bool {
    matches!(
        message.body,
        Body::AppendEntries(_)
            | Body::RequestVote(_)
            | Body::RequestPreVote(_)
            | Body::ReadIndex(_)
            | Body::Propose(_)
    )
}

/// Roughly what a message costs on the wire.
pub(super) fn size(message: &Message<Command>) -> u64 {
    let Body::AppendEntries(append) = &message.body else { return 32 };
    let entries: u64 = append.entries.iter().map(|entry| entry.size() as u64).sum();
    32 + entries
}
