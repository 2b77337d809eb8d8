//! What every controller is: events name keys, a key is looked at, and the answers to its writes are taken in.
//!
//! Invariant: no clock, no store and no randomness in a controller; what it knows came as an argument.

use jiff::Timestamp;

use super::object::{Id, Object};
use super::world::{Change, World};
use super::write::{Outcome, Refusal, Write};

/// What the store answered to a write: the object as it is now, if there is one.
pub(crate) type Answer = Result<Option<Object>, Refusal>;

/// What a test does to a controller from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hook {
    /// A node's heartbeats stopped at this time, or came back.
    Silent { node: String, since: Option<Timestamp> },
    /// The next pod that leaves its ReplicaSet is this one, whatever the ranking says.
    WrongVictim { namespace: String, pod: String },
    /// Whether the pods that should leave last leave first.
    WrongVictims(bool),
}

/// A pure controller. The runner calls it with what it has seen and carries out what it asks.
pub(crate) trait Controller: Send {
    /// The keys that a change concerns; called once per change, in order, after `world` has taken it.
    fn affected(&mut self, world: &World, change: &Change) -> Vec<Id>;

    /// What has to be done for one key.
    fn reconcile(&mut self, now: Timestamp, world: &World, key: &Id) -> Outcome;

    /// Takes in what a test does; the keys that it concerns.
    fn hook(&mut self, _world: &World, _hook: &Hook) -> Vec<Id> {
        Vec::new()
    }

    /// What follows from the answers. `answers` are those to the first writes; the others were not sent after a refusal.
    fn settle(
        &mut self,
        _now: Timestamp,
        _world: &World,
        _key: &Id,
        _writes: &[Write],
        _answers: &[Answer],
    ) -> Vec<Write> {
        Vec::new()
    }
}
