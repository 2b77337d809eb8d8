use super::*;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};

const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";

fn pair() -> (Arc<Wire<DuplexStream>>, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    (Wire::new(near, &Bytes::new()), far)
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
    // Each with a waker of its own: only who was woken is polled.
    let both = futures_util::stream::FuturesUnordered::<futures_util::future::BoxFuture<'_, ()>>::new();
    both.push(Box::pin(server));
    both.push(Box::pin(reader));
    let both = futures_util::StreamExt::collect::<Vec<()>>(both);
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("the hang-up is seen");
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
    assert!((AHEAD_BYTES_MAX..3 * AHEAD_BYTES_MAX).contains(&ahead), "{ahead} bytes");
}

/// How long the end of a connection takes, and what its client gives back.
async fn end<T>(watch: Watch, is_read: bool, client: impl AsyncFnOnce(DuplexStream) -> T) -> (Duration, T) {
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
    let (took, _client) = end(Watch::default(), true, async |client| client).await;
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_rest_is_dropped_up_to_its_bound_and_the_client_has_the_time_of_lingering() {
    let (took, sent) = end(Watch::default(), false, async |mut client| {
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
    let (took, ()) = end(Watch::default(), false, async |mut client| {
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
    assert_eq!(end(in_head, true, async |client| client).await.0, LINGER);
    let answered = Watch::default();
    answered.hear();
    answered.begin();
    answered.end();
    assert_eq!(end(answered, true, async |client| client).await.0, Duration::ZERO);
}
