//! HTTP/2 on either side, and the translation between the two.

use crate::h2::{Seen, ask, client, empty, full, h2_backend, request, with_trailers};
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, eventually, ok, soon};
use bytes::Bytes;
use domain::{Limits, Protocol};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;

#[tokio::test]
async fn http2_becomes_http1() {
    let backend = Backend::new(|_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nkeep-alive: timeout=9\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 2\r\n\r\n"
            .to_vec()
    })
    .await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    let mut post = request("POST", "/v1/m:predict?a=%2F", full("abc"));
    post.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
    post.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
    post.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let response = ask(&mut client, post).await;
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(response.headers().get("keep-alive"), None);
    assert_eq!(response.headers().get("transfer-encoding"), None);
    let collected = soon(response.into_body().collect()).await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "2");
    assert_eq!(collected.to_bytes(), "hi");
    let seen = backend.last();
    assert_eq!((seen.target(), seen.text()), ("/v1/m:predict?a=%2F", "abc"));
    assert_eq!((seen.field("host"), seen.field("cookie")), (Some("svc.default"), Some("a=1; b=2")));
    assert_eq!((seen.field("te"), seen.field("x-forwarded-host")), (Some("trailers"), Some("svc.default")));
    rig.at_rest().await;
}

/// HTTP/1.1 lets a sender name its trailers beforehand and does not ask for it (RFC 9110 section 6.6.2).
#[tokio::test]
async fn trailers_that_nobody_announced_survive_the_translation() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    let response = ask(&mut client, request("POST", "/", with_trailers("abc", "x-check", "3"))).await;
    assert_eq!(response.status(), StatusCode::OK);
    let seen = backend.last();
    assert_eq!((seen.text(), seen.field("content-length")), ("abc", None));
    assert_eq!(seen.trailers, [("x-check".to_owned(), "3".to_owned())]);
    rig.at_rest().await;
}

/// Whatever the method, a body whose length nobody knows goes on in chunks.
#[tokio::test]
async fn a_body_of_unknown_length_survives_the_translation() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    for method in ["GET", "POST", "DELETE", "PUT"] {
        let body = StreamBody::new(futures_util::stream::iter([Ok(Frame::data(Bytes::from("unknown")))]));
        let response = ask(&mut client, request(method, "/", BodyExt::boxed(body))).await;
        assert_eq!((response.status(), backend.last().text()), (StatusCode::OK, "unknown"), "{method}");
    }
    let response = ask(&mut client, request("GET", "/", empty())).await;
    assert_eq!((response.status(), backend.last().field("transfer-encoding")), (StatusCode::OK, None));
}

#[tokio::test]
async fn http1_becomes_http2() {
    let backend = h2_backend(|_| {
        let mut response = Response::new(with_trailers("hello", "x-sum", "5"));
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        response
    })
    .await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::H2c)), &[backend.address]).await;
    for _ in 0..3 {
        let mut client = rig.client().await;
        let answer = client
            .ask(
                "POST //a%2Fb HTTP/1.1\r\nhost: svc.default\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\n\
                 te: trailers, deflate\r\ntrailer: x-check\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-check: 3\r\n\r\n",
            )
            .await;
        assert_eq!((answer.status(), answer.text()), (200, "hello"));
        assert_eq!(answer.field("connection"), None, "another request may follow");
        rig.at_rest().await;
    }
    let seen = backend.seen.lock();
    let Seen { head, body, trailers } = &seen[2];
    assert_eq!((head.version, head.uri.path(), &body[..]), (Version::HTTP_2, "//a%2Fb", &b"abc"[..]));
    assert_eq!(head.uri.authority().map(http::uri::Authority::as_str), Some("svc.default"));
    for gone in ["host", "connection", "x-hop", "transfer-encoding"] {
        assert_eq!(head.headers.get(gone), None, "{gone}");
    }
    assert_eq!(head.headers["te"], "trailers", "codings stay on their hop");
    assert_eq!(trailers.as_ref().unwrap()["x-check"], "3");
}

#[tokio::test]
async fn a_trailers_only_answer_stays_one() {
    let backend = h2_backend(|_| {
        let mut response = Response::new(empty());
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("5"));
        response
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    let mut call = request("POST", "/pkg.Service/Method", full("frame"));
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    call.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let response = ask(&mut client, call).await;
    assert_eq!(response.headers()["grpc-status"], "5");
    assert!(response.body().is_end_stream(), "no empty frame was added");
    assert_eq!(backend.seen.lock()[0].head.headers["te"], "trailers");
    rig.at_rest().await;
}

#[tokio::test]
async fn grpc_callers_are_refused_in_trailers_only_and_their_deadline_shrinks() {
    let backend = h2_backend(|_| Response::new(with_trailers("frame", "grpc-status", "0"))).await;
    let rig = Rig::new(limits(|l| l.queue_depth = set(1)), &[]).await;
    let call = || {
        let mut call = request("POST", "/pkg.Service/Method", full("frame"));
        call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        call.headers_mut().insert("grpc-timeout", HeaderValue::from_static("9S"));
        call
    };
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    client.ready().await.unwrap();
    let held = client.send_request(call());
    let mut held = std::pin::pin!(held);
    assert!(futures_util::poll!(held.as_mut()).is_pending());
    eventually("one waits", || rig.waiting() == 1).await;
    let refused = ask(&mut client, call()).await;
    assert_eq!(
        (refused.status(), &refused.headers()["grpc-status"]),
        (StatusCode::OK, &HeaderValue::from_static("14"))
    );
    assert!(refused.body().is_end_stream());
    let began = tokio::time::Instant::now();
    eventually("some time passes", || began.elapsed() > Duration::from_millis(120)).await;
    rig.replicas(&[backend.address]).await;
    let response = soon(held).await.unwrap();
    let collected = soon(response.into_body().collect()).await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    let left = backend.seen.lock()[0].head.headers["grpc-timeout"].to_str().unwrap().to_owned();
    let millis: u64 = left.trim_end_matches('m').parse().unwrap();
    assert!(left.ends_with('m') && (4000..=8880).contains(&millis), "{left}");
    rig.at_rest().await;
}

#[tokio::test]
async fn a_grpc_deadline_ends_the_wait() {
    let rig = Rig::new(Limits::default(), &[]).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    let mut call = request("POST", "/pkg.Service/Method", full("frame"));
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    call.headers_mut().insert("grpc-timeout", HeaderValue::from_static("50m"));
    assert_eq!(ask(&mut client, call).await.headers()["grpc-status"], "4");
    rig.at_rest().await;
}

#[tokio::test]
async fn a_reset_stream_gives_everything_back() {
    let backend = Backend::script(|mut wire, _, backend| async move {
        let Some(request) = wire.request().await else { return };
        backend.note(request);
        wire.rest().await;
        backend.note(crate::wire::Message::default());
    })
    .await;
    for cc in [None, NonZeroU32::new(9)] {
        let rig = Rig::new(
            limits(|l| {
                l.protocol = set(Protocol::Http1);
                l.container_concurrency = set(cc);
            }),
            &[backend.address],
        )
        .await;
        let (mut client, _tasks) = client(rig.addresses[0]).await;
        let before = backend.count();
        client.ready().await.unwrap();
        let mut call = Box::pin(client.send_request(request("GET", "/", empty())));
        assert!(futures_util::poll!(call.as_mut()).is_pending());
        eventually("the replica has it", || backend.count() == before + 1).await;
        assert_eq!((rig.in_flight(), rig.permits()), (1, 1));
        drop(call);
        rig.at_rest().await;
        eventually("the replica sees it", || backend.count() == before + 2).await;
    }
}

#[tokio::test]
async fn a_reset_stream_leaves_the_queue() {
    let rig = Rig::new(Limits::default(), &[]).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    client.ready().await.unwrap();
    let mut call = Box::pin(client.send_request(request("POST", "/", full("body"))));
    assert!(futures_util::poll!(call.as_mut()).is_pending());
    eventually("it waits", || rig.waiting() == 1).await;
    drop(call);
    rig.at_rest().await;
}

/// 64 held uploads fill their own windows, not the connection's.
#[tokio::test]
async fn held_uploads_do_not_stall_their_neighbours() {
    let backend = Backend::new(|_| ok("through")).await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[]).await;
    let other = domain::RevisionId::new("default", "other");
    rig.apply(&other, limits(|l| l.protocol = set(Protocol::Http1))).await;
    let endpoint = domain::Endpoint {
        id: domain::EndpointId::new("o-1"),
        address: backend.address,
        state: domain::EndpointState::Ready,
        early_probe: None,
    };
    rig.tell(domain::Change::Endpoints { revision: other.clone(), version: 1, endpoints: [endpoint].into() }).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    let big: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
    let mut held = Vec::new();
    for _ in 0..64 {
        client.ready().await.unwrap();
        let mut call = Box::pin(client.send_request(request("POST", "/", full(big))));
        assert!(futures_util::poll!(call.as_mut()).is_pending());
        held.push(call);
    }
    eventually("all wait", || rig.waiting() == 64).await;
    let call = Request::post("http://other.default/").body(full(big)).unwrap();
    let response = ask(&mut client, call).await;
    assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), "through");
    assert_eq!(backend.last().body.len(), big.len());
}

#[tokio::test]
async fn draining_says_goodbye_and_finishes_the_streams() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let go = Arc::clone(&gate);
    let backend = Backend::script(move |mut wire, _, backend| {
        let go = Arc::clone(&go);
        async move {
            while let Some(request) = wire.request().await {
                backend.note(request);
                go.acquire().await.unwrap().forget();
                wire.send(ok("done")).await;
            }
        }
    })
    .await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let (mut idle, idle_tasks) = client(rig.addresses[0]).await;
    let (mut busy, _busy_tasks) = client(rig.addresses[0]).await;
    let (_unused, unused_tasks) = client(rig.addresses[0]).await;
    gate.add_permits(1);
    let response = ask(&mut idle, request("GET", "/", empty())).await;
    soon(response.into_body().collect()).await.unwrap();
    busy.ready().await.unwrap();
    let mut call = std::pin::pin!(busy.send_request(request("GET", "/", empty())));
    assert!(futures_util::poll!(call.as_mut()).is_pending());
    eventually("the second runs", || backend.count() == 2).await;

    let drain = rig.start_draining();
    soon(idle_tasks.wait()).await;
    soon(unused_tasks.wait()).await;
    assert_eq!(rig.in_flight(), 1);
    gate.add_permits(1);
    let response = soon(call).await.unwrap();
    assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), "done");
    soon(drain).await.unwrap();
}

#[tokio::test]
async fn paths_and_values_cross_from_http2_byte_for_byte() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    for path in ["/v1/m:predict", "/a%2Fb%2f", "//double//", "/semi;colon", "/?", "/../up"] {
        let mut get = request("GET", path, empty());
        let value = HeaderValue::from_bytes(b"caf\xe9 \xff  two").unwrap();
        get.headers_mut().insert("x-odd", value);
        ask(&mut client, get).await;
        let seen = backend.last();
        assert_eq!((seen.target(), seen.field("x-odd")), (path, Some("caf\u{e9} \u{ff}  two")));
    }
    let mut options = request("OPTIONS", "/", empty());
    let mut parts = options.uri().clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("*"));
    *options.uri_mut() = http::Uri::from_parts(parts).unwrap();
    ask(&mut client, options).await;
    assert_eq!(backend.last().first, "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn an_authority_and_a_host_must_agree() {
    let backend = Backend::new(|_| ok("")).await;
    let settings = activator::Settings { trusted: domain::TrustedProxies::none(), ..activator::Settings::default() };
    let rig = Rig::with(settings, limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    for (target, hosts, status) in [
        ("http://svc.default/", &[][..], 200),
        ("http://svc.default/", &["svc.default"], 200),
        ("http://svc.default:80/", &["SVC.default"], 200),
        ("http://svc.default/", &["other.default"], 400),
        ("http://svc.default/", &["svc.default", "svc.default"], 400),
        ("https://svc.default/", &[], 421),
    ] {
        let mut get = Request::builder().uri(target).body(empty()).unwrap();
        for host in hosts {
            get.headers_mut().append("host", HeaderValue::from_static(host));
        }
        assert_eq!(ask(&mut client, get).await.status(), status, "{target} {hosts:?}");
    }
}

/// A connection to a replica that many requests share is nobody's request.
#[tokio::test]
async fn draining_does_not_wait_for_shared_connections() {
    let backend = h2_backend(|_| Response::new(full("hi"))).await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::H2c)), &[backend.address]).await;
    assert_eq!(rig.client().await.ask(GET).await.text(), "hi");
    soon(rig.activator.drain()).await;
}

/// Frames between requests are no half heads.
#[tokio::test]
async fn an_idle_http2_connection_is_kept_for_the_keep_alive_time() {
    let backend = Backend::new(|_| ok("")).await;
    let settings = activator::Settings {
        head_timeout: Duration::from_millis(100),
        keep_alive: Duration::from_millis(600),
        ..activator::Settings::default()
    };
    let rig = Rig::with(settings, limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let (mut client, tasks) = client(rig.addresses[0]).await;
    assert_eq!(ask(&mut client, request("GET", "/", empty())).await.status(), StatusCode::OK);
    let began = tokio::time::Instant::now();
    soon(tasks.wait()).await;
    assert!(began.elapsed() > Duration::from_millis(550), "closed after {:?}", began.elapsed());
}

/// The peer says that it has not looked at the request: any method may go again.
#[tokio::test]
async fn a_refused_stream_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, streams) = (runtime::Tasks::new(), Arc::<AtomicU32>::default());
    let counter = Arc::clone(&streams);
    tasks.spawn("backend", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                if counter.fetch_add(1, Relaxed) % 2 == 0 {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    respond.send_response(Response::new(()), true).unwrap();
                }
            }
        }
    });
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::H2c)), &[address]).await;
    let mut client = rig.client().await;
    for n in 1..=3 {
        assert_eq!(client.ask(crate::wire::post("once")).await.status(), 200);
        assert_eq!(streams.load(Relaxed), 2 * n);
    }
    rig.at_rest().await;
}

/// Everybody who was held is let go at once, and a connection takes a hundred of them.
#[tokio::test]
async fn a_burst_at_a_new_replica_opens_few_connections() {
    const CLIENTS: usize = 150;
    let backend = h2_backend(|_| Response::new(full("hi"))).await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::H2c)), &[]).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = rig.client().await;
        client.send(GET).await;
        clients.push(client);
    }
    eventually("all wait", || rig.waiting() as usize == CLIENTS).await;
    rig.replicas(&[backend.address]).await;
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "hi");
    }
    let few = rig.activator.workers().len() * CLIENTS.div_ceil(activator::upstream::h2::STREAMS_MAX as usize);
    assert!(backend.connections.load(Relaxed) <= few, "{} connections", backend.connections.load(Relaxed));
    rig.at_rest().await;
}
