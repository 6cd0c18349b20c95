//! Every trial as a line, written as soon as it is over: the published data, and what an
//! interrupted report goes on from.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use election::{On, Outcome, Setting};

const HEAD: &str = "runtime,trial,detection_ns,slop_ns,election_ns,downtime_ns,until_leading_ns,until_known_ns,split,messages,bytes,unanswered";

/// The trials of one setting, in a file of their own.
pub(crate) struct Raw {
    file: File,
}

/// One trial.
pub(crate) struct Line {
    pub(crate) on: On,
    pub(crate) trial: usize,
    pub(crate) outcome: Outcome,
}

impl Raw {
    /// Whether the folder has at least so many trials of the setting.
    pub(crate) fn holds(folder: &Path, setting: &Setting, trials: usize) -> bool {
        let text = fs::read_to_string(folder.join(file_name(setting))).unwrap_or_default();
        text.lines().count() > trials
    }

    /// Goes on with what the file has, if that is wanted, or else begins anew.
    ///
    /// # Errors
    ///
    /// The file cannot be written or read, or its lines are not ours: measure again, without going
    /// on.
    pub(crate) fn open(
        folder: &Path,
        setting: &Setting,
        resume: bool,
    ) -> io::Result<(Self, Vec<Line>)> {
        fs::create_dir_all(folder)?;
        let path = folder.join(file_name(setting));
        let mut lines = Vec::new();
        if resume && path.exists() {
            // The last line may have been cut short.
            let text = fs::read_to_string(&path)?;
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            for line in whole.lines().skip(1) {
                let strange = || io::Error::other(format!("{}: {line}", path.display()));
                lines.push(parse(line).ok_or_else(strange)?);
            }
        }
        let mut raw = Self { file: File::create(&path)? };
        writeln!(raw.file, "{HEAD}")?;
        raw.append(&lines)?;
        Ok((raw, lines))
    }

    pub(crate) fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let text: String = lines.iter().map(format).collect();
        self.file.write_all(text.as_bytes())
    }
}

/// Words and dashes.
fn file_name(setting: &Setting) -> String {
    let name = setting.to_string();
    let words = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-") + ".csv"
}

fn format(Line { on, trial, outcome }: &Line) -> String {
    let spans = [
        outcome.detection,
        outcome.slop,
        outcome.election,
        outcome.downtime,
        outcome.until_leading,
        outcome.until_known,
    ];
    let spans = spans.map(|span| span.as_nanos().to_string()).join(",");
    let Outcome { split, messages, bytes, unanswered, .. } = *outcome;
    let split = u8::from(split);
    format!("{},{trial},{spans},{split},{messages},{bytes},{unanswered}\n", on.name())
}

fn parse(line: &str) -> Option<Line> {
    let (name, numbers) = line.split_once(',')?;
    let on = On::ALL.into_iter().find(|on| on.name() == name)?;
    let numbers: Vec<u64> = numbers.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [trial, spans @ .., split, messages, bytes, unanswered] = numbers.as_slice() else {
        return None;
    };
    let spans: Vec<_> = spans.iter().copied().map(Duration::from_nanos).collect();
    let [detection, slop, election, downtime, until_leading, until_known] = spans[..] else {
        return None;
    };
    let (split, messages) = (*split != 0, *messages);
    let (bytes, unanswered) = (*bytes, *unanswered);
    let outcome = Outcome {
        detection,
        slop,
        election,
        downtime,
        until_leading,
        until_known,
        split,
        messages,
        bytes,
        unanswered,
    };
    Some(Line { on, trial: usize::try_from(*trial).ok()?, outcome })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cells::settings;

    fn line(trial: usize) -> Line {
        let span = |n: u64| Duration::from_nanos(n + trial as u64);
        let outcome = Outcome {
            detection: span(1),
            slop: span(2),
            election: span(3),
            downtime: span(4),
            until_leading: span(5),
            until_known: span(6),
            split: trial % 2 == 1,
            messages: 7,
            bytes: 8,
            unanswered: 9,
        };
        Line { on: On::Smol, trial, outcome }
    }

    #[test]
    fn what_was_measured_before_an_interruption_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let setting = settings()[0];
        let (mut raw, before) = Raw::open(folder.path(), &setting, true).unwrap();
        assert!(before.is_empty());
        raw.append(&[line(0), line(1)]).unwrap();
        raw.file.write_all(b"smol,2,1,").unwrap();
        for _ in 0..2 {
            let (_, kept) = Raw::open(folder.path(), &setting, true).unwrap();
            let kept: String = kept.iter().map(format).collect();
            assert_eq!(kept, [line(0), line(1)].iter().map(format).collect::<String>());
        }
        let (_, anew) = Raw::open(folder.path(), &setting, false).unwrap();
        assert!(anew.is_empty());
    }

    #[test]
    fn strange_lines_are_refused() {
        for text in
            ["", "smol", "windows,1,2,3,4,5,6,7,0,9,8,0", "smol,1,2,3,4,5,6,0,9,8,0", "smol,x"]
        {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn settings_have_files_of_their_own() {
        let settings = settings();
        let names: BTreeSet<_> = settings.iter().map(file_name).collect();
        assert_eq!(names.len(), settings.len(), "{names:?}");
    }
}
