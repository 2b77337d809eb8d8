//! A defect in one request is that request's own.

use crate::rig::{Backend, Rig, limits, set, svc};
use crate::wire::{GET, Wire, eventually, ok};
use activator::Settings;
use activator::error::Outcome;
use domain::{Change, Limits};
use runtime::net::{Connect, Tcp};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::net::TcpStream;

/// A connector with a defect that can be switched on.
#[derive(Debug, Clone, Default)]
struct Defective(Arc<AtomicBool>);

impl Connect for Defective {
    type Stream = TcpStream;

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        assert!(!self.0.load(Relaxed), "a defect, on purpose");
        Tcp.connect(to).await
    }
}

#[tokio::test]
async fn a_panic_is_a_500_and_everything_else_goes_on() {
    // With and without a slot: a slot is given back while the panic unwinds.
    for cc in [None, NonZeroU32::new(1)] {
        let connector = Defective::default();
        let backend = Backend::new(|_| b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".to_vec());
        let backend = backend.await;
        let rig = Rig::bare(Settings::default(), 1, connector.clone()).await;
        rig.apply(&svc(), limits(|l| l.container_concurrency = set(cc))).await;
        rig.tell(Change::Synced).await;
        rig.replicas(&[backend.address]).await;
        let mut client = Wire::connect(rig.addresses[0]).await;
        assert_eq!(client.ask(GET).await.text(), "ok");
        connector.0.store(true, Relaxed);
        for _ in 0..2 {
            let answer = client.ask(GET).await;
            assert_eq!((answer.status(), answer.field("x-kpa-reason")), (500, Some("internal")));
            assert!(!answer.text().contains("on purpose"), "clients see no internal text");
            rig.at_rest().await;
        }
        assert_eq!(rig.ended(Outcome::Internal), 2);
        connector.0.store(false, Relaxed);
        assert_eq!(client.ask(GET).await.text(), "ok", "on the same connection");
        assert!(!rig.tasks.failed().is_cancelled());
    }
}

/// The same while others wait for the slot that the panicking request holds.
#[tokio::test]
async fn a_panic_hands_its_slot_to_the_next() {
    let connector = Defective::default();
    let backend = Backend::new(|_| ok("ok")).await;
    let rig = Rig::bare(Settings::default(), 1, connector.clone()).await;
    rig.apply(&svc(), Limits { container_concurrency: set(NonZeroU32::new(1)), ..Limits::default() }).await;
    rig.tell(Change::Synced).await;
    let mut clients = Vec::new();
    for n in 0..4 {
        let mut client = Wire::connect(rig.addresses[0]).await;
        client.send(GET).await;
        eventually("it waits", || rig.waiting() == n + 1).await;
        clients.push(client);
    }
    connector.0.store(true, Relaxed);
    rig.replicas(&[backend.address]).await;
    for client in &mut clients {
        assert_eq!(client.answer().await.status(), 500);
    }
    rig.at_rest().await;
    connector.0.store(false, Relaxed);
    assert_eq!(clients[0].ask(GET).await.text(), "ok");
}
