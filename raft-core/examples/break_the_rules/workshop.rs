//! A copy of the workspace in which rules may be broken, with a target directory of its own that is
//! kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A test that runs longer goes in circles; the slowest takes a tenth of it.
const CHECK_TIME_MAX: Duration = Duration::from_secs(180);

/// A test that takes more memory than this, in KiB, grows for ever.
const MEMORY_MAX_KIB: u64 = 16 << 20;

/// The tests of the host's threads, which another scheduler runs. They have a target directory of
/// their own, because the flag of the compiler that chooses the scheduler counts for all crates.
const INTERLEAVINGS: &str = "interleavings";

/// The copy.
pub(crate) struct Workshop {
    root: PathBuf,
    target: PathBuf,
}

/// Removes files that an earlier copy left here and the workspace no longer has: two files of one
/// name would end the build.
fn remove_all_but(directory: &Path, kept: &BTreeSet<PathBuf>) -> Result<(), String> {
    let Ok(files) = fs::read_dir(directory) else { return Ok(()) };
    for path in files.flatten().map(|file| file.path()) {
        if path.is_dir() {
            remove_all_but(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// What a check said of a mutation.
pub(crate) enum Verdict {
    /// It failed: the name of the first test that did, or how the process ended.
    Caught(String),
    /// It passed.
    Passed,
    /// The mutation does not compile.
    DoesNotCompile(String),
}

impl Workshop {
    /// Copies what git knows of, and what it would take in, as it is now.
    pub(crate) fn new(workspace: &Path) -> Result<Self, String> {
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let output = Command::new("git").args(list).current_dir(workspace).output();
        let output = output.map_err(|error| format!("git ls-files: {error}"))?;
        if !output.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let place = workspace.join("target").join("break-the-rules");
        let workshop = Self { root: place.join("workspace"), target: place.join("target") };
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        remove_all_but(
            &workshop.root,
            &names.split('\0').map(|name| workshop.root.join(name)).collect(),
        )?;
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            // One that was deleted and not yet committed.
            if let Ok(content) = fs::read(workspace.join(name)) {
                workshop.write(name, &content)?;
            }
        }
        Ok(workshop)
    }

    pub(crate) fn read(&self, name: &str) -> Result<String, String> {
        fs::read_to_string(self.root.join(name)).map_err(|error| format!("{name}: {error}"))
    }

    /// Writes what is not there already, so that nothing is built again that need not be.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), String> {
        let path = self.root.join(name);
        if fs::read(&path).is_ok_and(|there| there == content) {
            return Ok(());
        }
        let directory = path.parent().unwrap_or(&self.root);
        let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, content));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Whether raft-core has this check.
    pub(crate) fn has(&self, check: &str) -> bool {
        let tests = self.root.join("raft-core/tests");
        match check.split_once("::") {
            Some((target, module)) => {
                let folder = tests.join(target);
                folder.join(format!("{module}.rs")).is_file() || folder.join(module).is_dir()
            }
            None if check == INTERLEAVINGS => true,
            None => check.starts_with("unit") || tests.join(check).join("main.rs").is_file(),
        }
    }

    /// Builds and runs a check of raft-core.
    pub(crate) fn check(&self, check: &str) -> Result<Verdict, String> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["test", "--package", "raft-core", "--no-run", "--color", "never"]);
        let (target, module) = check.split_once("::").unwrap_or((check, ""));
        // What a mutation leaves unused is of no account, even where warnings are errors.
        let (module, flags, place) = match target {
            INTERLEAVINGS => (target, "--cap-lints=warn --cfg raft_shuttle", INTERLEAVINGS),
            _ => (module, "--cap-lints=warn", ""),
        };
        match target {
            "unit" => cargo.arg("--lib"),
            "unit+std" | INTERLEAVINGS => cargo.args(["--lib", "--features", "std"]),
            "host" => cargo.args(["--features", "std", "--test", target]),
            "laws" | "scenarios" => cargo.args(["--features", "sim", "--test", target]),
            _ => cargo.args(["--test", target]),
        };
        cargo.env("CARGO_TARGET_DIR", self.target.join(place)).env("RUSTFLAGS", flags);
        let built = cargo.current_dir(&self.root).output().map_err(|e| format!("cargo: {e}"))?;
        let said = String::from_utf8_lossy(&built.stderr);
        if !built.status.success() {
            let error = said.lines().find(|line| line.starts_with("error")).unwrap_or("error");
            return Ok(Verdict::DoesNotCompile(error.to_owned()));
        }
        let program = said.lines().rev().find_map(|line| {
            let line = line.trim().strip_prefix("Executable")?;
            line.rsplit_once('(')?.1.strip_suffix(')')
        });
        let program = program.ok_or(format!("cargo named no executable for {check}"))?;
        self.run(&self.root.join(program), module)
    }

    /// Runs the tests of one module, or all tests if `module` is empty.
    fn run(&self, program: &Path, module: &str) -> Result<Verdict, String> {
        let log_path = self.target.join("check.log");
        let log = fs::File::create(&log_path).map_err(|error| format!("check.log: {error}"))?;
        let mut test = Command::new("sh");
        test.arg("-c")
            .arg(format!("ulimit -v {MEMORY_MAX_KIB} && exec \"$0\" \"$@\""))
            .arg(program);
        if !module.is_empty() {
            test.arg(format!("{module}::"));
        }
        test.current_dir(self.root.join("raft-core")).stdout(log).stderr(Stdio::null());
        let mut test = test.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let deadline = Instant::now() + CHECK_TIME_MAX;
        let status = loop {
            match test.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let Some(status) = status else {
            test.kill().and_then(|()| test.wait()).map_err(|error| error.to_string())?;
            return Ok(Verdict::Caught(format!("runs on after {} s", CHECK_TIME_MAX.as_secs())));
        };
        let log = fs::read(&log_path).map_err(|error| format!("check.log: {error}"))?;
        let log = String::from_utf8_lossy(&log);
        if log.lines().any(|line| line == "running 0 tests") {
            return Err(format!("{} has no tests in {module}", program.display()));
        }
        if status.success() {
            return Ok(Verdict::Passed);
        }
        let mut failed: Vec<_> = log
            .lines()
            .filter_map(|line| Some(line.strip_prefix("test ")?.split_once(" ... FAILED")?.0))
            .collect();
        // They end in any order.
        failed.sort_unstable();
        Ok(Verdict::Caught(match failed.as_slice() {
            [] => format!("ends with {status}"),
            [test] => format!("`{test}`"),
            [test, others @ ..] => format!("`{test}` and {} more", others.len()),
        }))
    }
}
