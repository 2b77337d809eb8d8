//! Leaving in two phases: named, no longer sent to, idle, and only then taken away (kpa-behaviour 6).
//!
//! Invariant: a replica leaves when every live activator has said that it no longer sends to it, or was silent about it
//! for 3 s, and it has nothing left to do, or its drain timeout passed.

use crate::victims::{Candidate, choose};
use domain::{Endpoint, EndpointId, EndpointState, Replicas, Timestamp};
use std::time::Duration;

/// An activator that has not confirmed a directive for so long is passed over.
pub const PASSED_OVER_AFTER: Duration = Duration::from_secs(3);
/// How long the load of each replica is waited for before victims are chosen without it.
const LOADS_WITHIN: Duration = Duration::from_millis(1500);
/// How long victims stay named after the platform accepted the count and still lists them.
const LINGER: Duration = Duration::from_secs(30);

/// A replica that was named.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Victim {
    id: EndpointId,
    since: Timestamp,
}

impl Victim {
    /// Whether it may be taken away now; then, how many requests that cuts, if known.
    fn may_leave(&self, now: Timestamp, drain_timeout: Duration, facts: &impl Facts) -> Option<u32> {
        let named = now.since(self.since);
        if !facts.drained(&self.id) && named < PASSED_OVER_AFTER {
            return None;
        }
        let load = facts.load_on(&self.id);
        (load == Some(0) || named >= drain_timeout).then_some(load.unwrap_or(0))
    }
}

/// Replicas that the platform itself replaces or whose object is gone: the same two phases, the count stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing(Vec<Victim>);

impl Outgoing {
    /// Takes over which replicas the platform shows as draining.
    pub fn follow(&mut self, now: Timestamp, endpoints: &[Endpoint]) {
        let draining = || endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Draining);
        self.0.retain(|victim| draining().any(|endpoint| endpoint.id == victim.id));
        for endpoint in draining() {
            if !self.0.iter().any(|victim| victim.id == endpoint.id) {
                self.0.push(Victim { id: endpoint.id.clone(), since: now });
            }
        }
    }

    /// Who can leave now, and who of them although it still has requests, with how many.
    #[must_use]
    pub fn ready(&self, now: Timestamp, drain_timeout: Duration, facts: &impl Facts) -> Vec<(EndpointId, u32)> {
        let ready = |victim: &Victim| Some((victim.id.clone(), victim.may_leave(now, drain_timeout, facts)?));
        self.0.iter().filter_map(ready).collect()
    }

    /// Who is named.
    pub fn victims(&self) -> impl Iterator<Item = &EndpointId> {
        self.0.iter().map(|victim| &victim.id)
    }

    /// Whether nobody is named.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A shrink that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    begun: Timestamp,
    to: Replicas,
    victims: Vec<Victim>,
    not_before: Timestamp,
}

/// What a drain needs to know of the replicas.
pub trait Facts {
    /// Whether every live activator has said that it no longer sends to `endpoint`.
    fn drained(&self, endpoint: &EndpointId) -> bool;
    /// Requests on `endpoint`; `None` while unknown.
    fn load_on(&self, endpoint: &EndpointId) -> Option<u32>;
    /// When `endpoint` last had one.
    fn last_busy(&self, endpoint: &EndpointId) -> Option<Timestamp>;
}

/// What can be written now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    /// The count that is reached by it; the drain may aim for fewer.
    pub to: Replicas,
    /// Who leaves.
    pub victims: Vec<EndpointId>,
    /// Who leaves although it still has requests, with how many.
    pub cut: Vec<(EndpointId, u32)>,
}

impl Drain {
    /// Begins a shrink; nobody is named yet.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self { begun: now, to: Replicas::ZERO, victims: Vec::new(), not_before: now }
    }

    /// Aims for `to`, not written before `not_before`. Victims are added or released as needed.
    pub fn aim(
        &mut self,
        now: Timestamp,
        (requested, to): (Replicas, Replicas),
        not_before: Timestamp,
        endpoints: &[Endpoint],
        facts: &impl Facts,
    ) {
        (self.to, self.not_before) = (to, not_before);
        let staying = || endpoints.iter().filter(|endpoint| endpoint.state != EndpointState::Draining);
        self.victims.retain(|victim| staying().any(|endpoint| endpoint.id == victim.id));
        let needed = self.needed(requested, staying().count());
        self.victims.truncate(needed);
        let more = needed - self.victims.len();
        if more == 0 {
            return;
        }
        let others: Vec<_> =
            staying().filter(|endpoint| !self.victims.iter().any(|victim| victim.id == endpoint.id)).collect();
        let loads: Vec<_> = others.iter().map(|endpoint| facts.load_on(&endpoint.id)).collect();
        if others.len() > more && loads.contains(&None) && now.since(self.begun) < LOADS_WITHIN {
            return;
        }
        let candidates = others.into_iter().zip(loads).map(|(endpoint, load)| Candidate {
            id: endpoint.id.clone(),
            state: endpoint.state,
            load: load.unwrap_or(u32::MAX),
            last_busy: facts.last_busy(&endpoint.id),
        });
        let chosen = choose(candidates.collect(), more);
        self.victims.extend(chosen.into_iter().map(|id| Victim { id, since: now }));
    }

    /// Replicas that must be named: those asked for and not there yet simply do not come; those that were taken away and
    /// are listed still count, or one victim would be spent for two.
    fn needed(&self, requested: Replicas, staying: usize) -> usize {
        let count = |replicas: Replicas| usize::try_from(replicas.get()).unwrap_or(usize::MAX);
        let surplus = count(requested).max(staying).saturating_sub(count(self.to));
        surplus.saturating_sub(count(requested).saturating_sub(staying)).min(staying)
    }

    /// Who can leave now. Those that are idle do not wait for those that are busy.
    #[must_use]
    pub fn ready(
        &self,
        now: Timestamp,
        requested: Replicas,
        endpoints: &[Endpoint],
        drain_timeout: Duration,
        facts: &impl Facts,
    ) -> Option<Leave> {
        if now < self.not_before {
            return None;
        }
        let staying = endpoints.iter().filter(|endpoint| endpoint.state != EndpointState::Draining).count();
        let needed = self.needed(requested, staying);
        let mut leave = Leave { to: self.to, victims: Vec::new(), cut: Vec::new() };
        for victim in &self.victims {
            if let Some(load) = victim.may_leave(now, drain_timeout, facts) {
                leave.victims.push(victim.id.clone());
                leave.cut.extend((load > 0).then(|| (victim.id.clone(), load)));
            }
        }
        let waiting = u32::try_from(needed.saturating_sub(leave.victims.len())).unwrap_or(u32::MAX);
        leave.to = Replicas::new(self.to.get().saturating_add(waiting));
        (leave.to < requested).then_some(leave)
    }

    /// Whether the platform has accepted the count and still lists victims: they stay named for a while.
    #[must_use]
    pub fn lingers(&self, now: Timestamp, requested: Replicas, endpoints: &[Endpoint]) -> bool {
        let listed = |victim: &Victim| {
            endpoints.iter().any(|endpoint| endpoint.id == victim.id && endpoint.state != EndpointState::Draining)
        };
        requested <= self.to && self.victims.iter().any(|victim| listed(victim) && now.since(victim.since) < LINGER)
    }

    /// Who is named.
    pub fn victims(&self) -> impl Iterator<Item = &EndpointId> {
        self.victims.iter().map(|victim| &victim.id)
    }

    /// What it aims for.
    #[must_use]
    pub const fn to(&self) -> Replicas {
        self.to
    }
}

#[cfg(test)]
mod tests;
