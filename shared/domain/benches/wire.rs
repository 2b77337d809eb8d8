//! Looking up names, and frames on the wire: `cargo bench -p domain`.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use domain::annotations::{Annotated, resolve};
use domain::defaults::Defaults;
use domain::host::{AllowedHosts, Domains, RouteTable};
use domain::report::{FRAME_VERSION, Frame, ReporterId, Row};
use domain::{Millis, Mode, RequestMillis, Revision, RevisionId, ScaleTargetRef};
use std::collections::BTreeMap;
use std::sync::Arc;

fn main() {
    divan::main();
}

fn revision(n: u32) -> Revision {
    let id = RevisionId::new("default", &format!("model-{n:06}"));
    let nothing = BTreeMap::new();
    let annotated = Annotated { place: id.as_str(), metadata: &nothing, template: &nothing };
    let resolution = resolve(&annotated, &Defaults::default(), None);
    let mut route = resolution.route;
    // All below one host too, as far as a host can be divided.
    if n < 60 {
        route.hosts = vec!["models.example.org".to_owned()];
        route.path_prefix = Some(format!("/models/model-{n:06}"));
    }
    Revision {
        target: ScaleTargetRef::deployment(id.namespace(), id.name()),
        id,
        mode: Mode::Act,
        route,
        limits: resolution.limits,
        scaling: resolution.scaling,
        problems: resolution.problems,
    }
}

fn table(revisions: u32) -> RouteTable {
    let revisions: Vec<_> = (0..revisions).map(|n| Arc::new(revision(n))).collect();
    let (table, problems) = RouteTable::build(&revisions, &Domains::default(), &AllowedHosts::default());
    assert!(problems.is_empty(), "{problems:?}");
    table
}

const SIZES: [u32; 3] = [1, 1_000, 10_000];

/// A revision by its own name. A worker asks only for hosts that it has not met yet.
#[divan::bench(args = SIZES)]
fn route_by_host(bencher: Bencher<'_, '_>, revisions: u32) {
    let table = table(revisions);
    let host = format!("model-{:06}.default.example.com", revisions / 2);
    bencher.bench_local(|| table.lookup(black_box(&host), black_box("/v1/models")));
}

/// A revision by a path below a host that many share.
#[divan::bench(args = SIZES)]
fn route_by_path(bencher: Bencher<'_, '_>, revisions: u32) {
    let table = table(revisions);
    let path = format!("/models/model-{:06}/predict", revisions.min(60) / 2);
    bencher.bench_local(|| table.lookup(black_box("models.example.org"), black_box(&path)));
}

/// A host that nobody has, and the names that are like it.
#[divan::bench(args = SIZES)]
fn route_miss(bencher: Bencher<'_, '_>, revisions: u32) {
    let table = table(revisions);
    bencher.bench_local(|| table.lookup(black_box("modle-000000.default.example.com"), black_box("/")));
}

/// What a platform's change of a name or a claim costs.
#[divan::bench(args = SIZES, sample_count = 20)]
fn table_build(bencher: Bencher<'_, '_>, revisions: u32) {
    let revisions: Vec<_> = (0..revisions).map(|n| Arc::new(revision(n))).collect();
    bencher.bench_local(|| RouteTable::build(black_box(&revisions), &Domains::default(), &AllowedHosts::default()));
}

fn frame(rows: u32) -> Frame {
    let row = |n: u32| Row {
        n,
        area: RequestMillis(86_400_000 + u64::from(n)),
        requests: 1_000_000 + u64::from(n),
        in_flight: 1 + n % 8,
        endpoints_version: 12,
        ..Row::default()
    };
    Frame {
        v: FRAME_VERSION,
        reporter: ReporterId::new("kpa-activator-7c9d8b6f5d-x2x7q"),
        boot: 1_763_800_000_000,
        tick: 86_400,
        seq: 90_000,
        at: Millis(86_400_037),
        leaving: false,
        draining: false,
        sharing: None,
        urgent: false,
        complete: false,
        names: Vec::new(),
        rows: (0..rows).map(row).collect(),
    }
}

const ROWS: [u32; 3] = [1, 512, 10_000];

#[divan::bench(args = ROWS)]
fn frame_encode(bencher: Bencher<'_, '_>, rows: u32) {
    let frame = frame(rows);
    let bytes = serde_json::to_vec(&frame).map_or(0, |text| text.len());
    bencher.counter(BytesCount::new(bytes)).bench_local(|| serde_json::to_vec(black_box(&frame)));
}

#[divan::bench(args = ROWS)]
fn frame_decode(bencher: Bencher<'_, '_>, rows: u32) {
    let text = serde_json::to_vec(&frame(rows)).expect("a frame can be written");
    bencher
        .counter(BytesCount::new(text.len()))
        .bench_local(|| serde_json::from_slice::<Frame>(black_box(&text)).map(|frame| frame.rows.len()));
}
