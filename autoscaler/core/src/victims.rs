//! Which replicas leave: those that lose least.
//!
//! Invariant: a total order, so every autoscaler names the same ones from the same facts.

use domain::{EndpointId, EndpointState, Timestamp};

/// A replica that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub id: EndpointId,
    /// What the platform says of it.
    pub state: EndpointState,
    /// Requests it has now.
    pub load: u32,
    /// When it last had one, if ever.
    pub last_busy: Option<Timestamp>,
}

/// Chooses `count`: first those that are not ready, then the least loaded, then the longest idle, then by name.
#[must_use]
pub fn choose(mut candidates: Vec<Candidate>, count: usize) -> Vec<EndpointId> {
    candidates.sort_by(|a, b| {
        let key = |one: &Candidate| (one.state == EndpointState::Ready, one.load, one.last_busy);
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
    candidates.into_iter().take(count).map(|candidate| candidate.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_then_least_loaded_then_longest_idle() {
        let one = |name: &str, state, load, busy: Option<u64>| Candidate {
            id: EndpointId::new(name),
            state,
            load,
            last_busy: busy.map(Timestamp::from_secs),
        };
        let candidates = vec![
            one("a", EndpointState::Ready, 2, Some(9)),
            one("b", EndpointState::Ready, 0, Some(8)),
            one("c", EndpointState::Ready, 0, Some(3)),
            one("d", EndpointState::Ready, 0, None),
            one("e", EndpointState::Starting, 0, None),
            one("f", EndpointState::Ready, 0, None),
        ];
        let names = |count| choose(candidates.clone(), count).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(6), ["e", "d", "f", "c", "b", "a"]);
        assert_eq!(names(2), ["e", "d"]);
        assert!(names(0).is_empty());
    }
}
