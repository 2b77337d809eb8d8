use super::*;
use crate::gate::Entry;
use activator_core::Ask;
use domain::origin::Resolved;
use domain::{EndpointState, Limits, Revision, Sharing, Timestamp};
use runtime::WakeLog;
use runtime::net::Tcp;
use std::num::NonZeroU32;

const NOW: Timestamp = Timestamp::ZERO;
/// With as many replicas each revision has about a dozen lenders.
const MEMBERS: usize = 40;
const REPLICAS: usize = 16;
const REVISIONS: usize = 120;

fn reporter(number: usize) -> ReporterId {
    ReporterId::new(&format!("a-{number}"))
}

/// The first of many activators, with a request waiting at each of its revisions; nothing it asks is ever on its way,
/// because nobody runs it.
fn asker() -> (Hop<Tcp>, Vec<Entry>) {
    let revisions = Revisions::new(1, Arc::new(WakeLog::new()));
    let sharing = Sharing {
        members: (0..MEMBERS).map(reporter).collect(),
        settled: false,
        held: Vec::new(),
        number: 1,
        word: "word".into(),
    };
    revisions.shares().follow(&revisions, (NOW, NOW), &reporter(0), sharing);
    let address = |number: usize| SocketAddr::from(([127, 0, 0, 1], u16::try_from(number + 1).unwrap()));
    let replica = |number| domain::Endpoint {
        id: EndpointId::new(&format!("r-{number}")),
        address: address(number),
        state: EndpointState::Ready,
        early_probe: None,
    };
    let waiting = (0..REVISIONS)
        .map(|number| {
            let id = RevisionId::new("default", &format!("m-{number}"));
            let container_concurrency = Resolved::default_value(NonZeroU32::new(1));
            let limits = Limits { container_concurrency, ..Limits::default() };
            let handle = revisions.apply(Arc::new(Revision { limits, ..platform::fixed::default_revision(id) }));
            handle.gate.set_endpoints(NOW, 1, &(0..REPLICAS).map(replica).collect::<Vec<_>>());
            handle.gate.enter(NOW, Ask::default())
        })
        .collect();
    let peers = (0..MEMBERS).map(|number| Peer { id: reporter(number), address: address(number) }).collect();
    let mut hop =
        Hop::new(reporter(0), Tcp, Arc::clone(&revisions), watch::channel(peers).1, Clock::start(), Tasks::new());
    hop.follow_neighbours();
    for id in revisions.waiting().take() {
        hop.thirst(id);
    }
    (hop, waiting)
}

fn pairs(hop: &Hop<Tcp>, of: impl Fn(&Thirst) -> &BTreeSet<ReporterId>) -> BTreeSet<(RevisionId, ReporterId)> {
    let pairs = |(id, thirst)| of(thirst).iter().map(move |peer| (RevisionId::clone(id), peer.clone()));
    hop.thirsty.iter().flat_map(pairs).collect()
}

#[tokio::test]
async fn who_had_no_place_is_counted_once_and_asked_next() {
    let (mut hop, waiting) = asker();
    assert!(waiting.iter().all(|entry| matches!(entry, Entry::Wait(_))));
    hop.look();
    let (asked, put_off) = (pairs(&hop, |thirst| &thirst.asked), pairs(&hop, |thirst| &thirst.put_off));
    assert_eq!((hop.asks.len(), asked.len()), (ASKS_MAX, ASKS_MAX));
    assert!(!put_off.is_empty() && put_off.len() < ASKS_MAX, "{}", put_off.len());
    let reached = |hop: &Hop<Tcp>| hop.revisions.shares().reached(Bound::Asks);
    assert_eq!(reached(&hop), put_off.len() as u64);
    hop.look();
    assert_eq!((hop.asks.len(), reached(&hop)), (ASKS_MAX, put_off.len() as u64), "looking again changes nothing");

    // Everybody who was asked has nothing.
    hop.asks.clear();
    for (revision, peer) in asked {
        let address = hop.endpoints[&peer].address;
        let (line, answer) = (Line::default(), Ok(Vec::new()));
        hop.answered(Asked { revision, peer, address, line, answer, at_once: false });
    }
    hop.look();
    assert!(pairs(&hop, |thirst| &thirst.asked).is_superset(&put_off));
    assert!(pairs(&hop, |thirst| &thirst.put_off).is_disjoint(&put_off));
    assert_eq!(hop.asks.len(), ASKS_MAX);
    assert_eq!(hop.revisions.shares().reached(Bound::Want), 0);
}
