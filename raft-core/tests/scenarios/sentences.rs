//! The language: every sentence with its form, what it means, and what it does.

use crate::Told;
use crate::actions::ACTIONS;
use crate::expectations::EXPECTATIONS;
use crate::membership::MEMBERSHIP;
use crate::setup::SETUP;
use crate::snapshots::SNAPSHOTS;
use crate::stage::Stage;
use crate::words::{Value, Values, fit};

/// A sentence of the language.
pub struct Sentence {
    pub form: &'static str,
    /// In one line, for the README.
    pub meaning: &'static str,
    pub run: fn(&mut Stage, &mut Values) -> Told,
}

/// A group of sentences, as the README lists them.
pub struct Chapter {
    pub title: &'static str,
    pub sentences: &'static [Sentence],
}

pub const CHAPTERS: [Chapter; 5] = [
    Chapter { title: "Before the servers start", sentences: SETUP },
    Chapter { title: "What happens", sentences: ACTIONS },
    Chapter { title: "What is expected", sentences: EXPECTATIONS },
    Chapter { title: "Snapshots", sentences: SNAPSHOTS },
    Chapter { title: "Membership and leadership transfer", sentences: MEMBERSHIP },
];

pub const fn sentence(
    form: &'static str,
    meaning: &'static str,
    run: fn(&mut Stage, &mut Values) -> Told,
) -> Sentence {
    Sentence { form, meaning, run }
}

/// A line understood.
#[derive(Clone)]
pub struct Step {
    pub sentence: &'static Sentence,
    values: Vec<Value>,
}

impl Step {
    pub fn run(&self, stage: &mut Stage) -> Told {
        (self.sentence.run)(stage, &mut Values::new(self.values.clone()))
    }

    /// The servers that the line names.
    pub fn servers(&self) -> Vec<raft_core::NodeId> {
        self.values.iter().flat_map(Value::servers).copied().collect()
    }
}

/// Understands a line, or says what would be valid.
pub fn understand(words: &[String]) -> Result<Step, String> {
    let mut nearest = Vec::new();
    let mut most = 0;
    for sentence in CHAPTERS.iter().flat_map(|chapter| chapter.sentences) {
        match fit(sentence.form, words) {
            Ok(values) => return Ok(Step { sentence, values }),
            Err(fitted) => {
                if fitted > most {
                    nearest.clear();
                    most = fitted;
                }
                if fitted == most {
                    nearest.push(sentence.form);
                }
            }
        }
    }
    let forms: String = nearest.iter().map(|form| format!("\n    {form}")).collect();
    Err(format!("no sentence reads like this; the nearest are{forms}"))
}
