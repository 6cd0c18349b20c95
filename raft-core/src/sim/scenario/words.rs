//! The words of a line, and how they fit the form of a sentence.
//!
//! A form is written as it reads: `N proposes COMMAND..`. The docs of the module above list the
//! slots.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::Command;
use super::tell;
use crate::{Change, ClusterIdentity, NodeId, Payload, Role, Term};

/// An entry as a script names it.
pub(super) type NamedEntry = (Term, Held);

/// What an entry holds, as a script names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Held {
    Noop,
    Command(Command),
    /// A configuration, whatever its members are.
    Members,
}

impl Held {
    pub(super) fn of(payload: &Payload<Command>) -> Self {
        match payload {
            Payload::Noop => Self::Noop,
            Payload::Command(command) => Self::Command(command.clone()),
            Payload::Configuration(_) => Self::Members,
        }
    }
}

/// What filled a slot.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Server(NodeId),
    Servers(Vec<NodeId>),
    Count(u64),
    Span(Duration),
    Name(String),
    Role(Role),
    Words(Vec<String>),
    Commands(Vec<Command>),
    Entries(Vec<NamedEntry>),
    Changes(Vec<Change>),
}

impl Value {
    /// The servers that it names.
    pub(super) fn servers(&self) -> &[NodeId] {
        match self {
            Self::Server(id) => core::slice::from_ref(id),
            Self::Servers(ids) => ids,
            Self::Count(_)
            | Self::Span(_)
            | Self::Name(_)
            | Self::Role(_)
            | Self::Words(_)
            | Self::Commands(_)
            | Self::Entries(_)
            | Self::Changes(_) => &[],
        }
    }
}

/// What filled the slots of a form, to be taken in their order. A taker of the wrong kind is a
/// mistake in the table of sentences.
pub(super) struct Values(alloc::vec::IntoIter<Value>);

macro_rules! takers {
    ($($name:ident: $variant:ident -> $of:ty,)+) => {
        impl Values {
            $(pub(super) fn $name(&mut self) -> $of {
                match self.0.next() {
                    Some(Value::$variant(value)) => value,
                    other => panic!("the table of sentences takes a {} from {other:?}", stringify!($name)),
                }
            })+
        }
    };
}

takers! {
    server: Server -> NodeId,
    servers: Servers -> Vec<NodeId>,
    count: Count -> u64,
    span: Span -> Duration,
    name: Name -> String,
    role: Role -> Role,
    words: Words -> Vec<String>,
    commands: Commands -> Vec<Command>,
    entries: Entries -> Vec<NamedEntry>,
    changes: Changes -> Vec<Change>,
}

impl Values {
    pub(super) fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }
}

/// Cuts a line into words, up to a comment. What stands in quotes is kept together.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '#' if !quoted => break,
            '"' => {
                quoted = !quoted;
                word.push(letter);
            }
            letter if letter.is_whitespace() && !quoted => {
                words.extend(Some(core::mem::take(&mut word)).filter(|word| !word.is_empty()));
            }
            letter => word.push(letter),
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    Ok(words)
}

/// What fills the slots of `form`; or how many words of the form fit.
pub(super) fn fit(form: &str, words: &[String]) -> Result<Vec<Value>, usize> {
    let mut values = Vec::new();
    let mut rest = words;
    for (at, slot) in form.split_whitespace().enumerate() {
        let (taken, value) = take(slot, rest).ok_or(at)?;
        values.extend(value);
        rest = &rest[taken..];
    }
    let fitted = form.split_whitespace().count();
    if rest.is_empty() { Ok(values) } else { Err(fitted) }
}

/// How many words the slot takes, and what they mean.
fn take(slot: &str, words: &[String]) -> Option<(usize, Option<Value>)> {
    let one = |value: Option<Value>| value.map(|value| (1, Some(value)));
    let first = words.first().map(String::as_str);
    match slot {
        "N" => one(first.and_then(server).map(Value::Server)),
        "N's" => one(first?.strip_suffix("'s").and_then(server).map(Value::Server)),
        "N.." => list(words, server).map(|(n, all)| (n, Some(Value::Servers(all)))),
        "COUNT" => one(first?.parse().ok().map(Value::Count)),
        "SPAN" => one(span(first?).map(Value::Span)),
        "NAME" => one(name(first?).map(Value::Name)),
        "ROLE" => one(tell::role_named(first?).map(Value::Role)),
        "KIND" => {
            one(first.filter(|word| tell::KINDS.contains(word)).map(|k| Value::Name(k.into())))
        }
        "DETAILS.." => {
            let (n, all) = list(words, detail).unwrap_or_default();
            Some((n, Some(Value::Words(all))))
        }
        "COMMAND.." => list(words, command).map(|(n, all)| (n, Some(Value::Commands(all)))),
        "ENTRIES.." => list(words, entry).map(|(n, all)| (n, Some(Value::Entries(all)))),
        "CHANGE.." => list(words, change).map(|(n, all)| (n, Some(Value::Changes(all)))),
        literal => literal.split('|').any(|word| Some(word) == first).then_some((1, None)),
    }
}

/// The words from the first on that all mean something, if one does.
fn list<T>(words: &[String], meaning: impl Fn(&str) -> Option<T>) -> Option<(usize, Vec<T>)> {
    let all: Vec<T> = words.iter().map_while(|word| meaning(word)).collect();
    (!all.is_empty()).then_some((all.len(), all))
}

fn server(word: &str) -> Option<NodeId> {
    word.parse().ok().map(NodeId::new)
}

fn span(word: &str) -> Option<Duration> {
    let millis = |digits: &str| digits.parse().ok().map(Duration::from_millis);
    match word.strip_suffix("ms") {
        Some(digits) => millis(digits),
        None => word.strip_suffix('s')?.parse().ok().map(Duration::from_secs),
    }
}

fn name(word: &str) -> Option<String> {
    let first = word.chars().next()?;
    let rest = word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    (first.is_ascii_lowercase() && rest).then(|| word.into())
}

fn command(word: &str) -> Option<Command> {
    let text = word.strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('"')).then(|| text.as_bytes().to_vec())
}

/// `add:4:label`, `promote:4`, `demote:4`, `remove:4`, `relabel:4:label`, `priority:4:1`,
/// `identify` or `store:4:1`.
fn change(word: &str) -> Option<Change> {
    let mut parts = word.splitn(3, ':');
    let (verb, id) = (parts.next()?, parts.next().and_then(server));
    let rest = parts.next().unwrap_or_default();
    match verb {
        "add" => Some(Change::add_learner(id?, rest)),
        "promote" => Some(Change::Promote(id?)),
        "demote" => Some(Change::Demote(id?)),
        "remove" => Some(Change::Remove(id?)),
        "relabel" => Some(Change::Relabel { id: id?, label: rest.into() }),
        "priority" => Some(Change::Prioritise { id: id?, priority: rest.parse().ok()? }),
        "identify" => Some(Change::Identify(ClusterIdentity::new(1))),
        "store" => Some(Change::RecordStore { id: id?, store: rest.parse().ok()? }),
        _ => None,
    }
}

/// `1:noop`, `1:members` or `1:"a"`.
pub(super) fn entry(word: &str) -> Option<NamedEntry> {
    let (term, payload) = word.split_once(':')?;
    let held = match payload {
        "noop" => Held::Noop,
        "members" => Held::Members,
        quoted => Held::Command(command(quoted)?),
    };
    Some((Term::new(term.parse().ok()?), held))
}

/// A word that descriptions of messages use; with it a number, the position `term.index` of an
/// entry, or an entry.
fn detail(word: &str) -> Option<String> {
    let is_position = || {
        let (term, index) = word.split_once('.')?;
        Some(term.parse::<u64>().is_ok() && index.parse::<u64>().is_ok())
    };
    let known = tell::DETAILS.contains(&word)
        || word.parse::<u64>().is_ok()
        || is_position() == Some(true)
        || entry(word).is_some();
    known.then(|| word.into())
}
