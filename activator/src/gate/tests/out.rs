//! Slots that are out, and what the gate believes.

use super::*;
use crate::local::watchdog::WATCH_EVERY;
use domain::RevisionId;

/// What a defect would do: a slot that is taken and that nobody has, one that is given back though somebody has it.
#[test]
fn a_slot_that_nobody_has_is_found_and_free_again() {
    let id = RevisionId::new("default", "model");
    let later = |looks: u64| NOW + WATCH_EVERY * u32::try_from(looks).unwrap();
    let (gate, _) = gate(2, 10);
    gate.set_endpoints(NOW, 1, &listed(&["a"]));
    let held = going(gate.enter(NOW, Ask::default()));
    let lost = gate.state.lock().admission.spare(Ask::default()).unwrap();
    let mut waiter = waiting(gate.enter(NOW, Ask::default()));
    gate.watch(later(0), &id);
    gate.watch(later(0), &id);
    assert_eq!(gate.differences(), 0, "it may be over in a moment, and another worker that looks now sees the same");
    assert!(granted(&mut waiter).is_none());
    gate.watch(later(1), &id);
    assert_eq!(gate.differences(), 1);
    let second = granted(&mut waiter).unwrap().unwrap();
    gate.state.lock().admission.release(lost);
    gate.watch(later(2), &id);
    gate.watch(later(3), &id);
    assert_eq!(gate.differences(), 2);
    let third = waiting(gate.enter(NOW, Ask::default()));
    drop((held, second, third));
    gate.watch(later(4), &id);
    gate.watch(later(5), &id);
    assert_eq!((gate.differences(), gate.state.lock().admission.in_use(lost.seat())), (2, 0));
}
