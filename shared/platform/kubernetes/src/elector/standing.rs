//! What the rest of the process has of the election: whether it leads, the right to make a call, and the way out.
//!
//! Invariant: a call is either counted before leadership is given up, and waited for, or not begun.

use parking_lot::Mutex;
use platform::Leadership;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Calls under way that only a leader may make.
#[derive(Debug, Clone)]
pub(super) struct Calls(Arc<watch::Sender<usize>>);

impl Default for Calls {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Calls {
    fn begin(&self) -> UnderWay {
        self.0.send_modify(|calls| *calls += 1);
        UnderWay(self.clone())
    }

    /// Waits until none is under way.
    pub(super) async fn ended(&self) {
        // It cannot fail: this is the sender.
        let _ = self.0.subscribe().wait_for(|calls| *calls == 0).await;
    }
}

/// A call that only a leader may make, as long as this lives.
#[derive(Debug)]
pub struct UnderWay(Calls);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.send_modify(|calls| *calls -= 1);
    }
}

/// How this process stands in the election. Clones are the same.
#[derive(Debug, Clone)]
pub struct Standing {
    leadership: watch::Receiver<Leadership>,
    calls: Calls,
    resign: Arc<Mutex<Option<mpsc::Sender<oneshot::Sender<()>>>>>,
}

impl Standing {
    pub(super) fn new(
        leadership: watch::Receiver<Leadership>,
        calls: Calls,
        resign: mpsc::Sender<oneshot::Sender<()>>,
    ) -> Self {
        Self { leadership, calls, resign: Arc::new(Mutex::new(Some(resign))) }
    }

    /// Whether this process leads, and until when.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Begins a call that only the leader may make and that ends within [`platform::leadership::CALL_TIMEOUT`]. `None`: there
    /// is not enough time left for one, or this process does not lead.
    #[must_use]
    pub fn call(&self) -> Option<UnderWay> {
        // Counted first: whoever gives up leadership either sees it, or is seen here.
        let call = self.calls.begin();
        self.leadership.borrow().may_call(Instant::now()).then_some(call)
    }

    /// Gives up leadership for good, waits for the calls under way, and releases the lease, so that another one leads at
    /// once. Returns when that is done or cannot be done: within three call timeouts. Further calls return at once.
    pub async fn resign(&self) {
        let Some(resign) = self.resign.lock().take() else { return };
        let (done, resigned) = oneshot::channel();
        if resign.send(done).await.is_ok() {
            // An error means that the elector has ended, and then nothing is left to be waited for.
            let _ = resigned.await;
        }
    }
}
