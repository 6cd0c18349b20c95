//! A sentence of the language, and a line that was understood as one.

use alloc::vec::Vec;

use super::Told;
use super::stage::Stage;
use super::words::{Value, Values};
use crate::NodeId;

/// A sentence of the language.
#[derive(Debug)]
pub(super) struct Sentence {
    pub(super) form: &'static str,
    /// In one line, for the README.
    pub(super) meaning: &'static str,
    run: fn(&mut Stage, &mut Values) -> Told,
}

pub(super) const fn sentence(
    form: &'static str,
    meaning: &'static str,
    run: fn(&mut Stage, &mut Values) -> Told,
) -> Sentence {
    Sentence { form, meaning, run }
}

/// A line understood.
#[derive(Clone, Debug)]
pub(super) struct Step {
    sentence: &'static Sentence,
    values: Vec<Value>,
}

impl Step {
    pub(super) fn new(sentence: &'static Sentence, values: Vec<Value>) -> Self {
        Self { sentence, values }
    }

    pub(super) fn run(&self, stage: &mut Stage) -> Told {
        (self.sentence.run)(stage, &mut Values::new(self.values.clone()))
    }

    /// The servers that the line names.
    pub(super) fn servers(&self) -> Vec<NodeId> {
        self.values.iter().flat_map(Value::servers).copied().collect()
    }
}
