//! What is spoken to replicas behind TLS.

use crate::h2::{Sent, ask, client, full, request};
use crate::pki::{Authority, Pair};
use crate::rig::{Rig, set, svc};
use crate::tls_replica::{Replica, all_failed, failed, secured};
use crate::wire::{GET, Wire, eventually, ok, post, soon};
use activator::Settings;
use activator::tls::fault::Fault;
use activator::upstream::pool::TRUSTED_IDLE;
use domain::Protocol;
use http::{HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use runtime::net::{Connect, Socket, Tcp};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[tokio::test]
async fn requests_go_over_tls_and_connections_are_kept() {
    let authority = Authority::new();
    let replica = Replica::new(&authority.sign(&["svc.default"]), |_| ok("hello")).await;
    let rig =
        Rig::new(secured(&authority, |l| l.upstream_idle_timeout = set(Duration::from_secs(60))), &[replica.address])
            .await;
    let mut client = rig.client().await;
    for body in ["a", "b", "c"] {
        let answer = client.ask(post(body)).await;
        assert_eq!((answer.status(), answer.text()), (200, "hello"));
        rig.at_rest().await;
        // So long that it is looked at before it is used again.
        tokio::time::sleep(TRUSTED_IDLE).await;
    }
    assert_eq!((replica.secured(), replica.plain.load(Relaxed)), (1, 0));
    assert_eq!(*replica.names.lock(), [Some("svc.default".to_owned())]);
    let seen = replica.seen.lock().last().cloned().unwrap();
    assert_eq!((seen.text(), seen.field("x-forwarded-proto")), ("c", Some("http")), "the client's side has none");
    assert_eq!(all_failed(&rig), 0);
}

/// What is written behind TLS is out only when it is flushed, and no peer's buffer holds it all at once.
#[tokio::test]
async fn large_bodies_go_both_ways_whole() {
    let authority = Authority::new();
    let replica = Replica::new(&authority.sign(&["svc.default"]), |request| {
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len()).into_bytes();
        answer.extend(request.body.iter().rev());
        answer
    })
    .await;
    let rig = Rig::new(secured(&authority, |_| {}), &[replica.address]).await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[0]).collect();
    for _ in 0..2 {
        let Wire { stream, .. } = rig.client().await;
        let (mut reads, mut writes) = stream.into_split();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: svc.default\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let send = async {
            writes.write_all(head.as_bytes()).await.unwrap();
            writes.write_all(&body).await.unwrap();
        };
        let receive = async {
            let mut all = Vec::new();
            reads.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), all) = soon(async { tokio::join!(send, receive) }).await;
        assert!(all.starts_with(b"HTTP/1.1 200"));
        assert!(all[all.len() - body.len()..].iter().eq(body.iter().rev()));
    }
}

/// A connection that takes little, and nothing every other time.
#[derive(Debug)]
struct Narrow(TcpStream, bool);

#[derive(Debug, Clone)]
struct Narrowly;

impl Connect for Narrowly {
    type Stream = Narrow;

    async fn connect(&self, to: SocketAddr) -> io::Result<Narrow> {
        Ok(Narrow(Tcp.connect(to).await?, false))
    }
}

impl Socket for Narrow {
    fn is_read_closed(&self) -> bool {
        self.0.is_read_closed()
    }
}

impl AsyncRead for Narrow {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(100)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The end of a request does not stay behind in TLS where the network is slow.
#[tokio::test]
async fn a_slow_network_gets_the_whole_request() {
    let authority = Authority::new();
    let replica = Replica::new(&authority.sign(&["svc.default"]), |request| ok(&request.body.len().to_string())).await;
    let rig = Rig::bare(Settings::default(), 1, Narrowly).await;
    let rig = rig.with_service(secured(&authority, |_| {}), &[replica.address]).await;
    let mut client = rig.client().await;
    for length in [0, 300, 5_000, 100_000] {
        let answer = client.ask(post(&"x".repeat(length))).await;
        assert_eq!((answer.status(), answer.text()), (200, length.to_string().as_str()));
    }
}

#[tokio::test]
async fn answers_stream_as_they_come() {
    let authority = Authority::new();
    let (say, told) = tokio::sync::mpsc::channel::<&'static str>(1);
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let replica = Replica::script(&authority.sign(&["svc.default"]), move |mut wire, _| {
        let told = Arc::clone(&told);
        async move {
            wire.request().await;
            wire.stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            while let Some(word) = told.lock().await.recv().await {
                wire.stream.write_all(format!("{:x}\r\n{word}\r\n", word.len()).as_bytes()).await.unwrap();
                wire.stream.flush().await.unwrap();
            }
        }
    })
    .await;
    let rig = Rig::new(secured(&authority, |_| {}), &[replica.address]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    say.send("one").await.unwrap();
    assert_eq!(soon(client.head()).await.unwrap().status(), 200);
    assert_eq!(soon(client.take(8)).await, b"3\r\none\r\n");
    say.send("three").await.unwrap();
    assert_eq!(soon(client.take(10)).await, b"5\r\nthree\r\n");
}

/// Without TLS's own goodbye nobody knows whether an answer without a length is whole.
#[tokio::test]
async fn an_answer_that_was_cut_is_not_taken_for_a_whole_one() {
    let authority = Authority::new();
    for polite in [true, false] {
        let replica = Replica::script(&authority.sign(&["svc.default"]), move |mut wire, _| async move {
            wire.request().await;
            wire.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
            wire.stream.flush().await.unwrap();
            if polite {
                wire.stream.shutdown().await.unwrap();
            }
        })
        .await;
        let rig = Rig::new(secured(&authority, |_| {}), &[replica.address]).await;
        let answer = rig.client().await;
        let mut client = answer;
        client.send(GET).await;
        let answer = client.maybe_answer().await;
        assert_eq!(answer.is_some_and(|answer| answer.text() == "half"), polite);
        rig.at_rest().await;
    }
}

/// A replica of HTTP/2 behind TLS, and what it was asked.
pub(crate) async fn h2_replica(pair: &Pair, alpn: &[&str]) -> (SocketAddr, Arc<Mutex<Vec<http::request::Parts>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<http::request::Parts>>>::default());
    let (acceptor, tasks, noted) = (TlsAcceptor::from(pair.server(alpn)), runtime::Tasks::new(), Arc::clone(&seen));
    tasks.clone().spawn("replica", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
            tasks.spawn("replica's connection", async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let noted = Arc::clone(&noted);
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        noted.lock().push(head);
                        let mut answer = Response::new(http_body_util::Full::new(body).boxed());
                        answer.headers_mut().insert("x-from", HeaderValue::from_static("h2"));
                        Ok::<Response<Sent>, Infallible>(answer)
                    }
                });
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                drop(serving.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn http2_is_agreed_on_by_alpn() {
    let authority = Authority::new();
    let pair = authority.sign(&["svc.default"]);
    let (address, seen) = h2_replica(&pair, &["h2"]).await;
    let rig = Rig::new(secured(&authority, |_| {}), &[address]).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    for _ in 0..3 {
        let answer = ask(&mut client, request("POST", "/a", full("body"))).await;
        assert_eq!(answer.headers()["x-from"], "h2");
        assert_eq!(soon(answer.into_body().collect()).await.unwrap().to_bytes(), "body");
    }
    let head = seen.lock().last().cloned().unwrap();
    assert_eq!(head.uri, "https://svc.default/a");
    // HTTP/1.1 clients too, where the service says so.
    rig.apply(&svc(), secured(&authority, |l| l.protocol = set(Protocol::H2c))).await;
    eventually("it counts", || *rig.handle().gate.limits().protocol == Protocol::H2c).await;
    let answer = rig.client().await.ask(post("x")).await;
    assert_eq!((answer.field("x-from"), answer.text()), (Some("h2"), "x"));
    assert_eq!(all_failed(&rig), 0);
}

/// Prior knowledge is for cleartext: a replica that does not choose h2 does not get it.
#[tokio::test]
async fn http2_that_was_not_agreed_on_is_not_spoken() {
    let authority = Authority::new();
    let pair = authority.sign(&["svc.default"]);
    for alpn in [&[][..], &["http/1.1"]] {
        let (address, seen) = h2_replica(&pair, alpn).await;
        let settings = secured(&authority, |l| {
            l.protocol = set(Protocol::H2c);
            l.start_deadline = set(Duration::from_millis(1));
        });
        let rig = Rig::new(settings, &[address]).await;
        let answer = rig.client().await.ask(GET).await;
        assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("start_failed")));
        assert!(answer.text().contains("ALPN"), "{}", answer.text());
        assert!(failed(&rig, Fault::Alpn) > 0 && seen.lock().is_empty());
    }
}

#[tokio::test]
async fn tunnels_go_over_tls() {
    let authority = Authority::new();
    let replica = Replica::script(&authority.sign(&["svc.default"]), |mut wire, replica| async move {
        let Some(request) = wire.request().await else { return };
        replica.seen.lock().push(request);
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        wire.stream.write_all(agreed).await.unwrap();
        loop {
            let word = wire.take(4).await;
            if word.is_empty() {
                return;
            }
            wire.stream.write_all(&word).await.unwrap();
            wire.stream.flush().await.unwrap();
        }
    })
    .await;
    let rig = Rig::new(secured(&authority, |_| {}), &[replica.address]).await;
    let mut client = rig.client().await;
    let upgrade = "GET /ws HTTP/1.1\r\nhost: svc.default\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(client.ask(upgrade).await.status(), 101);
    for word in ["ping", "pong"] {
        client.send(word).await;
        assert_eq!(soon(client.take(4)).await, word.as_bytes());
    }
    assert_eq!((replica.secured(), rig.in_flight()), (1, 1));
    drop(client);
    rig.at_rest().await;
}
