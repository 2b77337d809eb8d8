//! What is printed in the end, and whether the run has passed.
//!
//! Invariant: everything that is wrong is printed with what is needed to look for its cause, and makes the run fail.

use crate::clients::Book;
use crate::judge::{Excuse, Failed, History, excuse, violations};
use crate::ledger::Ledger;
use crate::program::{Held, Place};
use crate::services::TABLE;
use std::collections::BTreeMap;

/// What a process may hold in memory beyond what it held after the warm-up, in percent of that and besides.
const GROWTH_PERCENT: u64 = 10;
/// The records of decisions, of which each revision keeps a thousand, and what the allocator keeps of a peak.
const GROWTH_KIB: u64 = 16 * 1024;
/// Lines of kpa's log shown when something is wrong.
const LOG_LINES: usize = 40;
/// Violations and failures printed one by one.
const PRINTED_MAX: usize = 50;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    wrong: Vec<String>,
    resident: Option<(u64, u64)>,
}

impl Report {
    pub(crate) fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// What kpa holds at rest against what it held at rest before.
    pub(crate) fn compare(&mut self, before: &Held, after: &Held) {
        if before.descriptors != after.descriptors {
            self.wrong(format!("descriptors: {:?} after the warm-up, {:?} now", before.descriptors, after.descriptors));
        }
        let most = before.resident_kib + before.resident_kib * GROWTH_PERCENT / 100 + GROWTH_KIB;
        if after.resident_kib > most {
            let (was, is) = (before.resident_kib, after.resident_kib);
            self.wrong(format!("memory: {was} KiB after the warm-up, {is} KiB now, at most {most} KiB is fine"));
        }
        self.resident = Some((before.resident_kib, after.resident_kib));
    }

    /// Judges and prints; true when nothing was wrong.
    pub(crate) fn end(
        mut self,
        book: &Book,
        ledger: &Ledger,
        history: &History,
        hits: &BTreeMap<&'static str, u64>,
        place: &Place,
    ) -> bool {
        let judged: Vec<(&Failed, Option<Excuse>)> =
            book.failed.iter().map(|failed| (failed, excuse(failed, ledger, history))).collect();
        table(&judged, book);
        for (how, count) in &book.hung_up {
            println!("  hung up {how}: {count}");
        }
        println!("  replicas: {} ran; {}", ledger.replicas, counts(hits));
        println!(
            "  services: {} times woken, {} times asleep",
            place.logged("woken by a request"),
            place.logged("asleep")
        );
        if let Some((before, after)) = self.resident {
            println!("  memory at rest: {before} KiB after the warm-up, {after} KiB after the load");
        }
        self.wrong.extend(violations(ledger));
        self.wrong.extend(judged.iter().filter(|(_, excuse)| excuse.is_none()).map(|(failed, _)| tell(failed, ledger)));
        if book.answered.contains(&0) {
            self.wrong.push(format!("a service answered nothing: {:?}", book.answered));
        }
        for what in self.wrong.iter().take(PRINTED_MAX) {
            println!("WRONG {what}");
        }
        if !self.wrong.is_empty() {
            println!("{} wrong; kpa's last words:\n{}", self.wrong.len(), place.log_tail(LOG_LINES));
            println!("kept: {}", place.folder.display());
        }
        self.wrong.is_empty()
    }
}

fn table(judged: &[(&Failed, Option<Excuse>)], book: &Book) {
    println!("  {:<8} {:>9} {:>8} {:>10}  excused", "service", "answered", "excused", "unexcused");
    for (service, answered) in TABLE.iter().zip(book.answered) {
        let mut excuses = BTreeMap::<String, u64>::new();
        let (mut excused, mut unexcused) = (0, 0);
        for (_, excuse) in judged.iter().filter(|(failed, _)| failed.service == service.name) {
            match excuse {
                Some(excuse) => {
                    excused += 1;
                    *excuses.entry(excuse.to_string()).or_insert(0) += 1;
                }
                None => unexcused += 1,
            }
        }
        println!("  {:<8} {answered:>9} {excused:>8} {unexcused:>10}  {}", service.name, counts(&excuses));
    }
}

fn counts<K: std::fmt::Display>(of: &BTreeMap<K, u64>) -> String {
    let parts: Vec<String> = of.iter().map(|(what, count)| format!("{count} {what}")).collect();
    parts.join(", ")
}

fn tell(failed: &Failed, ledger: &Ledger) -> String {
    let Failed { id, service, began, ended, failure } = failed;
    let status = failure.status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
    let on: Vec<String> = ledger.starts(id).iter().map(|start| format!("{start:?}")).collect();
    let on = if on.is_empty() { "began nowhere".to_owned() } else { format!("began: {}", on.join("; ")) };
    format!("{id} to {service}, {began} to {ended} ms: {status} {}: {}; {on}", failure.code, failure.what)
}
