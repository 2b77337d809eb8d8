//! Which replicas are this activator's to use, where their concurrency is limited (kpa-behaviour 4.10).
//!
//! Invariant: of the activators that follow the same acting autoscaler, at most one is allowed a replica at any time: what
//! is given up is given up at once, what is taken is taken only when everybody has given up.

use domain::{EndpointId, ReporterId, Sharing};
use std::sync::Arc;

/// This activator's part of the limited replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Everything: it shares with nobody, or nobody says how.
    All,
    /// Nothing yet: it has been told nothing.
    Nothing,
    /// What hashing gives it among `members`.
    Of {
        /// This activator.
        own: ReporterId,
        /// Those that share.
        members: Arc<[ReporterId]>,
        /// Everybody goes by `members`.
        settled: bool,
    },
}

impl Part {
    /// Whether a replica may be used now by one who was allowed it `before` or not; `held` is one that still carries
    /// requests of an activator that gave it up.
    #[must_use]
    pub fn allows(&self, endpoint: &EndpointId, before: bool, held: bool) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Of { own, members, settled } => {
                Sharing::owner(members, endpoint) == Some(own) && (before || *settled && !held)
            }
        }
    }

    /// The other activator whose `endpoint` is.
    #[must_use]
    pub fn other_owner(&self, endpoint: &EndpointId) -> Option<&ReporterId> {
        match self {
            Self::All | Self::Nothing => None,
            Self::Of { own, members, .. } => Sharing::owner(members, endpoint).filter(|owner| *owner != own),
        }
    }

    /// What autoscalers are told that it goes by.
    #[must_use]
    pub fn fingerprint(&self) -> Option<u64> {
        match self {
            Self::All | Self::Nothing => None,
            Self::Of { members, .. } => Some(Sharing::fingerprint(members)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(own: &str, members: &[&str], settled: bool) -> Part {
        let members = members.iter().map(|member| ReporterId::new(member)).collect();
        Part::Of { own: ReporterId::new(own), members, settled }
    }

    #[test]
    fn what_is_not_ones_own_is_given_up_at_once_and_what_is_is_taken_when_all_is_settled() {
        let endpoints: Vec<_> = (0..50).map(|n| EndpointId::new(&format!("r-{n}"))).collect();
        let owned = |part: &Part, before, held| -> Vec<&EndpointId> {
            endpoints.iter().filter(|endpoint| part.allows(endpoint, before, held)).collect()
        };
        let (a, b) = (of("a", &["a", "b"], true), of("b", &["a", "b"], true));
        for endpoint in &endpoints {
            assert!(a.allows(endpoint, false, false) != b.allows(endpoint, false, false));
        }
        assert_eq!(owned(&a, false, true), Vec::<&EndpointId>::new(), "held by who had it before");
        assert_eq!(owned(&a, true, true).len(), owned(&a, true, false).len(), "it was its own all the time");
        let unsettled = of("a", &["a", "b"], false);
        assert_eq!(owned(&unsettled, false, false), Vec::<&EndpointId>::new());
        assert_eq!(owned(&unsettled, true, false), owned(&a, false, false));
        assert_eq!(owned(&of("c", &["a", "b"], true), true, false), Vec::<&EndpointId>::new(), "no member");
        assert_eq!((owned(&Part::All, false, true).len(), owned(&Part::Nothing, true, false).len()), (50, 0));
    }

    #[test]
    fn the_others_are_known() {
        let part = of("a", &["a", "b"], true);
        for n in 0..20 {
            let endpoint = EndpointId::new(&format!("r-{n}"));
            let other = part.other_owner(&endpoint).map(ReporterId::as_str);
            assert_eq!(other, (!part.allows(&endpoint, false, false)).then_some("b"));
        }
        assert_eq!(part.fingerprint(), of("b", &["a", "b"], false).fingerprint());
        assert_eq!((Part::All.fingerprint(), Part::Nothing.fingerprint()), (None, None));
    }
}
