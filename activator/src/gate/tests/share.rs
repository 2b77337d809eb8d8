use super::*;
use crate::local::Endpoint;
use crate::sharing::lent::{Lent, Unused};
use activator_core::Part;
use domain::{ReporterId, Sharing};
use http::HeaderValue;

fn members() -> Vec<ReporterId> {
    vec![ReporterId::new("a"), ReporterId::new("b")]
}

fn part(own: &str, settled: bool) -> Arc<Part> {
    Arc::new(Part::Of { own: ReporterId::new(own), members: members().into(), settled })
}

const NAMES: [&str; 8] = ["r-1", "r-2", "r-3", "r-4", "r-5", "r-6", "r-7", "r-8"];

fn owned(own: &str) -> Vec<EndpointId> {
    let ids = NAMES.iter().map(|name| EndpointId::new(name));
    ids.filter(|id| Sharing::owner(&members(), id) == Some(&ReporterId::new(own))).collect()
}

/// Everything that there is room for.
fn all(gate: &Gate) -> Vec<HeldSlot> {
    std::iter::from_fn(|| match gate.enter(NOW, Ask::default()) {
        Entry::Go(slot) => Some(slot),
        Entry::Wait(_) | Entry::Full(_) | Entry::StartFailed(_) => None,
    })
    .collect()
}

fn endpoint_of(gate: &Gate, slot: &HeldSlot) -> EndpointId {
    gate.snapshot().2[slot.seat_index() as usize].as_ref().unwrap().id.clone()
}

fn lent(unused: &Unused) -> Lent {
    let neighbour = Endpoint::new(EndpointId::new("b"), "127.0.0.1:2".parse().unwrap());
    Lent::new(Arc::new(neighbour), HeaderValue::from_static("word.7"), 7, unused.clone())
}

#[test]
fn only_ones_own_is_used_where_concurrency_is_limited() {
    let none = BTreeSet::new();
    let (limited, _) = gate(1, 10);
    let (unlimited, _) = gate(0, 10);
    for gate in [&limited, &unlimited] {
        gate.set_endpoints(NOW, 1, &listed(&NAMES));
        gate.share(NOW, &part("a", true), &none);
        assert_eq!(usable(gate).len(), NAMES.len(), "who has them matters to nobody else");
        assert!(matches!(gate.warmth(), Warmth::Warm { .. }));
    }
    let slots = all(&limited);
    let used: BTreeSet<_> = slots.iter().map(|slot| endpoint_of(&limited, slot)).collect();
    assert_eq!((slots.len(), used), (owned("a").len(), owned("a").into_iter().collect()));
    assert!(unlimited.is_open());
    unlimited.configure(limits(1, 10));
    assert_eq!(all(&unlimited).len(), owned("a").len(), "from now on there is a limit");
}

#[test]
fn what_is_given_up_is_told_until_it_carries_nothing() {
    let none = BTreeSet::new();
    let (gate, _) = gate(1, 10);
    gate.set_endpoints(NOW, 1, &listed(&NAMES));
    let slots = all(&gate);
    gate.share(NOW, &part("a", false), &none);
    let held: BTreeSet<_> = gate.held().into_iter().collect();
    assert_eq!(held, owned("b").into_iter().collect(), "everything that was its own, and is another one's now");
    drop(slots);
    assert!(gate.held().is_empty());
    assert_eq!(all(&gate).len(), owned("a").len());
    // A replica that appears before all is settled is nobody's.
    gate.set_endpoints(NOW, 2, &listed(&["r-9", "r-10", "r-11", "r-12"]));
    assert!(all(&gate).is_empty());
    let late: BTreeSet<_> = ["r-9", "r-10", "r-11", "r-12"].map(EndpointId::new).into_iter().collect();
    gate.share(NOW, &part("a", true), &late);
    assert!(all(&gate).is_empty(), "held by who had them");
    gate.share(NOW, &part("a", true), &none);
    let mine = late.iter().filter(|id| Sharing::owner(&members(), id) == Some(&members()[0]));
    assert_eq!(all(&gate).len(), mine.count());
}

#[test]
fn who_has_waited_longest_gets_what_is_lent() {
    let (gate, edges) = gate(1, 10);
    gate.share(NOW, &part("a", true), &BTreeSet::new());
    gate.set_endpoints(NOW, 1, &listed(&NAMES));
    assert!(gate.lenders().is_empty(), "nobody waits");
    let slots = all(&gate);
    let unused = Unused::default();
    let back = gate.lend(lent(&unused)).unwrap_err();
    back.use_up();
    drop(back);
    assert_eq!(unused.take().len(), 0, "it was used");

    let (first, mut second) = (waiting(gate.enter(NOW, Ask::default())), waiting(gate.enter(NOW, Ask::default())));
    assert_eq!(gate.lenders(), BTreeSet::from([ReporterId::new("b")]));
    // One who leaves without looking takes nothing with it.
    let mut gone = first;
    gone.answer.close();
    gate.lend(lent(&unused)).unwrap();
    let slot = granted(&mut second).unwrap().unwrap();
    assert_eq!(slot.lent().unwrap().mark, "word.7");
    assert_eq!((slot.seat_index(), gate.waiting()), (u32::MAX, 0));
    drop(slot);
    assert_eq!(unused.take(), [("127.0.0.1:2".parse().unwrap(), 7)], "it carried no request");
    drop((slots, gone));
    assert!(edges.1.load(Ordering::Relaxed) == 0, "nothing changed while somebody waited");
    let slots = all(&gate);
    let last = waiting(gate.enter(NOW, Ask::default()));
    gate.set_endpoints(NOW, 2, &listed(&NAMES[..7]));
    assert_eq!(edges.1.load(Ordering::Relaxed), 1, "other replicas, so perhaps other activators");
    drop((slots, last));
}

#[test]
fn who_has_waited_longer_elsewhere_goes_before_our_own_by_a_margin() {
    let (now, waited) = (Timestamp::from_secs(100), Duration::from_millis);
    let (gate, _) = gate(1, 10);
    gate.set_endpoints(now, 1, &listed(&["r-1"]));
    let mut slot = going(gate.enter(now, Ask::default()));
    // Ours has waited for a second.
    let since = now.before(waited(1000));
    for (elsewhere, goes_first) in [(0, false), (1000, false), (1070, false), (1090, true), (60_000, true)] {
        let mut own = waiting(gate.enter(now, Ask { since, ..Ask::default() }));
        assert_eq!(gate.waited(now), waited(1000));
        let mut asked = waiting(gate.borrow(now, waited(elsewhere)).unwrap());
        drop(slot);
        let (first, second) = if goes_first { (&mut asked, &mut own) } else { (&mut own, &mut asked) };
        drop(granted(first).unwrap().unwrap());
        slot = granted(second).unwrap().unwrap();
    }
    assert_eq!(gate.waited(now), Duration::ZERO);
}

#[test]
fn others_get_what_our_own_leave() {
    let (gate, _) = gate(1, 10);
    assert!(gate.borrow(NOW, Duration::ZERO).is_none(), "nothing is there");
    gate.set_endpoints(NOW, 1, &listed(&["r-1"]));
    let slot = going(gate.borrow(NOW, Duration::ZERO).unwrap());
    let mut asked = waiting(gate.borrow(NOW, Duration::ZERO).unwrap());
    let mut own = waiting(gate.enter(NOW, Ask::default()));
    assert_eq!(gate.waiting(), 1, "who asks is no load of ours");
    drop(slot);
    let slot = granted(&mut own).unwrap().unwrap();
    assert!(granted(&mut asked).is_none());
    drop(slot);
    let slot = granted(&mut asked).unwrap().unwrap();
    assert!(gate.spare().is_none());
    drop(slot);
    assert!(gate.spare().is_some());
    let (unlimited, _) = super::gate(0, 10);
    unlimited.set_endpoints(NOW, 1, &listed(&["r-1"]));
    assert!(unlimited.borrow(NOW, Duration::ZERO).is_none(), "there is nothing to lend");
}
