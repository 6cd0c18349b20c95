//! One connection: frames in, bytes out, and an end for everything that blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use bytes::Bytes;
use raft_core::host::tcp::{Cipher, Closed, Reading};

/// Waits until bytes have arrived, for the stream's read timeout at most, and hands each payload to
/// `take`.
pub(super) fn receive(
    stream: &TcpStream,
    cipher: &Cipher,
    reading: &mut Reading,
    mut take: impl FnMut(&Bytes) -> Result<(), Closed>,
) -> Result<(), Closed> {
    read_some(stream, cipher, reading)?;
    while let Some(payload) = reading.next_payload()? {
        take(&payload)?;
    }
    Ok(())
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
            Err(error) if is_nothing_yet(&error) => {}
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
    loop {
        if let Some(payload) = reading.next_payload()? {
            return Ok(payload);
        }
        set_read_deadline(stream, deadline)?;
        read_some(stream, cipher, reading)?;
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
fn read_some(mut stream: &TcpStream, cipher: &Cipher, reading: &mut Reading) -> Result<(), Closed> {
    match reading.read(cipher, |space| stream.read(space)) {
        Err(Closed::Io(error)) if is_nothing_yet(&error) => Ok(()),
        read => read,
    }
}

/// Whether a read failed only because nothing arrived in time.
fn is_nothing_yet(error: &io::Error) -> bool {
    is_timeout(error) || error.kind() == ErrorKind::Interrupted
}
