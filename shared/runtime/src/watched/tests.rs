use super::*;
use std::future::poll_fn;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

/// One end of a pipe whose other end the test holds.
#[derive(Debug)]
struct Pipe(DuplexStream);

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Socket for Pipe {
    fn is_read_closed(&self) -> bool {
        false
    }
}

/// How long the end of a connection that lingers takes after `before` and while its client does `client`, and what the
/// client gave back.
async fn end<T>(before: impl FnOnce(&Watch), client: impl AsyncFnOnce(DuplexStream) -> T) -> (Duration, T) {
    end_of(Watched::lingering, before, client).await
}

async fn end_of<T>(
    kind: impl FnOnce(Watched<Pipe>) -> Watched<Pipe>,
    before: impl FnOnce(&Watch),
    client: impl AsyncFnOnce(DuplexStream) -> T,
) -> (Duration, T) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let watch = Arc::<Watch>::default();
    before(&watch);
    let mut watched = kind(Watched::new(Pipe(near), Bytes::new(), watch));
    let began = Instant::now();
    let server = async {
        poll_fn(|cx| Pin::new(&mut watched).poll_shutdown(cx)).await.unwrap();
        drop(watched);
        began.elapsed()
    };
    tokio::join!(server, client(far))
}

/// A buffer of hyper's is sized by the reads that fill it.
#[tokio::test]
async fn the_first_bytes_come_with_those_that_follow_them() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut watched = Watched::new(Pipe(near), Bytes::from_static(b"GET "), Arc::default());
    far.write_all(b"/ HTTP/1.1").await.unwrap();
    let mut read = async || {
        let mut bytes = [0; 8];
        let mut buf = hyper::rt::ReadBuf::new(&mut bytes);
        poll_fn(|cx| Pin::new(&mut watched).poll_read(cx, buf.unfilled())).await.unwrap();
        String::from_utf8(buf.filled().to_vec()).unwrap()
    };
    assert_eq!(read().await, "GET / HT");
    assert_eq!(read().await, "TP/1.1");
    drop(far);
    assert_eq!(read().await, "");
}

#[tokio::test]
async fn the_first_bytes_do_not_wait_for_more() {
    let (near, far) = tokio::io::duplex(64);
    let mut watched = Watched::new(Pipe(near), Bytes::from_static(b"GET "), Arc::default());
    let mut bytes = [0; 8];
    let mut buf = hyper::rt::ReadBuf::new(&mut bytes);
    poll_fn(|cx| Pin::new(&mut watched).poll_read(cx, buf.unfilled())).await.unwrap();
    assert_eq!(buf.filled(), b"GET ");
    drop(far);
}

#[tokio::test]
async fn a_paused_client_is_not_read_until_somebody_wants_to() {
    let (near, mut far) = tokio::io::duplex(64);
    let watch = Arc::<Watch>::default();
    let mut watched = Watched::new(Pipe(near), Bytes::new(), Arc::clone(&watch));
    far.write_all(b"body").await.unwrap();
    watch.pause();
    let mut bytes = [0; 8];
    let mut buf = hyper::rt::ReadBuf::new(&mut bytes);
    {
        let mut read = pin!(poll_fn(|cx| Pin::new(&mut watched).poll_read(cx, buf.unfilled())));
        assert!(futures_util::poll!(read.as_mut()).is_pending());
        let (told, ()) = tokio::join!(read, async { watch.go_on() });
        told.unwrap();
    }
    assert_eq!(buf.filled(), b"body");
}

#[tokio::test(start_paused = true)]
async fn what_was_read_whole_is_closed_at_once() {
    let (took, _client) = end(|_| {}, async |client| client).await;
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn only_who_was_asked_to_lingers() {
    let heard = |watch: &Watch| {
        watch.heard.store(true, Relaxed);
        watch.leave_unread();
    };
    assert_eq!(end_of(|watched| watched, heard, async |client| client).await.0, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_rest_is_dropped_up_to_its_bound_and_the_client_has_the_time_of_lingering() {
    let (took, sent) = end(Watch::leave_unread, async |mut client| {
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
    let (took, ()) = end(Watch::leave_unread, async |mut client| {
        client.write_all(&[0; 1000]).await.unwrap();
        sleep(Duration::from_millis(500)).await;
    })
    .await;
    assert_eq!(took, Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_was_refused_has_a_rest_and_an_idle_connection_has_none() {
    let in_head = |watch: &Watch| watch.heard.store(true, Relaxed);
    assert_eq!(end(in_head, async |client| client).await.0, LINGER);
    let answered = |watch: &Watch| {
        watch.heard.store(true, Relaxed);
        watch.begin();
        watch.end();
    };
    assert_eq!(end(answered, async |client| client).await.0, Duration::ZERO);
    let next = |watch: &Watch| {
        watch.leave_unread();
        answered(watch);
    };
    assert_eq!(end(next, async |client| client).await.0, Duration::ZERO, "the next request was read behind the rest");
}
