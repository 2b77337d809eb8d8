//! Who of an exclusive group may have replicas: several services share slots, because not all of them fit at once.
//!
//! Invariant: what is granted is free already, so the group never uses more slots than it has; nobody makes room unless a
//! request waits for it, and nobody who has work does before its residence has passed. Remembered is only who waits since
//! when, and who makes room; everything else follows from the facts.

use domain::{Replicas, Revision, RevisionId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// A member whose residence has not passed may be told to leave when it had no request for so long: two regular frames,
/// so that no pause between a client's requests is taken for the end of its work.
pub const IDLE_FOR: Duration = Duration::from_secs(2);
/// A claim stands for so long after its last request was seen waiting: a client that tries again and again in less time
/// than a swap takes is no newcomer each time, and the drain that was begun for it goes on.
pub const CLAIM_KEPT: Duration = Duration::from_secs(2);
/// Members that are named where one waits for them; of others only the number is said.
const NAMED_MAX: usize = 3;

/// One exclusive group of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl GroupId {
    fn of(revision: &Revision) -> Option<Self> {
        let name = revision.scaling.exclusive_group.as_deref()?;
        Some(Self { namespace: revision.id.namespace().into(), name: name.into() })
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Where a member is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It has no replica, or its start failed: nothing would be lost.
    Idle,
    /// Replicas were asked for and none was ready yet.
    Starting,
    /// At least one is ready.
    Ready {
        /// Since when one is.
        since: Timestamp,
    },
}

/// What is known of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub id: RevisionId,
    /// What it would have without the group.
    pub wanted: Replicas,
    /// What it would have without any request: `min-scale`, or `initial-scale` until that was reached once.
    pub minimum: Replicas,
    /// What the platform was asked for, an order to raise it that is not shown yet included.
    pub asked: Replicas,
    /// An order to raise it is under way: it is not taken back.
    pub raising: bool,
    /// Replicas that the platform lists.
    pub listed: Replicas,
    /// Replicas that were told to end and are not gone yet.
    pub terminating: Replicas,
    /// Requests on its replicas.
    pub in_flight: u32,
    /// Requests that wait.
    pub queued: u32,
    /// When it last had a request.
    pub last_active: Option<Timestamp>,
    /// Where it is in its life.
    pub life: Life,
    /// Whether we may ask for more of it.
    pub may_grow: bool,
    /// Whether we may take from it: we may write its count, and every activator that may carry its requests reports.
    pub may_shrink: bool,
    /// Slots of the group, in its words.
    pub slots: Replicas,
    /// How long it keeps its slot while it has work.
    pub residence: Duration,
}

impl Member {
    const fn used(&self) -> u32 {
        let running = if self.asked.get() > self.listed.get() { self.asked.get() } else { self.listed.get() };
        running.saturating_add(self.terminating.get())
    }

    /// What it keeps when nobody takes from it; the rest leaves of its own accord.
    fn kept(&self) -> u32 {
        if self.may_shrink { self.asked.min(self.wanted).get() } else { self.asked.get() }
    }

    fn missing(&self) -> u32 {
        if self.may_grow { self.wanted.get().saturating_sub(self.asked.get()) } else { 0 }
    }

    /// It has no slot and wants one.
    fn lacks(&self) -> bool {
        self.asked.is_zero() && self.missing() > 0
    }

    fn resided(&self, now: Timestamp) -> bool {
        match self.life {
            Life::Idle => true,
            Life::Starting => false,
            Life::Ready { since } => now.since(since) >= self.residence,
        }
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        let quiet = self.last_active.is_none_or(|at| now.since(at) >= IDLE_FOR);
        self.life != Life::Starting && self.in_flight + self.queued == 0 && (quiet || self.resided(now))
    }
}

/// What the group leaves one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Whose slots these are.
    pub group: GroupId,
    /// Slots of the group: the smallest number that a member names.
    pub slots: Replicas,
    /// The most it may have now.
    pub at_most: Replicas,
    /// What follows for it.
    pub standing: Standing,
}

/// How a member stands with the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It neither waits for anybody nor anybody for it.
    Settled,
    /// It has no slot and wants one.
    Waits {
        /// Who has the slots.
        held_by: Arc<[RevisionId]>,
    },
    /// It finishes what it has and gives slots back.
    MakesRoom {
        /// For whom; `None` when more slots are in use than there are.
        claimant: Option<RevisionId>,
    },
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.standing {
            Standing::Settled => write!(f, "at most {} in group {}", self.at_most, self.group),
            Standing::Waits { held_by } => {
                write!(f, "waits for a slot of group {}", self.group)?;
                for (n, id) in held_by.iter().take(NAMED_MAX).enumerate() {
                    write!(f, "{}{id}", if n == 0 { ", held by " } else { ", " })?;
                }
                let more = held_by.len().saturating_sub(NAMED_MAX);
                if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
            Standing::MakesRoom { claimant: Some(claimant) } => {
                write!(f, "makes room in group {} for {claimant}", self.group)
            }
            Standing::MakesRoom { claimant: None } => {
                write!(f, "makes room in group {}: more is in use than its {} slots", self.group, self.slots)
            }
        }
    }
}

/// Requests that wait for a member's first slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    since: Timestamp,
    seen: Timestamp,
}

/// Gives out the slots of one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arbiter {
    claims: BTreeMap<RevisionId, Claim>,
    /// Who makes room, and how many slots each gives back.
    leaving: BTreeMap<RevisionId, u32>,
}

/// Who is asked first to make room: the idle ones, then those that keep another replica, then those that have had their
/// time. Who was asked before is asked again, so that no drain is begun for nothing.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    class: u8,
    newly: bool,
    /// Longest idle, most replicas, longest resident first.
    rank: u64,
}

impl Arbiter {
    /// The most that each of `members` may have now, in their order, and how each stands.
    pub fn arbitrate(&mut self, now: Timestamp, group: &GroupId, members: &[Member]) -> Vec<Share> {
        let slots = members.iter().map(|member| member.slots).min().unwrap_or(Replicas::ONE);
        self.note_claims(now, members);

        let used = members.iter().fold(0_u32, |sum, member| sum.saturating_add(member.used()));
        let mut free = slots.get().saturating_sub(used);
        let mut granted = vec![0_u32; members.len()];
        let waiting = self.in_line(members);
        let mut unmet = Vec::new();
        for &index in &waiting {
            if free > 0 {
                (granted[index], free) = (1, free - 1);
            } else {
                unmet.push(index);
            }
        }
        for (index, member) in members.iter().enumerate() {
            let more = self.due(member).saturating_sub(granted[index]).min(free);
            (granted[index], free) = (granted[index] + more, free - more);
        }

        let kept = members.iter().fold(0_u32, |sum, member| sum.saturating_add(member.kept()));
        let promised = granted.iter().sum::<u32>().saturating_add(u32::try_from(unmet.len()).unwrap_or(u32::MAX));
        let taken = self.make_room(now, members, kept.saturating_add(promised).saturating_sub(slots.get()));

        let held_by = |own: &RevisionId| {
            members.iter().filter(|other| other.used() > 0 && other.id != *own).map(|other| other.id.clone()).collect()
        };
        let mut claimants = unmet.into_iter().map(|index| members[index].id.clone());
        let shares = members.iter().zip(granted).zip(taken).map(|((member, granted), taken)| {
            let standing = if taken > 0 {
                Standing::MakesRoom { claimant: claimants.next() }
            } else if member.lacks() && self.due(member) > 0 && granted == 0 {
                Standing::Waits { held_by: held_by(&member.id) }
            } else {
                Standing::Settled
            };
            let at_most = if taken > 0 { member.kept() - taken } else { member.asked.get().saturating_add(granted) };
            Share { group: group.clone(), slots, at_most: Replicas::new(at_most), standing }
        });
        shares.collect()
    }

    /// Slots that a member could use. What one at zero had before is no reason to start it: a request, or a minimum, is.
    fn due(&self, member: &Member) -> u32 {
        let claims = !member.asked.is_zero() || self.claims.contains_key(&member.id);
        if claims { member.missing() } else { member.missing().min(member.minimum.get()) }
    }

    /// Keeps the place of those that wait. One that makes room is in line as soon as a request waits for it.
    fn note_claims(&mut self, now: Timestamp, members: &[Member]) {
        let mut claims = BTreeMap::new();
        for member in members {
            let leaves = self.leaving.get(&member.id).is_some_and(|taken| *taken >= member.kept());
            let before = self.claims.get(&member.id).copied();
            let claim = if member.queued > 0 && (member.lacks() || leaves) {
                Some(Claim { since: before.map_or(now, |claim| claim.since), seen: now })
            } else {
                before.filter(|claim| (member.asked.is_zero() || leaves) && now.since(claim.seen) < CLAIM_KEPT)
            };
            claims.extend(claim.map(|claim| (member.id.clone(), claim)));
        }
        self.claims = claims;
    }

    /// Those that wait, the longest first.
    fn in_line(&self, members: &[Member]) -> Vec<usize> {
        let claims = members.iter().enumerate().filter(|(_, member)| member.lacks());
        let mut line: Vec<(Timestamp, &RevisionId, usize)> =
            claims.filter_map(|(index, Member { id, .. })| Some((self.claims.get(id)?.since, id, index))).collect();
        line.sort();
        line.into_iter().map(|(_, _, index)| index).collect()
    }

    /// Takes `needed` slots from those that may lose them; how many each gives back.
    fn make_room(&mut self, now: Timestamp, members: &[Member], needed: u32) -> Vec<u32> {
        let mut candidates: Vec<(Order, &RevisionId, usize, u32)> = Vec::new();
        for (index, member) in members.iter().enumerate() {
            let (kept, id) = (member.kept(), &member.id);
            if kept == 0 || !member.may_shrink || member.raising {
                continue;
            }
            let newly = !self.leaving.contains_key(id);
            let since = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_millis);
            if member.is_idle(now) {
                candidates.push((Order { class: 0, newly, rank: since(member.last_active) }, id, index, kept));
                continue;
            }
            if kept > 1 {
                candidates.push((Order { class: 1, newly, rank: u64::from(u32::MAX - kept) }, id, index, kept - 1));
            }
            if member.resided(now) {
                let ready = if let Life::Ready { since } = member.life { Some(since) } else { None };
                candidates.push((Order { class: 2, newly, rank: since(ready) }, id, index, 1));
            }
        }
        candidates.sort();
        let mut taken = vec![0_u32; members.len()];
        let mut needed = needed;
        for (_, _, index, most) in candidates {
            let taking = most.min(needed);
            (taken[index], needed) = (taken[index] + taking, needed - taking);
        }
        let leaving = members.iter().zip(&taken).filter(|(_, taken)| **taken > 0);
        self.leaving = leaving.map(|(member, taken)| (member.id.clone(), *taken)).collect();
        taken
    }
}

/// Which revision is in which group.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    of: BTreeMap<RevisionId, GroupId>,
    groups: BTreeMap<GroupId, (BTreeSet<RevisionId>, Arbiter)>,
}

impl Groups {
    /// A revision is new or changed its settings.
    pub(crate) fn follow(&mut self, revision: &Revision) {
        let (id, group) = (&revision.id, GroupId::of(revision));
        if self.of.get(id) == group.as_ref() {
            return;
        }
        self.forget(id);
        if let Some(group) = group {
            self.groups.entry(group.clone()).or_default().0.insert(id.clone());
            self.of.insert(id.clone(), group);
        }
    }

    /// A revision is gone; the group that it was in.
    pub(crate) fn forget(&mut self, id: &RevisionId) -> Option<GroupId> {
        let group = self.of.remove(id)?;
        if let Some((members, _)) = self.groups.get_mut(&group) {
            members.remove(id);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
        Some(group)
    }

    /// The group of a revision.
    pub(crate) fn of(&self, id: &RevisionId) -> Option<&GroupId> {
        self.of.get(id)
    }

    /// Gives out the slots of `group`; `facts` tells what is known of a member.
    pub(crate) fn arbitrate(
        &mut self,
        now: Timestamp,
        group: &GroupId,
        facts: impl Fn(&RevisionId) -> Option<Member>,
    ) -> Vec<(RevisionId, Share)> {
        let Some((members, arbiter)) = self.groups.get_mut(group) else { return Vec::new() };
        let members: Vec<Member> = members.iter().filter_map(facts).collect();
        let shares = arbiter.arbitrate(now, group, &members);
        members.into_iter().map(|member| member.id).zip(shares).collect()
    }
}
