//! The piece of TLS that all adapters share: credentials, names, and sessions without sockets.

use std::fs;
use std::io::{self, ErrorKind, Read};

use authority::{Authority, Valid};
use raft_core::NodeId;
use raft_core::host::tls::{PemFiles, Session, Tls, TlsError, name, names};
use raft_core::host::{ClusterId, Identity, StoreId};

const CLUSTER: ClusterId = ClusterId::new(7);

fn id(node: u64) -> NodeId {
    NodeId::new(node)
}

fn identity(node: u64) -> Identity {
    Identity { cluster: CLUSTER, node: id(node), store_id: StoreId::new(1) }
}

fn tls(authority: &Authority, node: u64) -> Tls {
    Tls::new(authority.credentials(CLUSTER, id(node))).expect("sound credentials")
}

/// Moves the bytes of one session to the other, and returns the plain text that comes out.
fn carry(from: &Session, to: &Session, plain: &[u8]) -> io::Result<Vec<u8>> {
    let sealed = from.seal(plain)?;
    let (mut rest, mut out) = (&sealed[..], Vec::new());
    let mut fetch = |space: &mut [u8]| match rest.read(space)? {
        0 => Err(ErrorKind::WouldBlock.into()),
        fetched => Ok(fetched),
    };
    let mut buffer = [0; 1000];
    loop {
        let read = match to.is_handshaking() {
            true => to.advance(&mut fetch).map(|()| 0),
            false => to.read(&mut buffer, &mut fetch),
        };
        match read {
            Ok(read) => out.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(out),
            Err(error) => return Err(error),
        }
    }
}

/// Node 1 dials node 2. The error is the first of either side, with the side that has it.
fn connect(dialer: &Tls, acceptor: &Tls) -> Result<(Session, Session), (&'static str, io::Error)> {
    let dialing = dialer.for_node(identity(1)).expect("its own name");
    let accepting = acceptor.for_node(identity(2)).expect("its own name");
    let dialed = Session::dial(&dialing, id(2)).expect("random numbers");
    let accepted = Session::accept(&accepting).expect("random numbers");
    while dialed.is_handshaking() || accepted.is_handshaking() {
        carry(&dialed, &accepted, b"").map_err(|error| ("acceptor", error))?;
        carry(&accepted, &dialed, b"").map_err(|error| ("dialer", error))?;
    }
    Ok((dialed, accepted))
}

#[test]
fn nodes_of_a_cluster_connect_and_speak_for_themselves_alone() {
    let authority = Authority::new();
    let (one, two) = (tls(&authority, 1), tls(&authority, 2));
    let (dialed, accepted) = connect(&one, &two).unwrap();
    let long: Vec<u8> = (0..1 << 20).map(|at: u32| at as u8).collect();
    assert_eq!(carry(&dialed, &accepted, &long).unwrap(), long);
    assert_eq!(carry(&accepted, &dialed, b"alive").unwrap(), b"alive");
    let speaker = accepted.speaker();
    assert_eq!(speaker.check(id(1)), Ok(()));
    let missing = speaker.check(id(3)).unwrap_err();
    assert!(missing.contains("names raft://7/1, and must name raft://7/3"), "{missing}");
}

#[test]
fn another_authority_is_refused_by_each_side() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (side, error) = connect(&tls(&ours, 1), &tls(&other, 2)).unwrap_err();
    assert_eq!(side, "dialer");
    let closed = raft_core::host::tcp::Closed::from(error).to_string();
    assert!(closed.contains("no known authority has signed it"), "{closed}");
}

#[test]
fn another_node_is_refused_by_the_dialer() {
    let authority = Authority::new();
    let any = |node| tls(&authority, node).with_names(|_, _, _| Ok(()));
    let one = tls(&authority, 1);
    let (side, error) = connect(&one, &any(3)).unwrap_err();
    assert_eq!(side, "dialer");
    let closed = raft_core::host::tcp::Closed::from(error).to_string();
    assert!(closed.contains("names raft://7/3, and must name raft://7/2"), "{closed}");
    connect(&any(1), &any(3)).expect("its rule takes any");
}

#[test]
fn credentials_of_no_use_are_refused_with_advice() {
    let (authority, other) = (Authority::new(), Authority::new());
    let refused = |credentials| Tls::new(credentials).unwrap_err().to_string();
    let expired = authority.pair(CLUSTER, id(1), Valid::NoLonger);
    let text = refused(authority.credentials_of(&expired));
    assert!(text.contains("renew it"), "{text}");
    let foreign = other.pair(CLUSTER, id(1), Valid::Days(1));
    let text = refused(authority.credentials_of(&foreign));
    assert!(text.contains("no known authority"), "{text}");
    let mut mixed = authority.credentials(CLUSTER, id(1));
    mixed.key = authority.credentials(CLUSTER, id(1)).key;
    let text = refused(mixed);
    assert!(text.contains("the key is not the certificate's"), "{text}");
    let mut none = authority.credentials(CLUSTER, id(1));
    none.authorities.clear();
    assert!(matches!(Tls::new(none), Err(TlsError::NoAuthority)));
    let mut none = authority.credentials(CLUSTER, id(1));
    none.certificates.clear();
    assert!(Tls::new(none).is_err());
    let text = tls(&authority, 1).for_node(identity(2)).unwrap_err().to_string();
    assert!(text.contains("must name raft://7/2"), "{text}");
}

#[test]
fn files_are_read_again_and_what_is_of_no_use_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    let write = |pair: &authority::Pair| pair.write(folder.path(), id(1)).unwrap();
    let first = authority.pair(CLUSTER, id(1), Valid::Days(1));
    let files = write(&first);
    let tls = Tls::from_pem_files(files.clone()).unwrap();
    tls.for_node(identity(1)).unwrap();
    assert!(!tls.reload().unwrap(), "nothing has changed");

    let authority = Authority::open(folder.path()).unwrap();
    let second = authority.pair(CLUSTER, id(1), Valid::Days(1));
    fs::write(&files.certificate, &second.certificate).unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("the key is not the certificate's"));
    fs::write(&files.key, &second.key).unwrap();
    assert!(tls.reload().unwrap());
    assert!(!tls.reload().unwrap());

    write(&authority.pair(CLUSTER, id(2), Valid::Days(1)));
    assert!(matches!(tls.reload(), Err(TlsError::Name(_))), "node 1 uses it");
    write(&authority.pair_of(&["raft://7/2", "raft://7/1"], Valid::Days(1)));
    assert!(tls.reload().unwrap());

    let none = PemFiles { key: files.authorities.clone(), ..files.clone() };
    let error = Tls::from_pem_files(none).unwrap_err().to_string();
    assert!(error.contains("holds no private key"), "{error}");

    for (text, expected) in [("", "no certificate in PEM"), ("-----BEGIN X-----\n", "is not PEM")] {
        fs::write(&files.certificate, text).unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    fs::remove_file(&files.key).unwrap();
    let missing = tls.reload().unwrap_err().to_string();
    assert!(missing.contains("cannot read") && missing.contains("node-1.key"), "{missing}");
}

#[test]
fn a_new_certificate_counts_from_the_next_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let (one, two) = (tls(&old, 1), tls(&old, 2));
    let (dialed, accepted) = connect(&one, &two).unwrap();
    two.replace(new.credentials(CLUSTER, id(2))).unwrap();
    assert_eq!(carry(&dialed, &accepted, b"still").unwrap(), b"still");
    assert!(connect(&one, &two).is_err());
    one.replace(new.credentials(CLUSTER, id(1))).unwrap();
    connect(&one, &two).unwrap();
}

/// A generator of numbers for test inputs: the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

/// Records come in pieces of any length, are read into buffers of any length, and arrive whole.
#[test]
fn records_may_be_cut_anywhere() {
    let authority = Authority::new();
    let mut numbers = Numbers(1);
    for _ in 0..20 {
        let (dialed, accepted) = connect(&tls(&authority, 1), &tls(&authority, 2)).unwrap();
        let plain: Vec<u8> = (0..numbers.below(200_000)).map(|at| at as u8).collect();
        let sealed = dialed.seal(&plain).unwrap();
        let (mut rest, mut out) = (&sealed[..], Vec::new());
        let mut buffer = vec![0; 1 + numbers.below(40_000)];
        while out.len() < plain.len() {
            let room = 1 + numbers.below(buffer.len());
            let read = accepted.read(&mut buffer[..room], |space| {
                let piece = 1 + numbers.below(space.len());
                rest.read(&mut space[..piece])
            });
            let read = read.unwrap();
            assert!(read > 0, "{} of {} bytes", out.len(), plain.len());
            out.extend_from_slice(&buffer[..read]);
        }
        assert!(out == plain);
        assert_eq!(accepted.read(&mut buffer, |_| Ok(0)).unwrap(), 0, "the end");
    }
}

/// Whatever arrives, before the handshake, in it or after it: an error at most, and no plain text
/// that was not sealed.
#[test]
fn garbage_is_an_error_and_nothing_else() {
    let authority = Authority::new();
    let mut numbers = Numbers(2);
    for round in 0..400 {
        let (one, two) = (tls(&authority, 1), tls(&authority, 2));
        let sealed = match round % 2 {
            0 => Session::dial(&one.for_node(identity(1)).unwrap(), id(2)).unwrap().seal(b""),
            _ => connect(&one, &two).unwrap().0.seal(&[7; 1000]),
        };
        let mut bytes = sealed.unwrap();
        let session = match round % 2 {
            0 => Session::accept(&two.for_node(identity(2)).unwrap()).unwrap(),
            _ => connect(&one, &two).unwrap().1,
        };
        for _ in 0..1 + numbers.below(4) {
            let at = numbers.below(bytes.len());
            bytes[at] = numbers.below(256) as u8;
        }
        let mut rest = &bytes[..];
        let mut fetch = |space: &mut [u8]| match rest.read(space)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            fetched => Ok(fetched),
        };
        let taken = match round % 2 {
            0 => session.advance(&mut fetch).map(|()| 0),
            _ => session.read(&mut [0; 100], &mut fetch),
        };
        // The records of the second kind are of another session.
        assert!(!matches!(taken, Ok(1..)), "garbage became text");
        let _ = session.seal(b"");
    }
}

#[test]
fn a_name_is_exact() {
    let authority = Authority::new();
    assert_eq!(name(CLUSTER, id(12)), "raft://7/12");
    for wrong in ["raft://7/1", "raft://7/012", "raft://7/12/", "raft://70/12", "RAFT://7/12"] {
        let pair = authority.pair_of(&["https://7/12", wrong], Valid::Days(1));
        let credentials = authority.credentials_of(&pair);
        assert!(names(&credentials.certificates[0], CLUSTER, id(12)).is_err(), "{wrong}");
    }
    let many: Vec<_> = (0..100).map(|at| format!("raft://8/{at}{}", "x".repeat(1000))).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let credentials = authority.credentials_of(&authority.pair_of(&many, Valid::Days(1)));
    let text = names(&credentials.certificates[0], CLUSTER, id(1)).unwrap_err();
    assert!(text.len() < 500, "{} bytes", text.len());
    let none = authority.credentials_of(&authority.pair_of(&[], Valid::Days(1)));
    let text = names(&none.certificates[0], CLUSTER, id(1)).unwrap_err();
    assert!(text.contains("names no URI"), "{text}");
}
