//! The list of mutations, as it is written in `tests/mutations.txt`.

use std::fs;
use std::path::Path;

/// One rule, broken.
#[derive(Default)]
pub(crate) struct Mutation {
    pub(crate) name: String,
    pub(crate) rule: String,
    /// Within `raft-core/src`.
    pub(crate) file: String,
    /// The text to find is the first after this one.
    anchor: Option<String>,
    find: String,
    put: String,
    /// Each must catch it.
    pub(crate) checks: Vec<String>,
    /// Why nothing can catch it.
    pub(crate) survives: Option<String>,
}

/// The mutations, and the names of all checks in the order in which they are tried.
pub(crate) struct List {
    pub(crate) all_checks: Vec<String>,
    pub(crate) mutations: Vec<Mutation>,
}

impl List {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut list = Self { all_checks: Vec::new(), mutations: Vec::new() };
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            list.take(line).map_err(|error| format!("{}:{number}: {error}", path.display()))?;
        }
        let incomplete = list.mutations.iter().find(|mutation| !mutation.is_complete());
        match incomplete {
            Some(mutation) => Err(format!(
                "mutation {:?} needs rule, file, find, and either checks or survives",
                mutation.name
            )),
            None => Ok(list),
        }
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        if let Some(name) = line.strip_prefix("== ") {
            self.mutations.push(Mutation { name: name.to_owned(), ..Mutation::default() });
            return Ok(());
        }
        let (key, value) = line.split_once(':').ok_or("expected \"key: value\" or \"== name\"")?;
        let value = value.trim();
        let words = || value.split_whitespace().map(str::to_owned).collect();
        if key == "all" {
            self.all_checks = words();
            return Ok(());
        }
        let mutation = self.mutations.last_mut().ok_or("a mutation begins with \"== name\"")?;
        match key {
            "rule" => mutation.rule = value.to_owned(),
            "file" => mutation.file = value.to_owned(),
            "in" => mutation.anchor = Some(value.to_owned()),
            "find" => mutation.find = value.to_owned(),
            "put" => mutation.put = value.to_owned(),
            "checks" => mutation.checks = words(),
            "survives" => mutation.survives = Some(value.to_owned()),
            _ => return Err(format!("unknown key {key:?}")),
        }
        Ok(())
    }
}

impl Mutation {
    fn is_complete(&self) -> bool {
        let told = !self.rule.is_empty() && !self.file.is_empty() && !self.find.is_empty();
        told && self.survives.is_some() == self.checks.is_empty()
    }

    /// The text of the file with the rule broken.
    pub(crate) fn apply(&self, text: &str) -> Result<String, String> {
        let start = match &self.anchor {
            Some(anchor) => {
                text.find(anchor).ok_or(format!("{anchor:?} is not in {}", self.file))?
            }
            None => 0,
        };
        let (before, rest) = text.split_at(start);
        let found = rest.matches(&self.find).count();
        if found == 0 || (found > 1 && self.anchor.is_none()) {
            return Err(format!("{:?} is {found} times in {}", self.find, self.file));
        }
        let kept = rest.split_once(&self.find).map_or("", |(kept, _)| kept);
        if self.put.is_empty() && kept.ends_with(|c: char| c == '.' || c.is_alphanumeric()) {
            return Err(format!("without {:?} half an expression is left", self.find));
        }
        Ok(format!("{before}{}", rest.replacen(&self.find, &self.put, 1)))
    }
}
