//! Everything that can go wrong with a request, closed: status, code, retry advice and metric label stand in one place.
//!
//! Invariant: a client never sees internal text; a new variant does not compile until its rules are written here.

use crate::bounds::Limit;
use crate::tls::fault::Fault;
use std::sync::Arc;
use std::time::Duration;

/// Why a request got no answer from a replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The table of revisions is not filled yet.
    #[error("this activator is starting and does not know its services yet")]
    NotSynced,
    /// No revision has this host.
    #[error("no service is named {host:?}{}", did_you_mean(.similar))]
    UnknownHost {
        /// What the client asked for, shortened.
        host: Box<str>,
        /// What could have been meant.
        similar: Box<[String]>,
    },
    /// The host is known, and nobody has this path of it.
    #[error("no service at {host:?} takes this path{}", its_paths(.prefixes))]
    UnknownPath {
        /// What the client asked for, shortened.
        host: Box<str>,
        /// Prefixes that somebody has.
        prefixes: Box<[String]>,
    },
    /// A program of ours named a revision that does not exist.
    #[error("no service is called {0:?}")]
    UnknownRevision(Box<str>),
    /// The target's scheme cannot be served on this connection.
    #[error("this connection has no TLS: http is served on it, and https only for peers in trusted-proxies")]
    Misdirected,
    /// The request is malformed or contradicts itself.
    #[error("{0}")]
    BadRequest(&'static str),
    /// CONNECT and TRACE are not proxied.
    #[error("this method is not proxied")]
    MethodRefused,
    /// The target is too long.
    #[error("the target has {0} bytes; {max} may be", max = crate::URI_BYTES_MAX)]
    UriTooLong(usize),
    /// The head has too many fields.
    #[error("the head has {0} fields; {max} may be", max = crate::HEADERS_MAX)]
    TooManyFields(usize),
    /// The head is too long.
    #[error("the head is longer than {max} bytes", max = crate::HEAD_BYTES_MAX)]
    HeadTooLarge,
    /// The queue is full.
    #[error("{0} requests are waiting already, which is the limit (kpa.dev/queue-depth)")]
    QueueFull(u32),
    /// One service may not hold more than half of what may be held.
    #[error("{0} requests are waiting for this service, which is half of what may wait in all (max-held-requests)")]
    HeldShareFull(u64),
    /// Too many wait over all services.
    #[error("{0} requests are waiting for services, which is the limit (max-held-requests)")]
    HeldRequestsFull(u64),
    /// Those that wait have too much with them.
    #[error("the bodies of waiting requests take up as much memory as they may (max-held-bytes: {0})")]
    HeldBytesFull(u64),
    /// It waited too long for a replica.
    #[error("no replica had room for {0:?} (kpa.dev/queue-timeout)")]
    QueueTimeout(Duration),
    /// The service could not be started.
    #[error("the service could not be started: {reason}")]
    StartFailed {
        /// Why.
        reason: Arc<str>,
        /// When another try makes sense.
        retry_after: Duration,
    },
    /// Nothing is ready, and this request may not wake anything.
    #[error("no replica is ready")]
    NoCapacity,
    /// It says that another activator of ours sends it, and nothing is known of that.
    #[error("no slot is kept for this request (x-kpa-claim is for activators)")]
    ClaimUnknown,
    /// The replica could not be reached.
    #[error("no replica could be reached")]
    Unreachable,
    /// The replica could not be reached over TLS.
    #[error("no replica could be reached over TLS: {}", .0.of_replica())]
    BackendTls(Fault),
    /// The replica broke the exchange.
    #[error("the replica closed the connection before it answered")]
    Broken,
    /// The replica said nothing in time.
    #[error("the replica sent no answer within {0:?} (kpa.dev/response-start-timeout)")]
    ResponseStartTimeout(Duration),
    /// The whole exchange took too long.
    #[error("the request took longer than {0:?} (kpa.dev/timeout)")]
    Timeout(Duration),
    /// The client stopped sending.
    #[error("the request body stalled for longer than {0:?} (kpa.dev/idle-timeout)")]
    RequestStalled(Duration),
    /// The client left.
    #[error("the client left")]
    ClientGone,
    /// A defect of ours.
    #[error("the proxy failed on this request")]
    Internal,
}

fn did_you_mean(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!("; did you mean {}?", similar.join(" or ")) }
}

fn its_paths(prefixes: &[String]) -> String {
    if prefixes.is_empty() { String::new() } else { format!("; it is divided by path: {}", prefixes.join(", ")) }
}

/// What an error answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Stable word for machines, also the metric label.
    pub code: &'static str,
    /// gRPC status number for callers that speak it.
    pub grpc: u8,
    /// Seconds after which waiting helps.
    pub retry_after_s: Option<u64>,
}

/// When to ask again for a service that nobody has said anything about.
const RETRY_START: Duration = Duration::from_secs(1);

impl RequestError {
    /// The code of [`Self::ClaimUnknown`], which activators understand among themselves.
    pub const CLAIM_UNKNOWN: &str = "claim_unknown";

    /// No replica answered within `start_deadline`; `trouble` is what the platform says about it.
    #[must_use]
    pub fn not_started(start_deadline: Duration, trouble: Option<&str>) -> Self {
        let mut reason = format!("no replica was ready within {start_deadline:?} (kpa.dev/start-deadline)");
        if let Some(trouble) = trouble {
            reason.push_str("; ");
            reason.push_str(trouble);
        }
        Self::StartFailed { reason: reason.into(), retry_after: RETRY_START }
    }

    /// The one table of statuses, codes and advice.
    #[must_use]
    pub fn reply(&self) -> Reply {
        const UNAVAILABLE: u8 = 14;
        const DEADLINE: u8 = 4;
        let reply = |status, code, grpc, retry_after_s| Reply { status, code, grpc, retry_after_s };
        match self {
            Self::NotSynced => reply(503, "starting", UNAVAILABLE, Some(1)),
            Self::UnknownHost { .. } => reply(404, "unknown_host", 12, None),
            Self::UnknownPath { .. } => reply(404, "unknown_path", 12, None),
            Self::UnknownRevision(_) => reply(404, "unknown_revision", 12, None),
            Self::Misdirected => reply(421, "misdirected", 3, None),
            Self::BadRequest(_) => reply(400, "bad_request", 3, None),
            Self::MethodRefused => reply(405, "method_refused", 12, None),
            Self::UriTooLong(_) => reply(414, "uri_too_long", 3, None),
            Self::TooManyFields(_) => reply(431, "too_many_fields", 3, None),
            Self::HeadTooLarge => reply(431, "head_too_large", 3, None),
            Self::QueueFull(_) => reply(503, "queue_full", UNAVAILABLE, Some(1)),
            Self::HeldShareFull(_) => reply(503, "held_share_full", UNAVAILABLE, Some(1)),
            Self::HeldRequestsFull(_) => reply(503, "held_requests_full", UNAVAILABLE, Some(1)),
            Self::HeldBytesFull(_) => reply(503, "held_bytes_full", UNAVAILABLE, Some(1)),
            Self::QueueTimeout(_) => reply(503, "queue_timeout", UNAVAILABLE, Some(1)),
            Self::StartFailed { retry_after, .. } => {
                reply(503, "start_failed", UNAVAILABLE, Some(retry_after.as_secs().max(1)))
            }
            Self::NoCapacity => reply(503, "no_capacity", UNAVAILABLE, Some(1)),
            Self::ClaimUnknown => reply(503, Self::CLAIM_UNKNOWN, UNAVAILABLE, Some(1)),
            Self::Unreachable => reply(502, "unreachable", UNAVAILABLE, None),
            Self::BackendTls(_) => reply(502, "backend_tls", UNAVAILABLE, None),
            Self::Broken => reply(502, "broken", UNAVAILABLE, None),
            Self::ResponseStartTimeout(_) => reply(504, "response_start_timeout", DEADLINE, None),
            Self::Timeout(_) => reply(504, "timeout", DEADLINE, None),
            Self::RequestStalled(_) => reply(408, "request_stalled", DEADLINE, None),
            Self::ClientGone => reply(499, "client_gone", 1, None),
            Self::Internal => reply(500, "internal", 13, None),
        }
    }

    /// The limit that was reached.
    #[must_use]
    pub const fn limit(&self) -> Option<Limit> {
        match self {
            Self::UriTooLong(_) => Some(Limit::UriLength),
            Self::TooManyFields(_) | Self::HeadTooLarge => Some(Limit::HeadSize),
            Self::QueueFull(_) => Some(Limit::QueueDepth),
            Self::HeldShareFull(_) => Some(Limit::HeldShare),
            Self::HeldRequestsFull(_) => Some(Limit::HeldRequests),
            Self::HeldBytesFull(_) => Some(Limit::HeldBytes),
            Self::RequestStalled(_) => Some(Limit::SlowBody),
            Self::NotSynced
            | Self::UnknownHost { .. }
            | Self::UnknownPath { .. }
            | Self::UnknownRevision(_)
            | Self::Misdirected
            | Self::BadRequest(_)
            | Self::MethodRefused
            | Self::QueueTimeout(_)
            | Self::StartFailed { .. }
            | Self::NoCapacity
            | Self::ClaimUnknown
            | Self::Unreachable
            | Self::BackendTls(_)
            | Self::Broken
            | Self::ResponseStartTimeout(_)
            | Self::Timeout(_)
            | Self::ClientGone
            | Self::Internal => None,
        }
    }

    /// How this ending is counted.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::NotSynced | Self::NoCapacity | Self::ClaimUnknown => Outcome::NoCapacity,
            Self::UnknownHost { .. }
            | Self::UnknownPath { .. }
            | Self::UnknownRevision(_)
            | Self::Misdirected
            | Self::BadRequest(_)
            | Self::UriTooLong(_)
            | Self::TooManyFields(_)
            | Self::HeadTooLarge
            | Self::MethodRefused => Outcome::BadRequest,
            Self::QueueFull(_) | Self::HeldShareFull(_) | Self::HeldRequestsFull(_) | Self::HeldBytesFull(_) => {
                Outcome::QueueFull
            }
            Self::QueueTimeout(_) => Outcome::QueueTimeout,
            Self::StartFailed { .. } => Outcome::StartFailed,
            Self::Unreachable | Self::BackendTls(_) => Outcome::Unreachable,
            Self::Broken => Outcome::Broken,
            Self::ResponseStartTimeout(_) | Self::Timeout(_) | Self::RequestStalled(_) => Outcome::Timeout,
            Self::ClientGone => Outcome::ClientGone,
            Self::Internal => Outcome::Internal,
        }
    }
}

/// How an exchange ended, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// The replica answered 1xx.
    Informational,
    /// The replica answered 2xx.
    Success,
    /// The replica answered 3xx.
    Redirection,
    /// The replica answered 4xx.
    ClientError,
    /// The replica answered 5xx.
    ServerError,
    /// Refused by us: malformed.
    BadRequest,
    /// Refused by us: queue full.
    QueueFull,
    /// Refused by us: waited too long.
    QueueTimeout,
    /// Refused by us: the start failed.
    StartFailed,
    /// Refused by us: nothing ready.
    NoCapacity,
    /// No replica could be reached.
    Unreachable,
    /// The replica broke the exchange.
    Broken,
    /// A clock ran out.
    Timeout,
    /// The client left before the answer.
    ClientGone,
    /// A defect of ours.
    Internal,
}

impl Outcome {
    /// How many there are.
    pub const COUNT: usize = 15;

    /// Every outcome, by index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::BadRequest,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::StartFailed,
        Self::NoCapacity,
        Self::Unreachable,
        Self::Broken,
        Self::Timeout,
        Self::ClientGone,
        Self::Internal,
    ];

    /// Its place in a table of counts.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The outcome of an answer that a replica gave.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::BadRequest => "bad_request",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::StartFailed => "start_failed",
            Self::NoCapacity => "no_capacity",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::ClientGone => "client_gone",
            Self::Internal => "internal",
        }
    }
}

/// Whether an exchange that failed may be tried again (kpa-behaviour 4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// The replica never had the request: any method, another replica, its place in the queue kept.
    NotSent,
    /// A reused connection died before any byte of an answer, and the request can be sent again unchanged: once.
    Replay,
    /// It may have been executed: 502.
    Never,
}

/// The one function that decides about retries.
///
/// `message_returned`: hyper gave the request back, so not a byte of it was written. `reused`: the connection had carried
/// a request before. `answer_begun`: some byte of an answer arrived. `repeatable`: the method is idempotent or the
/// client sent an Idempotency-Key, and the whole body is at hand.
#[must_use]
pub const fn retry_class(message_returned: bool, reused: bool, answer_begun: bool, repeatable: bool) -> RetryClass {
    if message_returned {
        RetryClass::NotSent
    } else if reused && !answer_begun && repeatable {
        RetryClass::Replay
    } else {
        RetryClass::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_stand_where_their_index_says() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index);
        }
    }

    #[test]
    fn only_what_was_never_executed_is_tried_again() {
        use RetryClass::{Never, NotSent, Replay};
        for (returned, reused, begun, repeatable, class) in [
            (true, true, false, false, NotSent),
            (true, false, false, true, NotSent),
            (false, true, false, true, Replay),
            (false, true, false, false, Never),
            (false, false, false, true, Never),
            (false, true, true, true, Never),
        ] {
            assert_eq!(retry_class(returned, reused, begun, repeatable), class);
        }
    }

    #[test]
    fn a_client_is_told_when_waiting_helps() {
        let failed = RequestError::StartFailed { reason: "no such file".into(), retry_after: Duration::from_secs(20) };
        assert_eq!((failed.reply().status, failed.reply().retry_after_s), (503, Some(20)));
        assert_eq!(RequestError::Broken.reply().retry_after_s, None);
    }
}
