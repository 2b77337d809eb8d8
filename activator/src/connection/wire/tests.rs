use super::*;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};

const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";

fn pair() -> (Arc<Wire<DuplexStream>>, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    (Wire::new(near, Inbox::new()), far)
}

fn inbox(first: &[u8]) -> Inbox {
    let mut inbox = Inbox::new();
    inbox.extend_from_slice(first);
    inbox
}

async fn next(wire: &Wire<DuplexStream>) -> Option<Result<(Parts, Follows), RequestError>> {
    poll_fn(|cx| wire.poll_next(cx, &Watch::default())).await
}

async fn frame(wire: &Wire<DuplexStream>, serial: u32) -> Option<Result<Bytes, BodyError>> {
    poll_fn(|cx| wire.poll_frame(serial, cx)).await.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
}

/// Whether nothing comes of it now.
fn waits<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> bool {
    poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[tokio::test]
async fn only_the_newest_body_reads_and_nothing_behind_its_end() {
    let (wire, mut far) = pair();
    far.write_all(&[POST, b"hello", POST, b"other"].concat()).await.unwrap();
    assert!(matches!(next(&wire).await, Some(Ok(_))));
    let first = wire.serial();
    assert_eq!(frame(&wire, first).await.unwrap().unwrap(), "hello");
    assert!(frame(&wire, first).await.is_none());
    assert!(matches!(next(&wire).await, Some(Ok(_))));
    assert!(frame(&wire, first).await.is_none() && wire.is_over(first), "its own is over");
    assert_eq!(wire.size_hint(wire.serial()).exact(), Some(5));
    assert_eq!(frame(&wire, wire.serial()).await.unwrap().unwrap(), "other");
    assert!(waits(|cx| wire.poll_next(cx, &Watch::default())));
    drop(far);
    assert!(next(&wire).await.is_none());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_whole() {
    let (wire, mut far) = pair();
    far.write_all(&[POST, b"hel"].concat()).await.unwrap();
    assert!(matches!(next(&wire).await, Some(Ok(_))));
    assert_eq!(frame(&wire, wire.serial()).await.unwrap().unwrap(), "hel");
    drop(far);
    assert!(matches!(frame(&wire, wire.serial()).await, Some(Err(BodyError::Client(_)))));
    assert!(!wire.is_read(true));
}

#[tokio::test]
async fn a_client_is_told_to_go_on_when_its_body_is_wanted_and_not_before() {
    let (wire, mut far) = pair();
    far.write_all(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    assert!(matches!(next(&wire).await, Some(Ok(_))));
    let mut told = [0; CONTINUE.len()];
    assert!(waits(|cx| AsyncRead::poll_read(Pin::new(&mut far), cx, &mut ReadBuf::new(&mut told))));
    assert!(waits(|cx| wire.poll_frame(wire.serial(), cx)));
    far.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, CONTINUE);
    far.write_all(b"hello").await.unwrap();
    assert_eq!(frame(&wire, wire.serial()).await.unwrap().unwrap(), "hello");
    assert!(waits(|cx| AsyncRead::poll_read(Pin::new(&mut far), cx, &mut ReadBuf::new(&mut told))), "once");
}

/// A body may be read in another task than the one that serves the connection, which has to look for a hang-up then.
#[tokio::test]
async fn who_serves_is_told_when_a_body_was_read_elsewhere() {
    let (wire, mut far) = pair();
    far.write_all(&[POST, b"hello"].concat()).await.unwrap();
    assert!(matches!(next(&wire).await, Some(Ok(_))));
    let watch = Watch::default();
    let server = {
        let wire = Arc::clone(&wire);
        poll_fn(move |cx| if wire.has_hung_up(cx, &watch) { Poll::Ready(()) } else { Poll::Pending })
    };
    let reader = async {
        assert_eq!(frame(&wire, wire.serial()).await.unwrap().unwrap(), "hello");
        drop(far);
    };
    assert!(all_end(vec![Box::pin(server), Box::pin(reader)]).await, "the hang-up is seen");
}

/// Whoever reads a body of it, in another task, keeps a replica's stream and its slot.
#[tokio::test]
async fn a_reader_elsewhere_is_told_that_the_connection_is_over() {
    let (wire, mut far) = pair();
    far.write_all(POST).await.unwrap();
    assert!(matches!(next(&wire).await, Some(Ok(_))));
    let reader = async {
        assert!(matches!(frame(&wire, wire.serial()).await, Some(Err(BodyError::Client(_)))));
    };
    let server = async {
        tokio::task::yield_now().await;
        drop(wire.take());
    };
    assert!(all_end(vec![Box::pin(reader), Box::pin(server)]).await, "it is told");
}

/// The two leave their wakers at the same place of the socket.
#[tokio::test]
async fn a_reader_and_an_early_answer_do_not_wait_for_each_other() {
    let (near, mut far) = tokio::io::duplex(10);
    let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let wire = Wire::new(near, inbox(head));
    assert!(matches!(next(&wire).await, Some(Ok(_))));
    let reader = async { assert_eq!(frame(&wire, wire.serial()).await.unwrap().unwrap(), "hello") };
    let server = async {
        let mut outbox = Outbox::default();
        outbox.begin().extend_from_slice(b"early");
        poll_fn(|cx| wire.poll_write(cx, &mut outbox)).await.unwrap();
    };
    let client = async {
        tokio::task::yield_now().await;
        let mut told = [0; CONTINUE.len() + 5];
        far.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, &[CONTINUE, b"early"].concat()[..]);
        far.write_all(b"hello").await.unwrap();
    };
    assert!(all_end(vec![Box::pin(reader), Box::pin(server), Box::pin(client)]).await, "all of it is said and heard");
}

/// Runs each with a waker of its own: only who was woken is polled. Whether all of them end.
async fn all_end(all: Vec<futures_util::future::BoxFuture<'_, ()>>) -> bool {
    let all = futures_util::stream::FuturesUnordered::from_iter(all);
    tokio::time::timeout(Duration::from_secs(10), futures_util::StreamExt::collect::<Vec<()>>(all)).await.is_ok()
}

/// An answer that overtakes what was begun would stand in the middle of it.
#[tokio::test]
async fn what_goes_past_the_reactor_begins_with_what_was_begun_before() {
    let (near, mut far) = tokio::io::duplex(10);
    let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let past = Arc::<Mutex<Vec<u8>>>::default();
    let wire = Wire::new(Odd { inner: near, past: Arc::clone(&past) }, inbox(head));
    assert!(matches!(poll_fn(|cx| wire.poll_next(cx, &Watch::default())).await, Some(Ok(_))));
    assert!(waits(|cx| wire.poll_frame(wire.serial(), cx)));
    let mut outbox = Outbox::default();
    outbox.begin().extend_from_slice(b"early");
    assert!(waits(|cx| wire.poll_write(cx, &mut outbox)));
    while !outbox.is_empty() {
        wire.write_now(&mut outbox).unwrap();
    }
    let mut told = [0; 10];
    far.read_exact(&mut told).await.unwrap();
    assert_eq!([&told[..], &past.lock()].concat(), [CONTINUE, b"early"].concat());
}

/// A connection that takes seven bytes at a time past the reactor, and whose end never gets out.
#[derive(Debug)]
struct Odd {
    inner: DuplexStream,
    past: Arc<Mutex<Vec<u8>>>,
}

impl Socket for Odd {
    const SAYS_END: bool = true;

    fn is_read_closed(&self) -> bool {
        false
    }

    fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(7);
        self.past.lock().extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

impl AsyncRead for Odd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Odd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// A pause between requests is no slow head, whatever ends the lines.
#[tokio::test]
async fn an_empty_line_begins_nothing() {
    let (wire, mut far) = pair();
    let watch = Watch::default();
    for (bytes, heard) in [("\r\n", false), ("\n\r\n", false), ("G", true)] {
        far.write_all(bytes.as_bytes()).await.unwrap();
        assert!(waits(|cx| wire.poll_next(cx, &watch)));
        assert_eq!(watch.has_heard(), heard, "{bytes:?}");
    }
}

/// What a client sends while it waits is read as far as one buffer, so that its hang-up is seen behind little.
#[tokio::test]
async fn what_is_read_ahead_has_a_bound() {
    let (wire, mut far) = pair();
    far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(matches!(next(&wire).await, Some(Ok(_))));
    far.write_all(&[b'x'; 60_000]).await.unwrap();
    let watch = Watch::default();
    assert!(waits(|cx| if wire.has_hung_up(cx, &watch) { Poll::Ready(()) } else { Poll::Pending }));
    let ahead = wire.0.lock().inbox.len();
    assert!((AHEAD_BYTES_MAX..=2 * AHEAD_BYTES_MAX).contains(&ahead), "{ahead} bytes");
}

/// A large body is read with much room, and what is held behind it has no more than any other.
#[tokio::test]
async fn nor_has_it_more_room_behind_a_large_body() {
    const BODY: usize = 1 << 20;
    let length = format!("content-length: {BODY}\r\n\r\n");
    let chunk = format!("transfer-encoding: chunked\r\n\r\n{BODY:x}\r\n");
    for (before, behind) in [(length.as_str(), ""), (chunk.as_str(), "\r\n0\r\n\r\n")] {
        let (wire, mut far) = pair();
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let before = format!("POST / HTTP/1.1\r\nhost: a\r\n{before}");
        let sent = [before.as_bytes(), &vec![b'x'; BODY], behind.as_bytes(), get.as_bytes(), &[b'y'; 60_000]].concat();
        let client = async {
            far.write_all(&sent).await.unwrap();
            std::future::pending::<()>().await;
        };
        let server = async {
            assert!(matches!(next(&wire).await, Some(Ok(_))));
            let mut read = 0;
            while let Some(frame) = frame(&wire, wire.serial()).await {
                read += frame.unwrap().len();
            }
            assert_eq!(read, BODY);
            assert!(matches!(next(&wire).await, Some(Ok(_))));
            let watch = Watch::default();
            assert!(waits(|cx| if wire.has_hung_up(cx, &watch) { Poll::Ready(()) } else { Poll::Pending }));
            let inner = wire.0.lock();
            let (ahead, room) = (inner.inbox.len(), inner.inbox.capacity());
            assert!(ahead <= 2 * AHEAD_BYTES_MAX && room <= 3 * AHEAD_BYTES_MAX, "{ahead} of {room} bytes");
        };
        tokio::select! {
            () = server => {}
            () = client => unreachable!("it stays"),
        }
    }
}

/// How long the end of a connection takes, and what its client gives back.
async fn closing<T>(watch: Watch, is_read: bool, client: impl AsyncFnOnce(DuplexStream) -> T) -> (Duration, T) {
    let (wire, far) = pair();
    let began = Instant::now();
    let server = async {
        wire.close(&watch, is_read).await;
        began.elapsed()
    };
    tokio::join!(server, client(far))
}

#[tokio::test(start_paused = true)]
async fn what_was_read_whole_is_closed_at_once() {
    let (took, _client) = closing(Watch::default(), true, async |client| client).await;
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_rest_is_dropped_up_to_its_bound_and_the_client_has_the_time_of_lingering() {
    let (took, sent) = closing(Watch::default(), false, async |mut client| {
        // The end of the answer is there before anything of the rest is read.
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        let mut sent = 0;
        while let Ok(count) = client.write(&[0; 4096]).await {
            sent += count;
        }
        sent
    })
    .await;
    assert_eq!(took, LINGER);
    assert!((LINGER_BYTES_MAX..LINGER_BYTES_MAX + 128 * 1024).contains(&sent), "{sent} bytes were taken");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_is_not_waited_for() {
    let (took, ()) = closing(Watch::default(), false, async |mut client| {
        client.write_all(&[0; 1000]).await.unwrap();
        sleep(Duration::from_millis(500)).await;
    })
    .await;
    assert_eq!(took, Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_was_not_finished_has_a_rest_and_an_idle_connection_has_none() {
    let in_head = Watch::default();
    in_head.hear();
    assert_eq!(closing(in_head, true, async |client| client).await.0, LINGER);
    let answered = Watch::default();
    answered.hear();
    answered.begin();
    answered.end();
    assert_eq!(closing(answered, true, async |client| client).await.0, Duration::ZERO);
}

/// A reset would destroy the answer, though what came is no part of the request.
#[tokio::test(start_paused = true)]
async fn what_has_come_unread_is_a_rest_too() {
    let (wire, mut far) = pair();
    far.write_all(b"more").await.unwrap();
    let began = Instant::now();
    wire.close(&Watch::default(), true).await;
    assert_eq!(began.elapsed(), LINGER);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_its_client_does_not_take_has_the_same_bound() {
    for is_read in [true, false] {
        let (near, _far) = tokio::io::duplex(10);
        let wire = Wire::new(Odd { inner: near, past: Arc::default() }, Inbox::new());
        let began = Instant::now();
        wire.close(&Watch::default(), is_read).await;
        assert_eq!(began.elapsed(), LINGER, "{is_read}");
    }
}
