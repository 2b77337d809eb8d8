//! Gives freed memory back to the system: the allocator of our programs does so by itself only while something is freed.
//!
//! Invariant: costs one allocation a second that nobody touches, whatever the allocator.

use std::hint::black_box;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often. What was freed a second ago is given back then.
const EVERY: Duration = Duration::from_secs(1);
/// More than the largest block that mimalloc keeps in its own lists: freeing it looks through all that waits to be given
/// back, of every thread.
const BLOCK_BYTES: usize = 1024 * 1024;

/// Goes on until `stop`.
pub async fn give_back(stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        drop(black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
    }
}
