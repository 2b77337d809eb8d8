//! The machine that runs replicas: each a small HTTP server on a port of its own.
//!
//! Invariant: a replica that is no longer listed dies at once, with everything it has: like a server that ends on SIGTERM.
//! Whoever stops a replica before it is empty loses requests, and the ledger says so.

use crate::cluster::Cluster;
use crate::net::{SimListener, SimStream};
use bytes::Bytes;
use domain::{Change, Endpoint, EndpointId};
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use platform::Platform;
use runtime::net::Listener;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How replicas behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// From being asked for to listening.
    pub(crate) start: Duration,
    /// From a request to its answer.
    pub(crate) service: Duration,
}

/// Starts what the platform lists, and kills what it lists no longer.
pub(crate) async fn run(cluster: Arc<Cluster>, pace: Pace) -> turmoil::Result {
    let mut changes = cluster.fake.watch();
    let mut replicas = BTreeMap::<EndpointId, JoinSet<()>>::new();
    while let Some(change) = changes.next().await {
        let Change::Endpoints { endpoints, .. } = change else { continue };
        replicas.retain(|id, _| endpoints.iter().any(|endpoint| endpoint.id == *id));
        for endpoint in &*endpoints {
            replicas.entry(endpoint.id.clone()).or_insert_with(|| {
                let mut tasks = JoinSet::new();
                tasks.spawn(replica(Arc::clone(&cluster), endpoint.clone(), pace));
                tasks
            });
        }
    }
    Err("a watch never ends".into())
}

async fn replica(cluster: Arc<Cluster>, endpoint: Endpoint, pace: Pace) {
    tokio::time::sleep(pace.start).await;
    let mut listener = SimListener::bind(endpoint.address.port()).await.expect("every replica has a port of its own");
    cluster.fake.set_ready(&cluster.id, &endpoint.id);
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&cluster), endpoint.id.clone(), pace.service));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: SimStream, cluster: Arc<Cluster>, id: EndpointId, service: Duration) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let serving = Serving::new(Arc::clone(&cluster), id.clone());
        async move {
            let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            tokio::time::sleep(service).await;
            let answered = Response::new(Full::new(body.unwrap_or_else(|_| Bytes::new())));
            serving.answered();
            Ok::<_, Infallible>(answered)
        }
    });
    // A connection that its activator gives up is no event here: the request on it is what counts.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// One request on a replica. Dropped unanswered when its connection is, or the whole replica.
struct Serving {
    cluster: Arc<Cluster>,
    id: EndpointId,
    answered: bool,
}

impl Serving {
    fn new(cluster: Arc<Cluster>, id: EndpointId) -> Self {
        cluster.ledger().begin(&id);
        Self { cluster, id, answered: false }
    }

    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.cluster.ledger().end(&self.id, self.answered);
    }
}
