//! Replicas that the platform calls ready and activators cannot connect to (kpa-behaviour 11.3).
//!
//! Invariant: told when the first appears and when the last is gone; it decides nothing about counts.

use super::{Context, Scaled};
use crate::event::Happening;
use domain::EndpointState;
use std::net::SocketAddr;

/// Addresses that are named; the others are counted.
const NAMED_MAX: usize = 3;

impl Scaled {
    /// Follows what activators say.
    pub(super) fn note_reach(&mut self, context: Context<'_>) {
        let said = context.reporters.unreachable(context.now, &self.revision.id);
        let ready = self.endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Ready);
        let unreachable: Vec<SocketAddr> = if said.is_empty() {
            Vec::new()
        } else {
            ready.filter(|endpoint| said.contains(&endpoint.id)).map(|endpoint| endpoint.address).collect()
        };
        let before = std::mem::replace(&mut self.unreachable, unreachable);
        match (before.is_empty(), self.unreachable.is_empty()) {
            (true, false) => {
                self.stories.extend(self.reach().map(|message| Happening::EndpointsUnreachable { message }));
            }
            (false, true) => self.stories.push(Happening::EndpointsReachable),
            (true, true) | (false, false) => {}
        }
    }

    /// What is to be said of replicas that cannot be connected to.
    pub(super) fn reach(&self) -> Option<String> {
        let count = self.unreachable.len();
        let named: Vec<String> = self.unreachable.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        let more = if count > NAMED_MAX { format!(" and {} more", count - NAMED_MAX) } else { String::new() };
        (count > 0).then(|| {
            format!(
                "activators cannot connect to {}{more}, which the platform calls ready ({count} of {} replicas): does a \
                 NetworkPolicy keep the activators from these pods, does a mesh take connections with mutual TLS only, or, with \
                 kpa.dev/backend-tls, does their certificate not pass (the activators' log says why)?",
                named.join(", "),
                self.ready.get().max(u32::try_from(count).unwrap_or(u32::MAX)),
            )
        })
    }
}
