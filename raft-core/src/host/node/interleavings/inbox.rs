//! The inbox: the loop hears of every input, is woken once for all that come between two looks, and
//! every request is answered even if the inbox closes.

use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::thread;

use super::{Bell, Count, explore};
use crate::host::clock::Clock;
use crate::host::error::{ProposeError, StopReason};
use crate::host::metrics::{MetricCells, MetricsReader};
use crate::host::node::handle::Handle;
use crate::host::node::inbox::{Arrived, Inbox, Limits, NodeRequest, ProposeRequest};
use crate::host::node::leadership::LeadershipState;
use crate::host::node::members::Members;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::panics::answer;
use crate::membership::Membership;
use crate::message::{Body, Message, RequestVoteReply};
use crate::types::{Index, LogId, NodeId, Term, WriteId};

const LIMITS: Limits = Limits { inputs_max: 100, bytes_max: 1000 };

fn inbox(limits: Limits) -> (Arc<Inbox<Count>>, Arc<Bell>) {
    let bell = Arc::<Bell>::default();
    let hook = Arc::clone(&bell);
    (Arc::new(Inbox::new(limits, Box::new(move || hook.ring()))), bell)
}

fn proposal(command: &'static [u8]) -> ProposeRequest<Count> {
    ProposeRequest {
        command: Bytes::from_static(command),
        reply: oneshot::channel().0,
        forwards: false,
    }
}

fn message() -> Message<Bytes> {
    Message {
        from: NodeId::new(2),
        to: NodeId::new(1),
        term: Term::new(1),
        body: Body::RequestVoteReply(RequestVoteReply { granted: true, last_log: LogId::ZERO }),
    }
}

#[test]
fn the_loop_hears_of_every_input_and_of_each_once() {
    explore(|| {
        let (inbox, bell) = inbox(LIMITS);
        let client = Arc::clone(&inbox);
        let network = Arc::clone(&inbox);
        let journal = Arc::clone(&inbox);
        let state_machine = Arc::clone(&inbox);
        let threads = [
            thread::spawn(move || {
                assert!(client.propose(proposal(b"a")).is_ok());
                assert!(client.propose(proposal(b"b")).is_ok());
            }),
            thread::spawn(move || {
                network.deliver(message());
                network.suspect(NodeId::new(2));
            }),
            thread::spawn(move || {
                journal.persisted(WriteId::new(1));
                journal.persisted(WriteId::new(2));
            }),
            thread::spawn(move || {
                state_machine.applied(Index::new(1), false);
                state_machine.applied(Index::new(2), true);
            }),
        ];
        let mut commands = Vec::new();
        let (mut messages, mut suspects, mut turns) = (0, 0, 0);
        let (mut persisted, mut applied) = (None, None);
        let mut arrived = Arrived::new();
        while commands.len() < 2
            || (messages, suspects) != (1, 1)
            || persisted != Some(WriteId::new(2))
            || applied != Some(Index::new(2))
        {
            bell.wait();
            assert!(!inbox.take(&mut arrived));
            turns += 1;
            for request in arrived.requests.drain(..) {
                let NodeRequest::Propose(ProposeRequest { command, .. }) = request else {
                    panic!("a command")
                };
                commands.push(command);
            }
            messages += arrived.messages.drain(..).count();
            suspects += arrived.suspects.drain(..).count();
            assert!(arrived.persisted.is_none_or(|id| Some(id) > persisted), "a report came twice");
            assert!(arrived.applied.is_none_or(|index| Some(index) > applied), "it came twice");
            persisted = persisted.max(arrived.persisted);
            applied = applied.max(arrived.applied);
        }
        assert_eq!(commands, ["a", "b"], "in order");
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(bell.rings() <= turns + 1, "{} wake-ups, {turns} turns", bell.rings());
    });
}

/// A loop asks [`Inbox::has_arrivals`] before it gives a leader up. Had an input that came in
/// before the question no say, a paused process would stand for election in vain.
#[test]
fn an_input_before_the_question_is_an_arrival() {
    explore(|| {
        let (inbox, _) = inbox(LIMITS);
        let network = Arc::clone(&inbox);
        let came = Arc::<Mutex<bool>>::default();
        let has_come = Arc::clone(&came);
        let thread = thread::spawn(move || {
            network.deliver(message());
            *has_come.lock().unwrap() = true;
        });
        let mut arrived = Arrived::new();
        inbox.take(&mut arrived);
        let came = *came.lock().unwrap();
        let taken = arrived.messages.len() == 1;
        assert!(taken || !came || inbox.has_arrivals());
        thread.join().unwrap();
        assert_eq!(inbox.has_arrivals(), !taken);
    });
}

#[test]
fn every_client_of_an_inbox_that_closes_is_answered_once() {
    explore(|| {
        // Room for two commands, so some are refused.
        let (inbox, bell) = inbox(Limits { inputs_max: 2, ..LIMITS });
        let lifecycle = Arc::<Lifecycle>::default();
        let state = Arc::new(LeadershipState::new(Arc::clone(&lifecycle)));
        let members = Arc::new(Members::new(Membership::default(), Arc::clone(&lifecycle)));
        let metrics = MetricsReader::new(Arc::new(MetricCells::new(NodeId::new(1), Clock::new())));
        let handle =
            Handle::new(Arc::clone(&inbox), state, Arc::clone(&lifecycle), members, None, metrics);
        let client = handle.clone();
        let first = thread::spawn(move || {
            let answers = [client.propose("a"), client.propose("b")];
            answers.map(|answer| block_on(answer))
        });
        let client = handle.clone();
        let second = thread::spawn(move || [block_on(client.propose("c"))]);
        let stopper = handle.clone();
        let stopper = thread::spawn(move || drop(stopper.shutdown()));

        let mut arrived = Arrived::new();
        let reason = loop {
            bell.wait();
            inbox.take(&mut arrived);
            if let Some(reason) = arrived.stop.take() {
                break reason;
            }
            for request in arrived.requests.drain(..) {
                let NodeRequest::Propose(ProposeRequest { reply, .. }) = request else {
                    panic!("a command")
                };
                answer(reply, Ok(7));
            }
        };
        lifecycle.end(reason);
        let left = inbox.close().requests;
        for request in arrived.requests.drain(..).chain(left) {
            let NodeRequest::Propose(ProposeRequest { command, reply, .. }) = request else {
                panic!("a command")
            };
            let reason = lifecycle.stopped().reason;
            answer(reply, Err(ProposeError::Stopped { reason, command: Some(command) }));
        }
        let answers = first.join().unwrap().into_iter().chain(second.join().unwrap());
        for answer in answers {
            match answer {
                Ok(reply) => assert_eq!(reply, 7),
                Err(ProposeError::Busy { command }) => assert_eq!(command.len(), 1),
                Err(ProposeError::Stopped { reason: StopReason::Shutdown, command }) => {
                    assert!(command.is_some(), "the command was not appended");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        stopper.join().unwrap();
    });
}
