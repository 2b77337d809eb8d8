//! A replica behind TLS, and the settings that lead to it.

use crate::pki::{Authority, Pair};
use crate::rig::{Rig, limits, set};
use crate::wire::{Message, Wire, ok};
use activator::tls::fault::Fault;
use domain::{Certificates, Limits};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

type Secure = Wire<TlsStream<TcpStream>>;

/// A replica of HTTP/1.1 that takes TLS, and plain connections where it is told to.
#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Message>>>,
    secured: Arc<AtomicU32>,
    pub(crate) plain: Arc<AtomicU32>,
    pub(crate) names: Arc<Mutex<Vec<Option<String>>>>,
}

impl Replica {
    /// Runs `script` on every connection that is behind TLS, and answers `plain` on others.
    pub(crate) async fn script<F>(pair: &Pair, script: impl Fn(Secure, Self) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::script_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), pair, script)
    }

    pub(crate) fn script_on<F>(
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
    pub(crate) async fn new(pair: &Pair, reply: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
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

    /// Connections whose handshake came through.
    pub(crate) fn secured(&self) -> u32 {
        self.secured.load(Relaxed)
    }
}

pub(crate) fn roots(authority: &Authority) -> Certificates {
    authority.pem.parse().unwrap()
}

/// TLS to replicas that `authority` vouches for, and clocks that a test can wait for.
pub(crate) fn secured(authority: &Authority, change: impl FnOnce(&mut Limits)) -> Limits {
    limits(|l| {
        l.backend_tls = set(true);
        l.backend_ca = set(Some(roots(authority)));
        l.connect_timeout = set(Duration::from_secs(20));
        change(l);
    })
}

pub(crate) fn failed(rig: &Rig, fault: Fault) -> u64 {
    rig.bounds().tls.replicas(fault)
}

pub(crate) fn all_failed(rig: &Rig) -> u64 {
    Fault::ALL.into_iter().map(|fault| failed(rig, fault)).sum()
}
