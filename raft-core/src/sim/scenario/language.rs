//! The language: every sentence with its form, what it means, and what it does.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::actions::ACTIONS;
use super::expectations::EXPECTATIONS;
use super::membership::MEMBERSHIP;
use super::sentence::{Sentence, Step};
use super::setup::SETUP;
use super::snapshots::SNAPSHOTS;
use super::words::fit;

/// A group of sentences, as the README lists them.
struct Chapter {
    title: &'static str,
    sentences: &'static [Sentence],
}

const CHAPTERS: [Chapter; 5] = [
    Chapter { title: "Before the servers start", sentences: SETUP },
    Chapter { title: "What happens", sentences: ACTIONS },
    Chapter { title: "What is expected", sentences: EXPECTATIONS },
    Chapter { title: "Snapshots", sentences: SNAPSHOTS },
    Chapter { title: "Membership and leadership transfer", sentences: MEMBERSHIP },
];

/// Every sentence and its meaning, as tables of Markdown.
pub fn language() -> String {
    let mut text = String::new();
    for chapter in &CHAPTERS {
        let _ = writeln!(text, "### {}\n\n| sentence | meaning |\n|---|---|", chapter.title);
        for sentence in chapter.sentences {
            let form = sentence.form.replace('|', "\\|");
            let _ = writeln!(text, "| `{form}` | {} |", sentence.meaning);
        }
        text.push('\n');
    }
    text
}

/// Understands a line, or says what would be valid.
pub(super) fn understand(words: &[String]) -> Result<Step, String> {
    let mut nearest = Vec::new();
    let mut most = 0;
    for sentence in CHAPTERS.iter().flat_map(|chapter| chapter.sentences) {
        match fit(sentence.form, words) {
            Ok(values) => return Ok(Step::new(sentence, values)),
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
    let forms: String = nearest.into_iter().flat_map(|form| ["\n    ", form]).collect();
    Err(format!("no sentence reads like this; the nearest are{forms}"))
}
