//! `kpa run` behind TLS, in front of a replica behind TLS: the built program, real sockets and a real process.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

mod support;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use support::{Kpa, PATIENCE, free_address, http_get, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const HOST: &str = "sealed.default.example.com";

/// Listens for TLS alone, with the certificate beside it.
const SERVER: &str = r#"
import http.server, os, ssl

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"{self.headers['X-Forwarded-Proto']}, and {self.connection.version()} here\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_cert_chain("replica.crt", "replica.key")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: sealed
  annotations:
    kpa.dev/backend-tls: "true"
    kpa.dev/local-command: "python3 server.py"
spec:
  selector: {matchLabels: {app: sealed}}
  template:
    metadata: {labels: {app: sealed}}
    spec:
      containers:
        - name: main
          image: sealed:latest
          ports: [{containerPort: 8080}]
          readinessProbe: {tcpSocket: {port: 8080}}
"#;

/// What the activator is told, but for the address.
const FILES: [&str; 8] = [
    "--tls-cert",
    "front.crt",
    "--tls-key",
    "front.key",
    "--tls-client-ca",
    "guests.pem",
    "--backend-ca",
    "replicas.pem",
];

/// Writes the certificate of an authority of its own, and one that it signed with its key.
fn authority(folder: &Path, root: &str, signed: &str, name: &str) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.join(root), params.self_signed(&key).unwrap().pem()).unwrap();
    let (issuer, own) = (Issuer::new(params, key), KeyPair::generate().unwrap());
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
    fs::write(folder.join(format!("{signed}.crt")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{signed}.key")), own.serialize_pem()).unwrap();
}

/// A folder with everything that is needed.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("server.py"), SERVER).unwrap();
    fs::write(folder.path().join("sealed.yaml"), MANIFEST).unwrap();
    authority(folder.path(), "fronts.pem", "front", HOST);
    authority(folder.path(), "guests.pem", "guest", "guest");
    authority(folder.path(), "replicas.pem", "replica", "sealed.default");
    folder
}

/// The connection of a client that trusts `fronts.pem` and speaks `alpn`; `shows`: whether it has a certificate.
async fn connect(folder: &Path, to: SocketAddr, alpn: &str, shows: bool) -> TlsStream<TcpStream> {
    let pem = |name: &str| fs::read(folder.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem("fronts.pem")).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = if shows {
        let chain = vec![CertificateDer::from_pem_slice(&pem("guest.crt")).unwrap()];
        builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&pem("guest.key")).unwrap()).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(to).await.unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST).unwrap(), stream);
    let stream = tokio::time::timeout(PATIENCE, connecting).await.expect("a handshake").unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
    stream
}

#[tokio::test]
async fn both_versions_of_http_come_in_over_tls_and_go_on_over_tls() {
    let folder = prepared();
    let (folder, secure) = (folder.path(), free_address());
    let listen = secure.to_string();
    let kpa = Kpa::start(folder, &[&["sealed.yaml", "--tls-listen", &listen][..], &FILES].concat(), "");

    let mut stream = connect(folder, secure, "http/1.1", true).await;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-kpa-cold: true"), "{answer}\n{}", kpa.log());
    assert!(answer.ends_with("\r\n\r\nhttps, and TLSv1.3 here\n"), "{answer}");

    let stream = connect(folder, secure, "h2", true).await;
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let tasks = runtime::Tasks::new();
    tasks.spawn("client", async move { drop(connection.await) });
    let request = http::Request::get(format!("https://{HOST}/")).body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "https, and TLSv1.3 here\n");

    // Without a certificate nobody gets in; what TLS 1.3 lets a client find out only when it reads.
    let mut stream = connect(folder, secure, "http/1.1", false).await;
    assert!(stream.read_to_end(&mut Vec::new()).await.is_err(), "{}", kpa.log());
    let plain = http_get(kpa.proxy, HOST, "/").unwrap();
    assert_eq!(plain.1, "http, and TLSv1.3 here\n", "the plain door is as before");
    assert!(kpa.log().contains(&format!("https://{secure} takes the same over TLS")), "{}", kpa.log());
    let (_, metrics) = http_get(kpa.admin, "admin", "/metrics").unwrap();
    assert!(metrics.contains("activator_tls_handshakes_failed_total{reason=\"no_certificate\"} 1"), "{metrics}");
    assert!(metrics.contains("activator_tls_certificate_expiry_seconds"), "{metrics}");
}

#[test]
fn what_cannot_be_used_stops_the_start() {
    let folder = prepared();
    let fails = |args: &[&str]| {
        let [listen, admin, secure] = [(); 3].map(|()| free_address().to_string());
        let addresses = ["run", "sealed.yaml", "--listen", &listen, "--admin", &admin, "--tls-listen", &secure];
        let (code, _, errors) = run(folder.path(), &[&addresses[..], args].concat());
        assert!(http_get(listen.parse().unwrap(), HOST, "/").is_none(), "it runs");
        (code, errors)
    };
    let (code, errors) = fails(&["--tls-cert", "front.crt"]);
    assert!(code == 2 && errors.contains("--tls-key <FILE>"), "{errors}");
    let (code, errors) = fails(&["--tls-cert", "front.crt", "--tls-key", "front.key", "--tls-cert", "guest.crt"]);
    assert!(code == 1 && errors.contains("--tls-cert is given 2 times and --tls-key 1 times"), "{errors}");
    let (code, errors) = fails(&["--tls-cert", "front.crt", "--tls-key", "guest.key"]);
    assert!(
        code == 1 && errors.contains("front.crt, guest.key: certificate and key do not belong together"),
        "{errors}"
    );
    let (code, errors) = fails(&["--tls-cert", "front.crt", "--tls-key", "front.key", "--backend-ca", "front.key"]);
    assert!(code == 1 && errors.contains("front.key: there is no certificate in it"), "{errors}");
}
