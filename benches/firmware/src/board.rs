//! The board, emulated by QEMU, with its image and its flash chip.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use raft_core::NodeId;

const QEMU: &str = "qemu-system-arm";

/// With this code the firmware's build says that there is no compiler for it.
const NO_COMPILER: i32 = 77;

/// The size of the flash chip that holds the journal.
const FLASH_BYTES: usize = 32 * 1024;
/// What flash holds where nothing was written.
const ERASED: u8 = 0xff;

/// A built image of the firmware.
#[derive(Clone, Debug)]
pub struct Image {
    path: PathBuf,
}

/// Why there is no emulated board on this machine; the text says what to install.
#[derive(Clone, Debug)]
pub struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Image {
    /// Builds the image of one node.
    ///
    /// # Errors
    ///
    /// If the emulator or the compiler is missing.
    ///
    /// # Panics
    ///
    /// If the build fails.
    pub fn build() -> Result<Self, Unavailable> {
        let emulator = Command::new(QEMU).arg("--version").stdout(Stdio::null()).status();
        if emulator.is_err() {
            return Err(Unavailable(format!("there is no {QEMU}: apt-get install {QEMU}")));
        }
        let crate_dir =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../raft-core/examples/firmware");
        let built = Command::new(crate_dir.join("make.sh")).arg("build").output();
        let built = built.map_err(|error| Unavailable(format!("bash cannot be run: {error}")))?;
        let errors = String::from_utf8_lossy(&built.stderr);
        if built.status.code() == Some(NO_COMPILER) {
            return Err(Unavailable(errors.trim().to_owned()));
        }
        assert!(built.status.success(), "the firmware does not build:\n{errors}");
        Ok(Self { path: crate_dir.join("target/thumbv7m-none-eabi/release/node") })
    }
}

/// A board that runs the image of one node. It loses its power when it is dropped; what its flash
/// holds stays in the file.
#[derive(Debug)]
pub struct Board {
    emulator: Child,
}

impl Board {
    /// Puts a flash chip into a file: erased, as it comes from the factory.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn new_flash(flash: &Path) -> io::Result<()> {
        fs::write(flash, [ERASED; FLASH_BYTES])
    }

    /// Gives a board its power. Its serial line leads to `line`; what it prints goes to a file.
    ///
    /// # Errors
    ///
    /// If the emulator cannot be started.
    pub fn start(
        image: &Image,
        node: NodeId,
        flash: &Path,
        line: SocketAddr,
        output: &Path,
    ) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(output)?;
        let (host, port) = (line.ip(), line.port());
        let flash = flash.display();
        let emulator = Command::new(QEMU)
            .args(["-machine", "lm3s6965evb", "-cpu", "cortex-m3", "-display", "none"])
            .args(["-monitor", "stdio", "-serial", "chardev:line"])
            .args(["-chardev", &format!("socket,id=line,host={host},port={port},nodelay=on")])
            .args(["-semihosting-config"])
            .arg(format!("enable=on,target=native,arg={node},arg={flash}"))
            .arg("-kernel")
            .arg(&image.path)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self { emulator })
    }

    /// Presses the reset button, at whatever moment.
    ///
    /// # Errors
    ///
    /// If the emulator has ended.
    pub fn reset(&mut self) -> io::Result<()> {
        let monitor = self.emulator.stdin.as_mut();
        monitor.ok_or(io::ErrorKind::BrokenPipe)?.write_all(b"system_reset\n")
    }

    /// Whether the firmware has ended: it never does by itself, unless it must not go on.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.emulator.try_wait(), Ok(None))
    }
}

impl Drop for Board {
    /// Takes the power away, at whatever moment.
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}
