//! Brings what an operator asks to a server that can answer it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::client::Client;
use crate::demo::cluster::Failure;
use crate::server::resp::{Frame, LEADER, TRY_AGAIN};

/// How often one is sent to another server, before that is called a mistake.
const REDIRECTS_MAX: usize = 8;
/// How long an order is tried again while no leader is known.
const LEADER_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long until it is tried again.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long one answer may take: a leader that lost its majority notices within an election
/// timeout, a snapshot may be large.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(600);
/// What a server answered, wherever the leader is.
pub(crate) fn ask(server: &str, words: &[&str]) -> Result<Frame, Failure> {
    let deadline = Instant::now() + LEADER_WAIT_MAX;
    loop {
        match ask_once(server, words)? {
            Asked::Answered(answer) => return Ok(answer),
            Asked::Later(why) if Instant::now() >= deadline => return Err(Failure(why)),
            Asked::Later(_) => thread::sleep(RETRY_PAUSE),
        }
    }
}

pub(crate) enum Asked {
    Answered(Frame),
    /// It may be answered in a moment.
    Later(String),
}

pub(crate) fn ask_once(server: &str, words: &[&str]) -> Result<Asked, Failure> {
    let mut server = server.to_owned();
    for _ in 0..REDIRECTS_MAX {
        let words = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes()));
        let answer = connect(&server).and_then(|mut client| client.call(words));
        let answer = answer.map_err(|e| {
            Failure(format!(
                "{server} does not answer ({e}): does it run, and is that its address for clients?"
            ))
        })?;
        let Frame::Error(text) = &answer else { return Ok(Asked::Answered(answer)) };
        match text.split_once(' ') {
            Some((LEADER, rest)) => {
                server = rest.split(' ').next().unwrap_or_default().to_owned();
            }
            Some((TRY_AGAIN, why)) => return Ok(Asked::Later(why.to_owned())),
            Some(("ERR", why)) => return Err(Failure(format!("refused: {why}"))),
            Some(_) | None => return Err(Failure(text.to_string())),
        }
    }
    Err(Failure("the servers send one in circles: ask again in a moment".into()))
}

pub(crate) fn connect(server: &str) -> io::Result<Client> {
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for address in server.to_socket_addrs()? {
        match connect_to(address) {
            Ok(client) => return Ok(client),
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

fn connect_to(address: SocketAddr) -> io::Result<Client> {
    let client = Client::connect(address)?;
    client.set_answer_wait(ANSWER_WAIT_MAX)?;
    Ok(client)
}
