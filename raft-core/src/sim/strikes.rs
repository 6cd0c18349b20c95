//! What a fault of a swarm does when it strikes, and what follows from it.

use alloc::vec::Vec;
use core::time::Duration;

use super::action::{Action, Churn, Step, Target};
use super::clock::TRUE_RATE_PPM;
use super::delay::Delay;
use super::disk::Crash;
use super::draw::Draw;
use super::swarm::{Fault, FaultKind, LASTS, Swarm, draw_network};
use crate::time::{Instant, micros};
use crate::types::NodeId;

/// How often all servers are asked for reads, and a client for something, after voters restarted
/// within a lease.
const READS_IN_LEASE: u32 = 8;

impl Swarm {
    /// The steps that follow a fault that struck at this time.
    pub(super) fn follow_up(
        &self,
        draw: &mut Draw,
        fault: Fault,
        at: Instant,
        action: &Action,
        steps: &mut Vec<Step>,
    ) {
        match (fault.kind, action) {
            (FaultKind::DyingDisk, Action::StickDisk { target, span }) => {
                let (target, crash) = (*target, Crash::Lose);
                let down = draw.exponential(LASTS.0);
                let dies = Action::Crash { target, crash, span: down };
                steps.push(Step { at: at + *span, action: dies });
            }
            (FaultKind::LeaseRestart, Action::CutOff { target, span }) => {
                self.restart_in_lease(draw, *target, at + *span, steps);
            }
            (FaultKind::EarlyJoiner, _) => {
                let mut at = at;
                for _ in 0..draw.between(1, 3) {
                    at = at + draw.exponential(Duration::from_millis(50));
                    let crash = *draw.pick(&[Crash::Keep, Crash::Lose, Crash::Tear]);
                    let span = draw.exponential(Duration::from_millis(20));
                    let action = Action::Crash { target: Target::Newest, crash, span };
                    steps.push(Step { at, action });
                    at = at + span;
                }
            }
            _ => {}
        }
    }

    /// How long a server is cut off that is to be a candidate then.
    fn patience(&self, draw: &mut Draw) -> Duration {
        let min = self.config.election_timeout_min;
        draw.span(min, min * 3)
    }

    /// The candidate is heard again, the leader is cut off, and the voters between them restart,
    /// within the leader's lease. Reads and commands come meanwhile, to all.
    fn restart_in_lease(
        &self,
        draw: &mut Draw,
        candidate: Target,
        at: Instant,
        steps: &mut Vec<Step>,
    ) {
        let min = self.config.election_timeout_min;
        let cut = Action::CutOff { target: Target::Leader, span: min * 2 };
        steps.push(Step { at, action: cut });
        for id in 1..=self.servers + self.joiners() {
            let target = Target::Server(NodeId::new(id));
            if target != candidate && draw.per_mille(700) {
                let at = at + draw.exponential(Duration::from_millis(5));
                let crash = *draw.pick(&[Crash::Keep, Crash::Lose]);
                let action = Action::Crash { target, crash, span: draw.exponential(min / 20) };
                steps.push(Step { at, action });
            }
        }
        for part in 1..=READS_IN_LEASE {
            let at = at + min * part / READS_IN_LEASE;
            steps.push(Step { at, action: Action::ReadEverywhere });
            let client = draw.below(self.clients);
            steps.push(Step { at, action: Action::Ask { client, draw: draw.number() } });
        }
    }

    pub(super) fn strike(&self, draw: &mut Draw, fault: Fault) -> Action {
        let span = draw.exponential(fault.lasts);
        let target = match draw.one_in(3) {
            true => Target::Leader,
            false => Target::Server(self.any(draw)),
        };
        match fault.kind {
            FaultKind::Weather => Action::Weather { network: draw_network(draw, 700), span },
            FaultKind::OneWayCut => {
                Action::CutOneWay { from: self.any(draw), to: self.any(draw), span }
            }
            FaultKind::Partition => Action::Divide { partition: self.draw_partition(draw), span },
            FaultKind::Crash => {
                let crash = *draw.pick(&[Crash::Keep, Crash::Lose, Crash::Tear]);
                Action::Crash { target, crash, span }
            }
            FaultKind::FailedWrite => Action::FailWrite { target, span },
            FaultKind::SlowDisk => {
                let latency = Delay::Constant(draw.exponential(Duration::from_millis(50)));
                Action::SlowDisk { target, latency, span }
            }
            FaultKind::StuckDisk => Action::StickDisk { target, span },
            FaultKind::DyingDisk => {
                let target = Target::Server(self.any(draw));
                Action::StickDisk { target, span: span.saturating_add(Duration::from_millis(1)) }
            }
            FaultKind::Pause => Action::Pause { target, span },
            FaultKind::ClockRate => {
                let rates = [500_000, 800_000, 990_000, 1_010_000, 1_500_000, 3_000_000];
                let mut rate_ppm = *draw.pick(&rates);
                if let Some(lease) = self.config.lease {
                    let off = lease.drift_ppm_max / 2;
                    rate_ppm =
                        if draw.one_in(2) { TRUE_RATE_PPM + off } else { TRUE_RATE_PPM - off };
                }
                Action::ClockRate { target, rate_ppm, span }
            }
            FaultKind::ClockJump => {
                let by = i64::try_from(micros(span)).unwrap_or(i64::MAX);
                let by_micros = if draw.one_in(2) { by } else { -by };
                Action::ClockJump { target, by_micros }
            }
            FaultKind::FailedFiles => Action::FailFiles { target, span },
            FaultKind::Snapshot => Action::TakeSnapshot { target },
            FaultKind::Join => Action::Change { churn: Churn::Join, draw: draw.number() },
            FaultKind::Promote => Action::Change { churn: Churn::Promote, draw: draw.number() },
            FaultKind::Demote => Action::Change { churn: Churn::Demote, draw: draw.number() },
            FaultKind::Remove => Action::Change { churn: Churn::Remove, draw: draw.number() },
            FaultKind::Replace => Action::Change { churn: Churn::Replace, draw: draw.number() },
            FaultKind::Prioritise => {
                Action::Change { churn: Churn::Prioritise, draw: draw.number() }
            }
            FaultKind::Transfer => Action::Transfer { draw: draw.number() },
            FaultKind::Hint => Action::Hint { target: Target::Server(self.any(draw)) },
            FaultKind::Stale => Action::Stale { draw: draw.number() },
            FaultKind::Misrouted => Action::Misroute { draw: draw.number() },
            FaultKind::Stranger => Action::Stranger { draw: draw.number() },
            FaultKind::HostPause => Action::PauseAll { span },
            FaultKind::Deafness => Action::Deafen { target, span },
            FaultKind::LeaseRestart => {
                Action::CutOff { target: Target::Server(self.any(draw)), span: self.patience(draw) }
            }
            FaultKind::EarlyJoiner => Action::Change { churn: Churn::Join, draw: draw.number() },
        }
    }
}
