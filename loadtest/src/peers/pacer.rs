//! Moments finer than the runtime's milliseconds: requests leave within a tenth of a millisecond of their time.
//!
//! Invariant: whoever waits is woken in the order of the moments waited for.

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// How finely moments are told apart.
const TICK: Duration = Duration::from_micros(100);

/// A timer of the kernel and those who wait for it.
pub(super) struct Pacer {
    timer: AsyncFd<OwnedFd>,
    waiting: RefCell<VecDeque<(Instant, Waker)>>,
}

impl Pacer {
    /// Ticks from now on.
    #[expect(deprecated, reason = "its successor is unsafe, which is forbidden here; an owned descriptor is sound")]
    pub(super) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        timer.set(Expiration::Interval(TimeSpec::from_duration(TICK)), TimerSetTimeFlags::empty())?;
        Ok(Self { timer: AsyncFd::new(OwnedFd::from(timer))?, waiting: RefCell::default() })
    }

    /// Wakes those whose moment has come, for ever.
    pub(super) async fn run(&self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            if ready.try_io(|timer| Ok(read(timer.get_ref(), &mut [0; 8])?)).is_err() {
                continue;
            }
            let now = Instant::now();
            let mut waiting = self.waiting.borrow_mut();
            while let Some((_, waker)) = waiting.pop_front_if(|(due, _)| *due <= now) {
                waker.wake();
            }
        }
    }

    /// Waits until `due`. Callers ask in the order of their moments.
    pub(super) async fn until(&self, due: Instant) {
        let mut waits = false;
        poll_fn(|context| {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            if !waits {
                waits = true;
                self.waiting.borrow_mut().push_back((due, context.waker().clone()));
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;
    use futures_util::stream::FuturesUnordered;

    #[tokio::test]
    async fn moments_are_kept_in_order_and_never_early() {
        let pacer = Pacer::new().unwrap();
        // Far enough away that nobody's moment has passed before all of them wait.
        let started = Instant::now() + Duration::from_millis(50);
        let order = RefCell::new(Vec::new());
        let one = async |n: u32| {
            let due = started + Duration::from_micros(500) * n;
            pacer.until(due).await;
            assert!(Instant::now() >= due);
            order.borrow_mut().push(n);
        };
        // Polled one by one as they are woken, unlike `join!`.
        let all: FuturesUnordered<_> = [1, 2, 3].into_iter().map(one).collect();
        tokio::select! {
            biased;
            ended = pacer.run() => panic!("{ended:?}"),
            () = all.for_each(async |()| ()) => (),
        }
        assert_eq!(*order.borrow(), [1, 2, 3]);
    }
}
