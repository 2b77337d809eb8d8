//! Everything the brain can react to, and everything it can ask for.
//!
//! Invariant: the two enums are closed and complete; nothing else goes in or out.

use domain::{Change, EndpointId, Frame, Millis, Replicas, ReporterId, RevisionId, Row, ScaleTargetRef, Why};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The platform changed.
    Change(Change),
    /// A part of a frame arrived.
    Frame(FrameChunk),
    /// Whether this process may act now; without it the brain decides silently.
    Leadership(bool),
    /// Sent every 100 ms; which revisions are due follows from `now`.
    Tick,
    /// A [`Command::Scale`] was carried out, or not.
    ScaleDone {
        /// Whose.
        revision: RevisionId,
        /// The count that was asked for: another one may have been ordered meanwhile.
        to: Replicas,
        /// How it ended.
        result: ScaleOutcome,
    },
}

/// How a scale call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScaleOutcome {
    /// The platform accepted it.
    Accepted,
    /// Somebody else wrote the count first; the next change shows theirs.
    Changed {
        /// The count that was found.
        now: Replicas,
    },
    /// It was not carried out; it is asked for again while it is still wanted.
    Failed {
        /// A sentence for people.
        message: String,
    },
}

/// The part of a frame that is common to all its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHeader {
    /// Who reports.
    pub reporter: ReporterId,
    /// Which life of it.
    pub boot: u64,
    /// The number of its latest one-second tick.
    pub tick: u64,
    /// Grows by one with every frame of a boot.
    pub seq: u64,
    /// Its clock at the reading, since its boot.
    pub at: Millis,
    /// It is about to stop; its counts are final.
    pub leaving: bool,
    /// It takes no new requests any more.
    pub draining: bool,
    /// Which sharing it goes by.
    pub sharing: Option<u64>,
    /// Sent between ticks; makes no sample.
    pub urgent: bool,
    /// Carries a row for every revision it ever counted.
    pub complete: bool,
}

/// At most [`FrameChunk::ROWS_MAX`] rows of a frame, so that a large frame never delays an urgent one.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameChunk {
    /// The same in every chunk of a frame.
    pub header: FrameHeader,
    /// Some of the rows.
    pub rows: Vec<Row>,
    /// Numbers introduced for revisions; in the first chunk.
    pub names: Vec<(u32, RevisionId)>,
    /// The last chunk of its frame.
    pub last: bool,
}

impl FrameChunk {
    /// Most rows in a chunk.
    pub const ROWS_MAX: usize = 512;

    /// Cuts `frame` into chunks; at least one, even without rows.
    #[must_use]
    pub fn split(frame: Frame) -> Vec<Self> {
        let Frame {
            v: _,
            reporter,
            boot,
            tick,
            seq,
            at,
            leaving,
            draining,
            sharing,
            urgent,
            complete,
            mut names,
            rows,
        } = frame;
        let header = FrameHeader { reporter, boot, tick, seq, at, leaving, draining, sharing, urgent, complete };
        let count = rows.len().div_ceil(Self::ROWS_MAX).max(1);
        let mut rows = rows.into_iter();
        (1..=count)
            .map(|number| Self {
                header: header.clone(),
                rows: rows.by_ref().take(Self::ROWS_MAX).collect(),
                names: std::mem::take(&mut names),
                last: number == count,
            })
            .collect()
    }
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Ask the platform for another count. A later one for the same revision replaces an earlier one; `to` may equal
    /// `from`, which takes back one that is still under way.
    Scale {
        /// Whose.
        revision: RevisionId,
        /// What is written.
        target: ScaleTargetRef,
        /// The count the decision was made from: what a lowering must still find.
        from: Replicas,
        /// The count that is wanted.
        to: Replicas,
        /// The replicas that shall leave, where the platform can choose. Drained already.
        remove_first: Vec<EndpointId>,
        /// Why.
        why: Arc<Why>,
    },
    /// A line of the calm human log.
    Tell(Story),
}

/// What happened to a revision, or to the whole, in one line for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Whose; `None` when it concerns all.
    pub revision: Option<RevisionId>,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Happening {
    /// A request came for a revision at zero.
    Woken,
    /// Its first replica is ready.
    Ready {
        /// Since it was woken.
        after: Duration,
    },
    /// Another count was asked for.
    Scaled {
        /// The count before.
        from: Replicas,
        /// The count now.
        to: Replicas,
        /// Why.
        why: Arc<Why>,
    },
    /// Its last replica was told to leave.
    Asleep,
    /// It waits for a slot of its exclusive group, or makes room in it.
    Exclusive {
        /// A sentence that names the group and the others.
        standing: String,
    },
    /// No replica became ready in time.
    StartFailed {
        /// Why, as far as the platform knows.
        reason: String,
        /// When the next start may be tried.
        retry_after: Duration,
    },
    /// An activator that should report is silent: nothing it carried shrinks.
    CoveragePartial {
        /// Which one.
        reporter: ReporterId,
    },
    /// Every activator that should report does.
    CoverageFull,
    /// No activator is listed: nothing shrinks.
    NoReporters,
    /// A leaving replica still had requests when its drain timeout passed.
    DrainTimedOut {
        /// Which one.
        endpoint: EndpointId,
        /// Requests it still had.
        load: u32,
    },
    /// Activators cannot connect to replicas that the platform calls ready (kpa-behaviour 11.3).
    EndpointsUnreachable {
        /// Which, and where to look.
        message: String,
    },
    /// They can again.
    EndpointsReachable,
    /// Somebody else wrote the count (kpa-behaviour 1.9).
    WrittenByHand {
        /// Who, as far as the platform knows.
        by: Arc<str>,
        /// The count before.
        from: Replicas,
        /// The count that was written.
        to: Replicas,
        /// What happens now, as part of a sentence.
        next: String,
    },
    /// Something that a person should look at.
    Problem {
        /// A sentence.
        message: String,
    },
}

impl Happening {
    /// Whether somebody may have to do something about it.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        match self {
            Self::Woken
            | Self::Ready { .. }
            | Self::Scaled { .. }
            | Self::Asleep
            | Self::Exclusive { .. }
            | Self::EndpointsReachable
            | Self::CoverageFull => false,
            Self::StartFailed { .. }
            | Self::CoveragePartial { .. }
            | Self::NoReporters
            | Self::DrainTimedOut { .. }
            | Self::EndpointsUnreachable { .. }
            | Self::WrittenByHand { .. }
            | Self::Problem { .. } => true,
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Woken => f.write_str("woken by a request"),
            Self::Ready { after } => write!(f, "ready in {:.1} s", after.as_secs_f64()),
            Self::Scaled { from, to, why } => write!(f, "scaled {from} -> {to} because {why}"),
            Self::Asleep => f.write_str("asleep"),
            Self::Exclusive { standing } => f.write_str(standing),
            Self::StartFailed { reason, retry_after } => {
                write!(f, "start failed: {reason}; next try in {:.0} s", retry_after.as_secs_f64())
            }
            Self::CoveragePartial { reporter } => {
                write!(f, "activator {reporter} is silent; what it carried does not shrink")
            }
            Self::CoverageFull => f.write_str("all activators report"),
            Self::NoReporters => f.write_str("no activator is listed; nothing shrinks"),
            Self::DrainTimedOut { endpoint, load } => {
                write!(f, "replica {endpoint} still had {load} requests when its drain timeout passed")
            }
            Self::EndpointsUnreachable { message } => f.write_str(message),
            Self::EndpointsReachable => f.write_str("activators can connect to every ready replica again"),
            Self::WrittenByHand { by, from, to, next } => {
                write!(f, "{by} wrote {to} replicas where there were {from}: {next}")
            }
            Self::Problem { message } => f.write_str(message),
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{revision}: {}", self.what),
            None => self.what.fmt(f),
        }
    }
}

/// What differs between the places where a brain lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrainSettings {
    /// Objects that the first listing shows are new, not left over from an earlier life: their `initial-scale` applies.
    /// True where the platform starts together with the autoscaler. Default false.
    pub first_listing_is_new: bool,
    /// A workload that never received a request through an activator is not scaled down unless min-scale is written on
    /// it (kpa-behaviour 1.7). True on a cluster, where Services may bypass us. Default false.
    pub unseen_traffic_holds: bool,
    /// Bytes of history, over all revisions (kpa-behaviour 5.8). Default 64 MiB.
    pub history_bytes: usize,
}

impl Default for BrainSettings {
    fn default() -> Self {
        Self { first_listing_is_new: false, unseen_traffic_holds: false, history_bytes: 64 * 1024 * 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_into_bounded_chunks() {
        let rows = |count: u32| (0..count).map(|n| Row { n, ..Row::default() }).collect::<Vec<_>>();
        let frame = |count| Frame {
            v: 1,
            reporter: ReporterId::new("a"),
            boot: 1,
            tick: 1,
            seq: 1,
            at: Millis(1),
            leaving: false,
            draining: false,
            sharing: None,
            urgent: false,
            complete: false,
            names: vec![(0, RevisionId::new("d", "m"))],
            rows: rows(count),
        };
        for (count, sizes) in [(0, vec![0]), (1, vec![1]), (512, vec![512]), (1025, vec![512, 512, 1])] {
            let chunks = FrameChunk::split(frame(count));
            assert_eq!(chunks.iter().map(|chunk| chunk.rows.len()).collect::<Vec<_>>(), sizes);
            assert_eq!(chunks.iter().map(|chunk| chunk.names.len()).sum::<usize>(), 1);
            assert_eq!(chunks.iter().filter(|chunk| chunk.last).count(), 1);
            assert!(chunks.last().unwrap().last && chunks[0].names.len() == 1);
        }
    }
}
