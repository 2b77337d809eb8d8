//! How fast a queue goes to a new replica without a limit, on a paused clock and a network in memory (kpa-behaviour 4.5).

use crate::early::{READY, World, address};
use parking_lot::Mutex;
use runtime::net::{Connect, Listener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// `held` requests wait for a replica that begins an answer to each, if it `answers`, and never ends one; when each of them
/// reached it, within `time` from the moment that it was ready.
async fn arrivals(held: usize, answers: bool, time: Duration) -> Vec<Duration> {
    let world = World::new(None, 1).await;
    let mut listener = world.network.listen(address(1));
    let (seen, began, tasks) = (Arc::<Mutex<Vec<Duration>>>::default(), world.began, world.tasks.clone());
    let noted = Arc::clone(&seen);
    world.tasks.spawn("replica", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            tasks.spawn("replica connection", async move {
                if stream.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {
                    noted.lock().push(began.elapsed().saturating_sub(READY));
                }
                if answers {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
                }
                std::future::pending::<()>().await;
            });
        }
    });
    let mut clients = Vec::new();
    for _ in 0..held {
        let mut client = world.network.connect(World::front()).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: svc.default\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    world.at(READY + time).await;
    seen.lock().clone()
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_answers_has_them_all_at_once_though_no_answer_ends() {
    let arrived = arrivals(200, true, Duration::from_millis(900)).await;
    assert_eq!(arrived.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn one_that_says_nothing_gets_twice_as_many_each_second() {
    let arrived = arrivals(40, false, Duration::from_secs(5)).await;
    assert_eq!(arrived.len(), 40);
    let by = |millis| arrived.iter().filter(|at| **at < Duration::from_millis(millis)).count();
    assert_eq!([by(900), by(1_900), by(2_900), by(3_900)], [8, 16, 32, 40]);
}
