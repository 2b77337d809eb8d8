//! Each version of HTTP before each: what is said on one side is what is heard on the other, through a cold start.

use crate::h2;
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{Message, eventually, soon};
use bytes::Bytes;
use domain::Protocol;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use std::net::SocketAddr;

/// More than any buffer or first window on the way.
const LONG: usize = 300_000;

fn long() -> Vec<u8> {
    (0..LONG).map(|n| (n % 251) as u8).collect()
}

/// What a request is to a replica, whatever it came in: method, target, host, cookies, body, trailer.
type Said = (String, String, String, Option<String>, Vec<u8>, Option<String>);

/// What the client sends, for both.
fn sent(body: Vec<u8>, trailer: Option<&str>) -> Said {
    let field = Some("a=1; b=2".to_owned());
    ("POST".into(), "/p/%20?q=%C3%BC".into(), "svc.default".into(), field, body, trailer.map(str::to_owned))
}

/// Answers 201 with a field, the request's body back, and a trailer.
async fn http1_replica() -> (SocketAddr, impl Fn() -> Said) {
    let backend = Backend::new(|request: &Message| {
        let head = "HTTP/1.1 201 Created\r\nx-said: yes\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ntrailer: x-end\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        let size = format!("{:x}\r\n", request.body.len());
        [head.as_bytes(), size.as_bytes(), &request.body, b"\r\n0\r\nx-end: over\r\n\r\n"].concat()
    })
    .await;
    let address = backend.address;
    let seen = move || {
        let seen = backend.last();
        let words: Vec<_> = seen.first.split(' ').map(str::to_owned).collect();
        let field = |name| seen.field(name).map(str::to_owned);
        let trailer = seen.trailers.iter().find(|(name, _)| name == "x-end").map(|(_, value)| value.clone());
        (words[0].clone(), words[1].clone(), field("host").unwrap(), field("cookie"), seen.body.clone(), trailer)
    };
    (address, seen)
}

async fn http2_replica() -> (SocketAddr, impl Fn() -> Said) {
    let backend = h2::h2_backend(|seen| {
        let mut answer = Response::new(h2::bytes_with_trailers(seen.body.clone(), "x-end", "over"));
        *answer.status_mut() = StatusCode::CREATED;
        // Named beforehand: an HTTP/1.1 client is sent no others.
        for (name, value) in [("x-said", "yes"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("trailer", "x-end")] {
            answer.headers_mut().append(name, value.parse().unwrap());
        }
        answer
    })
    .await;
    let (address, seen) = (backend.address, backend.seen);
    let seen = move || {
        let seen = seen.lock();
        let seen = seen.last().unwrap();
        let uri = &seen.head.uri;
        let crumbs: Vec<_> = seen.head.headers.get_all("cookie").iter().map(|c| c.to_str().unwrap()).collect();
        let cookie = (!crumbs.is_empty()).then(|| crumbs.join("; "));
        let end = seen.trailers.as_ref().and_then(|trailers| trailers.get("x-end"));
        let end = end.map(|value| value.to_str().unwrap().to_owned());
        let target = uri.path_and_query().unwrap().to_string();
        (seen.head.method.to_string(), target, uri.authority().unwrap().to_string(), cookie, seen.body.to_vec(), end)
    };
    (address, seen)
}

async fn rig(protocol: Protocol) -> Rig {
    Rig::new(limits(|l| l.protocol = set(protocol)), &[]).await
}

async fn http1_client(rig: &Rig, replica: SocketAddr, body: Vec<u8>) {
    let mut client = rig.client().await;
    let head = "POST /p/%20?q=%C3%BC HTTP/1.1\r\nhost: svc.default\r\ncookie: a=1; b=2\r\nte: trailers\r\n\
                trailer: x-end\r\ntransfer-encoding: chunked\r\n\r\n";
    let size = format!("{:x}\r\n", body.len());
    let request = [head.as_bytes(), size.as_bytes(), &body, b"\r\n0\r\nx-end: sent\r\n\r\n"].concat();
    let (head, rest) = request.split_at(head.len());
    client.send(head).await;
    eventually("it waits", || rig.waiting() == 1).await;
    rig.replicas(&[replica]).await;
    soon(client.send(rest)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("x-said")), (201, Some("yes")));
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    assert!(answer.body == body, "{} of {} bytes came back", answer.body.len(), body.len());
    assert_eq!(answer.trailers, [("x-end".to_owned(), "over".to_owned())]);
}

async fn http2_client(rig: &Rig, replica: SocketAddr, body: Vec<u8>) {
    let (mut client, _tasks) = h2::client(rig.addresses[0]).await;
    let content = Bytes::from(body.clone());
    let mut request = h2::request("POST", "/p/%20?q=%C3%BC", h2::bytes_with_trailers(content, "x-end", "sent"));
    for crumb in ["a=1", "b=2"] {
        request.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    let start = async {
        eventually("it waits", || rig.waiting() == 1).await;
        rig.replicas(&[replica]).await;
    };
    let (answer, ()) = soon(async { tokio::join!(h2::ask(&mut client, request), start) }).await;
    assert_eq!((answer.status(), answer.headers()["x-said"].to_str().unwrap()), (StatusCode::CREATED, "yes"));
    assert_eq!(answer.headers().get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    let whole = soon(answer.into_body().collect()).await.unwrap();
    assert_eq!(whole.trailers().unwrap()["x-end"], "over");
    assert!(whole.to_bytes() == body, "the body came back");
}

#[tokio::test]
async fn http1_before_http1() {
    let (replica, seen) = http1_replica().await;
    let rig = rig(Protocol::Http1).await;
    http1_client(&rig, replica, long()).await;
    assert!(seen() == sent(long(), Some("sent")));
    rig.at_rest().await;
}

#[tokio::test]
async fn http1_before_http2() {
    let (replica, seen) = http2_replica().await;
    let rig = rig(Protocol::H2c).await;
    http1_client(&rig, replica, long()).await;
    assert!(seen() == sent(long(), Some("sent")));
    rig.at_rest().await;
}

#[tokio::test]
async fn http2_before_http1() {
    let (replica, seen) = http1_replica().await;
    let rig = rig(Protocol::Http1).await;
    http2_client(&rig, replica, long()).await;
    assert!(seen() == sent(long(), Some("sent")));
    rig.at_rest().await;
}

#[tokio::test]
async fn http2_before_http2() {
    let (replica, seen) = http2_replica().await;
    let rig = rig(Protocol::H2c).await;
    http2_client(&rig, replica, long()).await;
    assert!(seen() == sent(long(), Some("sent")));
    rig.at_rest().await;
}
