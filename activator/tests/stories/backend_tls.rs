//! Replicas behind TLS.

use crate::http2::{Sent, ask, client, full, request};
use crate::pki::{Authority, Pair};
use crate::rig::{Backend, Rig, limits, set, svc};
use crate::wire::{GET, Message, Wire, eventually, ok, post, soon};
use activator::Settings;
use activator::tls::fault::{Fault, Reload};
use activator::tls::files::FollowedRoots;
use activator::upstream::pool::TRUSTED_IDLE;
use domain::{Certificates, Change, Endpoint, EndpointId, EndpointState, Limits, Probe, ProbeCheck, Protocol};
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
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

type Secure = Wire<TlsStream<TcpStream>>;

/// A replica of HTTP/1.1 that takes TLS, and plain connections where it is told to.
#[derive(Clone)]
struct Replica {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
    /// Connections whose handshake came through.
    secured: Arc<AtomicU32>,
    plain: Arc<AtomicU32>,
    names: Arc<Mutex<Vec<Option<String>>>>,
}

impl Replica {
    /// Runs `script` on every connection that is behind TLS, and answers `plain` on others.
    async fn script<F>(pair: &Pair, script: impl Fn(Secure, Self) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::script_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), pair, script)
    }

    fn script_on<F>(
        listener: TcpListener,
        pair: &Pair,
        script: impl Fn(Secure, Self) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let replica = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            secured: Arc::default(),
            plain: Arc::default(),
            names: Arc::default(),
        };
        let acceptor = TlsAcceptor::from(pair.server(&["h2", "http/1.1"]));
        let (tasks, this, script) = (runtime::Tasks::new(), replica.clone(), Arc::new(script));
        tasks.clone().spawn("replica", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (this, acceptor, script) = (this.clone(), acceptor.clone(), Arc::clone(&script));
                tasks.spawn("replica's connection", async move {
                    let mut first = [0];
                    if !matches!(stream.peek(&mut first).await, Ok(1)) {
                        return;
                    }
                    if first[0] != 0x16 {
                        this.plain.fetch_add(1, Relaxed);
                        let mut wire = Wire::new(stream);
                        while wire.request().await.is_some() {
                            wire.send(ok("plain")).await;
                        }
                        return;
                    }
                    if let Ok(stream) = acceptor.accept(stream).await {
                        this.names.lock().push(stream.get_ref().1.server_name().map(str::to_owned));
                        this.secured.fetch_add(1, Relaxed);
                        script(Wire::over(stream), this).await;
                    }
                });
            }
        });
        replica
    }

    /// Answers every request with what `reply` makes of it.
    async fn new(pair: &Pair, reply: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let reply = Arc::new(reply);
        Self::script(pair, move |mut wire, replica| {
            let reply = Arc::clone(&reply);
            async move {
                while let Some(request) = wire.request().await {
                    let answer = reply(&request);
                    replica.seen.lock().push(request);
                    wire.stream.write_all(&answer).await.unwrap();
                    wire.stream.flush().await.unwrap();
                }
            }
        })
        .await
    }

    fn secured(&self) -> u32 {
        self.secured.load(Relaxed)
    }
}

fn roots(authority: &Authority) -> Certificates {
    authority.pem.parse().unwrap()
}

/// TLS to replicas that `authority` vouches for, and clocks that a test can wait for.
fn secured(authority: &Authority, change: impl FnOnce(&mut Limits)) -> Limits {
    limits(|l| {
        l.backend_tls = set(true);
        l.backend_ca = set(Some(roots(authority)));
        l.connect_timeout = set(Duration::from_secs(20));
        change(l);
    })
}

fn failed(rig: &Rig, fault: Fault) -> u64 {
    rig.bounds().tls.replicas(fault)
}

fn all_failed(rig: &Rig) -> u64 {
    Fault::ALL.into_iter().map(|fault| failed(rig, fault)).sum()
}

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

async fn h2_replica(pair: &Pair, alpn: &[&str]) -> (SocketAddr, Arc<Mutex<Vec<http::request::Parts>>>) {
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

/// A replica that shows the wrong certificate, or none, gets no request, and it is said why.
#[tokio::test]
async fn who_cannot_prove_itself_gets_nothing() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (pair, trusted, fault, said) in [
        (stranger.sign(&["svc.default"]), &authority, Fault::Untrusted, "kpa.dev/backend-ca"),
        (authority.sign(&["other.default"]), &authority, Fault::WrongName, "kpa.dev/backend-server-name"),
        (authority.until(&["svc.default"], 2001), &authority, Fault::Expired, "expired"),
    ] {
        let replica = Replica::new(&pair, |_| ok("secret")).await;
        let settings = secured(trusted, |l| l.start_deadline = set(Duration::from_millis(1)));
        let rig = Rig::new(settings, &[replica.address]).await;
        let answer = rig.client().await.ask(GET).await;
        assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("start_failed")));
        assert!(answer.text().contains(said), "{}", answer.text());
        assert!(failed(&rig, fault) > 0);
        assert_eq!((failed(&rig, fault), replica.seen.lock().len()), (all_failed(&rig), 0));
    }
}

/// One that answers what is no TLS is known at once, one that waits for more after the connect timeout.
#[tokio::test]
async fn a_plain_replica_is_not_spoken_to_in_clear() {
    let authority = Authority::new();
    for (answers, fault) in [(true, Fault::NotTls), (false, Fault::Timeout)] {
        let backend = Backend::script(move |mut wire, _, backend| async move {
            wire.take(1).await;
            if answers {
                wire.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            }
            if let Some(request) = wire.request().await {
                backend.note(request);
            }
        })
        .await;
        let settings = secured(&authority, |l| {
            l.start_deadline = set(Duration::from_millis(1));
            l.connect_timeout = set(if answers { Duration::from_secs(20) } else { Duration::from_millis(50) });
        });
        let rig = Rig::new(settings, &[backend.address]).await;
        assert_eq!(rig.client().await.ask(GET).await.status(), 503);
        assert_eq!(backend.count(), 0);
        assert!(failed(&rig, fault) > 0);
    }
}

#[tokio::test]
async fn a_replica_that_answered_before_and_changed_its_certificate_is_502() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let replica = Replica::new(&authority.sign(&["svc.default"]), |_| ok("hello")).await;
    let impatient = |l: &mut Limits| {
        l.queue_timeout = set(Duration::from_millis(1));
        l.upstream_idle_timeout = set(Duration::ZERO);
    };
    let rig = Rig::new(secured(&authority, impatient), &[replica.address]).await;
    let mut client = rig.client().await;
    assert_eq!(client.ask(GET).await.status(), 200);
    // To the activator it is the same whether the certificate changes or what is trusted.
    rig.apply(&svc(), secured(&stranger, impatient)).await;
    eventually("it counts", || rig.handle().gate.limits().backend_ca.value == Some(roots(&stranger))).await;
    let answer = client.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (502, Some("backend_tls")));
    assert!(answer.text().contains("kpa.dev/backend-ca"), "{}", answer.text());
}

#[tokio::test]
async fn one_replica_that_cannot_prove_itself_leaves_the_work_to_the_other() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let bad = Replica::new(&stranger.sign(&["svc.default"]), |_| ok("bad")).await;
    let good = Replica::new(&authority.sign(&["svc.default"]), |_| ok("good")).await;
    let rig = Rig::new(secured(&authority, |_| {}), &[bad.address, good.address]).await;
    for _ in 0..6 {
        assert_eq!(rig.client().await.ask(GET).await.text(), "good");
    }
    assert_eq!(bad.seen.lock().len(), 0);
    assert!(failed(&rig, Fault::Untrusted) > 0);
}

/// Kept connections are not used under settings that they were not checked against.
#[tokio::test]
async fn a_change_counts_for_the_next_request() {
    let authority = Authority::new();
    let replica = Replica::new(&authority.sign(&["svc.default", "other.name"]), |_| ok("secure")).await;
    let patient = |l: &mut Limits| l.upstream_idle_timeout = set(Duration::from_secs(60));
    let rig = Rig::new(limits(patient), &[replica.address]).await;
    let mut client = rig.client().await;
    let mut check = async |settings: Limits, text: &str, secured: u32, plain: u32| {
        rig.apply(&svc(), settings.clone()).await;
        eventually("it counts", || *rig.handle().gate.limits() == settings).await;
        for _ in 0..2 {
            assert_eq!(client.ask(GET).await.text(), text);
            rig.at_rest().await;
        }
        assert_eq!((replica.secured(), replica.plain.load(Relaxed)), (secured, plain));
    };
    check(limits(patient), "plain", 0, 1).await;
    check(secured(&authority, patient), "secure", 1, 1).await;
    let other = |l: &mut Limits| {
        patient(l);
        l.backend_server_name = set(Some("other.name".to_owned()));
    };
    check(secured(&authority, other), "secure", 2, 1).await;
    check(limits(patient), "plain", 2, 2).await;
    assert_eq!(*replica.names.lock(), [Some("svc.default".to_owned()), Some("other.name".to_owned())]);
}

#[tokio::test]
async fn the_activators_own_roots_count_where_a_service_names_none() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let replica = Replica::new(&authority.sign(&["svc.default"]), |_| ok("hello")).await;
    let rootless = |deadline| {
        secured(&authority, |l| {
            l.backend_ca = set(None);
            l.start_deadline = set(deadline);
            l.upstream_idle_timeout = set(Duration::ZERO);
        })
    };
    let rig = Rig::new(rootless(Duration::from_millis(1)), &[replica.address]).await;
    let answer = rig.client().await.ask(GET).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("no roots are given"), "{}", answer.text());
    assert!(failed(&rig, Fault::NoRoots) > 0);
    let given = rig.activator.revisions().backend_roots();
    given.set(stranger.pem.as_bytes()).unwrap();
    let refused = failed(&rig, Fault::Untrusted);
    assert_eq!(rig.client().await.ask(GET).await.status(), 503);
    assert!(failed(&rig, Fault::Untrusted) > refused);
    given.set(b"nothing").unwrap_err();
    given.set(authority.pem.as_bytes()).unwrap();
    let rest = rootless(Duration::from_secs(600));
    rig.apply(&svc(), rest.clone()).await;
    eventually("it counts", || *rig.handle().gate.limits() == rest).await;
    assert_eq!(rig.client().await.ask(GET).await.text(), "hello");
}

/// A start is over when the replica proves itself: our own checks take the way of a request.
#[tokio::test]
async fn a_cold_start_comes_through_tls() {
    let authority = Authority::new();
    let pair = authority.sign(&["svc.default"]);
    for check in [
        ProbeCheck::Tcp { port: None },
        ProbeCheck::Http { port: None, path: "/ready".to_owned(), headers: Vec::new() },
    ] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let rig = Rig::new(secured(&authority, |_| {}), &[]).await;
        let mut client = rig.client().await;
        client.send(GET).await;
        eventually("it waits", || rig.waiting() == 1).await;
        let probe = Probe {
            check,
            timeout: Duration::from_secs(20),
            period: Duration::from_secs(1),
            failure_threshold: 3,
            success_threshold: 1,
        };
        let starting =
            Endpoint { id: EndpointId::new("cold"), address, state: EndpointState::Starting, early_probe: Some(probe) };
        rig.tell(Change::Endpoints { revision: svc(), version: 1_000, endpoints: Arc::new([starting]) }).await;
        eventually("it is asked", || rig.handle().gate.cold().probed == 1).await;
        let replica = Replica::script_on(socket.listen(64).unwrap(), &pair, |mut wire, replica| async move {
            while let Some(request) = wire.request().await {
                replica.seen.lock().push(request);
                wire.stream.write_all(&ok("warm")).await.unwrap();
                wire.stream.flush().await.unwrap();
            }
        });
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text(), answer.field("x-kpa-cold")), (200, "warm", Some("true")));
        assert_eq!((replica.plain.load(Relaxed), all_failed(&rig)), (0, 0));
    }
}

/// A check that anybody could pass would open a replica that no request can go to.
#[tokio::test]
async fn a_cold_replica_that_cannot_prove_itself_is_not_opened() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let replica = Replica::new(&stranger.sign(&["svc.default"]), |_| ok("secret")).await;
    let rig = Rig::new(secured(&authority, |_| {}), &[]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    eventually("it waits", || rig.waiting() == 1).await;
    let probe = Probe {
        check: ProbeCheck::Tcp { port: None },
        timeout: Duration::from_secs(20),
        period: Duration::from_secs(1),
        failure_threshold: 3,
        success_threshold: 1,
    };
    let starting = Endpoint {
        id: EndpointId::new("cold"),
        address: replica.address,
        state: EndpointState::Starting,
        early_probe: Some(probe),
    };
    rig.tell(Change::Endpoints { revision: svc(), version: 1_000, endpoints: Arc::new([starting]) }).await;
    eventually("it was asked more than once", || failed(&rig, Fault::Untrusted) >= 3).await;
    assert_eq!((rig.waiting(), rig.handle().gate.cold().probed, rig.permits()), (1, 1, 0));
    drop(client);
    rig.at_rest().await;
}

#[tokio::test]
async fn the_file_of_roots_is_followed() {
    let (authority, stranger, folder) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, &stranger.pem).unwrap();
    let replica = Replica::new(&authority.sign(&["svc.default"]), |_| ok("hello")).await;
    let settings = secured(&authority, |l| {
        l.backend_ca = set(None);
        l.start_deadline = set(Duration::from_millis(1));
        l.upstream_idle_timeout = set(Duration::ZERO);
    });
    let rig = Rig::new(settings, &[replica.address]).await;
    let loaded = FollowedRoots::load(path.clone()).await.unwrap();
    let roots = Arc::clone(rig.activator.revisions().backend_roots());
    let mut followed = FollowedRoots::new(loaded, roots, Arc::clone(rig.bounds()));
    assert_eq!(rig.client().await.ask(GET).await.status(), 503);
    assert!(failed(&rig, Fault::Untrusted) > 0);
    let reloads = || Reload::ALL.map(|reload| rig.bounds().tls.reloads(reload));
    for (content, expected) in [("nothing", [0, 1]), (authority.pem.as_str(), [1, 1]), ("", [1, 2])] {
        std::fs::write(&path, content).unwrap();
        followed.look().await;
        followed.look().await;
        assert_eq!(reloads(), expected);
    }
    let client = async || rig.client().await.ask(GET).await.status();
    let end = tokio::time::Instant::now() + crate::wire::PATIENCE;
    // The prober lets the replica go on when it has seen it prove itself.
    while client().await != 200 {
        assert!(tokio::time::Instant::now() < end);
    }
    std::fs::write(&path, vec![b'x'; 2 << 20]).unwrap();
    let error = FollowedRoots::load(path).await.unwrap_err().to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
}
