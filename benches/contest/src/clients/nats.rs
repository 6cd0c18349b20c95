//! NATS: messages published to a JetStream stream of three replicas, each acknowledged.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, VALUE, VALUE_BYTES, strange};

const SUBJECT: &str = "contest";
/// Where answers go. Each connection has its own, so that nobody hears another's.
const INBOX: &str = "_INBOX.contest";

pub(crate) struct Connection {
    stream: TcpStream,
    input: BytesMut,
    inbox: String,
}

impl Connection {
    pub(super) async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let inbox = format!("{INBOX}.{:016x}", fastrand::u64(..));
        let mut connection = Self { stream, input: BytesMut::new(), inbox };
        connection.line().await?;
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {} 1\r\nPING\r\n",
            connection.inbox
        );
        connection.stream.write_all(hello.as_bytes()).await?;
        while connection.line().await? != "PONG" {}
        Ok(connection)
    }

    pub(super) async fn write(&mut self) -> io::Result<Answer> {
        let answer = self.request(SUBJECT, &VALUE).await?;
        if answer.contains("\"seq\"") && !answer.contains("\"error\"") {
            return Ok(Answer::Acknowledged);
        }
        Ok(Answer::Refused(answer))
    }

    async fn request(&mut self, subject: &str, payload: &[u8]) -> io::Result<String> {
        let mut request =
            format!("PUB {subject} {} {}\r\n", self.inbox, payload.len()).into_bytes();
        request.extend_from_slice(payload);
        request.extend_from_slice(b"\r\n");
        self.stream.write_all(&request).await?;
        loop {
            let line = self.line().await?;
            if let Some(head) = line.strip_prefix("MSG ") {
                let length = head.rsplit(' ').next().and_then(|length| length.parse().ok());
                let payload = self.take(length.ok_or_else(|| strange(line.clone()))?).await?;
                return Ok(String::from_utf8_lossy(&payload).into_owned());
            }
            match &*line {
                "PING" => self.stream.write_all(b"PONG\r\n").await?,
                "PONG" | "+OK" => {}
                line if line.starts_with("INFO") => {}
                // Nobody listens: there is no stream, or it has no leader.
                line if line.starts_with("HMSG") => {
                    let length = line.rsplit(' ').next().and_then(|length| length.parse().ok());
                    self.take(length.ok_or_else(|| strange(line))?).await?;
                    return Ok("nobody answers".into());
                }
                line => return Err(strange(line)),
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") {
                let line = self.input.split_to(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.read().await?;
        }
    }

    /// A payload and the end of its line.
    async fn take(&mut self, length: usize) -> io::Result<Bytes> {
        while self.input.len() < length + 2 {
            self.read().await?;
        }
        let payload = self.input.split_to(length).freeze();
        drop(self.input.split_to(2));
        Ok(payload)
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

pub(super) async fn create_stream(server: SocketAddr) -> io::Result<()> {
    let stream = format!(
        "{{\"name\":\"{SUBJECT}\",\"subjects\":[\"{SUBJECT}\"],\"retention\":\"limits\",\
         \"storage\":\"file\",\"num_replicas\":3,\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0,\
         \"max_msg_size\":{VALUE_BYTES},\"discard\":\"old\"}}"
    );
    let mut connection = Connection::open(server).await?;
    let subject = format!("$JS.API.STREAM.CREATE.{SUBJECT}");
    let answer = connection.request(&subject, stream.as_bytes()).await?;
    if answer.contains("\"error\"") || !answer.contains("\"config\"") {
        return Err(strange(format!("NATS creates no stream: {answer}")));
    }
    Ok(())
}

/// Whether the server with this name leads the stream.
pub(super) async fn leads(server: SocketAddr, name: &str) -> io::Result<bool> {
    let mut connection = Connection::open(server).await?;
    let answer = connection.request(&format!("$JS.API.STREAM.INFO.{SUBJECT}"), b"").await?;
    Ok(answer.contains(&format!("\"leader\":\"{name}\"")))
}
