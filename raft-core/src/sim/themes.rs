//! Themes: what a share of the worlds has beyond the usual faults. Each theme draws from a stream
//! of its own, so a world without a theme is the same as before the theme existed, and a search can
//! ask for one theme in every world.

use core::fmt;

use super::draw::{Draw, purpose};

/// The first stream of a theme; see [`purpose::SWARM`].
const STREAMS_BEGIN: u64 = 3000;

/// The kind of fault or host that a world is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Theme {
    /// Small limits: of the log, of what is uncommitted or on its way, of reads.
    Limits,
    /// Voters restart within the lease of a leader that is cut off.
    LeaseRestarts,
    /// Servers that join restart while they catch up.
    EarlyJoiners,
    /// One server receives no message, also when all other faults are over, and its own messages
    /// arrive.
    Deaf,
    /// All servers stand still at once, as on a host that is paused.
    HostPauses,
    /// One sync in a thousand is long.
    Hiccups,
    /// All disks are equally slow, about as slow as the election timeout, and stay so.
    SlowDisks,
    /// Configurations differ from server to server and from life to life.
    Mixed,
    /// The same, and leases are among the differences.
    MixedLeases,
    /// State machines are slow to apply and to restore.
    SlowMachines,
}

impl Theme {
    /// All themes, each with its share: of 1000 worlds, how many have it.
    pub const ALL: [(Self, u32); 10] = [
        (Self::Limits, 80),
        (Self::LeaseRestarts, 60),
        (Self::EarlyJoiners, 80),
        (Self::Deaf, 80),
        (Self::HostPauses, 120),
        (Self::Hiccups, 80),
        (Self::SlowDisks, 60),
        (Self::Mixed, 80),
        (Self::MixedLeases, 60),
        (Self::SlowMachines, 60),
    ];

    /// The name by which a search asks for the theme.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::LeaseRestarts => "lease-restarts",
            Self::EarlyJoiners => "early-joiners",
            Self::Deaf => "deaf",
            Self::HostPauses => "host-pauses",
            Self::Hiccups => "hiccups",
            Self::SlowDisks => "slow-disks",
            Self::Mixed => "mixed",
            Self::MixedLeases => "mixed-leases",
            Self::SlowMachines => "slow-machines",
        }
    }

    /// The theme of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().map(|(theme, _)| theme).find(|theme| theme.name() == name)
    }

    /// The draws of this theme in the world of this seed, if the world has the theme: by its share,
    /// or because it is `wanted`.
    pub(super) fn draws(self, seed: u64, wanted: Option<Self>) -> Option<Draw> {
        let mut draw = Draw::new(seed, purpose::SWARM, STREAMS_BEGIN + self as u64);
        let share = Self::ALL.into_iter().find(|(theme, _)| *theme == self);
        let by_chance = draw.per_mille(share.map_or(0, |(_, share)| share));
        (by_chance || wanted == Some(self)).then_some(draw)
    }
}

impl fmt::Display for Theme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_theme_draws_the_same_in_a_world_that_has_it_by_chance() {
        for (theme, share) in Theme::ALL {
            assert_eq!(Theme::named(theme.name()), Some(theme));
            let by_chance = (0..1000).filter(|seed| theme.draws(*seed, None).is_some());
            for seed in by_chance.take(5) {
                let wanted = theme.draws(seed, Some(theme)).map(|mut draw| draw.number());
                let drawn = theme.draws(seed, None).map(|mut draw| draw.number());
                assert_eq!(wanted, drawn);
            }
            let found = (0..1000).filter(|seed| theme.draws(*seed, None).is_some()).count();
            assert_eq!(found > 0, share > 0, "{theme}: {found} worlds");
        }
    }
}
