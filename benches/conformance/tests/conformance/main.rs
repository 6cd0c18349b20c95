//! One suite for all adapters: what a node promises it promises on every runtime, over channels and
//! over TCP, and in a cluster that mixes runtimes.
//!
//! `cargo test -p conformance [part of a name]` prints a line for each runtime, wire and scenario,
//! such as `tokio::channel::re_election`, and at the end how long each scenario took on each
//! runtime.
//!
//! Scenarios that see whether *nothing* happens, such as an election too many, can be disturbed by
//! a machine that holds a node up for longer than its timeouts. They say so and are tried again;
//! what is at fault fails every time.

#![allow(clippy::unwrap_used)]

use std::panic;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod agreement;
mod cluster;
mod detour;
mod election;
mod forward;
mod leadership;
mod leaks;
mod life;
mod links;
mod load;
mod lost_leader;
mod membership;
mod names;
mod network;
mod restart;
mod runner;
mod strangers;
mod tls;
mod weather;

use network::Wire;
use runner::{Kind, Matrix, Scenario};

/// How many scenarios run at once: most of their time they wait.
const THREADS: usize = 6;

const BOTH: &[Wire] = &[Wire::Channel, Wire::Tcp];
const CHANNEL: &[Wire] = &[Wire::Channel];
const TCP: &[Wire] = &[Wire::Tcp];
const TLS: &[Wire] = &[Wire::Tls];
/// Where TLS may change what the scenario sees.
const SOCKETS: &[Wire] = &[Wire::Tcp, Wire::Tls];
const ALL: &[Wire] = &[Wire::Channel, Wire::Tcp, Wire::Tls];

macro_rules! scenarios {
    ($($wires:ident $module:ident :: $name:ident,)+) => {
        &[$(Scenario { name: stringify!($name), wires: $wires, run: $module::$name },)+]
    };
}

/// Those that do not disturb each other.
const TOGETHER: &[Scenario] = scenarios! {
    ALL election::initial_election,
    BOTH election::re_election,
    CHANNEL election::many_elections,
    ALL election::election_after_a_shutdown,
    BOTH election::election_after_a_failed_journal,
    ALL agreement::proposals_and_reads,
    BOTH agreement::reads_are_linearizable,
    BOTH agreement::in_order,
    CHANNEL agreement::bytes,
    CHANNEL agreement::counts,
    BOTH agreement::follower_away_and_back,
    BOTH agreement::leader_away_twice,
    BOTH agreement::nothing_without_a_quorum,
    BOTH agreement::a_cut_off_leader_rejoins,
    CHANNEL agreement::divergent_logs,
    BOTH leadership::followers_name_the_leader,
    BOTH leadership::a_lost_leadership_answers_all,
    BOTH forward::any_node_takes_commands,
    BOTH forward::a_lost_leader_answers_all,
    BOTH leadership::what_may_commit_may_commit,
    CHANNEL leadership::a_timeout_takes_nothing_back,
    BOTH leadership::a_guard_is_lost_in_time,
    ALL membership::a_learner_joins_and_the_leader_goes,
    BOTH membership::every_member_is_replaced,
    BOTH membership::leadership_is_handed_over,
    ALL membership::shutdown_of_a_leader_hands_over,
    ALL membership::a_wiped_node_is_refused,
    TCP membership::a_member_that_moves_is_found,
    TCP membership::founders_are_known_by_their_addresses,
    SOCKETS lost_leader::a_process_that_dies_is_noticed,
    SOCKETS lost_leader::a_network_that_flaps_costs_no_election,
    CHANNEL lost_leader::a_leader_with_a_sick_state_machine_hands_over,
    CHANNEL lost_leader::a_leader_whose_journal_fails_names_a_successor,
    BOTH load::a_slow_state_machine_costs_no_election,
    BOTH restart::from_memory,
    ALL restart::from_files,
    CHANNEL restart::after_crashes,
    BOTH weather::deaf_leader,
    BOTH weather::mute_leader,
    BOTH weather::deaf_follower,
    BOTH weather::ten_percent_lost,
    CHANNEL weather::slow_links,
    BOTH life::dropping_the_last_handle,
    BOTH life::asking_after_a_shutdown,
    BOTH life::a_sick_state_machine,
    BOTH life::what_cannot_run_does_not_start,
    TCP strangers::are_refused,
    TLS tls::wrong_dialers_are_refused,
    TLS tls::wrong_acceptors_are_refused,
    TLS tls::a_peer_that_stalls_is_left,
    TLS tls::certificates_are_replaced_while_the_cluster_runs,
    SOCKETS strangers::a_node_whose_messages_are_too_long_is_refused,
    SOCKETS names::a_name_whose_first_addresses_are_silent_is_reached,
    TCP names::a_name_service_that_hangs_is_asked_once,
};

/// Those that would stall the others, or count what they leave.
const ALONE: &[Scenario] = scenarios! {
    BOTH load::a_full_inbox_refuses,
    TLS tls::many_half_open_leave_nothing,
    ALL leaks::cycles_leave_nothing,
};

fn main() -> ExitCode {
    hide_poison();
    let arguments = Arguments::from_args();
    let matrix = Matrix::default();
    let mut together = arguments.clone();
    together.test_threads.get_or_insert(THREADS);
    let mut alone = arguments;
    alone.test_threads = Some(1);
    let first = libtest_mimic::run(&together, trials(TOGETHER, &matrix));
    let second = libtest_mimic::run(&alone, trials(ALONE, &matrix));
    print!("{matrix}");
    match first.has_failed() || second.has_failed() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Prints every panic but the one that a scenario asks for.
fn hide_poison() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some("poisoned") {
            print(info);
        }
    }));
}

fn trials(scenarios: &'static [Scenario], matrix: &Matrix) -> Vec<Trial> {
    let cells = scenarios.iter().flat_map(|scenario| {
        let wires = scenario.wires.iter();
        wires.flat_map(move |wire| Kind::ALL.iter().map(move |kind| (scenario, *wire, *kind)))
    });
    cells.map(|(scenario, wire, kind)| runner::trial(scenario, wire, kind, matrix)).collect()
}
