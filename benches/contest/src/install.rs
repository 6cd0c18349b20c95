//! Installs what Debian has of the contestants, without starting any service.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use crate::contestants::{Contestant, find_program};

/// Asked by Debian's packages whether they may start their services.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// The answer "no".
const FORBID: &str = "#!/bin/sh\nexit 101\n";

/// Forbids services while it lives, unless the machine has a policy of its own.
struct NoServices {
    is_ours: bool,
}

impl NoServices {
    fn begin() -> io::Result<Self> {
        let policy = File::options().write(true).create_new(true).mode(0o755).open(POLICY);
        match policy {
            Ok(mut file) => {
                let policy = Self { is_ours: true };
                file.write_all(FORBID.as_bytes())?;
                Ok(policy)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Self { is_ours: false }),
            Err(e) => Err(e),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours {
            // If it stays, services do not start; the next installation removes it.
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Those of these contestants that can be run. Installs packages if that is wanted and possible;
/// says what is missing.
pub(crate) fn install(contestants: &[Contestant], may_install: bool) -> Vec<Contestant> {
    let missing = |contestant: &&Contestant| contestant.missing().is_some();
    let packages: Vec<_> =
        contestants.iter().filter(missing).filter_map(|contestant| contestant.package).collect();
    if may_install && !packages.is_empty() {
        let is_root = rustix::process::geteuid().is_root();
        if is_root && find_program("apt-get").is_some() {
            eprintln!("installing {} (--no-install leaves them out)", packages.join(", "));
            if let Err(e) = apt_get(&packages) {
                eprintln!("{e}");
            }
        } else {
            eprintln!(
                "{} could be installed by root on Debian: apt-get install {}",
                packages.join(", "),
                packages.join(" ")
            );
        }
    }
    let (able, unable): (Vec<Contestant>, Vec<_>) =
        contestants.iter().partition(|contestant| contestant.missing().is_none());
    for contestant in unable {
        let missing = contestant.missing().unwrap_or_default();
        let package = contestant.package.unwrap_or_default();
        eprintln!("without {}: there is no {missing} (package {package})", contestant.name);
    }
    able
}

fn apt_get(packages: &[&str]) -> io::Result<()> {
    let _no_services = NoServices::begin()?;
    let run = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
            .args(words)
            .args(packages_of(words, packages));
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(io::Error::other(format!("apt-get {}: {why}", words.join(" "))))
    };
    run(&["update"])?;
    run(&["install", "--yes", "--no-install-recommends"])
}

fn packages_of<'a>(words: &[&str], packages: &'a [&'a str]) -> &'a [&'a str] {
    if words == ["update"] { &[] } else { packages }
}
