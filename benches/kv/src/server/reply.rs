//! Replies as a client has them: in RESP2, or in RESP3 once it asked for that with HELLO.
//!
//! Between servers, in snapshots and in our own client they are in RESP2. The replies that we give
//! differ in two things: RESP3 has a null of its own, and tells names with values apart from lists.

use bytes::BytesMut;
use redis_protocol::resp3::encode::complete::extend_encode;
use redis_protocol::resp3::types::BytesFrame as Frame3;

use super::resp::{self, Frame};

/// The version of the Redis protocol that a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// RESP2, with which every connection begins.
    #[default]
    Two,
    /// RESP3.
    Three,
}

impl Protocol {
    /// The protocol of this number, as HELLO has it.
    pub fn of_version(version: &[u8]) -> Option<Self> {
        match version {
            b"2" => Some(Self::Two),
            b"3" => Some(Self::Three),
            _ => None,
        }
    }

    /// Its number.
    pub fn version(self) -> i64 {
        match self {
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// Appends a reply to `out`.
    pub fn encode(self, out: &mut BytesMut, reply: &Frame) {
        match self {
            Self::Two => resp::encode(out, reply),
            Self::Three => {
                let written = extend_encode(out, &frame3(reply), false);
                debug_assert!(written.is_ok(), "the buffer grows by what it needs: {written:?}");
            }
        }
    }

    /// Appends names with values to `out`: RESP2 has them in turn.
    pub fn encode_map(self, out: &mut BytesMut, pairs: &[(Frame, Frame)]) {
        match self {
            Self::Two => header(out, '*', 2 * pairs.len()),
            Self::Three => header(out, '%', pairs.len()),
        }
        for (name, value) in pairs {
            self.encode(out, name);
            self.encode(out, value);
        }
    }
}

fn header(out: &mut BytesMut, kind: char, count: usize) {
    out.extend_from_slice(format!("{kind}{count}\r\n").as_bytes());
}

fn frame3(reply: &Frame) -> Frame3 {
    let attributes = None;
    match reply {
        Frame::SimpleString(data) => Frame3::SimpleString { data: data.clone(), attributes },
        Frame::Error(text) => Frame3::SimpleError { data: text.clone(), attributes },
        Frame::Integer(data) => Frame3::Number { data: *data, attributes },
        Frame::BulkString(data) => Frame3::BlobString { data: data.clone(), attributes },
        Frame::Array(elements) => {
            Frame3::Array { data: elements.iter().map(frame3).collect(), attributes }
        }
        Frame::Null => Frame3::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use redis_protocol::resp3::decode::complete::decode_bytes;

    fn encoded(protocol: Protocol, reply: &Frame) -> Bytes {
        let mut out = BytesMut::new();
        protocol.encode(&mut out, reply);
        out.freeze()
    }

    #[test]
    fn the_protocols_differ_in_nulls_and_maps_alone() {
        for (reply, two, three) in [
            (resp::ok(), "+OK\r\n", "+OK\r\n"),
            (resp::error("ERR no"), "-ERR no\r\n", "-ERR no\r\n"),
            (Frame::Integer(-7), ":-7\r\n", ":-7\r\n"),
            (Frame::BulkString("a\r\n".into()), "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"),
            (Frame::Null, "$-1\r\n", "_\r\n"),
            (
                Frame::Array(vec![Frame::Null, Frame::Array(vec![Frame::Null])]),
                "*2\r\n$-1\r\n*1\r\n$-1\r\n",
                "*2\r\n_\r\n*1\r\n_\r\n",
            ),
        ] {
            assert_eq!(encoded(Protocol::Two, &reply), two);
            let bytes = encoded(Protocol::Three, &reply);
            assert_eq!(bytes, three);
            let (_, read) = decode_bytes(&bytes).unwrap().unwrap();
            assert_eq!(read, bytes.len(), "the crate understands it");
        }
        let pairs = [(Frame::BulkString("a".into()), Frame::Null)];
        for (protocol, expected) in [
            (Protocol::Two, "*2\r\n$1\r\na\r\n$-1\r\n"),
            (Protocol::Three, "%1\r\n$1\r\na\r\n_\r\n"),
        ] {
            let mut out = BytesMut::new();
            protocol.encode_map(&mut out, &pairs);
            assert_eq!(out, expected);
        }
    }
}
