//! What one warm request costs in allocations: nothing of ours may creep onto the hot path unnoticed.
//!
//! Invariant: alone in its process, and client and replica use plain threads and fixed buffers, so that what is counted
//! is the activator's.

#![cfg(test)]

use activator::reporter::ReporterSettings;
use activator::request::Door;
use activator::{Activator, Settings, Setup, connection};
use domain::{ReporterId, RevisionId};
use platform::fixed::FixedPlatform;
use platform::trust::Shown;
use runtime::net::Tcp;
use runtime::{Clock, PhaseSender, Tasks, WakeLog};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Measured when this was written, and two to spare.
const ALLOCATIONS_MAX: usize = 11;
/// A connection's future, requests included (it is moved once, when it is spawned).
const FUTURE_BYTES_MAX: usize = 4096;

const REQUEST: &[u8] = b"POST /v1/m:predict HTTP/1.1\r\nhost: bench.default\r\nuser-agent: test\r\naccept: */*\r\ncontent-length: 5\r\n\r\nhello";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nserver: test\r\ncontent-length: 5\r\n\r\nhello";

/// Answers whatever it reads, without a heap.
fn replica() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut buffer = [0_u8; 4096];
            let mut filled = 0;
            while let Ok(count @ 1..) = stream.read(&mut buffer[filled..]) {
                filled += count;
                if buffer[..filled].ends_with(b"\r\n\r\nhello") {
                    stream.write_all(ANSWER).unwrap();
                    filled = 0;
                }
            }
        }
    });
    address
}

fn exchange(client: &mut TcpStream) {
    client.write_all(REQUEST).unwrap();
    let mut buffer = [0_u8; 4096];
    let mut filled = 0;
    while !buffer[..filled].ends_with(b"hello") {
        let count = client.read(&mut buffer[filled..]).unwrap();
        assert!(count > 0, "the connection ended");
        filled += count;
    }
    assert!(buffer.starts_with(b"HTTP/1.1 200"));
}

fn start(upstream: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let tasks = Tasks::new();
            let (activator, runs) = Activator::start(
                Setup {
                    connector: Tcp,
                    platform: Arc::new(FixedPlatform::new(vec![(RevisionId::new("default", "bench"), vec![upstream])])),
                    settings: Settings::default(),
                    reporter: ReporterSettings { id: ReporterId::new("a"), boot: 1, shown: Shown::Nothing },
                    clock: Clock::start(),
                    wakes: Arc::new(WakeLog::new()),
                    phase: PhaseSender::new(),
                    seed: 1,
                    neighbours: None,
                },
                1,
                &tasks,
            );
            let worker = Arc::clone(&activator.workers()[0]);
            let probe = async {
                // Never polled: only its size is wanted.
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
                let (client, accepted) = tokio::join!(client, listener.accept());
                let (_, (socket, peer)) = (client.unwrap(), accepted.unwrap());
                let future =
                    connection::serve(socket, (peer, Door::Public, None), worker, Arc::new(activator::stack::stack()));
                size_of_val(&future)
            };
            let size = probe.await;
            println!("a connection's future: {size} bytes");
            assert!(size <= FUTURE_BYTES_MAX, "a connection's future takes {size} bytes");
            let run = runs.into_iter().next().unwrap();
            run.serve(tokio::net::TcpListener::from_std(listener).unwrap(), None).await;
        });
    });
    address
}

#[test]
fn a_warm_request_allocates_little() {
    const COUNT: usize = 1000;
    let mut client = TcpStream::connect(start(replica())).unwrap();
    client.set_nodelay(true).unwrap();
    while {
        // Until the platform has been heard: 503 before.
        client.write_all(b"GET /.kpa/healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut buffer = [0_u8; 4096];
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0);
        !buffer.starts_with(b"HTTP/1.1 200")
    } {}
    for _ in 0..100 {
        exchange(&mut client);
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..COUNT {
        exchange(&mut client);
    }
    let change = region.change();
    // Once a second and four times a second somebody tidies up: far less than one a request.
    let (allocations, growths) = (change.allocations / COUNT, change.reallocations / COUNT);
    println!("a warm request: {allocations} allocations, {growths} growths, {} bytes", change.bytes_allocated / COUNT);
    assert!(allocations + growths <= ALLOCATIONS_MAX, "{allocations} allocations and {growths} growths");
    assert!(change.allocations.abs_diff(change.deallocations) < COUNT / 2, "what is allocated is freed: {change:?}");
}
