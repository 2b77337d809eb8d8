//! Gives freed memory back to the system. The allocator of our programs does so only while its thread goes on allocating:
//! a worker that nobody asks for anything would keep what it needed at its busiest.
//!
//! Invariant: costs a thousand small allocations a second that nobody touches, whatever the allocator.

use std::hint::black_box;
use std::time::Duration;

/// How often. What was freed a second ago may be given back then.
const EVERY: Duration = Duration::from_secs(1);
/// After so many allocations of blocks that are not small, mimalloc looks for pages of the thread that are empty; after ten
/// times as many, at all of them.
const BLOCKS: usize = 1_000;
/// Not small to mimalloc, and small.
const BLOCK_BYTES: usize = 2 * 1024;
/// More than the largest block that mimalloc keeps in a list: freeing it looks through all that waits to be given back, of
/// every thread.
const HUGE_BYTES: usize = 1024 * 1024;

/// Goes on for ever, for the thread that it runs on.
pub async fn give_back() {
    loop {
        tokio::time::sleep(EVERY).await;
        for _ in 0..BLOCKS {
            allocate(BLOCK_BYTES);
        }
        allocate(HUGE_BYTES);
    }
}

fn allocate(bytes: usize) {
    drop(black_box(Vec::<u8>::with_capacity(bytes)));
}
