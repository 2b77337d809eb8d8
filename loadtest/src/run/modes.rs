//! Closed loop, open loop, burst.

use super::client::Client;
use super::plan::Plan;
use super::schedule::Schedule;
use crate::net;
use crate::stats::{ErrorKind, Recorder};
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Barrier, Semaphore};
use tokio::time::Instant;

/// Where a run's results go.
type Results = Arc<Mutex<Recorder>>;

/// When a run stops sending. At least one of the two.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// After this time.
    pub length: Option<Duration>,
    /// After this many requests.
    pub requests: Option<u64>,
}

impl Bounds {
    fn until(&self, started: Instant) -> Option<Instant> {
        self.length.map(|length| started + length)
    }
}

/// Holds exactly `in_flight` requests in flight until the bounds are reached, then waits for those on their way.
pub async fn closed_loop(plan: &Arc<Plan>, in_flight: usize, bounds: Bounds, results: &Results) {
    let left = Arc::new(AtomicU64::new(bounds.requests.unwrap_or(u64::MAX)));
    let until = bounds.until(Instant::now());
    let loops = Client::many(plan, in_flight).into_iter().map(|mut client| {
        let (left, results) = (Arc::clone(&left), Arc::clone(results));
        net::spawn(async move {
            while until.is_none_or(|until| Instant::now() < until) && take_one(&left) {
                let outcome = client.exchange(Instant::now()).await;
                results.lock().record(outcome);
                if outcome == Err(ErrorKind::Connect) {
                    // A port that refuses at once would otherwise be asked a hundred thousand times a second.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        })
    });
    join_all(loops).await;
}

fn take_one(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// Sends on schedule, answered or not, with at most `max_in_flight` at once.
pub async fn open_loop(plan: &Arc<Plan>, schedule: Schedule, max_in_flight: usize, bounds: Bounds, results: &Results) {
    let all = u32::try_from(max_in_flight.max(1)).unwrap_or(u32::MAX);
    let room = Arc::new(Semaphore::new(all as usize));
    let idle = Arc::new(Mutex::new(Client::many(plan, all as usize)));
    let started = Instant::now();
    for n in 0..bounds.requests.unwrap_or(u64::MAX) {
        let due = schedule.due(n);
        if bounds.length.is_some_and(|length| due >= length) {
            break;
        }
        let intended = started + due;
        tokio::time::sleep_until(intended).await;
        let (Ok(permit), Some(mut client)) = (Arc::clone(&room).try_acquire_owned(), idle.lock().pop()) else {
            results.lock().record(Err(ErrorKind::NotSent));
            continue;
        };
        let (idle, results) = (Arc::clone(&idle), Arc::clone(results));
        net::spawn(async move {
            let outcome = client.exchange(intended).await;
            results.lock().record(outcome);
            idle.lock().push(client);
            drop(permit);
        });
    }
    // Every permit back means every request is over. The semaphore is never closed.
    let _ = room.acquire_many(all).await;
}

/// `connections` connections opened at the same instant, one request on each.
pub async fn burst(plan: &Arc<Plan>, connections: usize, results: &Results) {
    let start = Arc::new(Barrier::new(connections));
    let requests = Client::many(plan, connections).into_iter().map(|mut client| {
        let (start, results) = (Arc::clone(&start), Arc::clone(results));
        net::spawn(async move {
            start.wait().await;
            let outcome = client.exchange(Instant::now()).await;
            results.lock().record(outcome);
        })
    });
    join_all(requests).await;
}
