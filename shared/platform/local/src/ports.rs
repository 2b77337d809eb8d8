//! Which port a replica gets: from a range outside the machine's ephemeral ports, so that our own outgoing connections
//! never take one, and never one that was in use a moment ago.
//!
//! Invariant: a port is handed out only when it is neither in use nor within [`QUARANTINE`] of its last use.

use domain::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Where replicas listen unless told otherwise.
pub const DEFAULT_PORTS: RangeInclusive<u16> = 20_000..=29_999;
/// How long a port rests after use: a late packet or a client that still remembers it reaches nobody.
pub const QUARANTINE: Duration = Duration::from_secs(30);

/// The pool. Pure: whether the machine agrees that a port is free is for [`is_free`] to say.
#[derive(Debug)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    next: u16,
    in_use: BTreeSet<u16>,
    resting: BTreeMap<u16, Timestamp>,
}

impl Ports {
    /// All of `range`, beginning `offset` ports in.
    pub(crate) fn new(range: RangeInclusive<u16>, offset: u32) -> Self {
        let len = u32::from(*range.end()).saturating_sub(u32::from(*range.start())) + 1;
        let first = *range.start();
        let next = u16::try_from(u32::from(first) + offset % len).unwrap_or(first);
        Self { range, next, in_use: BTreeSet::new(), resting: BTreeMap::new() }
    }

    /// A port nobody has had for a while; `None` when all are taken or resting.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<u16> {
        self.resting.retain(|_, until| *until > now);
        for _ in self.range.clone() {
            let port = self.next;
            self.next = if port >= *self.range.end() { *self.range.start() } else { port + 1 };
            if !self.resting.contains_key(&port) && self.in_use.insert(port) {
                return Some(port);
            }
        }
        None
    }

    /// Takes `port` back and lets it rest.
    pub(crate) fn release(&mut self, now: Timestamp, port: u16) {
        if self.in_use.remove(&port) {
            self.resting.insert(port, now + QUARANTINE);
        }
    }

    /// When the next resting port is free again.
    pub(crate) fn next_free(&self) -> Option<Timestamp> {
        self.resting.values().min().copied()
    }
}

/// Whether nobody listens on `port`, on any address of this machine.
pub(crate) fn is_free(port: u16) -> bool {
    let taken = |address: SocketAddr| {
        TcpListener::bind(address).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    };
    !taken((Ipv4Addr::UNSPECIFIED, port).into()) && !taken((Ipv6Addr::UNSPECIFIED, port).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_used_port_rests_before_it_is_used_again() {
        let mut ports = Ports::new(20_000..=20_001, 1);
        let at = Timestamp::from_secs;
        assert_eq!(ports.take(at(0)), Some(20_001));
        assert_eq!(ports.take(at(0)), Some(20_000));
        assert_eq!(ports.take(at(0)), None);
        ports.release(at(5), 20_001);
        assert_eq!(ports.take(at(34)), None);
        assert_eq!(ports.next_free(), Some(at(35)));
        assert_eq!(ports.take(at(35)), Some(20_001));
    }

    #[test]
    fn the_end_of_the_port_space_is_no_overflow() {
        let mut ports = Ports::new(65_535..=65_535, 7);
        assert_eq!(ports.take(Timestamp::ZERO), Some(65_535));
        assert_eq!(ports.take(Timestamp::ZERO), None);
    }

    #[test]
    fn a_listener_on_one_address_takes_the_port_on_all() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(!is_free(port), "{address}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_port_is_handed_out_twice_or_too_early(steps in prop::collection::vec((0u64..20, any::<bool>()), 1..80)) {
            let mut ports = Ports::new(100..=105, 0);
            let (mut now, mut held) = (Timestamp::ZERO, Vec::new());
            let mut released = BTreeMap::new();
            for (pause, take) in steps {
                now += Duration::from_secs(pause);
                if take {
                    if let Some(port) = ports.take(now) {
                        prop_assert!(!held.contains(&port));
                        if let Some(at) = released.get(&port) {
                            prop_assert!(now.since(*at) >= QUARANTINE);
                        }
                        held.push(port);
                    }
                } else if let Some(port) = held.pop() {
                    ports.release(now, port);
                    released.insert(port, now);
                }
            }
        }
    }
}
