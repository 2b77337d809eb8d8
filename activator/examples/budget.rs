//! Times the parts of a warm request one by one, for the budget table of docs/performance.md:
//! `cargo run --release -p activator --example budget`.
//!
//! Each figure is the median of many batches on one core, less what an empty batch costs. They say where a change lands,
//! not what a request costs: in place, caches are colder.

use activator::Settings;
use activator::error::Outcome;
use activator::headers::{self, Asked, Next};
use activator::local::{Local, Permit};
use activator::request::{Door, Peer};
use activator::revisions::Revisions;
use activator::settings::Live;
use activator::upstream::exchange::InFlight;
use activator::worker::{Shared, Worker};
use domain::host::{AllowedHosts, Domains, RouteTable};
use domain::{Endpoint, EndpointId, EndpointState, RevisionId};
use http::Uri;
use runtime::net::Tcp;
use runtime::{Clock, WakeLog};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

const BATCH: u32 = 1_000;
const BATCHES: usize = 501;
const HOST: &str = "bench.default.example.com";

/// The median nanoseconds of one call of `work`.
fn time<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut batches: Vec<Duration> = (0..BATCHES)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..BATCH {
                black_box(work());
            }
            began.elapsed()
        })
        .collect();
    batches.sort();
    batches[BATCHES / 2].as_secs_f64() * 1e9 / f64::from(BATCH)
}

fn worker(clock: Clock) -> Arc<Worker<Tcp>> {
    let revisions = Revisions::new(1, Arc::default());
    let revision = Arc::new(platform::fixed::default_revision(RevisionId::new("default", "bench")));
    let handle = revisions.apply(Arc::clone(&revision));
    let endpoint = |n: u16| Endpoint {
        id: EndpointId::new(&format!("replica-{n}")),
        address: ([127, 0, 0, 1], 20_000 + n).into(),
        state: EndpointState::Ready,
        early_probe: None,
    };
    handle.gate.set_endpoints(clock.now(), 1, &[endpoint(0), endpoint(1), endpoint(2)]);
    revisions.set_routes(RouteTable::build(&[revision], &Domains::default(), &AllowedHosts::default()).0);
    revisions.set_synced();
    let (suspects, _) = mpsc::channel(1);
    let settings = Arc::new(Live::from_pointee(Settings::default()));
    let shared = Shared { revisions, settings, wakes: Arc::new(WakeLog::new()), suspects, clock };
    Worker::new(Tcp, &shared, 1)
}

fn head() -> http::request::Parts {
    http::Request::post("/v1/models/custom-model:predict")
        .header("host", HOST)
        .header("user-agent", "curl/8.5.0")
        .header("accept", "*/*")
        .header("content-type", "application/json")
        .header("content-length", "64")
        .body(())
        .map(|request| request.into_parts().0)
        .unwrap_or_else(|_| unreachable!("a valid head"))
}

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
fn main() {
    let clock = Clock::start();
    let worker = worker(clock);
    let target = Uri::from_static("/v1/models/custom-model:predict");
    let Ok(local) = worker.route(HOST.as_bytes(), &target) else { unreachable!("the host is known") };
    let local: Arc<Local<TcpStream>> = local;
    let settings = worker.settings.load_full();
    let peer = Peer::new(([127, 0, 0, 1], 1).into(), Door::Public, Arc::clone(&settings), Arc::default());
    let exempt = &settings.exempt_agents;
    let copied = time(head);
    let arrived = clock.now();
    let rows = [
        ("route", time(|| worker.route(HOST.as_bytes(), &target).is_ok())),
        (
            "headers",
            time(|| {
                let mut head = head();
                let asked = Asked::of(&head.headers, exempt);
                headers::forward_request(&mut head, asked, &peer, Next::Http1, Duration::ZERO);
                head
            }) - copied,
        ),
        (
            "admission and balance",
            time(|| {
                let open = local.handle.gate.is_open();
                (open, local.limits(), local.choose(None).map(|seat| Permit::new(seat, None)))
            }),
        ),
        (
            "meter and counters",
            time(|| {
                let in_flight = InFlight::enter(Arc::clone(&local), arrived);
                local.counters.answered(Outcome::Success, Duration::from_millis(1));
                in_flight
            }),
        ),
        ("clock, one reading", time(|| clock.now())),
    ];
    for (name, nanos) in rows {
        println!("{name:24} {nanos:7.0} ns");
    }
}
