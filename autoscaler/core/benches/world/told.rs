//! What an autoscaler is told: revisions with the defaults, by the platform and by activators. Shared with `measure/`.

use domain::annotations::{Annotated, resolve};
use domain::defaults::Defaults;
use domain::{
    Change, Endpoint, EndpointId, EndpointState, Frame, Millis, Mode, Replicas, ReporterId, RequestMillis, Revision,
    RevisionId, Row, ScaleTargetRef,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The revision number `n`.
pub(crate) fn id(n: u32) -> RevisionId {
    RevisionId::new("default", &format!("model-{n:06}"))
}

/// A Deployment without any annotation, acted on.
pub(crate) fn default_revision(id: RevisionId) -> Revision {
    let nothing = BTreeMap::new();
    let annotated = Annotated { place: id.as_str(), metadata: &nothing, template: &nothing };
    let resolution = resolve(&annotated, &Defaults::default(), None);
    Revision {
        target: ScaleTargetRef::deployment(id.namespace(), id.name()),
        id,
        mode: Mode::Act,
        route: resolution.route,
        limits: resolution.limits,
        scaling: resolution.scaling,
        problems: resolution.problems,
    }
}

/// What a platform tells of revision `n`: `settings` under its name, and one ready replica or none.
pub(crate) fn listed(settings: &Revision, n: u32, warm: bool) -> [Change; 3] {
    let id = id(n);
    let target = ScaleTargetRef::deployment(id.namespace(), id.name());
    let count = if warm { Replicas::ONE } else { Replicas::ZERO };
    let endpoint = || Endpoint {
        id: EndpointId::new(&format!("{}-0", id.name())),
        address: SocketAddr::from(([10, 0, 0, 1], 8080)),
        state: EndpointState::Ready,
        early_probe: None,
    };
    [
        Change::Applied(Arc::new(Revision { id: id.clone(), target, ..settings.clone() })),
        Change::Replicas {
            revision: id.clone(),
            requested: count,
            ready: count,
            terminating: Replicas::ZERO,
            trouble: None,
            foreign: None,
        },
        Change::Endpoints { revision: id.clone(), version: 1, endpoints: warm.then(endpoint).into_iter().collect() },
    ]
}

/// What `reporter` posts at the end of its second `tick`: a row for each active revision, which has a few requests in
/// flight and ends as many each second. Names only in the first.
pub(crate) fn frame(reporter: &ReporterId, tick: u64, active: u32) -> Frame {
    let row = |n: u32| {
        let in_flight = 1 + n % 8;
        let requests = u64::from(in_flight) * tick;
        Row { n, area: RequestMillis(requests * 1000), requests, in_flight, endpoints_version: 1, ..Row::default() }
    };
    let names = if tick == 1 { (0..active).map(|n| (n, id(n))).collect() } else { Vec::new() };
    Frame {
        v: domain::report::FRAME_VERSION,
        reporter: reporter.clone(),
        boot: 1,
        tick,
        seq: tick,
        at: Millis(tick * 1000),
        leaving: false,
        draining: false,
        sharing: None,
        urgent: false,
        complete: tick == 1,
        names,
        rows: (0..active).map(row).collect(),
    }
}
