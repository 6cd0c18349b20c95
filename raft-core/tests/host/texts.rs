//! What people read: no text has a hole, and each error of a journal says what to do.

use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

use raft_core::host::ReadError;

/// The library's packages, whose texts people read; beside this one.
const PACKAGES: [&str; 4] = ["raft-core", "raft-tokio", "raft-smol", "raft-threads"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The string literals of a source, with the line in which each begins. Comments and characters are
/// none.
fn literals(source: &str) -> Vec<(usize, String)> {
    let mut literals = Vec::new();
    let (mut line, mut before) = (1, ' ');
    let mut rest = source.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\n' => line += 1,
            '/' if rest.peek() == Some(&'/') => {
                while rest.peek().is_some_and(|next| *next != '\n') {
                    rest.next();
                }
            }
            // A character, unless it is a lifetime.
            '\'' => {
                let mut ahead = rest.clone();
                let (first, second) = (ahead.next(), ahead.next());
                if first == Some('\\') {
                    rest.nth(1);
                    while rest.next().is_some_and(|next| next != '\'') {}
                } else if second == Some('\'') {
                    rest.nth(1);
                }
            }
            '"' => {
                let begins = line;
                let text = literal(&mut rest, &mut line, before == 'r');
                literals.push((begins, text));
            }
            _ => {}
        }
        before = next;
    }
    literals
}

/// What follows a quote, up to the next, as the compiler reads it.
fn literal(rest: &mut Peekable<Chars<'_>>, line: &mut usize, is_raw: bool) -> String {
    let mut text = String::new();
    while let Some(next) = rest.next().filter(|next| *next != '"') {
        *line += usize::from(next == '\n');
        match (next, rest.peek()) {
            ('\\', Some('\n')) if !is_raw => {
                while rest.peek().is_some_and(|next| next.is_whitespace()) {
                    *line += usize::from(rest.next() == Some('\n'));
                }
            }
            ('\\', Some(_)) if !is_raw => text.extend(rest.next()),
            _ => text.push(next),
        }
    }
    text
}

#[test]
fn literals_are_found_as_the_compiler_reads_them() {
    let source = "let a = \"one \\\n      two\"; // \"no\"\nlet c = '\"'; let l: &'static str = r\"\\\";\n\"\\\"x\"";
    let expected = [(1, "one two"), (3, "\\"), (4, "\"x")];
    let expected = expected.map(|(line, text)| (line, text.to_owned()));
    assert_eq!(literals(source), expected);
}

/// Whether there is more than places to be filled in, as in the row of a table.
fn has_words(text: &str) -> bool {
    text.split('{').any(|part| {
        let behind = part.split_once('}').map_or(part, |(_, behind)| behind);
        behind.contains(char::is_alphabetic)
    })
}

/// Two spaces in a row are the trace of a line that was broken without a backslash.
#[test]
fn no_text_has_a_hole() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for package in PACKAGES {
        sources(&packages.join(package).join("src"), &mut files);
    }
    assert!(files.len() > 100, "{} files", files.len());
    let mut holes = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        for (line, text) in literals(&source) {
            if text.trim().contains("  ") && has_words(&text) {
                holes.push(format!("{}:{line}: {text}", file.display()));
            }
        }
    }
    assert!(holes.is_empty(), "texts with two spaces in a row:\n{}", holes.join("\n"));
}

/// Every node serves reads: nothing may send a reader to the leader.
#[test]
fn why_a_read_was_not_answered_says_what_to_do_about_it() {
    for error in [ReadError::NoLeader, ReadError::Busy, ReadError::LeadershipLost] {
        let text = error.to_string();
        assert!(text.contains("again"), "{text}");
        assert!(!text.contains("does not lead") && !text.contains("ask the"), "{text}");
    }
}
