//! HTTP/2 by hyper's own clients and servers, for both ends.

use crate::wire::soon;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::net::{TcpListener, TcpStream};

pub(crate) type Sent = BoxBody<Bytes, Infallible>;

pub(crate) fn empty() -> Sent {
    Empty::new().boxed()
}

pub(crate) fn full(text: &'static str) -> Sent {
    Full::from(text).boxed()
}

/// Data and then trailers, of unknown length.
pub(crate) fn with_trailers(text: &'static str, name: &'static str, value: &'static str) -> Sent {
    bytes_with_trailers(Bytes::from(text), name, value)
}

pub(crate) fn bytes_with_trailers(data: Bytes, name: &'static str, value: &'static str) -> Sent {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, HeaderValue::from_static(value));
    let frames = [Ok(Frame::data(data)), Ok(Frame::trailers(trailers))];
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
}

pub(crate) async fn client(to: SocketAddr) -> (SendRequest<Sent>, runtime::Tasks) {
    let stream = TcpStream::connect(to).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let tasks = runtime::Tasks::new();
    tasks.spawn("client", async move { drop(connection.await) });
    (sender, tasks)
}

pub(crate) fn request(method: &str, path: &str, body: Sent) -> Request<Sent> {
    Request::builder().method(method).uri(format!("http://svc.default{path}")).body(body).unwrap()
}

pub(crate) async fn ask(client: &mut SendRequest<Sent>, request: Request<Sent>) -> Response<Incoming> {
    soon(client.ready()).await.unwrap();
    soon(client.send_request(request)).await.unwrap()
}

pub(crate) struct Seen {
    pub(crate) head: http::request::Parts,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

pub(crate) struct H2Backend {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    /// How many were opened.
    pub(crate) connections: Arc<AtomicUsize>,
}

/// A replica that speaks HTTP/2 by prior knowledge.
pub(crate) async fn h2_backend(reply: impl Fn(&Seen) -> Response<Sent> + Send + Sync + 'static) -> H2Backend {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Seen>>>::default());
    let (tasks, reply, noted) = (runtime::Tasks::new(), Arc::new(reply), Arc::clone(&seen));
    let connections = Arc::<AtomicUsize>::default();
    let opened = Arc::clone(&connections);
    tasks.clone().spawn("backend", async move {
        while let Ok((stream, _)) = listener.accept().await {
            opened.fetch_add(1, Relaxed);
            let (reply, noted) = (Arc::clone(&reply), Arc::clone(&noted));
            let service = service_fn(move |request: Request<Incoming>| {
                let (reply, noted) = (Arc::clone(&reply), Arc::clone(&noted));
                async move {
                    let (head, body) = request.into_parts();
                    let collected = body.collect().await.unwrap();
                    let trailers = collected.trailers().cloned();
                    let seen = Seen { head, body: collected.to_bytes(), trailers };
                    let response = reply(&seen);
                    noted.lock().push(seen);
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tasks.spawn("backend connection", async move { drop(connection.await) });
        }
    });
    H2Backend { address, seen, connections }
}
