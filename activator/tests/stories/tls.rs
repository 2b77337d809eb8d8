//! Clients behind TLS.

use crate::h2::{Sent, ask, full, h2_backend, request};
use crate::pki::{Authority, Pair, Visitor};
use crate::rig::{Backend, Rig};
use crate::wire::{GET, Wire, eventually, ok, soon};
use activator::Settings;
use activator::bounds::{Bounds, Limit, Stock};
use activator::tls::fault::{Fault, Reload};
use activator::tls::files::{Followed, FollowedServer, PairFiles, ServerFiles};
use activator::tls::server::{Credentials, Server};
use domain::Limits;
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

/// An activator in front of a replica that answers `hello`.
async fn rig(server: Server) -> (Rig, Backend) {
    rig_with(Settings::default(), server).await
}

async fn rig_with(settings: Settings, server: Server) -> (Rig, Backend) {
    let backend = Backend::new(|_| ok("hello")).await;
    let rig = Rig::secured(settings, Limits::default(), &[backend.address], Arc::new(server)).await;
    (rig, backend)
}

fn plain_server(authority: &Authority) -> Server {
    Server::new(authority.sign(&["svc.default"]).credentials())
}

async fn h2_over(stream: TlsStream<TcpStream>) -> (SendRequest<Sent>, runtime::Tasks) {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let tasks = runtime::Tasks::new();
    tasks.spawn("client", async move { drop(connection.await) });
    (sender, tasks)
}

fn failed(rig: &Rig, fault: Fault) -> u64 {
    rig.bounds().tls.clients(fault)
}

fn all_failed(rig: &Rig) -> u64 {
    Fault::ALL.into_iter().map(|fault| failed(rig, fault)).sum()
}

#[tokio::test]
async fn both_http_versions_and_both_tls_versions_are_served() {
    let authority = Authority::new();
    let (rig, backend) = rig(plain_server(&authority)).await;
    for (versions, expected) in [(ONLY_12, TLS12.version), (ONLY_13, TLS13.version)] {
        for alpn in [&["http/1.1"][..], &[]] {
            let visitor = Visitor { versions, alpn, ..Visitor::default() };
            let mut client = visitor.wire(&authority, rig.secure[0]).await;
            let session = client.stream.get_ref().1;
            assert_eq!(session.protocol_version(), Some(expected));
            assert_eq!(session.alpn_protocol(), alpn.first().map(|word| word.as_bytes()));
            for _ in 0..2 {
                let answer = client.ask(GET).await;
                assert_eq!((answer.status(), answer.text()), (200, "hello"));
                assert_eq!(backend.last().field("x-forwarded-proto"), Some("https"));
            }
        }
        let visitor = Visitor { versions, alpn: &["h2", "http/1.1"], ..Visitor::default() };
        let stream = visitor.visit(&authority, rig.secure[0]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        // The replica speaks HTTP/1.1 only, like most that browsers go to.
        let (mut client, _tasks) = h2_over(stream).await;
        let mut asked = request("POST", "/", full("x"));
        *asked.uri_mut() = "https://svc.default/".parse().unwrap();
        let answer = ask(&mut client, asked).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(soon(answer.into_body().collect()).await.unwrap().to_bytes(), "hello");
        assert_eq!(backend.last().field("x-forwarded-proto"), Some("https"));
    }
    let mut client = rig.client().await;
    client.ask(GET).await;
    assert_eq!(backend.last().field("x-forwarded-proto"), Some("http"), "the plain door is as before");
    assert_eq!(all_failed(&rig), 0);
    rig.at_rest().await;
}

/// gRPC has no other way than HTTP/2.
#[tokio::test]
async fn grpc_goes_on_in_http2() {
    let authority = Authority::new();
    let replica = h2_backend(|_| http::Response::new(full("hi"))).await;
    let server = Arc::new(plain_server(&authority));
    let rig = Rig::secured(Settings::default(), Limits::default(), &[replica.address], server).await;
    let visitor = Visitor { alpn: &["h2"], ..Visitor::default() };
    let (mut client, _tasks) = h2_over(visitor.visit(&authority, rig.secure[0]).await.unwrap()).await;
    let mut call = request("POST", "/pkg.Svc/Call", full("x"));
    *call.uri_mut() = "https://svc.default/pkg.Svc/Call".parse().unwrap();
    call.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    assert_eq!(ask(&mut client, call).await.status(), 200);
    let seen = replica.seen.lock();
    assert_eq!((seen[0].head.version, seen[0].head.uri.scheme_str()), (http::Version::HTTP_2, Some("http")));
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_is_refused() {
    let authority = Authority::new();
    let (rig, _backend) = rig(plain_server(&authority)).await;
    let visitor = Visitor { alpn: &["smtp"], ..Visitor::default() };
    assert!(visitor.visit(&authority, rig.secure[0]).await.is_err());
    eventually("counted", || failed(&rig, Fault::Alpn) == 1).await;
}

#[tokio::test]
async fn plain_http_at_the_port_of_tls_is_turned_away() {
    let authority = Authority::new();
    let (rig, backend) = rig(plain_server(&authority)).await;
    let mut client = Wire::connect(rig.secure[0]).await;
    client.send(GET).await;
    let rest = soon(client.rest()).await;
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    eventually("counted", || failed(&rig, Fault::NotTls) == 1).await;
    assert_eq!(backend.count(), 0);
    assert_eq!(Visitor::default().wire(&authority, rig.secure[0]).await.ask(GET).await.status(), 200);
}

#[tokio::test]
async fn who_stalls_in_the_handshake_hurts_nobody_and_is_closed() {
    let authority = Authority::new();
    let server = plain_server(&authority).with_handshake_timeout(Duration::from_millis(500));
    let (rig, _backend) = rig(server).await;
    let open = || rig.bounds().stock(Stock::Connections);
    let mut silent = Wire::connect(rig.secure[0]).await;
    let mut half = Wire::connect(rig.secure[0]).await;
    // The beginning of a ClientHello's record.
    half.send([0x16, 3, 1, 2, 0, 1]).await;
    eventually("they count", || open() == 2).await;
    let mut client = Visitor::default().wire(&authority, rig.secure[0]).await;
    assert_eq!(client.ask(GET).await.status(), 200);
    assert!(silent.closes().await);
    soon(half.rest()).await;
    eventually("counted", || failed(&rig, Fault::Timeout) == 2).await;
    assert_eq!((rig.refused(Limit::SlowHandshake), all_failed(&rig)), (2, 2));
    eventually("given back", || open() == 1).await;
    assert_eq!(client.ask(GET).await.status(), 200);
}

#[tokio::test]
async fn handshakes_count_among_the_connections() {
    let authority = Authority::new();
    let settings = Settings { connections_max: 1, ..Settings::default() };
    let (rig, _backend) = rig_with(settings, plain_server(&authority)).await;
    let silent = Wire::connect(rig.secure[0]).await;
    eventually("it counts", || rig.bounds().stock(Stock::Connections) == 1).await;
    assert!(Visitor::default().visit(&authority, rig.secure[0]).await.is_err());
    assert_eq!(rig.refused(Limit::Connections), 1);
    drop(silent);
    eventually("given back", || rig.bounds().stock(Stock::Connections) == 0).await;
    assert_eq!(Visitor::default().wire(&authority, rig.secure[0]).await.ask(GET).await.status(), 200);
    assert_eq!(failed(&rig, Fault::Closed), 1);
}

#[tokio::test]
async fn clients_show_a_certificate_where_one_is_wanted() {
    let (authority, guests, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let material = authority.sign(&["svc.default"]).material(Some(&guests));
    let (rig, backend) = rig(Server::new(Credentials::of(&material).unwrap())).await;
    for versions in [ONLY_12, ONLY_13] {
        let before = backend.count();
        let refusals = [(None, Fault::NoCertificate), (Some(strangers.sign(&["guest"])), Fault::Untrusted)];
        for (shows, fault) in refusals {
            let counted = failed(&rig, fault);
            let visitor = Visitor { versions, shows, ..Visitor::default() };
            // With TLS 1.3 the client's side of the handshake is over before the server has seen the certificate.
            if let Ok(stream) = visitor.visit(&authority, rig.secure[0]).await {
                let mut client = Wire::over(stream);
                let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, GET.as_bytes()).await;
                assert!(client.maybe_answer().await.is_none());
            }
            eventually("counted", || failed(&rig, fault) == counted + 1).await;
        }
        assert_eq!(backend.count(), before, "nothing came through");
        let visitor = Visitor { versions, shows: Some(guests.sign(&["guest"])), ..Visitor::default() };
        assert_eq!(visitor.wire(&authority, rig.secure[0]).await.ask(GET).await.status(), 200);
    }
}

#[tokio::test]
async fn a_held_client_that_leaves_is_noticed() {
    let authority = Authority::new();
    let server = Arc::new(plain_server(&authority));
    let rig = Rig::secured(Settings::default(), Limits::default(), &[], server).await;
    let mut client = Visitor::default().wire(&authority, rig.secure[0]).await;
    client.send(GET).await;
    eventually("it waits", || rig.waiting() == 1).await;
    drop(client);
    rig.at_rest().await;
}

#[tokio::test]
async fn draining_ends_connections_behind_tls_too() {
    let authority = Authority::new();
    let settings = Settings { drain_delay: Duration::ZERO, ..Settings::default() };
    let (rig, _backend) = rig_with(settings, plain_server(&authority)).await;
    let mut client = Visitor::default().wire(&authority, rig.secure[0]).await;
    assert_eq!(client.ask(GET).await.status(), 200);
    let drained = rig.start_draining();
    assert!(client.closes().await);
    soon(drained).await.unwrap();
    assert!(TcpStream::connect(rig.secure[0]).await.is_err(), "nobody listens any more");
}

/// Files as Kubernetes mounts a Secret: links to `..data`, which is a link to a folder that is swapped as a whole.
struct Mount<'a>(&'a Path);

impl Mount<'_> {
    fn put(&self, version: &str, certificate: &str, key: &str) {
        use std::os::unix::fs::symlink;
        let Self(root) = self;
        std::fs::create_dir(root.join(version)).unwrap();
        std::fs::write(root.join(version).join("tls.crt"), certificate).unwrap();
        std::fs::write(root.join(version).join("tls.key"), key).unwrap();
        symlink(version, root.join("..data_tmp")).unwrap();
        std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        for file in ["tls.crt", "tls.key"] {
            if !root.join(file).exists() {
                symlink(Path::new("..data").join(file), root.join(file)).unwrap();
            }
        }
    }

    fn put_pair(&self, version: &str, pair: &Pair) {
        self.put(version, &pair.certificate, &pair.key);
    }

    fn files(&self) -> ServerFiles {
        let pair = PairFiles { certificate: self.0.join("tls.crt"), key: self.0.join("tls.key") };
        ServerFiles { pairs: vec![pair], client_roots: None, client_revoked: None }
    }
}

#[tokio::test]
async fn changed_files_are_taken_and_broken_ones_are_not() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let mount = Mount(folder.path());
    let [first, second, third] = [2091, 2092, 2093].map(|year| authority.until(&["svc.default"], year));
    mount.put_pair("1", &first);
    let backend = Backend::new(|_| ok("hello")).await;
    // The rig makes its own counts, so the files get others.
    let bounds = Arc::<Bounds>::default();
    let mut followed = FollowedServer::new(mount.files().load().await.unwrap(), Arc::clone(&bounds));
    let server = Arc::clone(followed.server());
    let rig = Rig::secured(Settings::default(), Limits::default(), &[backend.address], server).await;
    let to = rig.secure[0];
    let shown = async || {
        let stream = Visitor::default().visit(&authority, to).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap().to_vec()
    };
    let reloads = || Reload::ALL.map(|reload| bounds.tls.reloads(reload));
    let mut early = Visitor::default().wire(&authority, to).await;
    assert_eq!(early.ask(GET).await.status(), 200);
    let ends_in_2091 = bounds.tls.not_after().unwrap();

    followed.look().await;
    assert_eq!((shown().await, reloads()), (first.chain(), [0, 0]), "nothing has changed");

    mount.put_pair("2", &second);
    followed.look().await;
    assert_eq!((shown().await, reloads()), (second.chain(), [1, 0]));
    assert_eq!(bounds.tls.not_after(), Some(ends_in_2091 + 365 * 86_400));
    assert_eq!(early.ask(GET).await.status(), 200, "an open connection goes on");

    let broken = [
        ("3", third.certificate.as_str(), second.key.as_str()),
        ("4", "nothing", third.key.as_str()),
        ("5", third.certificate.as_str(), ""),
    ];
    for (times, (version, certificate, key)) in (1..).zip(broken) {
        mount.put(version, certificate, key);
        followed.look().await;
        followed.look().await;
        assert_eq!((shown().await, reloads()), (second.chain(), [1, times]), "once for each change");
    }
    std::fs::remove_file(folder.path().join("..data")).unwrap();
    followed.look().await;
    assert_eq!((shown().await, reloads()), (second.chain(), [1, 4]));
    assert_eq!(bounds.tls.not_after(), Some(ends_in_2091 + 365 * 86_400));

    mount.put_pair("6", &third);
    followed.look().await;
    assert_eq!((shown().await, reloads()), (third.chain(), [2, 4]));
    assert_eq!(early.ask(GET).await.status(), 200);
}

#[tokio::test]
async fn bad_files_are_refused_at_the_start() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let mount = Mount(folder.path());
    let begin = async || mount.files().load().await.map(drop).unwrap_err().to_string();
    let error = begin().await;
    assert!(error.contains("tls.crt cannot be read: No such file"), "{error}");
    let (one, other) = (authority.sign(&["svc.default"]), authority.sign(&["svc.default"]));
    mount.put("1", &one.certificate, &other.key);
    let error = begin().await;
    assert!(error.contains("tls.key: certificate and key do not belong together"), "{error}");
}
