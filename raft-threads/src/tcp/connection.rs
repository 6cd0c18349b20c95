//! One connection: frames in, bytes out, and an end for everything that blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::handshake::HANDSHAKE_BYTES_MAX;
use raft_core::host::tcp::{Cipher, Closed, Reading};

/// How many bytes one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// The longest handshake, however patient the configuration is.
const HANDSHAKE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The reading side.
pub(super) struct Reader<'s> {
    stream: &'s TcpStream,
    cipher: &'s Cipher,
    reading: Reading,
    buffer: Vec<u8>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(stream: &'s TcpStream, cipher: &'s Cipher, reading: Reading) -> Self {
        Self { stream, cipher, reading, buffer: vec![0; READ_BYTES] }
    }

    /// Waits until bytes have arrived, for the stream's read timeout at most, and hands each
    /// payload to `receive`.
    pub(super) fn read(
        &mut self,
        mut receive: impl FnMut(&Bytes) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        read_some(self.stream, self.cipher, &mut self.reading, &mut self.buffer)?;
        while let Some(payload) = self.reading.next_payload()? {
            receive(&payload)?;
        }
        Ok(())
    }

    /// Fails if nothing was heard for that long.
    pub(super) fn check_heard(&self, idle_timeout: Duration) -> Result<(), Closed> {
        self.reading.check_heard(idle_timeout)
    }
}

/// The end of a handshake that begins now.
pub(super) fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    // A clock cannot show the end of the longest timeouts.
    now.checked_add(timeout).unwrap_or(now + HANDSHAKE_MAX)
}

/// Completes the handshake of TLS, if there is one, by the deadline. If it fails, the other side is
/// told.
pub(super) fn secure(stream: &TcpStream, cipher: &Cipher, deadline: Instant) -> Result<(), Closed> {
    while cipher.is_handshaking() {
        write(stream, cipher, &[], Some(deadline))?;
        if !cipher.is_handshaking() {
            break;
        }
        set_read_deadline(stream, deadline)?;
        match cipher.advance(|space| (&mut &*stream).read(space)) {
            Ok(()) => {}
            Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                // Whether it is told or not, the connection ends.
                let _ = write(stream, cipher, &[], Some(deadline));
                return Err(error.into());
            }
        }
    }
    write(stream, cipher, &[], Some(deadline))
}

/// Reads the other side's part of the handshake.
pub(super) fn read_handshake(
    stream: &TcpStream,
    cipher: &Cipher,
    reading: &mut Reading,
    deadline: Instant,
) -> Result<Bytes, Closed> {
    let mut buffer = [0; HANDSHAKE_BYTES_MAX];
    loop {
        if let Some(payload) = reading.next_payload()? {
            return Ok(payload);
        }
        set_read_deadline(stream, deadline)?;
        read_some(stream, cipher, reading, &mut buffer)?;
    }
}

/// Lets the next read end by the deadline. Fails if that has come.
fn set_read_deadline(stream: &TcpStream, deadline: Instant) -> Result<(), Closed> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Closed::Idle);
    }
    Ok(stream.set_read_timeout(Some(left))?)
}

/// Writes all bytes. Fails if the other side takes none for as long as the stream's write timeout,
/// or does not take all by the deadline, if there is one.
pub(super) fn write(
    stream: &TcpStream,
    cipher: &Cipher,
    bytes: &[u8],
    deadline: Option<Instant>,
) -> Result<(), Closed> {
    write_sealed(stream, &cipher.seal(bytes)?, deadline)
}

/// The same for bytes that need no cipher any more.
pub(super) fn write_sealed(
    mut stream: &TcpStream,
    mut bytes: &[u8],
    deadline: Option<Instant>,
) -> Result<(), Closed> {
    while !bytes.is_empty() {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Closed::Idle);
        }
        match stream.write(bytes) {
            Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Err(Closed::Idle),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether an operation took longer than its socket's timeout. The system decides which of the two
/// errors it returns.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Reads once. Reads nothing if nothing arrives in time.
fn read_some(
    mut stream: &TcpStream,
    cipher: &Cipher,
    reading: &mut Reading,
    buffer: &mut [u8],
) -> Result<(), Closed> {
    let space = reading.space();
    let room = buffer.len().min(space.capacity() - space.len());
    match cipher.read(&mut buffer[..room], |space| stream.read(space)) {
        Ok(read) => {
            space.extend_from_slice(&buffer[..read]);
            reading.on_read(read)
        }
        Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error.into()),
    }
}
