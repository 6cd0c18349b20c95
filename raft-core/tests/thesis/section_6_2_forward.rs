//! "The server can forward the request to the leader" (thesis 6.2): commands from any server.

use crate::server::{Command, TestServer, append, at, entries_after, id, index, ms};
use raft_core::{
    Body, Config, ForwardOutcome, LogId, Message, NodeId, Output, Payload, ProposalId, Propose,
    ProposeError, ProposeRefusal, ProposeReply, Round, Session, Wake,
};

type Outcome = ForwardOutcome<Command>;

fn command(number: u8) -> Command {
    vec![number]
}

/// What the server was told of the commands that it forwarded.
fn outcomes(server: &mut TestServer) -> Vec<(ProposalId, Outcome)> {
    let others = std::mem::take(&mut server.others);
    let outcome = |output| {
        if let Output::Forwarded { id, outcome } = output { Some((id, outcome)) } else { None }
    };
    others.into_iter().filter_map(outcome).collect()
}

/// The requests that the server sent.
fn requests(server: &mut TestServer) -> Vec<(NodeId, Propose<Command>)> {
    let request = |message: Message<Command>| {
        let Body::Propose(request) = message.body else { return None };
        Some((message.to, request))
    };
    server.take_sent().into_iter().filter_map(request).collect()
}

/// The answers that the server sent.
fn replies(server: &mut TestServer) -> Vec<ProposeReply> {
    let reply = |message: Message<Command>| {
        if let Body::ProposeReply(reply) = message.body { Some(reply) } else { None }
    };
    server.take_sent().into_iter().filter_map(reply).collect()
}

/// A follower of server 2, in term 1.
fn follower() -> TestServer {
    follower_with(|_| {})
}

fn follower_with(configure: impl FnOnce(&mut Config)) -> TestServer {
    let mut server = TestServer::with(3, configure);
    server.heartbeat(2, 1);
    server.take_sent();
    server
}

fn forward(server: &mut TestServer, number: u8) -> ProposalId {
    let forwarded = server.forward(command(number)).expect("it follows a leader");
    server.turn();
    forwarded
}

fn appended(id: ProposalId, first: u64, appended: u32) -> Body<Command> {
    let first = index(first);
    Body::ProposeReply(ProposeReply { id, first, appended, refusal: None })
}

fn refused(id: ProposalId, appended: u32, refusal: ProposeRefusal) -> Body<Command> {
    let refusal = Some(refusal);
    Body::ProposeReply(ProposeReply { id, first: index(1), appended, refusal })
}

fn request(round: u64, first: u64, numbers: &[u8]) -> Body<Command> {
    Body::Propose(Propose {
        round: Round::new(round),
        session: Session::new(1),
        id: ProposalId::new(first),
        commands: numbers.iter().copied().map(command).collect(),
    })
}

fn commands(server: &TestServer) -> Vec<Command> {
    let entries = &server.stored.entries;
    let command = |payload: &Payload<Command>| {
        if let Payload::Command(command) = payload { Some(command.clone()) } else { None }
    };
    entries.iter().filter_map(|entry| command(&entry.payload)).collect()
}

/// One request with one command leaves at once; those that come meanwhile share the next.
#[test]
fn a_follower_has_one_request_on_its_way() {
    let mut server = follower();
    let first = forward(&mut server, 1);
    let (second, third) = (forward(&mut server, 2), forward(&mut server, 3));
    let sent = requests(&mut server);
    let [(to, request)] = &sent[..] else { panic!("one request: {sent:?}") };
    assert_eq!((*to, request.id, &request.commands[..]), (id(2), first, &[command(1)][..]));

    server.hear(2, 1, appended(first, 1, 1));
    let entry = LogId::new(server.term(), index(1));
    assert_eq!(outcomes(&mut server), [(first, ForwardOutcome::Appended(entry))]);
    let sent = requests(&mut server);
    let [(_, request)] = &sent[..] else { panic!("one request: {sent:?}") };
    assert_eq!((request.id, &request.commands[..]), (second, &[command(2), command(3)][..]));
    assert_eq!(third, second.next());
    assert_eq!(server.status().forwards_waiting, 2);
}

/// The request or its answer may be lost. It is sent again as it was.
#[test]
fn a_request_is_sent_again_after_a_heartbeat_interval() {
    let mut server = follower();
    forward(&mut server, 1);
    let sent = requests(&mut server);
    server.pass(ms(49));
    assert_eq!(requests(&mut server), [], "an answer may be on its way");
    server.pass(ms(1));
    assert_eq!(requests(&mut server), sent);
}

/// A leader that is heard of and gives no answer is not waited for without end.
#[test]
fn a_request_without_an_answer_is_given_up() {
    let mut server = follower();
    let forwarded = forward(&mut server, 1);
    for _ in 0..7 {
        server.pass(ms(50));
        server.heartbeat(2, 1);
    }
    assert_eq!(outcomes(&mut server), [(forwarded, ForwardOutcome::Unknown)]);
    assert_eq!(server.status().forwards_waiting, 0);
}

/// What was sent may have been appended. What was not sent was certainly not, and comes back.
#[test]
fn a_lost_leader_loses_what_was_sent() {
    let mut server = follower();
    let (sent, kept) = (forward(&mut server, 1), forward(&mut server, 2));
    server.heartbeat(3, 2);
    let back = ProposeError::NotLeader { leader: None, command: command(2) };
    let expected = [(sent, ForwardOutcome::Unknown), (kept, ForwardOutcome::Refused(back))];
    assert_eq!(outcomes(&mut server), expected);

    let missed = forward(&mut server, 3);
    server.sleep_until(Wake::Election);
    assert_eq!(outcomes(&mut server), [(missed, ForwardOutcome::Unknown)]);
    let refused = server.forward(command(4));
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: None, command: command(4) }));
}

/// A leader of a version that does not know forwarded commands would drop them.
#[test]
fn an_older_leader_is_sent_nothing() {
    let mut server = TestServer::new(3);
    let mut heartbeat = append(at(0, 0), vec![], 0);
    heartbeat.takes_proposals = false;
    server.hear(2, 1, Body::AppendEntries(heartbeat));
    let refused = server.forward(command(1));
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(id(2)), command: command(1) }));
}

#[test]
fn what_waits_is_bounded() {
    let mut server = follower_with(|config| config.forwards_waiting_max = 2);
    forward(&mut server, 1);
    forward(&mut server, 2);
    let command = command(3);
    assert_eq!(
        server.forward(command.clone()),
        Err(ProposeError::TooManyForwarded { command: command.clone() })
    );

    let mut server = follower_with(|config| config.forwards_bytes_max = 1);
    let first = forward(&mut server, 1);
    assert_eq!(
        server.forward(command.clone()),
        Err(ProposeError::TooManyForwarded { command: command.clone() })
    );
    server.hear(2, 1, appended(first, 1, 1));
    assert!(server.forward(command).is_ok(), "one always fits");
}

/// If the entry was handed out before its proposer is known, nobody would answer for it.
#[test]
fn an_answer_that_comes_too_late_is_none() {
    let mut server = follower();
    let forwarded = forward(&mut server, 1);
    server.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries_after(0, &[1]), 1)));
    assert_eq!(server.applied_ids(), [at(1, 1)]);
    server.hear(2, 1, appended(forwarded, 1, 1));
    assert_eq!(outcomes(&mut server), [(forwarded, ForwardOutcome::Unknown)]);
}

#[test]
fn a_refusal_comes_back_with_its_reason() {
    let mut server = follower();
    let first = forward(&mut server, 1);
    let (second, third, fourth) =
        (forward(&mut server, 2), forward(&mut server, 3), forward(&mut server, 4));
    server.hear(2, 1, refused(first, 0, ProposeRefusal::LogFull(9)));
    let full = ProposeError::LogFull { bytes_max: 9, command: command(1) };
    assert_eq!(outcomes(&mut server), [(first, ForwardOutcome::Refused(full))]);

    // A command that is too large is refused alone.
    requests(&mut server);
    server.hear(2, 1, refused(second, 1, ProposeRefusal::TooLarge(0)));
    let entry = LogId::new(server.term(), index(1));
    let large = ProposeError::TooLarge { bytes: 1, bytes_max: 0, command: command(3) };
    let expected =
        [(second, ForwardOutcome::Appended(entry)), (third, ForwardOutcome::Refused(large))];
    assert_eq!(outcomes(&mut server), expected);
    let sent = requests(&mut server);
    let [(_, request)] = &sent[..] else { panic!("the rest: {sent:?}") };
    assert_eq!((request.id, &request.commands[..]), (fourth, &[command(4)][..]));
}

/// The leader's side: the entries are appended in their order, and the answer says where.
#[test]
fn a_leader_appends_and_says_where() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.take_sent();
    server.hear(2, 1, request(1, 7, &[1, 2]));
    let reply =
        ProposeReply { id: ProposalId::new(7), first: index(2), appended: 2, refusal: None };
    assert_eq!(replies(&mut server), [reply]);
    assert_eq!(commands(&server), [command(1), command(2)]);
    assert_eq!(server.status().counters.forwards_taken, 2);
}

/// The network repeats messages, and the follower does. A command is appended once, and the answer
/// stays the same.
#[test]
fn a_request_that_comes_again_is_not_appended_again() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.take_sent();
    server.hear(2, 1, request(1, 7, &[1]));
    let answer = replies(&mut server);
    server.hear(2, 1, request(1, 7, &[1]));
    assert_eq!(replies(&mut server), answer);
    assert_eq!(commands(&server), [command(1)]);

    // A late copy of an earlier request.
    server.hear(2, 1, request(1, 8, &[2]));
    replies(&mut server);
    server.hear(2, 1, request(1, 7, &[1]));
    assert_eq!(replies(&mut server), []);
    assert_eq!(commands(&server), [command(1), command(2)]);
    assert_eq!(server.status().counters.stale_forwards, 2);
}

/// A follower that starts again numbers anew, and its round is newer than before.
#[test]
fn a_late_request_of_an_earlier_life_is_dropped() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.take_sent();
    server.hear(2, 1, request(1, 700, &[1]));
    server.hear(2, 1, request(3, 5, &[2]));
    server.hear(2, 1, request(1, 700, &[1]));
    server.hear(2, 1, request(2, 701, &[1]));
    assert_eq!(commands(&server), [command(1), command(2)]);
}

/// A member that was removed and added again has a new session, and the leader knows nothing of
/// what it took in the last one.
#[test]
fn a_request_of_another_session_is_dropped() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.take_sent();
    let Body::Propose(mut other) = request(1, 7, &[1]) else { unreachable!() };
    other.session = Session::new(0);
    server.hear(2, 1, Body::Propose(other));
    assert_eq!((commands(&server), replies(&mut server)), (vec![], vec![]));
}

/// Two servers that each take the other for the leader do no harm: a request is never sent on.
#[test]
fn a_server_that_does_not_lead_drops_a_request() {
    let mut server = follower();
    server.hear(3, 1, request(1, 7, &[1]));
    assert_eq!(server.take_sent().len(), 0);
    assert_eq!(server.status().forwards_waiting, 0);
}

/// A server that is no member is not served.
#[test]
fn a_stranger_appends_nothing() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.take_sent();
    server.hear(9, 1, request(1, 7, &[1]));
    assert_eq!((commands(&server), server.take_sent().len()), (vec![], 0));
    assert_eq!(server.status().counters.unknown_sender, 1);
}

#[test]
fn a_leader_refuses_for_the_reasons_of_its_own_clients() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.take_sent();
    let long = vec![0; server.raft.config().command_bytes_max + 1];
    let Body::Propose(mut propose) = request(1, 7, &[1]) else { unreachable!() };
    propose.commands.push(long);
    propose.commands.push(command(2));
    server.hear(2, 1, Body::Propose(propose));
    let [reply] = replies(&mut server)[..] else { panic!("one answer") };
    assert_eq!((reply.appended, reply.refusal), (1, Some(ProposeRefusal::TooLarge(1 << 20))));
    assert_eq!(server.status().counters.forwards_refused, 2);

    server.matched(3, 1);
    assert!(server.transfer_leadership(Some(id(3))).is_ok());
    server.take_sent();
    server.hear(2, 1, request(2, 9, &[3]));
    let refusal = replies(&mut server).first().and_then(|reply| reply.refusal);
    assert_eq!(refusal, Some(ProposeRefusal::Transferring(id(3))));
    assert_eq!(commands(&server), [command(1)]);
}
