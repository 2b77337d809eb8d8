//! How connections end: by their own clocks, and by draining.

use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, Wire, eventually, ok, post, soon};
use activator::Settings;
use domain::{Limits, Protocol};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

fn short() -> Settings {
    Settings { head_timeout: Duration::from_millis(150), keep_alive: Duration::from_millis(300), ..Settings::default() }
}

/// A replica that answers when it is told to.
async fn patient(go: &Arc<Semaphore>) -> Backend {
    let go = Arc::clone(go);
    Backend::script(move |mut wire, _, backend| {
        let go = Arc::clone(&go);
        async move {
            while let Some(request) = wire.request().await {
                backend.note(request);
                go.acquire().await.unwrap().forget();
                wire.send(ok("done")).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn silence_half_heads_and_idleness_have_clocks() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::with(short(), Limits::default(), &[backend.address]).await;
    for (what, begin, at_least) in [
        ("silence", "", 300),
        ("part of what HTTP/2 begins with", "PRI * HT", 150),
        ("half a head", "GET / HTTP/1.1\r\nhost: sv", 150),
        ("a request and then nothing", GET, 300),
        ("a request and then half a head", &format!("{GET}GET / HT"), 150),
    ] {
        let mut client = rig.client().await;
        let began = Instant::now();
        client.send(begin).await;
        if begin.contains("\r\n\r\n") {
            assert_eq!(client.answer().await.status(), 200);
        }
        assert!(client.closes().await, "{what}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(at_least), "{what}: closed after {took:?}");
        assert!(took < Duration::from_millis(at_least + 1500), "{what}: closed after {took:?}");
    }
    eventually("no connection is left", || {
        rig.activator.workers()[0].connections.load(std::sync::atomic::Ordering::Relaxed) == 0
    })
    .await;
}

#[tokio::test]
async fn a_running_request_is_not_idle() {
    let go = Arc::new(Semaphore::new(0));
    let backend = patient(&go).await;
    let rig = Rig::with(short(), Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    let began = Instant::now();
    eventually("all clocks are over", || began.elapsed() > Duration::from_millis(700)).await;
    go.add_permits(1);
    assert_eq!(client.answer().await.text(), "done");
}

#[tokio::test]
async fn a_connection_in_use_is_not_idle_though_each_look_finds_it_so() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::with(short(), Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    let began = Instant::now();
    // Its clock looks between the requests, which are short, and never finds one open.
    while began.elapsed() < short().keep_alive * 4 {
        assert_eq!(client.ask(GET).await.status(), 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn draining_ends_idle_connections_and_lets_requests_finish() {
    let go = Arc::new(Semaphore::new(1));
    let backend = patient(&go).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let (mut idle, mut running) = (rig.client().await, rig.client().await);
    assert_eq!(idle.ask(GET).await.field("connection"), None);
    running.send(GET).await;
    eventually("the second runs", || backend.count() == 2).await;

    let mut drain = rig.start_draining();
    assert!(idle.closes().await);
    assert_eq!(rig.in_flight(), 1);
    assert!(drain.try_recv().is_err(), "it waits for the request");
    eventually("the listener is closed", || std::net::TcpStream::connect(rig.addresses[0]).is_err()).await;
    go.add_permits(1);
    let answer = running.answer().await;
    assert_eq!((answer.text(), answer.field("connection")), ("done", Some("close")));
    soon(drain).await.unwrap();
}

/// Over HTTP/1.1 only an answer can tell a client in time; a connection that is closed in its face loses what is on its way.
#[tokio::test]
async fn an_idle_connection_is_served_until_the_drain_delay_is_over() {
    let backend = Backend::new(|_| ok("served")).await;
    let settings = Settings { drain_delay: Duration::from_secs(2), ..Settings::default() };
    let rig = Rig::with(settings, Limits::default(), &[backend.address]).await;
    let (mut used, mut idle, mut silent) = (rig.client().await, rig.client().await, rig.client().await);
    for client in [&mut used, &mut idle] {
        assert_eq!(client.ask(GET).await.field("connection"), None);
    }
    let drain = rig.start_draining();
    eventually("it drains", || rig.activator.workers()[0].is_draining()).await;
    // As over a real network: the request comes a while after.
    tokio::time::sleep(Duration::from_millis(20)).await;
    for client in [&mut used, &mut silent] {
        let answer = client.ask(GET).await;
        assert_eq!((answer.text(), answer.field("connection")), ("served", Some("close")));
        assert!(client.closes().await);
    }
    assert!(!rig.activator.workers()[0].is_closing());
    assert!(idle.closes().await);
    soon(drain).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_in_the_socket_is_served() {
    let backend = Backend::new(|_| ok("served")).await;
    for used in [false, true] {
        let rig = Rig::new(Limits::default(), &[backend.address]).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = rig.client().await;
            if used {
                client.ask(GET).await;
            }
            clients.push(client);
        }
        for client in &mut clients {
            // Written without giving the activator a turn: it has not read this when draining begins.
            assert_eq!(client.stream.try_write(post("last").as_bytes()).unwrap(), post("last").len());
        }
        let drain = async { soon(rig.activator.drain()).await };
        let answers = async {
            for client in &mut clients {
                let answer = client.answer().await;
                assert_eq!((answer.text(), answer.field("connection")), ("served", Some("close")), "used: {used}");
            }
        };
        tokio::join!(drain, answers);
    }
}

#[tokio::test]
async fn what_the_kernel_has_accepted_is_served() {
    let backend = Backend::new(|_| ok("served")).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    // Connected and written by the kernel while the activator has no turn.
    let clients: Vec<_> = (0..10)
        .map(|_| {
            use std::io::Write;
            let mut stream = std::net::TcpStream::connect(rig.addresses[0]).unwrap();
            stream.write_all(GET.as_bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            Wire::new(TcpStream::from_std(stream).unwrap())
        })
        .collect();
    let answers = async {
        for mut client in clients {
            assert_eq!(client.answer().await.text(), "served");
        }
    };
    tokio::join!(async { soon(rig.activator.drain()).await }, answers);
}

/// For the time of the drain delay the listener is open, because others still send here.
#[tokio::test]
async fn new_connections_are_served_until_the_listener_closes() {
    let backend = Backend::new(|_| ok("served")).await;
    let settings = Settings { drain_delay: Duration::from_secs(2), ..Settings::default() };
    let rig = Rig::with(settings, Limits::default(), &[backend.address]).await;
    let drain = async { soon(rig.activator.drain()).await };
    let late = async {
        for _ in 0..5 {
            let mut client = rig.client().await;
            // As over a real network: the request comes a while after the connection.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let answer = client.ask(GET).await;
            assert_eq!((answer.text(), answer.field("connection")), ("served", Some("close")));
            assert!(client.closes().await);
        }
    };
    tokio::join!(drain, late);
}

#[tokio::test]
async fn draining_waits_for_tunnels_and_for_no_shared_connection() {
    let backend = Backend::script(|mut wire, _, _| async move {
        wire.request().await;
        wire.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
        let word = wire.take(4).await;
        wire.send(word).await;
        wire.rest().await;
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    client.ask("GET / HTTP/1.1\r\nhost: svc.default\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
    let mut drain = std::pin::pin!(rig.activator.drain());
    let waits = tokio::time::timeout(Duration::from_millis(200), drain.as_mut()).await;
    assert!(waits.is_err(), "the tunnel is open");
    client.send("ping").await;
    assert_eq!(soon(client.take(4)).await, b"ping");
    drop(client);
    soon(drain).await;
}

#[tokio::test]
async fn draining_ends_at_its_grace() {
    let go = Arc::new(Semaphore::new(0));
    let backend = patient(&go).await;
    let settings = Settings { drain_grace: Duration::from_millis(100), ..Settings::default() };
    let rig = Rig::with(settings, limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    eventually("it runs", || backend.count() == 1).await;
    soon(rig.activator.drain()).await;
    assert_eq!(rig.in_flight(), 1);
}
