//! What is measured on real runtimes.

use std::time::Duration;

use election::{Disk, Failure, Link, On, Outcome, Sample, Setting, Timing, Wire};

/// One setting on one runtime.
pub(crate) struct Cell {
    pub(crate) setting: Setting,
    pub(crate) on: On,
    /// In the order of the trials' numbers.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Cell {
    pub(crate) fn sample(&self, figure: fn(&Outcome) -> Duration) -> Sample {
        self.outcomes.iter().map(figure).collect()
    }

    pub(crate) fn downtime(&self) -> Sample {
        self.sample(|outcome| outcome.downtime)
    }

    pub(crate) fn splits(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.split).count()
    }

    /// On average.
    pub(crate) fn messages(&self) -> f64 {
        self.average(|outcome| outcome.messages)
    }

    /// Of messages, on average.
    pub(crate) fn bytes(&self) -> f64 {
        self.average(|outcome| outcome.bytes)
    }

    fn average(&self, figure: fn(&Outcome) -> u64) -> f64 {
        let all: u64 = self.outcomes.iter().map(figure).sum();
        all as f64 / self.outcomes.len().max(1) as f64
    }
}

/// Timeouts of 150-300 ms, with ranks.
pub(crate) const LONG: Timing = ranked(150, 300, 50, 5);

/// Timeouts of 50-100 ms, with ranks.
pub(crate) const MIDDLE: Timing = ranked(50, 100, 16, 5);

/// Timeouts of 12-24 ms, with ranks.
pub(crate) const SHORT: Timing = ranked(12, 24, 6, 2);

/// What circumstances are held against: silence on channels.
pub(crate) const PLAIN: Setting = Setting {
    servers: 5,
    failure: Failure::Silence,
    wire: Wire::Channels,
    disk: Disk::Memory,
    timing: MIDDLE,
    link: Link::PERFECT,
};

/// Half a millisecond each way.
pub(crate) const NEAR: Setting =
    Setting { link: Link { delay: Duration::from_micros(500), ..Link::PERFECT }, ..PLAIN };

/// 5 ms each way, and a slot of five of those.
pub(crate) const FAR: Setting = Setting {
    link: Link { delay: Duration::from_millis(5), ..Link::PERFECT },
    timing: ranked(100, 200, 25, 25),
    ..PLAIN
};

/// One message of a hundred is lost.
pub(crate) const LOSSY: Setting =
    Setting { link: Link { loss_per_mille: 10, ..Link::PERFECT }, ..PLAIN };

const fn ranked(min: u64, max: u64, heartbeat: u64, slot: u64) -> Timing {
    let heartbeat = Duration::from_millis(heartbeat);
    Timing { heartbeat, ..Timing::paper(min, max) }.ranked(Duration::from_millis(slot))
}

/// What is measured, the most asked for first.
pub(crate) fn settings() -> Vec<Setting> {
    let of = |failure, wire, disk, timing| Setting { failure, wire, disk, timing, ..PLAIN };
    let mut settings = vec![
        of(Failure::Silence, Wire::Channels, Disk::Memory, SHORT),
        of(Failure::Silence, Wire::Channels, Disk::Memory, LONG),
        of(Failure::Silence, Wire::Tcp, Disk::Fsync, LONG),
        of(Failure::Kill, Wire::Tcp, Disk::Memory, LONG),
        of(Failure::Handover, Wire::Tcp, Disk::Memory, LONG),
        of(Failure::LoadedHandover, Wire::Tcp, Disk::Memory, MIDDLE),
        of(Failure::Cold, Wire::Channels, Disk::Memory, SHORT),
        of(Failure::WithSuccessor, Wire::Channels, Disk::Memory, MIDDLE),
        of(Failure::BareMajority, Wire::Channels, Disk::Memory, MIDDLE),
        NEAR,
        FAR,
        LOSSY,
        Setting { servers: 3, ..PLAIN },
        PLAIN,
        Setting { servers: 7, ..PLAIN },
    ];
    if cfg!(target_os = "linux") {
        settings.push(of(Failure::Sigkill, Wire::Tcp, Disk::Fsync, LONG));
        settings.push(of(Failure::Sigstop, Wire::Tcp, Disk::Fsync, LONG));
    }
    settings
}

/// How many clusters of a setting may run at once, at most: those that keep the processor busy are
/// measured alone.
pub(crate) fn jobs(setting: &Setting, jobs: usize) -> usize {
    let busy = setting.failure == Failure::LoadedHandover;
    // Where heartbeats are that frequent, another cluster's would too often fall into an election.
    let busy = busy || setting.failure != Failure::Cold && setting.timing.min < MIDDLE.min;
    if busy { 1 } else { jobs }
}

/// How long all trials of a setting take, roughly: two heartbeats and a half, detection, and a
/// start again where something ended.
pub(crate) fn forecast(setting: &Setting, trials: usize, jobs_max: usize) -> Duration {
    let Timing { min, heartbeat, .. } = setting.timing;
    let waits = heartbeat * 5 / 2;
    let restart = Duration::from_millis(15);
    let one = match setting.failure {
        Failure::Cold => min + restart,
        Failure::Silence | Failure::WithSuccessor | Failure::Sigstop => waits + min,
        Failure::BareMajority => waits + heartbeat * 4 + min,
        Failure::Kill | Failure::Handover | Failure::Sigkill => waits + restart,
        Failure::LoadedHandover => waits + restart * 3,
    };
    one * (trials * On::ALL.len()) as u32 / jobs(setting, jobs_max) as u32
}
