//! What is true of a revision and matters, one condition each: the names are those of a HorizontalPodAutoscaler where it
//! has one, so that people and tools know them.
//!
//! Invariant: only reads; a condition has a reason in one word, and a sentence where something is to be done or known.

use super::{Context, Scaled};
use crate::reporters::Coverage;
use crate::status::Condition;
use domain::change::TRAFFIC_NOT_SEEN;
use domain::why::{Hold, Idleness};
use domain::{Foreign, Mode, Refusal, Replicas};

/// One condition: kind, status, reason, message.
fn condition(kind: &'static str, status: bool, reason: impl Into<String>, message: impl Into<String>) -> Condition {
    Condition { kind, status, reason: reason.into(), message: message.into(), since_seconds: None }
}

impl Scaled {
    pub(super) fn conditions(&self, context: Context<'_>) -> Vec<Condition> {
        let mut conditions = vec![
            self.is_ready(),
            self.able_to_scale(),
            self.scaling_active(),
            self.scaling_limited(),
            self.is_covered(context),
        ];
        if let Some((reason, until)) = self.start_failure() {
            let pause = until.since(context.now).as_secs();
            let message = format!("{reason}; the next start may be tried in {pause} s");
            conditions.push(condition("Started", false, "StartFailed", message));
        }
        if let Some(trouble) = &self.trouble {
            conditions.push(condition("Replicas", false, &trouble.reason, &trouble.message));
        }
        if let Some(share) = self.share.as_ref().filter(|share| share.slots < *self.revision.scaling.exclusive_slots) {
            let own = *self.revision.scaling.exclusive_slots;
            let message = format!(
                "another member of group {} says {} slots, this one says {own}: the smallest counts",
                share.group, share.slots
            );
            conditions.push(condition("Slots", false, "Disagree", message));
        }
        if self.blind(context) == Some(Hold::TrafficNotSeen) {
            let message = "no request ever came through an activator, so it is not scaled down; write min-scale to have it \
                           scaled all the same";
            conditions.push(condition(TRAFFIC_NOT_SEEN, true, "NoRequest", message));
        } else if context.settings.unseen_traffic_holds && self.traffic_seen {
            // Where it is published, autoscalers that start later know it from there.
            conditions.push(condition(TRAFFIC_NOT_SEEN, false, "RequestSeen", ""));
        }
        if let Some(message) = self.reach() {
            conditions.push(condition("EndpointsUnreachable", true, "ConnectFailed", message));
        }
        if let Some((reason, message)) = self.manual_standing() {
            conditions.push(condition(Foreign::CONDITION, true, reason, message));
        }
        if let Mode::Refused(Refusal::AnotherAutoscaler(rival)) = &self.revision.mode {
            let message =
                format!("{rival} writes the same count; it is routed and counted, and its replicas are left alone");
            conditions.push(condition("AnotherAutoscaler", true, "Conflict", message));
        }
        conditions
    }

    fn is_ready(&self) -> Condition {
        let ready = |status, reason: &str, message: String| condition("Ready", status, reason, message);
        match (self.requested, self.ready) {
            (Replicas::ZERO, _) => ready(true, "Asleep", "the next request wakes it".into()),
            (requested, Replicas::ZERO) => {
                ready(false, "NoReplicaReady", format!("0 of {requested} replicas are ready"))
            }
            (requested, ready_now) => ready(true, "Serving", format!("{ready_now} of {requested} replicas are ready")),
        }
    }

    fn able_to_scale(&self) -> Condition {
        let able = |status, reason: &str, message: &str| condition("AbleToScale", status, reason, message);
        match &self.revision.mode {
            Mode::Act => match &self.last_error {
                Some(error) => able(false, "FailedUpdateScale", error),
                None => able(true, "ReadyForNewScale", ""),
            },
            Mode::Invalid(_) => {
                able(false, "InvalidSettings", "it may be woken and grown, and does not shrink until corrected")
            }
            Mode::Shadow => able(false, "Shadow", "kpa.dev/mode: shadow decides and never writes"),
            Mode::Paused => able(false, "Paused", "kpa.dev/mode: paused leaves the count alone"),
            Mode::Refused(Refusal::Released) => able(false, "Released", "somebody let go of it (kpa release)"),
            Mode::Refused(Refusal::AnotherAutoscaler(rival)) => able(false, "AnotherAutoscaler", rival),
            Mode::Refused(Refusal::ForeignClass(class)) => able(false, "ForeignClass", class),
            Mode::Refused(Refusal::NotAnnotated) => able(false, "NotAnnotated", "it carries none of our annotations"),
            Mode::Removed => able(false, "Removed", "its object is gone"),
        }
    }

    /// Whether decisions follow the load.
    fn scaling_active(&self) -> Condition {
        let active = |status, reason: &str, message: &str| condition("ScalingActive", status, reason, message);
        let Some(why) = &self.why else { return active(false, "NoCounts", "the platform has not told its counts yet") };
        match why.hold {
            None if why.idleness == Idleness::Asleep => active(true, "Asleep", ""),
            None => active(true, "ValidMetricFound", ""),
            Some(hold) => {
                let reason = match hold {
                    Hold::Invalid => "InvalidSettings",
                    Hold::NoReporters => "NoReporters",
                    Hold::PartialCoverage => "CoveragePartial",
                    Hold::WarmingUp => "WarmingUp",
                    Hold::SignalUnavailable => "SignalUnavailable",
                    Hold::TrafficNotSeen => "TrafficNotSeen",
                    Hold::WokenByHand => "WokenByHand",
                    Hold::WrittenByHand => {
                        return active(false, "WrittenByHand", "somebody else wrote the count, which is left alone");
                    }
                };
                active(false, reason, &format!("{}: it may grow, and does not shrink", hold.as_str()))
            }
        }
    }

    /// Whether the load asks for another count than the bounds allow.
    fn scaling_limited(&self) -> Condition {
        let limited = |status, reason: &str, message: String| condition("ScalingLimited", status, reason, message);
        let wanted = self.why.and_then(|why| Some((why.desired?, why.min, why.max)));
        match wanted {
            Some((desired, _, Some(max))) if desired > max => {
                limited(true, "TooManyReplicas", format!("the load asks for {desired}, and max-scale is {max}"))
            }
            Some((desired, min, _)) if desired < min => {
                limited(true, "TooFewReplicas", format!("the load asks for {desired}, and the least is {min}"))
            }
            _ => limited(false, "DesiredWithinRange", String::new()),
        }
    }

    fn is_covered(&self, context: Context<'_>) -> Condition {
        let Context { now, reporters, .. } = context;
        let covered = |status, reason: &str, message: String| condition("Coverage", status, reason, message);
        match reporters.coverage(now, &self.revision.id, *self.revision.scaling.stable_window) {
            Coverage::Full => covered(true, "Full", String::new()),
            Coverage::NoReporters => covered(false, "NoReporters", "no activator is listed; nothing shrinks".into()),
            Coverage::Partial { reporter, since } => {
                let message = format!("activator {reporter} is silent; nothing it may carry shrinks");
                let since_seconds = since.map(|since| now.since(since).as_secs());
                Condition { since_seconds, ..covered(false, "Partial", message) }
            }
        }
    }
}
