//! Every count that a Deployment was given, as a watch of the API server tells it.

use crate::support::wait_for;
use crate::world::World;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Counts in the order in which they were written, from the one that there was.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<Vec<u64>>);

impl Counts {
    pub(crate) fn so_far(&self) -> Vec<u64> {
        self.0.lock().clone()
    }

    fn take(&self, event: &Value) {
        assert!(["ADDED", "MODIFIED"].contains(&event["type"].as_str().unwrap()), "{event}");
        let count = event["object"]["spec"]["replicas"].as_u64().unwrap();
        let mut counts = self.0.lock();
        if counts.last() != Some(&count) {
            counts.push(count);
        }
    }
}

impl World {
    /// Watches a Deployment from now on, for as long as this cluster lives.
    pub(crate) fn counts(&self, name: &str) -> Arc<Counts> {
        let counts = Arc::<Counts>::default();
        let (address, noted) = (self.address, Arc::clone(&counts));
        let request = Request::get(format!(
            "/apis/apps/v1/namespaces/default/deployments?watch=true&fieldSelector=metadata.name%3D{name}"
        ))
        .header("host", address.to_string())
        .header("authorization", format!("Bearer {}", self.server.account("kpa-system", "kpa-autoscaler").unwrap()))
        .body(Empty::<Bytes>::new())
        .unwrap();
        drop(self.runtime.spawn(async move {
            let socket = TcpStream::connect(address).await.unwrap();
            let (mut line, connection) = handshake(TokioIo::new(socket)).await.unwrap();
            let read = async {
                let mut body = line.send_request(request).await.unwrap().into_body();
                let mut rest = Vec::new();
                while let Some(Ok(frame)) = body.frame().await {
                    rest.extend_from_slice(&frame.into_data().unwrap_or_default());
                    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = rest.drain(..=end).collect();
                        noted.take(&serde_json::from_slice(&line).unwrap());
                    }
                }
            };
            // It ends when the cluster does, and how is of no interest then.
            let (_, ()) = tokio::join!(connection, read);
        }));
        wait_for("the first count", || counts.so_far().first().copied());
        counts
    }
}
