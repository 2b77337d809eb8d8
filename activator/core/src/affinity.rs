//! Which replica the requests of one session go to: rendezvous hashing with bounded loads.
//!
//! Invariants: the choice follows from the session and the names of the open replicas alone, so every worker of every
//! activator chooses alike; a replica that comes or goes moves only the sessions that become or were its own; a session
//! never waits for its replica while another has room.
//!
//! Where no limit says when a replica is full, twice the mean in flight does (consistent hashing with bounded loads, with a
//! factor of 2), but never less than [`FLOOR`]: few sessions on many replicas make a small mean, and a second request of
//! one of them is no crowd. A factor of 1.25 would spread loads better and send every fifth session elsewhere at times.

use domain::{EndpointId, hash};

/// Without a limit a replica is not full below so many in flight, by the counts of whoever chooses. The same that a
/// replica gets at once when it has just begun.
pub const FLOOR: u32 = crate::pace::FIRST_WINDOW;
/// Without a limit a replica is full with so many times the mean in flight.
pub const CROWD: u64 = 2;

/// The requests of one client, conversation or user. Two values that hash alike share a replica, which hurts nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session(u64);

impl Session {
    /// Named by the value that its requests carry.
    #[must_use]
    pub fn of(value: &[u8]) -> Self {
        Self(hash::mix(hash::fnv(hash::BASIS, value)))
    }

    /// The greater, the more it belongs to the replica of that name.
    const fn weight(self, key: SeatKey) -> u64 {
        hash::mix(self.0 ^ key.0)
    }
}

/// A replica's name as sessions see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SeatKey(u64);

impl SeatKey {
    /// Of the replica called `id`.
    #[must_use]
    pub fn of(id: &EndpointId) -> Self {
        Self(hash::mix(hash::fnv(hash::BASIS, id.as_str().as_bytes())))
    }
}

/// A session's own replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preferred {
    /// Its index.
    pub index: usize,
    /// One more request would be too much by comparison, where no limit says how much it may carry.
    pub is_crowded: bool,
}

/// The replica of `session` among `count`; `open(i)` is the name and the load of replica `i` if it may be sent requests,
/// full or not. `None` when no replica is open.
pub fn preferred(session: Session, count: usize, open: impl Fn(usize) -> Option<(SeatKey, u32)>) -> Option<Preferred> {
    let (mut best, mut replicas, mut total) = (None, 0_u64, 0_u64);
    for index in 0..count {
        let Some((key, load)) = open(index) else { continue };
        (replicas, total) = (replicas + 1, total + u64::from(load));
        let weight = (session.weight(key), key);
        if best.is_none_or(|(_, _, heaviest)| weight > heaviest) {
            best = Some((index, load, weight));
        }
    }
    let (index, load, _) = best?;
    let is_crowded = load >= FLOOR && (u64::from(load) + 1) * replicas > CROWD * (total + 1);
    Some(Preferred { index, is_crowded })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSIONS: u32 = 20_000;

    fn keys(count: usize) -> Vec<SeatKey> {
        (0..count).map(|n| SeatKey::of(&EndpointId::new(&format!("model-7d9f-{n}")))).collect()
    }

    fn home(session: u32, keys: &[Option<SeatKey>]) -> Option<usize> {
        let session = Session::of(format!("user-{session}").as_bytes());
        preferred(session, keys.len(), |i| keys[i].map(|key| (key, 0))).map(|preferred| preferred.index)
    }

    #[test]
    fn nobody_is_open() {
        assert_eq!(home(1, &[]), None);
        assert_eq!(home(1, &[None, None]), None);
    }

    /// What two releases, two workers and two activators have to agree on.
    #[test]
    fn the_choice_is_written_down() {
        let homes = [0, 1, 2, 3].map(|session| home(session, &keys(5).into_iter().map(Some).collect::<Vec<_>>()));
        assert_eq!(homes, [2, 3, 0, 1].map(Some));
    }

    #[test]
    fn sessions_are_spread_evenly() {
        for count in [2, 3, 10, 50] {
            let keys: Vec<_> = keys(count).into_iter().map(Some).collect();
            let mut of_each = vec![0_u32; count];
            for session in 0..SESSIONS {
                of_each[home(session, &keys).unwrap()] += 1;
            }
            let mean = f64::from(SESSIONS) / count as f64;
            // Five standard deviations of a fair draw.
            let bound = 5.0 * mean.sqrt();
            for (index, sessions) in of_each.iter().enumerate() {
                let off = (f64::from(*sessions) - mean).abs();
                assert!(off < bound, "replica {index} of {count} has {sessions} of {SESSIONS} sessions");
            }
        }
    }

    proptest! {
        /// One that goes moves its own sessions and no other; when it comes back they come back.
        #[test]
        fn only_the_sessions_of_a_replica_that_goes_are_moved(count in 2_usize..40, gone: prop::sample::Index, first: u16) {
            let all: Vec<_> = keys(count).into_iter().map(Some).collect();
            let gone = gone.index(count);
            let mut rest = all.clone();
            rest[gone] = None;
            let mut moved = 0;
            for session in (0..200).map(|n| n + u32::from(first)) {
                let (before, after) = (home(session, &all).unwrap(), home(session, &rest).unwrap());
                if before == gone {
                    prop_assert_ne!(after, gone);
                    moved += 1;
                } else {
                    prop_assert_eq!(before, after);
                }
            }
            prop_assert!(count > 8 || moved > 0, "some were its own");
        }

        /// Seats stand in another order for everybody who learnt of them in another order.
        #[test]
        fn the_order_of_replicas_changes_nothing(count in 1_usize..40, session: u32, turn: prop::sample::Index) {
            let all: Vec<_> = keys(count).into_iter().map(Some).collect();
            let mut turned = all.clone();
            turned.rotate_left(turn.index(count));
            let mut gapped = vec![None];
            gapped.extend(turned.iter().copied());
            prop_assert_eq!(home(session, &all).map(|i| all[i]), home(session, &gapped).map(|i| gapped[i]));
        }

        /// A crowd has at least [`FLOOR`] and more than [`CROWD`] times its share; and a session that goes elsewhere for it
        /// finds a replica with less.
        #[test]
        fn a_crowd_is_one_by_comparison(loads in prop::collection::vec(0_u32..60, 1..20), session: u32) {
            let keys = keys(loads.len());
            let session = Session::of(&session.to_be_bytes());
            let Preferred { index, is_crowded } = preferred(session, keys.len(), |i| Some((keys[i], loads[i]))).unwrap();
            let (load, total): (u32, u32) = (loads[index], loads.iter().sum());
            let share = f64::from(total + 1) / loads.len() as f64;
            prop_assert_eq!(is_crowded, load >= FLOOR && f64::from(load + 1) > 2.0 * share);
            if is_crowded {
                prop_assert!(loads.iter().any(|other| *other < load));
            }
        }
    }
}
