//! A revision's state as a person sees it.
//!
//! Invariant: only reads.

use super::{Context, Scaled};
use crate::status::{Activity, Numbers, RevisionStatus, settings};
use domain::why::{Hold, Idleness, Trigger};
use domain::{Mode, Refusal, Replicas, Signal, SignalSpec, Timestamp, Why};

impl Scaled {
    pub(crate) fn status(&self, context: Context<'_>) -> RevisionStatus {
        let (now, revision) = (context.now, &self.revision);
        let load = self.load(context);
        let seconds_until = |at: Timestamp| at.since(now).as_secs_f64();
        RevisionStatus {
            id: revision.id.clone(),
            name: revision.id.name().to_owned(),
            namespace: revision.id.namespace().to_owned(),
            reference: revision.target.to_string(),
            targets: revision.scaling.signals.iter().map(|signal| self.target(signal)).collect::<Vec<_>>().join(", "),
            min_pods: *revision.scaling.min_scale,
            max_pods: *revision.scaling.max_scale,
            replicas: self.requested,
            age_seconds: now.since(self.first_seen).as_secs(),
            ready: self.ready,
            mode: self.activity(),
            in_flight: load.in_flight,
            queued: load.queued,
            reason: self.reason(),
            wanted: self.wanted(),
            management: revision.mode.clone(),
            last_decision: self.why,
            panicking_seconds: self.memory.panic_since.map(|since| now.since(since).as_secs_f64()),
            draining: self.drain.iter().flat_map(|drain| drain.victims().cloned()).collect(),
            retry_after_seconds: self.idle.retry_at().map(seconds_until),
            settings: settings(&revision.scaling, &revision.limits),
            problems: revision.problems.clone(),
            trouble: self.trouble.clone(),
            conditions: self.conditions(context),
        }
    }

    pub(crate) fn numbers(&self, context: Context<'_>) -> Numbers {
        let load = self.load(context);
        Numbers {
            id: self.revision.id.clone(),
            wanted: self.wanted(),
            requested: self.requested,
            ready: self.ready,
            draining: self.drain.iter().flat_map(|drain| drain.victims()).count(),
            in_flight: load.in_flight,
            queued: load.queued,
            mode: self.activity(),
            problems: self.revision.problems.len(),
        }
    }

    fn wanted(&self) -> Replicas {
        self.why.map_or(self.requested, |why| why.replicas)
    }

    /// Its start failed: the reason, and when the next may be tried.
    pub(crate) fn start_failure(&self) -> Option<(String, Timestamp)> {
        let until = self.idle.retry_at()?;
        let reason = match &self.trouble {
            Some(trouble) => format!("{}: {}", trouble.reason, trouble.message),
            None => "no replica became ready within the start deadline".to_owned(),
        };
        Some((reason, until))
    }

    #[cfg(test)]
    pub(crate) const fn memory(&self) -> crate::decide::Memory {
        self.memory
    }

    /// The average of one ready replica over its target, as `kubectl get hpa` shows it.
    fn target(&self, signal: &SignalSpec) -> String {
        let number = |value: f64| format!("{}", (value * 100.0).round() / 100.0);
        let reading = self.why.and_then(|why| {
            let demand = why.demand?.stable;
            (demand.signal == signal.signal).then(|| demand.reading / f64::from(why.ready.get().max(1)))
        });
        let unit = match signal.signal {
            Signal::Concurrency => "",
            Signal::Rps => " rps",
            Signal::Cpu => "% cpu",
            Signal::Memory => "Mi",
        };
        format!("{}/{}{unit}", reading.map_or_else(|| "<unknown>".to_owned(), number), number(signal.target()))
    }

    fn activity(&self) -> Activity {
        match &self.revision.mode {
            Mode::Paused => return Activity::Paused,
            Mode::Shadow => return Activity::Shadow,
            Mode::Refused(Refusal::Released) => return Activity::Released,
            Mode::Refused(_) => return Activity::Refused,
            Mode::Invalid(_) => return Activity::Invalid,
            Mode::Removed => return Activity::Removed,
            Mode::Act if self.waits_for_a_slot() => return Activity::Waiting,
            Mode::Act => {}
        }
        let Some(why) = &self.why else { return Activity::Holding };
        match why.idleness {
            _ if why.hold == Some(Hold::WrittenByHand) => Activity::Held,
            Idleness::Failed { .. } => Activity::StartFailed,
            Idleness::Asleep if why.replicas.is_zero() => Activity::Asleep,
            Idleness::Asleep | Idleness::Starting => Activity::Starting,
            _ if self.drain.as_ref().is_some_and(|drain| drain.to() < self.requested) => Activity::Draining,
            _ if why.panic.panicking() => Activity::Panic,
            _ if why.hold == Some(Hold::WokenByHand) && why.desired < Some(self.requested) => Activity::Held,
            _ if why.hold.is_some() && why.desired.is_none_or(|desired| desired < self.requested) => Activity::Holding,
            Idleness::Young { .. } | Idleness::Retained { .. } | Idleness::Spent
                if why.desired == Some(Replicas::ZERO) =>
            {
                Activity::Idle
            }
            Idleness::Young { .. } | Idleness::Retained { .. } | Idleness::Spent => Activity::Stable,
        }
    }

    fn reason(&self) -> String {
        match (&self.why, &self.trouble) {
            (_, Some(trouble)) if self.ready.is_zero() && !self.requested.is_zero() => {
                format!("{}: {}", trouble.reason, trouble.message)
            }
            _ if let Some(share) = self.standing() => share.to_string(),
            (Some(Why { idleness: Idleness::Asleep, trigger, replicas, .. }), _)
                if replicas.is_zero() && *trigger != Trigger::Wake =>
            {
                "no requests".to_owned()
            }
            (Some(why), _) => why.to_string(),
            (None, _) => "the platform has not told its counts yet".to_owned(),
        }
    }
}
