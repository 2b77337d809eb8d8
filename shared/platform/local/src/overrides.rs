//! What somebody set by hand over what is declared: floors with an end, and services that were let go (kpa-behaviour 1.8).
//!
//! Invariant: pure, the wall clock is an argument; what is declared is never changed, only shown otherwise, so when a floor
//! ends or a release is undone everything is as it was.

use crate::operate::OperateError;
use domain::{Mode, Origin, Problem, Refusal, Replicas, Resolved, Revision, RevisionId, Severity, WallTime};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Longest time a floor may last: what should stay longer belongs into the manifest.
pub const FLOOR_SPAN_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Services that may have something set by hand, each kind.
pub const OVERRIDES_MAX: usize = 10_000;

/// A smallest count with an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// At least so many replicas.
    pub min: Replicas,
    /// Until then.
    pub until: WallTime,
}

/// Everything set by hand, by service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Overrides {
    floors: BTreeMap<RevisionId, Floor>,
    released: BTreeSet<RevisionId>,
}

impl Overrides {
    /// What is published instead of what is declared.
    pub(crate) fn effective(&self, declared: &Arc<Revision>, now: WallTime) -> Arc<Revision> {
        let floor = self.floors.get(&declared.id).filter(|floor| floor.until > now);
        let released = self.released.contains(&declared.id) && may_be_let_go(&declared.mode);
        if floor.is_none() && !released {
            return Arc::clone(declared);
        }
        let mut shown = (**declared).clone();
        if let Some(floor) = floor {
            raise(&mut shown, *floor);
        }
        if released {
            shown.mode = Mode::Refused(Refusal::Released);
        }
        Arc::new(shown)
    }

    /// Sets a floor for `span` from now, in place of an earlier one.
    pub(crate) fn set_floor(
        &mut self,
        declared: &Revision,
        min: Replicas,
        span: Duration,
        now: WallTime,
    ) -> Result<Floor, OperateError> {
        let service = || declared.id.clone();
        if self.released.contains(&declared.id) {
            return Err(OperateError::Released(service()));
        }
        if !matches!(declared.mode, Mode::Act) {
            return Err(OperateError::LeftAlone { service: service(), mode: declared.mode.clone() });
        }
        if span.is_zero() || span > FLOOR_SPAN_MAX {
            return Err(OperateError::Span);
        }
        let max = declared.scaling.max_scale;
        if let Some(limit) = max.value.filter(|limit| min > *limit) {
            return Err(OperateError::AboveMax { service: service(), min, max: limit, origin: max.origin });
        }
        if self.floors.len() >= OVERRIDES_MAX && !self.floors.contains_key(&declared.id) {
            return Err(OperateError::TooMany);
        }
        let floor = Floor { min, until: now.after(span) };
        self.floors.insert(service(), floor);
        Ok(floor)
    }

    /// Takes a floor away; gives it.
    pub(crate) fn clear_floor(&mut self, id: &RevisionId) -> Option<Floor> {
        self.floors.remove(id)
    }

    /// Forgets the floors that have ended, and says whose they were.
    pub(crate) fn expire(&mut self, now: WallTime) -> Vec<(RevisionId, Floor)> {
        self.floors.extract_if(.., |_, floor| floor.until <= now).collect()
    }

    /// When the next floor ends.
    pub(crate) fn next_end(&self) -> Option<WallTime> {
        self.floors.values().map(|floor| floor.until).min()
    }

    /// Lets go of a service; whether that is new.
    pub(crate) fn release(&mut self, declared: &Revision) -> Result<bool, OperateError> {
        if !may_be_let_go(&declared.mode) {
            return Err(OperateError::LeftAlone { service: declared.id.clone(), mode: declared.mode.clone() });
        }
        if self.released.len() >= OVERRIDES_MAX && !self.released.contains(&declared.id) {
            return Err(OperateError::TooMany);
        }
        Ok(self.released.insert(declared.id.clone()))
    }

    /// Takes a service back; whether it had been let go.
    pub(crate) fn take_back(&mut self, id: &RevisionId) -> bool {
        self.released.remove(id)
    }

    /// Forgets a service that is gone.
    pub(crate) fn forget(&mut self, id: &RevisionId) -> bool {
        let released = self.released.remove(id);
        self.floors.remove(id).is_some() || released
    }
}

/// Whether there is anything to let go of: what we scale, or would.
const fn may_be_let_go(mode: &Mode) -> bool {
    match mode {
        Mode::Act | Mode::Shadow | Mode::Paused | Mode::Invalid(_) => true,
        Mode::Refused(_) | Mode::Removed => false,
    }
}

/// Raises min-scale, within a max-scale that was lowered since.
fn raise(shown: &mut Revision, floor: Floor) {
    let scaling = &mut shown.scaling;
    let allowed = scaling.max_scale.value.map_or(floor.min, |max| floor.min.min(max));
    if allowed < floor.min {
        shown.problems.push(Problem {
            severity: Severity::Warning,
            place: format!("kpa scale {}", shown.id),
            key: "--min".into(),
            what: format!("{} is above max-scale, which is {allowed} now", floor.min),
            expected: format!("at most {allowed}"),
            consequence: format!("{allowed} is the floor until {:.0}", floor.until),
        });
    }
    if allowed > *scaling.min_scale {
        scaling.min_scale = Resolved::new(allowed, Origin::Floor { until: floor.until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::manifest::{self, Role, Source};

    fn revision(annotations: &str) -> Arc<Revision> {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: app, annotations: {{{annotations}}}}}\nspec:\n  \
             selector: {{}}\n  template: {{spec: {{containers: [{{name: app, image: app, command: [run]}}]}}}}\n"
        );
        let sources = [Source { path: "app.yaml".into(), text, role: Role::Manifest }];
        let manifests = manifest::load(&sources, &manifest::Options::default(), None);
        Arc::clone(&manifests.entries.first().unwrap_or_else(|| panic!("{:?}", manifests.problems)).revision)
    }

    fn at(secs: u64) -> WallTime {
        WallTime::from_unix_millis(secs * 1000)
    }

    const BOUNDS: &str = r#""autoscaling.knative.dev/min-scale": "1", "autoscaling.knative.dev/max-scale": "4""#;
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_floor_raises_min_scale_until_it_ends() {
        let (declared, mut set) = (revision(BOUNDS), Overrides::default());
        let floor = set.set_floor(&declared, Replicas::new(3), HOUR, at(0)).unwrap();
        assert_eq!((floor.until, set.next_end()), (at(3600), Some(at(3600))));
        let shown = set.effective(&declared, at(3599));
        let origin = Origin::Floor { until: at(3600) };
        assert_eq!(shown.scaling.min_scale, Resolved::new(Replicas::new(3), origin));
        assert_eq!(origin.to_string(), "kpa scale, until 1970-01-01T01:00:00Z");
        assert!(Arc::ptr_eq(&set.effective(&declared, at(3600)), &declared), "exactly what was declared");
        assert!(set.expire(at(3599)).is_empty());
        assert_eq!(set.expire(at(3600)), [(declared.id.clone(), floor)]);
        assert_eq!((set.next_end(), set), (None, Overrides::default()));
    }

    #[test]
    fn a_floor_below_min_scale_changes_nothing_and_one_above_max_scale_is_refused() {
        let (declared, mut set) = (revision(BOUNDS), Overrides::default());
        set.set_floor(&declared, Replicas::new(1), HOUR, at(0)).unwrap();
        assert_eq!(set.effective(&declared, at(1)).scaling.min_scale, declared.scaling.min_scale);
        let before = set.clone();
        let refused = set.set_floor(&declared, Replicas::new(5), HOUR, at(0)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "default/app has a max-scale of 4 (annotation); ask for at most 4, or raise autoscaling.knative.dev/max-scale"
        );
        for span in [Duration::ZERO, FLOOR_SPAN_MAX + Duration::from_secs(1)] {
            assert_eq!(set.set_floor(&declared, Replicas::ONE, span, at(0)), Err(OperateError::Span));
        }
        assert_eq!(set, before, "a wrong wish takes away nothing that was good");
    }

    #[test]
    fn a_max_scale_that_is_lowered_later_bounds_the_floor_and_says_so() {
        let mut set = Overrides::default();
        set.set_floor(&revision(BOUNDS), Replicas::new(4), HOUR, at(0)).unwrap();
        let lowered = revision(r#""autoscaling.knative.dev/max-scale": "2""#);
        let shown = set.effective(&lowered, at(1));
        assert_eq!(*shown.scaling.min_scale, Replicas::new(2));
        let problem = shown.problems.last().unwrap().to_string();
        assert!(problem.contains("4 is above max-scale, which is 2 now"), "{problem}");
    }

    #[test]
    fn what_is_let_go_is_refused_until_it_is_taken_back() {
        let (declared, mut set) = (revision(BOUNDS), Overrides::default());
        assert_eq!(set.release(&declared), Ok(true));
        assert_eq!(set.release(&declared), Ok(false));
        assert_eq!(set.effective(&declared, at(0)).mode, Mode::Refused(Refusal::Released));
        let refused = set.set_floor(&declared, Replicas::ONE, HOUR, at(0)).unwrap_err();
        assert_eq!(refused, OperateError::Released(declared.id.clone()));
        assert!(set.take_back(&declared.id) && !set.take_back(&declared.id));
        assert!(Arc::ptr_eq(&set.effective(&declared, at(0)), &declared));
    }

    #[test]
    fn what_is_not_scaled_anyway_has_neither() {
        let mut set = Overrides::default();
        for (annotations, mode) in [("", "not scaled"), (r#""autoscaling.knative.dev/class": "hpa.x""#, "refused")] {
            let declared = revision(annotations);
            let error = set.release(&declared).unwrap_err();
            assert!(matches!(error, OperateError::LeftAlone { .. }), "{mode}: {error}");
            assert!(set.set_floor(&declared, Replicas::ONE, HOUR, at(0)).is_err());
        }
        for mode in ["shadow", "paused"] {
            let mut set = Overrides::default();
            let declared = revision(&format!(r#""kpa.dev/mode": "{mode}""#));
            let error = set.set_floor(&declared, Replicas::ONE, HOUR, at(0)).unwrap_err();
            assert!(error.to_string().contains(mode), "{error}");
            assert_eq!(set.release(&declared), Ok(true), "{mode}");
        }
    }

    #[test]
    fn there_are_only_so_many() {
        let (mut set, declared) = (Overrides::default(), revision(BOUNDS));
        for number in 0..OVERRIDES_MAX {
            let other = Revision { id: RevisionId::new("default", &format!("app-{number}")), ..(*declared).clone() };
            set.set_floor(&other, Replicas::ONE, HOUR, at(0)).unwrap();
            set.release(&other).unwrap();
        }
        assert_eq!(set.set_floor(&declared, Replicas::ONE, HOUR, at(0)), Err(OperateError::TooMany));
        assert_eq!(set.release(&declared), Err(OperateError::TooMany));
        assert!(set.forget(&RevisionId::new("default", "app-0")));
        set.set_floor(&declared, Replicas::ONE, HOUR, at(0)).unwrap();
    }
}
