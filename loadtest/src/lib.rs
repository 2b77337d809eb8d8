//! Load for kpa and something to put it on: a sample model server, a load generator, and the benchmarks of the README.
//!
//! Invariant: everything here ends: runs are bounded in time or count, and processes that a benchmark starts end with it.

mod children;
pub mod cold_start;
pub mod fleet;
pub mod memory;
pub mod model_server;
pub mod net;
pub mod output;
pub mod peers;
mod proc_stat;
pub mod run;
pub mod sse;
pub mod stats;
pub mod values;
