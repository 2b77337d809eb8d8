//! One client connection: HTTP version, clocks, draining.
//!
//! Invariants: a connection that said nothing, said half a head, or has been idle is closed by its own clock; draining
//! closes only connections on which nothing has begun, those of HTTP/1.1 not before its delay is over.

mod date;
mod h2;
mod head;
mod http1;
mod wire;

pub use h2::{
    H2_CANCELS_MAX, H2_CONNECTION_WINDOW, H2_EARLY_CANCEL, H2_ERROR_RESETS_MAX, H2_FIRST_WINDOW, H2_PENDING_RESETS_MAX,
    H2_SMALL_FRAMES_BYTES_MAX, H2_STREAM_WINDOW, H2_STREAMS_MAX, Window,
};

use crate::body::{FromClient, Incoming, Open};
use crate::bounds::{Limit, Taken};
use crate::headers::Asked;
use crate::http1::inbox::Inbox;
use crate::request::{Door, Peer, Request};
use crate::settings::Settings;
use crate::stack::Stack;
use crate::steps::Response;
use crate::worker::Worker;
use http::request::Parts;
use runtime::net::{Connect, Socket};
use runtime::watched::{Watch, Watched};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How an HTTP/2 connection begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often a connection's clock looks, unless its limits are shorter. Not shorter, because each look wakes an idle
/// connection.
const LOOK: Duration = Duration::from_secs(10);
/// How long a connection that has said nothing yet may still begin once idle ones are closed: its client believes that it
/// is connected, and the first bytes may be on their way.
const FIRST_BYTE_GRACE: Duration = Duration::from_secs(1);

/// Serves one connection to its end. Its `place` is given back when nothing of it goes on.
pub async fn serve<C: Connect, S: Socket>(
    socket: S,
    (address, door, place): (SocketAddr, Door, Option<Taken>),
    worker: Arc<Worker<C>>,
    stack: Arc<Stack>,
) {
    worker.connections.fetch_add(1, Relaxed);
    let _count = Counted(&worker);
    let watch = Arc::<Watch>::default();
    let peer = Peer { place, ..Peer::new(address, door, worker.settings.load_full(), Arc::clone(&watch)) };
    let peer = Arc::new(peer);
    let Some((socket, mut first, version)) = sniff(socket, &worker, &peer.settings).await else { return };
    match version {
        Http::One => {
            let wire = wire::Wire::new(socket, first);
            let connection = pin!(async {
                http1::serve(Arc::clone(&wire), &worker, &stack, &peer).await;
                Ok(())
            });
            watch_over(connection, |_| wire.shut_down(), &worker, &peer, version).await;
        }
        Http::Two => {
            let io = Watched::new(socket, first.split().freeze(), watch);
            let connection = h2::Http2::new(io, Arc::clone(&worker), stack, Arc::clone(&peer));
            // Boxed, so that HTTP/1.1 connections have no room for it.
            let mut connection = Box::pin(connection);
            watch_over(connection.as_mut(), |c| c.get_mut().shut_down(), &worker, &peer, version).await;
        }
    }
}

/// Not an `async fn`, because its future would hold the whole request once more.
fn answer<'a, C: Connect>(
    worker: &'a Arc<Worker<C>>,
    stack: &'a Stack,
    peer: &Arc<Peer>,
    head: Parts,
    body: Incoming,
) -> impl Future<Output = Result<Response<C>, Infallible>> + Send + use<'a, C> {
    let open = Open::new(Arc::clone(peer));
    let body = FromClient::new(body, &open);
    let asked = Asked::of(&head.headers, &peer.settings.exempt_agents);
    stack.answer(worker, Box::new(Request { head, asked, body, open, until: None }))
}

struct Counted<'a, C: Connect>(&'a Worker<C>);

impl<C: Connect> Drop for Counted<'_, C> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

/// Reads until the first bytes say which HTTP it is. `None`: the client said nothing in time or left.
async fn sniff<C: Connect, S: Socket>(
    mut socket: S,
    worker: &Worker<C>,
    settings: &Settings,
) -> Option<(S, Inbox, Http)> {
    let mut first = Inbox::new();
    let mut deadline = pin!(sleep(settings.keep_alive));
    let mut told = false;
    loop {
        let count = first.len();
        let read = tokio::select! {
            biased;
            // Whatever has come: two reads of a short request would be one too many.
            read = poll_fn(|cx| first.poll_first(&mut socket, cx)) => read.ok()?,
            () = worker.close().cancelled(), if count == 0 && !told => {
                told = true;
                let last = Instant::now() + FIRST_BYTE_GRACE;
                if last < deadline.deadline() {
                    deadline.as_mut().reset(last);
                }
                continue;
            }
            () = &mut deadline => {
                if count > 0 {
                    worker.base.bounds.refuse(Limit::SlowHead);
                }
                return None;
            }
        };
        if read == 0 {
            return None;
        }
        if count == 0 {
            deadline.as_mut().reset(Instant::now() + settings.head_timeout);
        }
        if first.starts_with(PREFACE) {
            return Some((socket, first, Http::Two));
        }
        if !PREFACE.starts_with(&first) {
            return Some((socket, first, Http::One));
        }
    }
}

/// Drives a connection, with its clock and its drain beside it.
///
/// The clock's timer and the drain's notification are polled only when they may have something to say: the waker that
/// they were given is the connection's task, which does not change.
async fn watch_over<C, F>(
    mut connection: Pin<&mut F>,
    shut_down: impl Fn(Pin<&mut F>),
    worker: &Worker<C>,
    peer: &Peer,
    version: Http,
) where
    C: Connect,
    F: Future<Output = Result<(), ::h2::Error>>,
{
    let mut clock = Clock::new(peer, version);
    // GOAWAY lets what is under way end, and what comes too late be sent again. HTTP/1.1 has nothing like it.
    let (end, ends): (_, fn(&Worker<C>) -> bool) = match version {
        Http::One => (worker.close(), Worker::is_closing),
        Http::Two => (worker.drain(), Worker::is_draining),
    };
    let mut drain = pin!(end.cancelled());
    let mut told = false;
    let mut drain_asked = false;
    let mut settled = false;
    let mut settle = pin!(tokio::task::yield_now());
    poll_fn(|cx: &mut Context<'_>| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            if let Some(limit) = ended.err().and_then(|error| h2::limit(&error)) {
                worker.base.bounds.refuse(limit);
            }
            return Poll::Ready(());
        }
        if clock.poll(cx).is_ready() {
            if clock.was == Quiet::Head {
                worker.base.bounds.refuse(Limit::SlowHead);
            }
            return Poll::Ready(());
        }
        if !drain_asked {
            drain_asked = true;
            // Leaves the waker; what it answers is asked of the worker below.
            let _ = drain.as_mut().poll(cx);
        }
        if ends(worker) && !told {
            // One more turn of the reactor, so that a request that is already in the socket is seen and served.
            if !settled && settle.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            settled = true;
            if !clock.is_in_head() {
                told = true;
                shut_down(connection.as_mut());
                return connection.as_mut().poll(cx).map(drop);
            }
        }
        Poll::Pending
    })
    .await;
}

/// Closes connections that wait for a request for too long.
struct Clock<'a> {
    watch: &'a Watch,
    version: Http,
    look: Duration,
    sleep: Pin<Box<tokio::time::Sleep>>,
    asked: bool,
    quiet_since: Instant,
    was: Quiet,
    keep_alive: Duration,
    head_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quiet {
    /// A request is open: nothing to wait for.
    Busy,
    /// Between requests.
    Idle,
    /// Part of a head has arrived.
    Head,
}

impl<'a> Clock<'a> {
    fn new(peer: &'a Peer, version: Http) -> Self {
        let Settings { keep_alive, head_timeout, .. } = *peer.settings;
        let look = LOOK.min(keep_alive).min(head_timeout);
        Self {
            watch: &peer.watch,
            version,
            look,
            sleep: Box::pin(sleep(look)),
            asked: false,
            quiet_since: Instant::now(),
            was: Quiet::Idle,
            keep_alive,
            head_timeout,
        }
    }

    /// Part of a head has arrived. HTTP/2 has frames of its own between requests, so bytes alone say nothing there.
    fn is_in_head(&self) -> bool {
        self.version == Http::One && self.watch.is_idle() && self.watch.has_heard()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.asked && !self.sleep.is_elapsed() {
                return Poll::Pending;
            }
            self.asked = true;
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let is = match (self.watch.is_idle(), self.is_in_head()) {
                (false, _) => Quiet::Busy,
                (true, false) => Quiet::Idle,
                (true, true) => Quiet::Head,
            };
            // It may have been idle at the last look and now, and busy in between.
            let used = self.watch.take_used();
            if is != self.was || is == Quiet::Busy || used {
                self.was = is;
                self.quiet_since = now;
            }
            let limit = match is {
                Quiet::Busy => Duration::MAX,
                Quiet::Idle => self.keep_alive,
                Quiet::Head => self.head_timeout,
            };
            let quiet = now - self.quiet_since;
            if quiet >= limit {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(now + self.look.min(limit - quiet));
            self.asked = false;
        }
    }
}
