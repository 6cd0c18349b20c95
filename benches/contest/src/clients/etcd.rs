//! etcd's gRPC: `etcdserverpb.KV/Put` over HTTP/2, one connection for each client.

use std::io;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use tokio::net::TcpStream;

use super::{Answer, VALUE, ask, key, strange};

pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    uri: http::Uri,
}

impl Connection {
    pub(super) async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) =
            h2::client::handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let uri = format!("http://{server}/etcdserverpb.KV/Put");
        Ok(Self { requests, uri: uri.parse().map_err(io::Error::other)? })
    }

    pub(super) async fn write(&mut self, number: usize) -> io::Result<Answer> {
        self.put(number).await.map_err(io::Error::other)
    }

    async fn put(&mut self, number: usize) -> Result<Answer, h2::Error> {
        let mut request = http::Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
            request.headers_mut().insert(name, http::HeaderValue::from_static(value));
        }
        let requests = self.requests.clone().ready().await?;
        self.requests = requests;
        let (response, mut body) = self.requests.send_request(request, false)?;
        body.send_data(put_request(number), true)?;
        let response = response.await?;
        let status_of = |headers: &http::HeaderMap| headers.get("grpc-status").cloned();
        let mut status = status_of(response.headers());
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data?.len())?;
        }
        if let Some(trailers) = body.trailers().await? {
            status = status_of(&trailers).or(status);
        }
        Ok(match status {
            Some(status) if status == "0" => Answer::Acknowledged,
            status => Answer::Refused(format!("gRPC status {status:?}")),
        })
    }
}

/// A `PutRequest` with key and value, behind gRPC's head: not compressed, and the length.
fn put_request(number: usize) -> Bytes {
    let key = key(number);
    let mut message = BytesMut::new();
    for (tag, bytes) in [(0x0a, key.as_bytes()), (0x12, &VALUE[..])] {
        message.put_u8(tag);
        // Lengths below 128 are one byte.
        message.put_u8(bytes.len() as u8);
        message.put_slice(bytes);
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put(message);
    framed.freeze()
}

pub(super) async fn leads(server: SocketAddr) -> io::Result<bool> {
    let question = format!("GET /metrics HTTP/1.0\r\nHost: {server}\r\n\r\n");
    let answer = ask(server, question.as_bytes()).await?;
    if !answer.contains("etcd_server_is_leader") {
        return Err(strange("etcd's metrics"));
    }
    Ok(answer.lines().any(|line| line == "etcd_server_is_leader 1"))
}
