//! Which faults come, in which order and for how long: drawn from the seed alone, before anything
//! happens.
//!
//! Kinds are dealt like cards: none comes again before all have come, so that a short run has most
//! of them.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// How long a fault stays.
const HOLD: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(2_000));
/// How long everything is well between two faults.
const CALM: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(800));
/// One fault in so many comes in bad weather.
const WEATHER_EVERY: u32 = 4;

/// What is done to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// SIGKILL; started again.
    Kill,
    /// SIGKILL to all at once.
    KillAll,
    /// SIGTERM, which must end it well; started again.
    Restart,
    /// SIGTERM to all.
    RestartAll,
    /// SIGSTOP, then SIGCONT.
    Pause,
    /// SIGSTOP to all.
    PauseAll,
    /// No room for another byte: the server must end and say why; room again, and started again.
    FullDisk,
    /// The leader is told to hand over.
    Transfer,
    /// Taken out of the cluster, and brought back as a new member.
    Remove,
    /// Its disk is lost, and it starts as before; brought back as a new member.
    Wipe,
    /// Its disk is another cluster's, and it asks to join; brought back as a new member.
    Foreign,
    /// It comes back at another address, which the flags of the others do not say.
    Move,
    /// Its state machine stands still.
    Hang,
    /// It restores a snapshot slowly, and is sent a newer one meanwhile.
    SlowRestore,
    /// All restart, one after another, with other timeouts; and again with the old ones.
    Reflag,
    /// No packets between it and the others.
    Isolate,
    /// What others send to it is lost, but they hear it.
    Deafen,
    /// What it sends to others is lost, but it hears them.
    Mute,
    /// No packets between two servers that both see the rest.
    CutPair,
    /// Loss, delay, duplication and reordering on every link.
    Storm,
}

/// Faults that every machine can set.
const EVERYWHERE: [Kind; 14] = [
    Kind::Kill,
    Kind::KillAll,
    Kind::Restart,
    Kind::RestartAll,
    Kind::Pause,
    Kind::PauseAll,
    Kind::FullDisk,
    Kind::Transfer,
    Kind::Remove,
    Kind::Wipe,
    Kind::Foreign,
    Kind::Move,
    Kind::SlowRestore,
    Kind::Reflag,
];
/// Faults that come only if they are asked for.
const ON_REQUEST: [Kind; 1] = [Kind::Hang];
/// Faults on links between servers.
const ON_LINKS: [Kind; 5] = [Kind::Isolate, Kind::Deafen, Kind::Mute, Kind::CutPair, Kind::Storm];

/// Whom it meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The leader at that moment; without a leader, the server with this place.
    Leader(usize),
    /// The server with this place, counted from 0.
    Server(usize),
}

/// What the network does to packets between servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// How many packets of a thousand are lost.
    pub lost_per_mille: u32,
    /// How many packets of a thousand arrive twice.
    pub doubled_per_mille: u32,
    /// The shortest time that a packet takes.
    pub delay_min: Duration,
    /// Where the range of times ends. Packets overtake each other.
    pub delay_max: Duration,
}

/// One fault with its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// What is done.
    pub kind: Kind,
    /// To whom.
    pub target: Target,
    /// What the network does meanwhile.
    pub weather: Option<Weather>,
    /// How long it stays.
    pub hold: Duration,
    /// How long everything is well afterwards.
    pub calm: Duration,
}

/// The steps of a seed, without end.
#[derive(Clone, Debug)]
pub struct Schedule {
    rng: Rng,
    servers: usize,
    kinds: Vec<Kind>,
    deck: Vec<Kind>,
}

impl Schedule {
    /// What comes with this seed to so many servers. `with_links` if faults can be set on links.
    pub fn new(seed: u64, servers: usize, with_links: bool) -> Self {
        let on_links = if with_links { &ON_LINKS[..] } else { &[] };
        let kinds = [&EVERYWHERE[..], on_links].concat();
        Self::of(kinds, seed, servers)
    }

    /// The same, with faults of these kinds alone.
    pub fn of(kinds: Vec<Kind>, seed: u64, servers: usize) -> Self {
        Self { rng: Rng::with_seed(seed), servers, kinds, deck: Vec::new() }
    }

    fn has_links(&self) -> bool {
        self.kinds.contains(&Kind::Storm)
    }

    fn deal(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
            self.rng.shuffle(&mut self.deck);
        }
        self.deck.pop().expect("kinds are never empty")
    }

    fn target(&mut self) -> Target {
        let server = self.rng.usize(..self.servers);
        if self.rng.bool() { Target::Leader(server) } else { Target::Server(server) }
    }

    fn weather(&mut self) -> Weather {
        let delay_min = self.rng.u64(0..10);
        let delay_max = delay_min + self.rng.u64(1..40);
        Weather {
            lost_per_mille: self.rng.u32(0..200),
            doubled_per_mille: self.rng.u32(0..100),
            delay_min: Duration::from_millis(delay_min),
            delay_max: Duration::from_millis(delay_max),
        }
    }

    fn span(&mut self, (min, max): (Duration, Duration)) -> Duration {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.u64(micros(min)..micros(max)))
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let kind = self.deal();
        let target = self.target();
        let storms = self.rng.u32(..WEATHER_EVERY) == 0 || kind == Kind::Storm;
        // Drawn in any case: what follows is the same with links and without.
        let weather = self.weather();
        let weather = (storms && self.has_links()).then_some(weather);
        let (hold, calm) = (self.span(HOLD), self.span(CALM));
        Some(Step { kind, target, weather, hold, calm })
    }
}

impl Kind {
    /// The kind of this name, as it is printed.
    pub fn named(name: &str) -> Result<Self, String> {
        let all = || [&EVERYWHERE[..], &ON_REQUEST, &ON_LINKS].concat();
        let names = || all().iter().map(Self::to_string).collect::<Vec<_>>().join(", ");
        let found = all().into_iter().find(|kind| kind.to_string() == name);
        found.ok_or_else(|| format!("there are {}", names()))
    }

    /// Whether a majority can go on meanwhile, for the network does it no harm.
    pub fn leaves_a_majority(self) -> bool {
        match self {
            Self::Kill
            | Self::Restart
            | Self::Pause
            | Self::FullDisk
            | Self::Transfer
            | Self::Remove
            | Self::Wipe
            | Self::Foreign
            | Self::Move
            | Self::Hang
            | Self::Isolate
            | Self::Deafen
            | Self::Mute
            | Self::CutPair => true,
            // While one restores slowly, the others have to write before its blow is over.
            Self::SlowRestore => false,
            Self::KillAll | Self::RestartAll | Self::PauseAll | Self::Reflag | Self::Storm => false,
        }
    }

    /// Whether it meets all servers.
    pub fn meets_all(self) -> bool {
        match self {
            Self::KillAll | Self::RestartAll | Self::PauseAll | Self::Reflag | Self::Storm => true,
            Self::Kill
            | Self::Restart
            | Self::Pause
            | Self::FullDisk
            | Self::Transfer
            | Self::Remove
            | Self::Wipe
            | Self::Foreign
            | Self::Move
            | Self::Hang
            | Self::SlowRestore
            | Self::Isolate
            | Self::Deafen
            | Self::Mute
            | Self::CutPair => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "kill -9",
            Self::KillAll => "kill -9 all",
            Self::Restart => "restart",
            Self::RestartAll => "restart all",
            Self::Pause => "stop/cont",
            Self::PauseAll => "stop/cont all",
            Self::FullDisk => "full disk",
            Self::Transfer => "transfer",
            Self::Remove => "remove",
            Self::Wipe => "wiped disk",
            Self::Foreign => "foreign disk",
            Self::Move => "move",
            Self::Hang => "hang",
            Self::SlowRestore => "slow restore",
            Self::Reflag => "new flags",
            Self::Isolate => "isolate",
            Self::Deafen => "deafen",
            Self::Mute => "mute",
            Self::CutPair => "cut a pair",
            Self::Storm => "storm",
        })
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost_per_mille, doubled_per_mille, delay_min, delay_max } = self;
        let percent = |per_mille: &u32| format!("{}.{}%", per_mille / 10, per_mille % 10);
        let (lost, doubled) = (percent(lost_per_mille), percent(doubled_per_mille));
        write!(f, "{lost} lost, {doubled} doubled, {delay_min:?} to {delay_max:?} late")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn steps(seed: u64, with_links: bool) -> Vec<Step> {
        Schedule::new(seed, 3, with_links).take(38).collect()
    }

    #[test]
    fn a_seed_gives_the_same_steps_every_time() {
        assert_eq!(steps(7, true), steps(7, true));
        assert_ne!(steps(7, true), steps(8, true));
    }

    #[test]
    fn every_kind_comes_before_any_comes_again() {
        for (with_links, count) in [(true, 19), (false, 14)] {
            let steps = steps(3, with_links).into_iter().take(count);
            assert_eq!(steps.map(|step| step.kind).collect::<BTreeSet<_>>().len(), count);
        }
    }

    #[test]
    fn weather_needs_links() {
        assert!(steps(1, false).iter().all(|step| step.weather.is_none()));
        assert!(
            steps(1, true).iter().any(|step| step.weather.is_some() && step.kind != Kind::Storm)
        );
    }
}
