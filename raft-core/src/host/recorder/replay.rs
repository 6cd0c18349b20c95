//! Replays what one process recorded, and compares states on the way.

use std::boxed::Box;
use std::fmt;
use std::ops::Range;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;
use std::{format, mem};

use super::command::RecordedCommand;
use super::input::Input;
use super::random::RecordedRandom;
use super::reader::{Frames, ReadingError, Recording, begin};
use super::tape::{INPUTS, START, STATE, digest};
use crate::checkpoint::{Damaged, In, Out, Stored};
use crate::config::Config;
use crate::config_error::ConfigError;
use crate::message::Message;
use crate::output::{Output, Restored};
use crate::raft::Raft;
use crate::reason::{RefusedVote, SteppedDown};
use crate::time::Instant;
use crate::types::{NodeId, ReadId};

/// A core that is told again what it was told when it was recorded.
#[derive(Debug)]
pub struct Replay {
    recording: Recording,
    /// The segment that is next to be read.
    segment: usize,
    /// The bytes of the segment that is being read, and its frames that are not, the last first.
    bytes: Arc<Vec<u8>>,
    frames: Vec<Range<usize>>,
    /// The inputs of the frame that is being read, which are taken one at a time.
    inputs: Range<usize>,
    next: Option<Step>,
    contents: bool,
    raft: Option<Raft<RecordedCommand, RecordedRandom>>,
    /// The number of the next input.
    input: u64,
    now: Instant,
    /// Whether the last that was read is the digest with which a node ends.
    ends_well: bool,
    /// Whether the file that was read last is damaged at its end.
    torn: bool,
    /// Whether the core was told something since its outputs were last polled.
    unpolled: bool,
    scratch: Vec<u8>,
    compared: u64,
    notes: Vec<String>,
}

/// What comes next on a recording.
#[derive(Debug)]
enum Step {
    Start(Box<(Config, Restored<RecordedCommand>, RecordedRandom)>),
    Resume(Vec<u8>),
    Input(Input<RecordedCommand>),
}

/// What a replayed core was told, and what it made of that.
#[derive(Debug)]
pub enum Event {
    /// The node started with this.
    Started(Restored<RecordedCommand>),
    /// What came before is not on the recording: it goes on from a state.
    Resumed,
    /// The core was told this.
    Told {
        /// The input.
        input: Input<RecordedCommand>,
        /// What was polled.
        outputs: Vec<Output<RecordedCommand>>,
        /// The read that was accepted, if the input was one.
        read: Option<ReadId>,
    },
}

/// A state that differs from the recorded one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The node.
    pub node: NodeId,
    /// The number of the next input.
    pub input: u64,
    /// The replayed state, and what was recorded.
    pub states: String,
}

/// Why a replay cannot go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// A segment cannot be read.
    Reading(ReadingError),
    /// No server could have started like this.
    Start(ConfigError),
    /// The replayed state is not the recorded one.
    Difference(Difference),
}

impl Replay {
    /// A replay from the first segment of a recording.
    pub fn new(recording: Recording) -> Self {
        Self {
            recording,
            segment: 0,
            bytes: Arc::default(),
            frames: Vec::new(),
            inputs: 0..0,
            next: None,
            contents: false,
            raft: None,
            input: 0,
            now: Instant::ZERO,
            ends_well: false,
            torn: false,
            unpolled: false,
            scratch: Vec::new(),
            compared: 0,
            notes: Vec::new(),
        }
    }

    /// The recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The core, once it has started.
    pub fn raft(&self) -> Option<&Raft<RecordedCommand, RecordedRandom>> {
        self.raft.as_ref()
    }

    /// The last vote or pre-vote that the server refused, and why.
    pub fn refused_vote(&self) -> Option<RefusedVote> {
        self.raft.as_ref()?.server.reasons.refused_vote
    }

    /// How the server's last leadership, candidacy or pre-vote ended.
    pub fn stepped_down(&self) -> Option<SteppedDown> {
        self.raft.as_ref()?.server.reasons.stepped_down
    }

    /// The number of the next input.
    pub fn input(&self) -> u64 {
        self.input
    }

    /// The time of the last tick, in microseconds since the node started.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The time of the last tick, in microseconds since 1970, by the node's clock.
    pub fn wall_micros(&self) -> u64 {
        self.recording.run.saturating_add(self.now.as_micros())
    }

    /// How often the replayed state was compared with the recorded one.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// Whether nothing is missing at the end of the recording, once it is replayed: the node ended
    /// as it should, or wrote ahead, and its last file is not damaged.
    pub fn is_complete(&self) -> bool {
        (self.ends_well || self.recording.write_ahead) && !self.torn
    }

    /// What is not as it should be on this recording: gaps, damaged tails.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The message that comes next, if a message is next.
    ///
    /// # Errors
    ///
    /// As [`Replay::advance`].
    pub fn next_message(&mut self) -> Result<Option<&Message<RecordedCommand>>, ReplayError> {
        self.fill()?;
        Ok(match &self.next {
            Some(Step::Input(Input::Step(message))) => Some(message),
            Some(_) | None => None,
        })
    }

    /// Tells the core what comes next. `None` at the end of the recording.
    ///
    /// # Errors
    ///
    /// If the state is not the recorded one, or a segment cannot be read.
    ///
    /// # Panics
    ///
    /// Where the recorded core panicked.
    pub fn advance(&mut self) -> Result<Option<Event>, ReplayError> {
        self.fill()?;
        let Some(step) = self.next.take() else {
            // Inputs are recorded before the outputs are polled. If the process was killed in
            // between, some outputs may have been seen, so they are computed.
            if mem::take(&mut self.unpolled) {
                return self.tell(Input::PollAll).map(Some);
            }
            return Ok(None);
        };
        Ok(Some(match step {
            Step::Start(start) => {
                let (config, restored, random) = *start;
                let raft = Raft::new(config, restored.clone(), random);
                self.raft = Some(raft.map_err(ReplayError::Start)?);
                Event::Started(restored)
            }
            Step::Resume(state) => {
                let mut from = In::new(&state, self.contents);
                let raft = Raft::take(&mut from).map_err(|damaged| self.damaged(damaged))?;
                self.raft = Some(raft);
                Event::Resumed
            }
            Step::Input(input) => {
                self.input += 1;
                self.ends_well = matches!(input, Input::Digest(_));
                self.tell(input)?
            }
        }))
    }

    fn tell(&mut self, input: Input<RecordedCommand>) -> Result<Event, ReplayError> {
        let Some(raft) = &mut self.raft else { return Ok(Event::Resumed) };
        let (mut outputs, mut read) = (Vec::new(), None);
        self.unpolled = !matches!(input, Input::PollAll);
        match &input {
            Input::Step(message) => raft.step((**message).clone()),
            Input::Propose(command) => drop(raft.propose(command.clone())),
            Input::Forward(command) => drop(raft.forward(command.clone())),
            Input::Tick(elapsed) => {
                self.now = Instant::from_micros(self.now.as_micros().saturating_add(*elapsed));
                raft.tick(self.now);
            }
            Input::Poll(times) => {
                outputs.extend((0..*times).filter_map(|_| raft.poll_outbox()));
            }
            Input::PollAll => outputs.extend(std::iter::from_fn(|| raft.poll_outbox())),
            Input::Persisted(write) => raft.persisted(*write),
            Input::Applied(index) => raft.applied(*index),
            Input::Read => read = raft.read().ok(),
            Input::SuspectLeader(leader) => raft.suspect_leader(*leader),
            Input::TransferLeadership(to) => drop(raft.transfer_leadership(*to)),
            Input::ChangeMembership(changes) => drop(raft.change_membership(changes)),
            Input::Abstain(abstains) => raft.abstain(*abstains),
            Input::TakeSnapshot => drop(raft.take_snapshot()),
            Input::SnapshotTaken(index) => raft.snapshot_taken(*index),
            Input::SnapshotFailed => raft.snapshot_failed(),
            Input::SnapshotDamaged(snapshot) => raft.snapshot_damaged(*snapshot),
            Input::SnapshotRead { to, snapshot, offset, chunk, done } => {
                raft.snapshot_read(*to, *snapshot, *offset, chunk.clone(), *done);
            }
            Input::SnapshotUnreadable { to, snapshot } => {
                raft.snapshot_unreadable(*to, *snapshot);
            }
            Input::SnapshotWritten { install, written } => {
                raft.snapshot_written(*install, *written);
            }
            Input::Digest(recorded) => {
                self.compared += 1;
                let replayed = digest(raft, &mut self.scratch);
                if replayed != *recorded {
                    let states =
                        format!("its digest is {replayed:08x}, recorded is {recorded:08x}");
                    return Err(self.difference(states));
                }
            }
        }
        Ok(Event::Told { input, outputs, read })
    }

    fn difference(&self, states: String) -> ReplayError {
        let (node, input) = (self.recording.node, self.input);
        ReplayError::Difference(Difference { node, input, states })
    }

    fn damaged(&self, Damaged { offset }: Damaged) -> ReplayError {
        let read = self.segment.saturating_sub(1);
        let path = self.recording.segments.get(read).map(|segment| segment.path.clone());
        let (path, offset) = (path.unwrap_or_default(), offset as u64);
        ReplayError::Reading(ReadingError::Damaged { path, offset })
    }

    /// Reads on until something is next, or all is read.
    fn fill(&mut self) -> Result<(), ReplayError> {
        while self.next.is_none() {
            if !self.inputs.is_empty() {
                self.read_input()?;
            } else if let Some(frame) = self.frames.pop() {
                self.read_frame(frame)?;
            } else if !self.read_segment()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns false if there are no more segments.
    fn read_segment(&mut self) -> Result<bool, ReplayError> {
        let Some(segment) = self.recording.segments.get(self.segment).cloned() else {
            return Ok(false);
        };
        self.segment += 1;
        let path = &segment.path;
        let bytes = segment.read().map_err(ReplayError::Reading)?;
        let at = begin(path, &bytes).map_err(ReplayError::Reading)?;
        let mut frames = Frames { bytes: &bytes, at };
        // The header was read when the recording was found.
        frames.next_frame();
        self.contents = segment.contents;
        self.frames.clear();
        while let Some(payload) = frames.next_frame() {
            self.frames.push(frames.at - payload.len()..frames.at);
        }
        self.frames.reverse();
        let left = bytes.len() - frames.at;
        self.torn = left > 0;
        if self.torn {
            let (path, at) = (path.display(), frames.at);
            self.notes.push(format!("{path}: the last {left} bytes, from {at} on, are damaged"));
        }
        self.bytes = bytes;
        if self.raft.is_none() || segment.first_input != self.input {
            if self.raft.is_some() {
                let (node, input) = (self.recording.node, self.input);
                let first = segment.first_input;
                self.notes.push(format!("server {node}: a gap, from input {input} to {first}"));
            }
            self.raft = None;
            self.input = segment.first_input;
            self.now = Instant::from_micros(segment.now);
        }
        Ok(true)
    }

    fn read_frame(&mut self, frame: Range<usize>) -> Result<(), ReplayError> {
        let bytes = Arc::clone(&self.bytes);
        let payload = bytes.get(frame.clone()).unwrap_or_default();
        let mut from = In::new(payload, self.contents);
        let read = match from.byte() {
            Ok(START) => self.read_start(&mut from),
            Ok(STATE) => return self.read_state(payload.get(1..).unwrap_or_default()),
            // The number of the first input follows from those before.
            Ok(INPUTS) => {
                from.slice(8).map(|_| self.inputs = frame.start + from.offset()..frame.end)
            }
            Ok(_) | Err(_) => Err(from.damaged()),
        };
        read.map_err(|damaged| self.damaged(damaged))
    }

    fn read_start(&mut self, from: &mut In<'_>) -> Result<(), Damaged> {
        self.next = Some(Step::Start(Box::new(Stored::take(from)?)));
        Ok(())
    }

    fn read_input(&mut self) -> Result<(), ReplayError> {
        let bytes = self.bytes.get(self.inputs.clone()).unwrap_or_default();
        let mut from = In::new(bytes, self.contents);
        match Input::take(&mut from) {
            Ok(input) => {
                self.inputs.start += from.offset();
                self.next = Some(Step::Input(input));
                Ok(())
            }
            Err(damaged) => Err(self.damaged(damaged)),
        }
    }

    /// Compares the state in the middle of a recording, or goes on from it.
    fn read_state(&mut self, state: &[u8]) -> Result<(), ReplayError> {
        let Some(raft) = &self.raft else {
            self.next = Some(Step::Resume(state.to_vec()));
            return Ok(());
        };
        self.scratch.clear();
        let contents = self.contents;
        raft.put(&mut Out { bytes: &mut self.scratch, contents, entries: true });
        self.compared += 1;
        if self.scratch == state {
            return Ok(());
        }
        let replayed = format!("{raft:?}");
        let recorded = Raft::<RecordedCommand, RecordedRandom>::take(&mut In::new(state, contents));
        let recorded = recorded.map_or_else(|_| String::new(), |raft| format!("{raft:?}"));
        Err(self.difference(first_difference(&replayed, &recorded)))
    }
}

/// Where two texts begin to differ, and a little around it.
fn first_difference(replayed: &str, recorded: &str) -> String {
    let same = replayed.bytes().zip(recorded.bytes()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| -> String {
        let bytes = text.as_bytes();
        let part = &bytes[same.saturating_sub(60).min(bytes.len())..(same + 60).min(bytes.len())];
        String::from_utf8_lossy(part).into_owned()
    };
    format!("it is ..{}.., recorded is ..{}..", around(replayed), around(recorded))
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reading(error) => error.fmt(f),
            Self::Start(error) => error.fmt(f),
            Self::Difference(Difference { node, input, states }) => {
                write!(
                    f,
                    "before input {input} of server {node} its state is not the recorded one: {states}"
                )
            }
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its text is this error's own.
            Self::Reading(error) => error.source(),
            Self::Start(_) | Self::Difference(_) => None,
        }
    }
}
