//! Clients that hang up: while they are held, in the middle of their body, in the middle of the answer.
//!
//! Invariant: what becomes of their requests is not judged; whatever they leave behind is.

use crate::clients::{Crowd, host};
use crate::content::{Ask, ID_HEADER, filler};
use crate::plan::ALL;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Their number.
pub(crate) const RUDE: usize = 4;
/// How long one waits for an answer that it wants to leave in its middle.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// What one says of its body, and how much of it comes.
const BODY: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy)]
enum When {
    Soon,
    InItsBody,
    InTheAnswer,
}

/// Hangs up on one service after the other until it is over.
pub(crate) async fn run(mut crowd: Crowd, number: usize) {
    let mut dice = SmallRng::seed_from_u64(crowd.seed.wrapping_mul(1_000).wrapping_add(500 + number as u64));
    for count in 0_u64.. {
        let load = *crowd.load.borrow_and_update();
        if load.over {
            return;
        }
        let service = dice.random_range(0..ALL);
        if load.active[service] {
            let (when, name) = match dice.random_range(0..3) {
                0 => (When::Soon, "while held or waiting"),
                1 => (When::InItsBody, "in the middle of the body"),
                _ => (When::InTheAnswer, "in the middle of the answer"),
            };
            let id = format!("h{}{number}-{count}", crowd.phase);
            let reset = dice.random_bool(0.5);
            // Whatever kpa answers them, they are gone.
            if hang_up(&crowd, service, &id, when, &mut dice, reset).await.is_ok() {
                *crowd.book.lock().hung_up.entry(name).or_insert(0) += 1;
            }
        }
        sleep(Duration::from_millis(dice.random_range(20..200))).await;
    }
}

async fn hang_up(
    crowd: &Crowd,
    service: usize,
    id: &str,
    when: When,
    dice: &mut SmallRng,
    reset: bool,
) -> io::Result<()> {
    let mut socket = TcpStream::connect(crowd.proxy).await?;
    let (method, length) = match when {
        When::Soon if dice.random_bool(0.5) => ("GET", 0),
        When::InTheAnswer => ("GET", 0),
        When::Soon | When::InItsBody => ("POST", BODY),
    };
    let ask = Ask::Stream { events: dice.random_range(5..20), ms: dice.random_range(10..50) };
    let host = host(service);
    let head =
        format!("{method} {ask} HTTP/1.1\r\nhost: {host}\r\n{ID_HEADER}: {id}\r\ncontent-length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    match when {
        When::Soon => sleep(Duration::from_millis(dice.random_range(0..80))).await,
        When::InItsBody => {
            let part = filler(id, dice.random_range(0..BODY));
            // kpa takes no more than it may of a request that it holds.
            drop(timeout(ANSWER_LIMIT, socket.write_all(&part)).await);
        }
        When::InTheAnswer => {
            let mut some = [0; 256];
            for _ in 0..dice.random_range(1..4) {
                if !matches!(timeout(ANSWER_LIMIT, socket.read(&mut some)).await, Ok(Ok(1..))) {
                    break;
                }
            }
        }
    }
    if reset { socket.set_zero_linger() } else { Ok(()) }
}
