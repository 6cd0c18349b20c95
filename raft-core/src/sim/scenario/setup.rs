//! Sentences about the cluster before it starts.

use super::Told;
use super::sentence::{Sentence, sentence};
use super::stage::{Settings, Stage};

pub(super) const SETUP: &[Sentence] = &[
    sentence(
        "pre-vote off",
        "Servers stand for election without asking first whether they could win (thesis 9.6).",
        |stage, _| set(stage, |settings| settings.pre_vote = false),
    ),
    sentence("pre-vote off for N..", "Only these do so.", |stage, values| {
        let ids = values.servers();
        set(stage, |settings| settings.without_pre_vote = ids)
    }),
    sentence(
        "check-quorum off",
        "Voters do not stick to a live leader (thesis 4.2.3), and without pre-votes no leader steps down for want of a quorum (6.2).",
        |stage, _| set(stage, |settings| settings.check_quorum = false),
    ),
    sentence("one entry per message", "An AppendEntries holds at most one entry.", |stage, _| {
        set(stage, |settings| settings.one_entry_per_message = true)
    }),
    sentence(
        "no log behind snapshots",
        "A snapshot compacts the log up to its last entry.",
        |stage, _| set(stage, |settings| settings.no_log_tail = true),
    ),
    sentence("leases on", "Leaders serve reads without asking a quorum each time.", |stage, _| {
        set(stage, |settings| settings.leases = true)
    }),
    sentence(
        "voters N..",
        "With these the cluster begins; the other servers have yet to be told of it.",
        |stage, values| {
            let ids = values.servers();
            set(stage, |settings| settings.voters = Some(ids))
        },
    ),
    sentence(
        "servers N..",
        "These are the cluster. They start, and nobody leads yet; a cluster of one leads at once.",
        |stage, values| stage.raise(&values.servers()),
    ),
];

fn set(stage: &mut Stage, change: impl FnOnce(&mut Settings)) -> Told {
    if !stage.hosts.is_empty() {
        return Err("this is chosen before the servers start".into());
    }
    change(&mut stage.settings);
    Ok(())
}
