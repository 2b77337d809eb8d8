//! Prints how long requests wait with us and in an ideal central queue: `cargo run --release -p activator-core --example
//! waiting`.

#![expect(clippy::print_stdout, reason = "it is what the program is for")]

#[path = "../tests/simulation/mod.rs"]
mod simulation;

use domain::LoadBalancing;
use simulation::{Compared, LOAD, ONE_WAY, SERVICE, SLACK, worlds};

/// Requests of one world.
const COUNT: usize = 400_000;
const SEED: u64 = 1;

fn main() {
    let millis = |nanos: f64| nanos / 1e6;
    println!(
        "{COUNT} requests each, {} ms on average, load {LOAD}, {} ms between activators; no ratio up to {} ms\n",
        millis(SERVICE as f64),
        millis(ONE_WAY as f64),
        millis(SLACK as f64)
    );
    println!("activators  limit  replicas  service       ideal: mean  p99 ms   ours: mean  p99 ms   p99 ratio");
    for (activators, first) in [(1, 1.0), (2, 0.5), (2, 0.8)] {
        for compared in
            worlds(activators, first).map(|world| Compared::run(world, LoadBalancing::LeastOutstanding, COUNT, SEED))
        {
            let world = compared.world;
            let name = if activators == 1 {
                "1".to_owned()
            } else {
                format!("{activators} ({:.0}:{:.0})", first * 100.0, (1.0 - first) * 100.0)
            };
            println!(
                "{name:<10}  {:>5}  {:>8}  {:<12}  {:>11.2}  {:>6.1}  {:>11.2}  {:>6.1}   {:>9}",
                world.limit,
                world.replicas,
                format!("{:?}", world.service),
                millis(compared.ideal.mean()),
                millis(compared.ideal.p99() as f64),
                millis(compared.ours.mean()),
                millis(compared.ours.p99() as f64),
                compared.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
            );
        }
    }
}
