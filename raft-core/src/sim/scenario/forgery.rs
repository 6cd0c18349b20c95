//! Messages that nobody sent.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::stage::Stage;
use super::words::{self, Held, Values};
use super::{Command, Told};
use crate::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, Entry, Index, InstallSnapshot, LogId,
    Membership, Message, Payload, RequestPreVote, RequestPreVoteReply, RequestVote,
    RequestVoteReply, Round, Session, SnapshotMeta, Term,
};

/// Makes up a message. What its description leaves out is 0, or what the sender last said.
pub(super) fn forge(stage: &mut Stage, values: &mut Values) -> Told {
    let (from, to, kind, details) =
        (values.server(), values.server(), values.name(), values.words());
    let details = Details(&details);
    let campaign = stage.campaign_of(to);
    let granted = details.has("granted");
    let session = Session::new(details.number("session").unwrap_or(1));
    let body = match kind.as_str() {
        "RequestPreVote" => {
            Body::RequestPreVote(RequestPreVote { last_log: details.position("log"), campaign })
        }
        "RequestPreVoteReply" => {
            Body::RequestPreVoteReply(RequestPreVoteReply { granted, campaign })
        }
        "RequestVote" => {
            let (last_log, transfer) = (details.position("log"), details.has("transfer"));
            Body::RequestVote(RequestVote { last_log, transfer })
        }
        "RequestVoteReply" => {
            let last_log = details.position("log");
            Body::RequestVoteReply(RequestVoteReply { granted, last_log })
        }
        "AppendEntries" => Body::AppendEntries(AppendEntries {
            session,
            round: Round::new(1),
            prev_log: details.position("after"),
            entries: details.entries().into(),
            leader_commit: Index::new(details.number("commit").unwrap_or(0)),
            rank: None,
            election_timeout_micros: None,
            takes_proposals: false,
        }),
        "AppendEntriesReply" => {
            let result = match details.number("rejected") {
                Some(index) => AppendResult::Rejected {
                    prev_log_index: Index::new(index),
                    hint: details.position("hint"),
                },
                None => AppendResult::Matched(Index::new(details.number("matched").unwrap_or(0))),
            };
            Body::AppendEntriesReply(AppendEntriesReply {
                session,
                round: Round::new(1),
                result,
                promise_micros: 0,
                state: None,
            })
        }
        "InstallSnapshot" => Body::InstallSnapshot(InstallSnapshot {
            session,
            snapshot: Box::new(SnapshotMeta {
                last: details.position("snapshot"),
                membership: Membership::of_voters(stage.all()),
            }),
            offset: details.number("offset").unwrap_or(0),
            chunk: Command::from("forged"),
            done: true,
        }),
        kind => return Err(format!("nobody can forge {kind}")),
    };
    let term = Term::new(details.number("term").unwrap_or(0));
    stage.tolerate_oddities();
    stage.deliver(Message { from, to, term, body })
}

/// The words that describe a message.
struct Details<'a>(&'a [String]);

impl Details<'_> {
    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|detail| detail == word)
    }

    fn after(&self, word: &str) -> Option<&str> {
        let at = self.0.iter().position(|detail| detail == word)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn number(&self, word: &str) -> Option<u64> {
        self.after(word)?.parse().ok()
    }

    fn position(&self, word: &str) -> LogId {
        let position = self.after(word).and_then(|position| {
            let (term, index) = position.split_once('.')?;
            Some(LogId::new(Term::new(term.parse().ok()?), Index::new(index.parse().ok()?)))
        });
        position.unwrap_or(LogId::ZERO)
    }

    /// The entries behind `after`; or from `first` on, which leaves a gap.
    fn entries(&self) -> Vec<Entry<Command>> {
        let first = self.number("first").map(|first| Index::new(first.saturating_sub(1)));
        let mut index = first.unwrap_or(self.position("after").index);
        let entries = self.0.iter().filter_map(|word| words::entry(word));
        let entries = entries.map(|(term, held)| match held {
            Held::Noop => (term, Payload::Noop),
            Held::Command(command) => (term, Payload::Command(command)),
            Held::Members => (term, Payload::Configuration(Box::default())),
        });
        let follow = entries.map(|(term, payload)| {
            index = index.next();
            Entry { term, index, payload }
        });
        follow.collect()
    }
}
