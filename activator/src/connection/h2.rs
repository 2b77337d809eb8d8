//! A client connection of HTTP/2: streams come in, each is answered by a task of its own.
//!
//! It stands on the h2 library itself and not on hyper's server, because only the former lets the window of a connection's
//! streams change while it runs. Windows are small until somebody reads a body: 10 000 held uploads cost a fifth of what
//! they would otherwise.
//!
//! Invariants: no held stream stalls another; a stream that its client resets takes its request with it; an answer that
//! breaks off ends in a reset, never as if it were whole.

use super::answer;
use crate::body::{Incoming, ResponseBody, Stream};
use crate::bounds::{Bounds, Limit};
use crate::request::Peer;
use crate::stack::Stack;
use crate::worker::Worker;
use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, HeaderValue};
use http::{Request, Response};
use http_body::Body;
use runtime::net::{Connect, Socket};
use runtime::watched::{Watch, Watched};
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Streams a client may open on one connection.
pub const H2_STREAMS_MAX: u32 = 100;
/// What a client may send on a stream before somebody reads it, in bytes, once a body of its connection was read.
pub const H2_STREAM_WINDOW: u32 = 64 * 1024;
/// The same before that.
/// A frame of so much takes up a block of 14 KiB of the allocator, one of 16 KiB would take up 20.
pub const H2_FIRST_WINDOW: u32 = 12 * 1024;
/// So large that all streams together never fill it: a held one cannot stall another.
pub const H2_CONNECTION_WINDOW: u32 = H2_STREAMS_MAX * H2_STREAM_WINDOW + 1024 * 1024;
/// What unread DATA frames under 256 bytes may cost on one connection, where each counts what it lacks of 256; beyond, the
/// connection ends with ENHANCE_YOUR_CALM. A window counts a byte for a byte, and a byte in a frame of its own is far more.
pub const H2_SMALL_FRAMES_BYTES_MAX: usize = H2_CONNECTION_WINDOW as usize / 2;
/// Streams that a client may have opened and reset before we have looked at them ("rapid reset"); beyond, the connection
/// ends with ENHANCE_YOUR_CALM.
pub const H2_PENDING_RESETS_MAX: usize = 20;
/// Streams of a connection that we may have reset because the client broke the protocol; beyond, the same.
pub const H2_ERROR_RESETS_MAX: usize = 1024;
/// Requests of a connection that a client may have given up early, where those are more than half of its requests; beyond,
/// the same. Each has cost a replica something, and none counts against [`H2_STREAMS_MAX`] any more.
pub const H2_CANCELS_MAX: u32 = 500;
/// Given up later than this, a request was wanted: its client has waited.
pub const H2_EARLY_CANCEL: Duration = Duration::from_secs(1);
/// Response bytes buffered for one HTTP/2 stream.
const H2_SEND_BUFFER: usize = 256 * 1024;

/// The window of each stream of a connection.
#[derive(Debug, Default)]
pub struct Window {
    wanted: AtomicBool,
    raised: AtomicBool,
}

impl Window {
    /// What a client may send on a stream before somebody reads it.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        if self.raised.load(Relaxed) { H2_STREAM_WINDOW } else { H2_FIRST_WINDOW }
    }

    /// Somebody reads a body.
    pub fn wanted(&self) {
        if !self.wanted.load(Relaxed) {
            self.wanted.store(true, Relaxed);
        }
    }

    /// Whether it is to be raised. Not while requests of the connection are held: they were let in for the smaller one.
    fn is_due(&self, watch: &Watch) -> bool {
        self.wanted.load(Relaxed) && !self.raised.load(Relaxed) && !watch.is_holding()
    }
}

/// What a client has begun and given up on one connection.
#[derive(Debug, Default)]
struct Cancels {
    begun: u32,
    early: Arc<AtomicU32>,
    is_over: bool,
}

impl Cancels {
    /// Whether the client has just gone too far.
    fn are_too_many(&mut self) -> bool {
        let early = self.early.load(Relaxed);
        let more = !self.is_over && early > H2_CANCELS_MAX && early > self.begun / 2;
        self.is_over |= more;
        more
    }
}

/// A connection.
pub(super) struct Http2<C: Connect, S> {
    state: State<S>,
    closing: bool,
    worker: Arc<Worker<C>>,
    stack: Arc<Stack>,
    peer: Arc<Peer>,
    window: Arc<Window>,
    cancels: Cancels,
}

enum State<S> {
    Handshake(Handshake<Watched<S>, Bytes>),
    Serving(Connection<Watched<S>, Bytes>),
}

impl<C: Connect, S: Socket> Http2<C, S> {
    pub(super) fn new(io: Watched<S>, worker: Arc<Worker<C>>, stack: Arc<Stack>, peer: Arc<Peer>) -> Self {
        let handshake = Builder::new()
            .initial_window_size(H2_FIRST_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
            .max_local_error_reset_streams(Some(H2_ERROR_RESETS_MAX))
            .data_frame_budget(H2_SMALL_FRAMES_BYTES_MAX)
            .max_send_buffer_size(H2_SEND_BUFFER)
            .max_header_list_size(u32::try_from(crate::HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .handshake(io);
        let (window, cancels) = (Arc::default(), Cancels::default());
        Self { state: State::Handshake(handshake), closing: false, worker, stack, peer, window, cancels }
    }

    /// What is under way ends, nothing new begins (RFC 9113 section 6.8).
    pub(super) fn shut_down(&mut self) {
        self.closing = true;
        if let State::Serving(connection) = &mut self.state {
            connection.graceful_shutdown();
        }
    }

    /// Answers a request in a task of its own.
    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (head, recv) = request.into_parts();
        let body = Incoming::Http2(Stream::new(recv, &head.headers, Arc::clone(&self.window)));
        let (worker, stack, peer) = (Arc::clone(&self.worker), Arc::clone(&self.stack), Arc::clone(&self.peer));
        self.cancels.begun = self.cancels.begun.saturating_add(1);
        let (began, early) = (Instant::now(), Arc::clone(&self.cancels.early));
        self.worker.base.tasks.spawn("stream of a client", async move {
            let told = (&*worker.base.bounds, peer.settings.keep_alive);
            let end = exchange(answer(&worker, &stack, &peer, head, body), respond, told).await;
            if end == End::Reset && began.elapsed() < H2_EARLY_CANCEL {
                early.fetch_add(1, Relaxed);
            }
        });
    }
}

impl<C: Connect, S: Socket> Future for Http2<C, S> {
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Handshake(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                    if this.closing {
                        connection.graceful_shutdown();
                    }
                    this.state = State::Serving(connection);
                }
                State::Serving(connection) => {
                    // Refused while the client has not confirmed our first settings; then the next time.
                    if this.window.is_due(&this.peer.watch)
                        && connection.set_initial_window_size(H2_STREAM_WINDOW).is_ok()
                    {
                        this.window.raised.store(true, Relaxed);
                    }
                    if this.cancels.are_too_many() {
                        this.worker.base.bounds.refuse(Limit::Resets);
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    }
                    match ready!(connection.poll_accept(cx)) {
                        Some(Ok((request, respond))) => this.begin(request, respond),
                        Some(Err(error)) => return Poll::Ready(Err(error)),
                        None => return Poll::Ready(Ok(())),
                    }
                }
            }
        }
    }
}

/// The limit that ended a connection; whoever found out has answered as far as anything can be.
pub(super) fn limit(error: &h2::Error) -> Option<Limit> {
    let calm = error.is_go_away() && error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    calm.then_some(Limit::Resets)
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its client reset it, or the connection broke.
    Reset,
    /// In any other way.
    Ours,
}

/// One request, until its answer has been handed to the connection or the client has reset it.
async fn exchange<S: Socket>(
    answering: impl Future<Output = Result<Response<ResponseBody<S>>, Infallible>>,
    mut respond: SendResponse<Bytes>,
    told: (&Bounds, Duration),
) -> End {
    let answer = {
        let mut answering = pin!(answering);
        poll_fn(|cx| match answering.as_mut().poll(cx) {
            Poll::Ready(Ok(answer)) => Poll::Ready(Some(answer)),
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        })
        .await
    };
    let Some((mut head, body)) = answer.map(Response::into_parts) else { return End::Reset };
    // RFC 9110 section 6.6.1.
    head.headers.entry(DATE).or_insert_with(super::date::date);
    let ends = body.is_end_stream();
    if !ends && let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    match respond.send_response(Response::from_parts(head, ()), ends) {
        Ok(_) if ends => End::Ours,
        Ok(stream) => Box::pin(send(body, stream, told)).await,
        Err(_) => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            End::Ours
        }
    }
}

/// Sends a body, as fast as the client makes room.
///
/// A client that makes none is silent, so the clocks of the answer run meanwhile, and where it has none `patience` does:
/// neither a replica nor the stream nor its bytes are kept for somebody who may never come for them.
async fn send<S: Socket>(
    mut body: ResponseBody<S>,
    mut stream: SendStream<Bytes>,
    (bounds, patience): (&Bounds, Duration),
) -> End {
    // What waits for room, and whether it is the last. Room is asked for only then: an idle stream would keep it from
    // others. It is handed on in pieces for which there is room, so that each is seen to be taken.
    let mut next: Option<(Bytes, bool)> = None;
    poll_fn(|cx| {
        loop {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(End::Reset);
            }
            if let Some((data, last)) = &mut next {
                while !data.is_empty() && stream.capacity() == 0 {
                    match stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(End::Reset),
                        Poll::Pending => {
                            let limit = ready!(body.poll_untaken(cx, patience));
                            body.give_up();
                            if let Some(limit) = limit {
                                bounds.refuse(limit);
                            }
                            stream.send_reset(Reason::CANCEL);
                            return Poll::Ready(End::Ours);
                        }
                    }
                }
                body.taken();
                let piece = data.split_to(data.len().min(stream.capacity()));
                let ends = *last && data.is_empty();
                if stream.send_data(piece, ends).is_err() || ends {
                    return Poll::Ready(End::Ours);
                }
                if !data.is_empty() {
                    continue;
                }
                next = None;
            }
            match ready!(Pin::new(&mut body).poll_frame(cx)).map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    if !data.is_empty() {
                        stream.reserve_capacity(data.len());
                    }
                    next = Some((data, body.is_end_stream()));
                }
                Some(Ok(Err(frame))) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        stream.reserve_capacity(0);
                        // It fails only where the stream is over.
                        let _ = stream.send_trailers(trailers);
                        return Poll::Ready(End::Ours);
                    }
                }
                Some(Err(error)) => {
                    stream.send_reset(reason(&error));
                    return Poll::Ready(End::Ours);
                }
                None => {
                    let _ = stream.send_data(Bytes::new(), true);
                    return Poll::Ready(End::Ours);
                }
            }
        }
    })
    .await
}

/// Why a replica broke its answer off, if it spoke HTTP/2 too.
fn reason(error: &(dyn Error + 'static)) -> Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref().and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_raised_once_when_a_body_is_read_and_nobody_is_held() {
        let (window, watch) = (Window::default(), Watch::default());
        assert!(!window.is_due(&watch), "nobody reads");
        watch.hold();
        window.wanted();
        assert!(!window.is_due(&watch), "one is held");
        watch.let_go();
        assert!(window.is_due(&watch));
        assert_eq!(window.bytes(), H2_FIRST_WINDOW);
        window.raised.store(true, Relaxed);
        assert!(!window.is_due(&watch));
        assert_eq!(window.bytes(), H2_STREAM_WINDOW);
    }
}
