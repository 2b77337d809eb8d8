//! What replicas wrote down of themselves: which requests began and ended where.
//!
//! Invariant: pure. A line that cannot be understood is a violation and never passed over.

use std::collections::BTreeMap;

/// One beginning of a request on one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    /// `service.pid`.
    pub(crate) replica: String,
    /// Milliseconds of uptime.
    pub(crate) at: u64,
    /// It was a POST.
    pub(crate) post: bool,
    /// When the last of its answer was about to be written.
    pub(crate) ended: Option<u64>,
    /// Its answer was reset, as the replica had been told.
    pub(crate) broke: bool,
}

/// The ledgers of every replica.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    starts: BTreeMap<String, Vec<Start>>,
    /// Replicas that had more at once than they allow, and lines that make no sense.
    pub(crate) violations: Vec<String>,
    /// Replicas that closed their listener, and when.
    pub(crate) refusals: Vec<(String, u64)>,
    /// Replicas that ever ran.
    pub(crate) replicas: usize,
}

impl Ledger {
    /// Takes over the lines that `replica` wrote: `MILLISECONDS WORD [ID [METHOD]]`.
    pub(crate) fn add(&mut self, replica: &str, text: &str) {
        self.replicas += 1;
        for line in text.lines() {
            if self.line(replica, line).is_none() {
                self.violations.push(format!("{replica}: a line that makes no sense: {line:?}"));
            }
        }
    }

    fn line(&mut self, replica: &str, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        let (at, word) = (words.next()?.parse().ok()?, words.next()?);
        match (word, words.next(), words.next()) {
            ("up" | "lie" | "reset", None, None) => {}
            ("refuse", None, None) => self.refusals.push((replica.to_owned(), at)),
            ("over", Some(id), None) => self.violations.push(format!("{replica}: over its limit with {id} at {at}")),
            ("start", Some(id), Some(method)) => {
                let start =
                    Start { replica: replica.to_owned(), at, post: method == "POST", ended: None, broke: false };
                self.starts.entry(id.to_owned()).or_default().push(start);
            }
            ("end", Some(id), None) => self.open(replica, id)?.ended = Some(at),
            ("broke", Some(id), None) => self.open(replica, id)?.broke = true,
            // Its client, which is kpa, went away.
            ("left", Some(id), None) => drop(self.open(replica, id)?),
            _ => return None,
        }
        Some(())
    }

    fn open(&mut self, replica: &str, id: &str) -> Option<&mut Start> {
        let starts = self.starts.get_mut(id)?;
        starts.iter_mut().rev().find(|start| start.replica == replica && start.ended.is_none())
    }

    /// Where and when a request began, in the order of time.
    pub(crate) fn starts(&self, id: &str) -> Vec<&Start> {
        let mut starts: Vec<&Start> = self.starts.get(id).into_iter().flatten().collect();
        starts.sort_by_key(|start| start.at);
        starts
    }

    /// Every request that began somewhere.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&str, &[Start])> {
        self.starts.iter().map(|(id, starts)| (id.as_str(), starts.as_slice()))
    }
}
