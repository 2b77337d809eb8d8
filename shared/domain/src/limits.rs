//! What the activator enforces for one revision: kpa-behaviour section 2, resolved.

use crate::affinity::SessionAffinity;
use crate::origin::Resolved;
use crate::pem::Certificates;
use crate::revision::UnknownWord;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// Every per-revision setting of the request path, with its origin. Annotation keys carry the prefix `kpa.dev/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// `container-concurrency`: requests one replica may run at once. Default none (annotation value 0).
    pub container_concurrency: Resolved<Option<NonZeroU32>>,
    /// `protocol` to the replica. Default `auto`.
    pub protocol: Resolved<Protocol>,
    /// `queue-depth`: held requests; beyond: 503 `queue_full`. Default 10 000.
    pub queue_depth: Resolved<u32>,
    /// `queue-timeout`: how long a request may wait for a warm service. Default 60 s.
    pub queue_timeout: Resolved<Duration>,
    /// `start-deadline`: how long a cold start may take. Default 30 min.
    pub start_deadline: Resolved<Duration>,
    /// `connect-timeout` to a replica. Default 1 s.
    pub connect_timeout: Resolved<Duration>,
    /// `upstream-idle-timeout`: an idle connection to a replica is closed after this. Default 1.5 s.
    pub upstream_idle_timeout: Resolved<Duration>,
    /// `on-disconnect`. Default `finish` for container-concurrency 1 to 3, else `cancel`.
    pub on_disconnect: Resolved<OnDisconnect>,
    /// `response-start-timeout`: dispatch to first byte, then 504. Default off.
    pub response_start_timeout: Resolved<Option<Duration>>,
    /// `idle-timeout`: silence between bytes, either direction. Default off.
    pub idle_timeout: Resolved<Option<Duration>>,
    /// `timeout`: the whole exchange. Default off (Knative: 300 s).
    pub timeout: Resolved<Option<Duration>>,
    /// `drain-timeout`: how long a leaving replica may finish what it has. Default 1 h.
    pub drain_timeout: Resolved<Duration>,
    /// `load-balancing`. Default least-outstanding.
    pub load_balancing: Resolved<LoadBalancing>,
    /// `session-affinity`: requests that carry the same value go to the same replica while it has room. Default none.
    #[serde(default)]
    pub session_affinity: Resolved<Option<SessionAffinity>>,
    /// `backend-tls`: replicas are reached over TLS. Default false.
    #[serde(default)]
    pub backend_tls: Resolved<bool>,
    /// `backend-ca`: roots that a replica's certificate has to lead to. Default those of the activator's `--backend-ca`.
    #[serde(default)]
    pub backend_ca: Resolved<Option<Certificates>>,
    /// `backend-server-name`: whose a replica's certificate has to be. Default `<service>.<namespace>`.
    #[serde(default)]
    pub backend_server_name: Resolved<Option<String>>,
}

impl Default for Limits {
    fn default() -> Self {
        let default = Resolved::default_value;
        Self {
            container_concurrency: Resolved::default_value(None),
            protocol: Resolved::default_value(Protocol::Auto),
            queue_depth: Resolved::default_value(10_000),
            queue_timeout: default(Duration::from_secs(60)),
            start_deadline: default(Duration::from_secs(30 * 60)),
            connect_timeout: default(Duration::from_secs(1)),
            upstream_idle_timeout: default(Duration::from_millis(1500)),
            on_disconnect: Resolved::default_value(OnDisconnect::Cancel),
            response_start_timeout: Resolved::default_value(None),
            idle_timeout: Resolved::default_value(None),
            timeout: Resolved::default_value(None),
            drain_timeout: default(Duration::from_secs(3600)),
            load_balancing: Resolved::default_value(LoadBalancing::LeastOutstanding),
            session_affinity: Resolved::default_value(None),
            backend_tls: Resolved::default_value(false),
            backend_ca: Resolved::default_value(None),
            backend_server_name: Resolved::default_value(None),
        }
    }
}

/// Defines a closed list of words that round-trips through `FromStr` and `Display`.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? } $expected:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every word, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it is written in an annotation.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word { $($word => Ok(Self::$variant),)+ _ => Err(UnknownWord { expected: $expected }) }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What is spoken to the replica.
    Protocol {
        /// As the client came: HTTP/1.1 or HTTP/2. HTTP/2 that a client agreed on with us behind TLS counts for gRPC only.
        #[default]
        Auto = "auto",
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2 over cleartext, by prior knowledge (RFC 9113 section 3.3), or over TLS where `backend-tls` says so.
        H2c = "h2c",
    }
    "auto, http1, h2c"
}

words! {
    /// What happens to the work of a client that leaves early (kpa-behaviour 2).
    OnDisconnect {
        /// The answer is read to its end before the slot falls.
        Finish = "finish",
        /// The upstream connection is half-closed; the slot falls when the backend closes its side, or after 5 s.
        #[default]
        Cancel = "cancel",
    }
    "finish, cancel"
}

words! {
    /// How a replica is chosen among those with room.
    LoadBalancing {
        /// Fewest requests in flight: by scan up to 256 replicas, by two choices beyond.
        #[default]
        LeastOutstanding = "least-outstanding",
        /// The first in address order with room: packs, leaves the tail idle.
        FirstAvailable = "first-available",
        /// One after the other.
        RoundRobin = "round-robin",
        /// The better of two random ones.
        PowerOfTwo = "power-of-two",
    }
    "least-outstanding, first-available, round-robin, power-of-two"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for word in LoadBalancing::ALL {
            assert_eq!(word.as_str().parse(), Ok(*word));
        }
        for word in Protocol::ALL {
            assert_eq!(word.as_str().parse(), Ok(*word));
        }
        assert!("Finish".parse::<OnDisconnect>().is_err());
    }
}
