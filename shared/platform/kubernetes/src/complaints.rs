//! What a Deployment's owner has to be told: it asks to be scaled and is not, or not as it says.
//!
//! Invariant: pure and level-triggered. What is wrong is told when it appears and again while it lasts, never more often
//! than once a minute, and only a few at a time.

use crate::picture::Picture;
use crate::trim::Key;
use domain::{Mode, Problem, Refusal, Severity};
use platform::manifest::{Adopted, NotAdopted};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How often what lasts is told again: well within the hour that an API server keeps an Event.
pub const AGAIN: Duration = Duration::from_secs(30 * 60);
/// Between two words about the same, also where it went and came back.
pub const AT_MOST_EVERY: Duration = Duration::from_secs(60);
/// Complaints about one Deployment; further ones are in its status.
pub const EACH_MAX: usize = 10;

/// One thing that is wrong with a Deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Which one.
    pub key: Key,
    /// One word.
    pub reason: &'static str,
    /// What it is about: two complaints with the same reason are two series.
    pub about: String,
    /// What, what would be right, what happens now.
    pub note: String,
}

/// What is wrong with the Deployment `key`; nothing about one that does not ask to be scaled.
#[must_use]
pub fn complaints(picture: &Picture, key: &Key) -> Vec<Complaint> {
    let mut all = match picture.reading(key) {
        Some(Ok(adopted)) => of_adopted(key, adopted),
        Some(Err(why)) if why.asked => of_ignored(key, why),
        Some(Err(_)) | None => Vec::new(),
    };
    all.truncate(EACH_MAX);
    all
}

fn of_ignored(key: &Key, why: &NotAdopted) -> Vec<Complaint> {
    let note = format!("it carries our annotations and is not scaled: {}", why.reason);
    let refusal = Complaint { key: key.clone(), reason: "NotScaled", about: "NotScaled".into(), note };
    std::iter::once(refusal).chain(of_problems(key, &why.problems)).collect()
}

fn of_adopted(key: &Key, adopted: &Adopted) -> Vec<Complaint> {
    let revision = &adopted.revision;
    match &revision.mode {
        Mode::Refused(Refusal::AnotherAutoscaler(rival)) => {
            let note = format!(
                "{rival} scales it too; expected no {rival}, or none of our annotations; it is routed and counted, and \
                 its replicas are left alone"
            );
            let rival = Complaint { key: key.clone(), reason: "AnotherAutoscaler", about: rival.clone(), note };
            // The same is among the problems of its count.
            let others: Vec<Problem> =
                revision.problems.iter().filter(|problem| problem.key != "spec.replicas").cloned().collect();
            std::iter::once(rival).chain(of_problems(key, &others)).collect()
        }
        Mode::Act | Mode::Shadow | Mode::Paused | Mode::Refused(_) | Mode::Invalid(_) | Mode::Removed => {
            of_problems(key, &revision.problems).collect()
        }
    }
}

fn of_problems<'a>(key: &'a Key, problems: &'a [Problem]) -> impl Iterator<Item = Complaint> + use<'a> {
    let own = format!("Deployment {}/{}", key.0, key.1);
    problems.iter().filter_map(move |problem| {
        let reason = match problem.severity {
            Severity::Error => "InvalidValue",
            Severity::Warning => "NotDone",
            Severity::Notice => return None,
        };
        let text = problem.to_string();
        // An Event stands at the object already.
        let note = text.strip_prefix(&format!("{own}: ")).unwrap_or(&text).to_owned();
        let about = if problem.key.is_empty() { reason.to_owned() } else { problem.key.clone() };
        Some(Complaint { key: key.clone(), reason, about, note })
    })
}

/// What was told, and when.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<(Key, &'static str, String), Last>);

#[derive(Debug)]
struct Last {
    at: Instant,
    note: String,
}

impl Told {
    /// What is to be told now, at most `room`. `all` is everything that is wrong.
    pub fn due(&mut self, all: impl IntoIterator<Item = Complaint>, now: Instant, room: usize) -> Vec<Complaint> {
        let mut seen = BTreeMap::new();
        let mut due = Vec::new();
        for complaint in all {
            let id = (complaint.key.clone(), complaint.reason, complaint.about.clone());
            let since = |last: &Last| now.saturating_duration_since(last.at);
            let last = self.0.remove(&id);
            let pause = |last: &Last| if last.note == complaint.note { AGAIN } else { AT_MOST_EVERY };
            match last {
                Some(last) if since(&last) < pause(&last) => drop(seen.insert(id, last)),
                last if due.len() >= room => drop(last.map(|last| seen.insert(id, last))),
                Some(_) | None => {
                    seen.insert(id, Last { at: now, note: complaint.note.clone() });
                    due.push(complaint);
                }
            }
        }
        // What went may come back within the minute.
        self.0.retain(|_, last| now.saturating_duration_since(last.at) < AT_MOST_EVERY);
        self.0.append(&mut seen);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(name: &str, note: &str) -> Complaint {
        let key = ("prod".to_owned(), name.to_owned());
        Complaint { key, reason: "InvalidValue", about: "min-scale".into(), note: note.into() }
    }

    #[test]
    fn it_is_told_when_it_appears_and_again_while_it_lasts() {
        let (start, mut told) = (Instant::now(), Told::default());
        let mut at = |seconds: u64, all: &[Complaint]| {
            told.due(all.iter().cloned(), start + Duration::from_secs(seconds), 10).len()
        };
        let (one, other) = (complaint("a", "\"two\" is no number"), complaint("a", "\"three\" is no number"));
        let steps = [
            (0, vec![one.clone()], 1),
            (2, vec![one.clone()], 0),
            // It says something else, and a minute has not passed.
            (30, vec![other.clone()], 0),
            (60, vec![other.clone()], 1),
            // Gone and back.
            (70, vec![], 0),
            (80, vec![other.clone()], 0),
            (1859, vec![other.clone()], 0),
            (1860, vec![other], 1),
            (1870, vec![], 0),
            (1930, vec![], 0),
            (1931, vec![one], 1),
        ];
        for (seconds, all, count) in steps {
            assert_eq!(at(seconds, &all), count, "after {seconds} s");
        }
    }

    /// A thousand at once: a few at a time, and every one in its turn.
    #[test]
    fn only_a_few_are_told_at_a_time_and_none_is_forgotten() {
        let (start, mut told) = (Instant::now(), Told::default());
        let all: Vec<Complaint> = (0..1000).map(|n| complaint(&n.to_string(), "bad")).collect();
        let mut names = std::collections::BTreeSet::new();
        for second in 0..100 {
            let due = told.due(all.iter().cloned(), start + Duration::from_secs(second), 10);
            assert_eq!(due.len(), 10);
            names.extend(due.into_iter().map(|complaint| complaint.key));
        }
        assert_eq!(names.len(), 1000);
        assert!(told.due(all.clone(), start + Duration::from_secs(101), 10).is_empty());
        told.due([], start + Duration::from_secs(1000), 10);
        assert!(told.0.is_empty(), "what is gone is forgotten");
    }
}
