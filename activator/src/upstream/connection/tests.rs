use super::*;
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Nothing here takes this long.
const LONG: Duration = Duration::from_secs(10);

/// A connection and the replica's end of it.
async fn pair() -> (Box<Connection<TcpStream>>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (Connection::new(client.unwrap()), accepted.unwrap().0)
}

fn get() -> Request<RequestBody> {
    Request::get("/").header("host", "a").body(RequestBody::None).unwrap()
}

fn post(parts: &[&'static [u8]], length: Option<usize>) -> Request<RequestBody> {
    let body: VecDeque<Bytes> = parts.iter().map(|part| Bytes::from_static(part)).collect();
    let request = match length {
        Some(length) => Request::post("/").header("content-length", length),
        None => Request::post("/").header("transfer-encoding", "chunked"),
    };
    request.body(RequestBody::Again(body)).unwrap()
}

async fn head(connection: &mut Connection<TcpStream>) -> Result<Response<()>, Failure> {
    timeout(LONG, poll_fn(|cx| connection.poll_answer(cx))).await.expect("it is answered")
}

async fn body(connection: &mut Connection<TcpStream>) -> Result<Vec<u8>, BodyError> {
    let mut content = Vec::new();
    while let Some(frame) = timeout(LONG, poll_fn(|cx| connection.poll_body(cx))).await.expect("it goes on") {
        content.extend_from_slice(frame?.data_ref().unwrap());
    }
    Ok(content)
}

/// Reads what was written until `end` is seen.
async fn until(replica: &mut TcpStream, end: &[u8]) -> String {
    reading(replica, |seen| seen.ends_with(end)).await
}

async fn reading(replica: &mut TcpStream, is_all: impl Fn(&[u8]) -> bool) -> String {
    let mut seen = Vec::new();
    while !is_all(&seen) {
        let count = timeout(LONG, replica.read_buf(&mut seen)).await.expect("it is written").unwrap();
        assert!(count > 0, "closed after {} bytes", seen.len());
    }
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn one_exchange_after_the_other() {
    let (mut connection, mut replica) = pair().await;
    for n in 0..300 {
        connection.start(get());
        let answer = async {
            until(&mut replica, b"\r\n\r\n").await;
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{n:040}");
            replica.write_all(text.as_bytes()).await.unwrap();
        };
        let (answered, ()) = tokio::join!(head(&mut connection), answer);
        assert_eq!(answered.unwrap().headers()["content-length"], "40");
        assert_eq!(body(&mut connection).await.unwrap(), format!("{n:040}").into_bytes());
        assert!(connection.is_answered() && connection.finish() && connection.is_open(), "{n}");
    }
}

#[tokio::test]
async fn a_head_and_a_short_body_go_out_in_one_write() {
    let (mut connection, mut replica) = pair().await;
    connection.start(post(&[b"one ", b"two"], None));
    let mut seen = vec![0; 4096];
    let answer = async {
        replica.readable().await.unwrap();
        let count = replica.read(&mut seen).await.unwrap();
        replica.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        count
    };
    let (answered, count) = tokio::join!(head(&mut connection), answer);
    assert_eq!(answered.unwrap().status(), 204);
    let text = String::from_utf8_lossy(&seen[..count]).into_owned();
    assert!(text.ends_with("\r\n\r\n4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"), "{text}");
    assert!(connection.finish());
}

#[tokio::test]
async fn large_parts_are_written_from_where_they_are() {
    static LARGE: [u8; 200_000] = [b'x'; 200_000];
    for length in [Some(400_003), None] {
        let (mut connection, mut replica) = pair().await;
        connection.start(post(&[&LARGE, b"mid", &LARGE], length));
        let answer = async {
            let is_all = |seen: &[u8]| match length {
                Some(length) => {
                    seen.windows(4).position(|at| at == b"\r\n\r\n").is_some_and(|at| seen.len() == at + 4 + length)
                }
                None => seen.ends_with(b"\r\n0\r\n\r\n"),
            };
            let sent = reading(&mut replica, is_all).await;
            replica.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            sent.bytes().filter(|byte| *byte == b'x').count()
        };
        let (answered, sent) = tokio::join!(head(&mut connection), answer);
        assert_eq!((answered.unwrap().status().as_u16(), sent), (200, 2 * LARGE.len()));
        assert!(connection.finish());
    }
}

#[tokio::test]
async fn a_request_that_nobody_saw_comes_back() {
    let (mut connection, replica) = pair().await;
    drop(replica);
    connection.socket.readable().await.unwrap();
    connection.start(get());
    assert!(matches!(head(&mut connection).await, Err(Failure::Closed(Some(_)))), "closed before");

    let (mut connection, mut replica) = pair().await;
    replica.write_all(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n").await.unwrap();
    connection.socket.readable().await.unwrap();
    connection.start(get());
    assert!(matches!(head(&mut connection).await, Err(Failure::Closed(Some(_)))), "what was said before is no answer");
}

#[tokio::test]
async fn a_request_that_was_seen_does_not() {
    let (mut connection, mut replica) = pair().await;
    connection.start(get());
    let (answered, ()) = tokio::join!(head(&mut connection), async {
        until(&mut replica, b"\r\n\r\n").await;
        drop(replica);
    });
    assert!(matches!(answered, Err(Failure::Unanswered(_))), "{answered:?}");
    for broken in ["HTTP/1.1 200 O", "nonsense\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let (mut connection, mut replica) = pair().await;
        connection.start(get());
        let (answered, ()) = tokio::join!(head(&mut connection), async {
            until(&mut replica, b"\r\n\r\n").await;
            replica.write_all(broken.as_bytes()).await.unwrap();
            drop(replica);
        });
        assert!(matches!(answered, Err(Failure::Unreadable(_))), "{broken:?}: {answered:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_whole_one() {
    for text in ["content-length: 9\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let (mut connection, mut replica) = pair().await;
        connection.start(get());
        let (answered, ()) = tokio::join!(head(&mut connection), async {
            until(&mut replica, b"\r\n\r\n").await;
            replica.write_all(format!("HTTP/1.1 200 OK\r\n{text}").as_bytes()).await.unwrap();
            drop(replica);
        });
        answered.unwrap();
        assert!(body(&mut connection).await.is_err(), "{text}");
        assert!(!connection.finish());
    }
}

#[tokio::test]
async fn only_a_connection_with_nothing_left_over_is_used_again() {
    for (text, reusable) in [
        ("content-length: 2\r\n\r\nhi", true),
        ("content-length: 2\r\n\r\nhi!", false),
        ("content-length: 2\r\nconnection: close\r\n\r\nhi", false),
        ("transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", true),
        ("transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", false),
    ] {
        let (mut connection, mut replica) = pair().await;
        connection.start(get());
        let (answered, ()) = tokio::join!(head(&mut connection), async {
            until(&mut replica, b"\r\n\r\n").await;
            replica.write_all(format!("HTTP/1.1 200 OK\r\n{text}").as_bytes()).await.unwrap();
        });
        answered.unwrap();
        assert_eq!(body(&mut connection).await.unwrap(), b"hi");
        assert_eq!(connection.finish(), reusable, "{text}");
    }
}

#[tokio::test]
async fn an_early_answer_to_an_unfinished_upload_is_read_and_ends_the_connection() {
    // More than fits into the sockets' buffers, so that the upload cannot be finished.
    static MUCH: [u8; 1 << 20] = [b'x'; 1 << 20];
    let (mut connection, mut replica) = pair().await;
    connection.start(post(&[&MUCH[..]; 64], Some(64 << 20)));
    let (answered, _replica) = tokio::join!(head(&mut connection), async {
        replica.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        replica
    });
    assert_eq!(answered.unwrap().status(), 413);
    assert_eq!(body(&mut connection).await.unwrap(), b"no");
    assert!(!connection.finish(), "the request is not over");
}

#[tokio::test]
async fn an_answer_that_only_the_close_ends_is_whole() {
    let (mut connection, mut replica) = pair().await;
    connection.start(get());
    let (answered, ()) = tokio::join!(head(&mut connection), async {
        until(&mut replica, b"\r\n\r\n").await;
        replica.write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it").await.unwrap();
        drop(replica);
    });
    answered.unwrap();
    assert_eq!(body(&mut connection).await.unwrap(), b"all of it");
    assert!(!connection.finish());
}
