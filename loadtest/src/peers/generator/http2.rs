//! HTTP/2 by prior knowledge: several clients on one connection.
//!
//! Invariant: each client has one stream at a time, and an answer counts when its last frame is read.

use crate::net;
use anyhow::bail;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use std::net::SocketAddr;

/// One client.
pub(super) struct Stream {
    send: SendRequest<Bytes>,
    hosts: Vec<String>,
}

/// A connection to `address` for so many clients.
pub(super) async fn open(address: SocketAddr, hosts: &[String], streams: usize) -> anyhow::Result<Vec<Stream>> {
    let (send, connection) = h2::client::handshake(net::connect(address).await?).await?;
    net::spawn(async move {
        // Its clients see for themselves that it is gone.
        let _ = connection.await;
    });
    Ok((0..streams).map(|_| Stream { send: send.clone(), hosts: hosts.to_vec() }).collect())
}

impl Stream {
    /// The request of this number, and its whole answer.
    pub(super) async fn exchange(&mut self, number: usize) -> anyhow::Result<()> {
        let host = &self.hosts[number % self.hosts.len()];
        let request =
            Request::get(format!("http://{host}/")).header("user-agent", "loadtest").header("accept", "*/*").body(())?;
        let (answer, _) = self.send.clone().ready().await?.send_request(request, true)?;
        let answer = answer.await?;
        if answer.status() != StatusCode::OK {
            bail!("not 200: {}", answer.status());
        }
        let mut body = answer.into_body();
        while let Some(part) = body.data().await {
            let read = part?.len();
            body.flow_control().release_capacity(read)?;
        }
        Ok(())
    }
}
