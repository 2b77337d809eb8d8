//! The rule of leader election over one record that all candidates can read and replace (kpa-behaviour 8).
//!
//! Invariant: at most one candidate has the right to act at any moment, whatever is lost, late or repeated on the way to
//! the record and however long a candidate stands still, as long as clocks run at rates within
//! [`LEASE_MARGIN`] of each other. Time is an argument; nothing is read or sent here.
//!
//! Why it holds. A holder counts its lease from when it *sent* the renewal that succeeded, and stops [`LEASE_MARGIN`]
//! early. Another candidate counts from when it *saw* the record change, on its own clock, which is later; it never
//! compares the times in the record with its own. It replaces exactly the version that it saw, so a renewal that it has not
//! seen makes its own write fail. What a call did of which no answer came is unknown: it extends nothing, and the record is
//! read before it is written again.

mod settings;
mod words;

pub use settings::{BadSettings, LEASE_DURATION_MAX, RETRY_PERIOD_MIN, Settings};
pub use words::{Answer, Gain, Loss, News, Purpose, Record, Step, Ticket, Version, WallMicros};

use domain::Timestamp;
use platform::leadership::LEASE_MARGIN;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Calls that a release may take: a read and a write, and both again if somebody else wrote in between.
const RELEASE_CALLS_MAX: u8 = 4;

/// What is known of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sight {
    Unknown,
    /// There is none, and a new one may be stored from `free_at` on.
    Absent {
        free_at: Timestamp,
    },
    /// `since` is when this content was first seen.
    Present {
        version: Version,
        record: Record,
        since: Timestamp,
    },
}

/// The right to act.
#[derive(Debug, Clone, Copy)]
struct Lead {
    /// When the last renewal that succeeded was sent.
    sent: Timestamp,
}

#[derive(Debug)]
struct Call {
    ticket: Ticket,
    sent: Timestamp,
    /// `None` for a read.
    write: Option<(Purpose, Gain)>,
    /// News of the record has come since it was sent.
    overtaken: bool,
}

/// One candidate.
#[derive(Debug)]
pub struct Candidate {
    identity: String,
    settings: Settings,
    sight: Sight,
    lead: Option<Lead>,
    call: Option<Call>,
    /// What the last write did is not known: the record must be read before it is written.
    unsure: bool,
    /// No call before this moment, unless the record has become free.
    not_before: Timestamp,
    calls: u64,
    resigned: bool,
    release_calls: u8,
    /// The release has been tried, or there was nothing to release.
    released: bool,
}

impl Candidate {
    /// A candidate of this name, which no other candidate may ever have, not even an earlier life of the same process.
    #[must_use]
    pub fn new(identity: &str, settings: Settings) -> Self {
        Self {
            identity: identity.to_owned(),
            settings,
            sight: Sight::Unknown,
            lead: None,
            call: None,
            unsure: false,
            not_before: Timestamp::ZERO,
            calls: 0,
            resigned: false,
            release_calls: 0,
            released: false,
        }
    }

    /// When the right to act ends unless it is renewed; `None` for a follower. Compare with the clock: it may have passed.
    #[must_use]
    pub fn leads_until(&self) -> Option<Timestamp> {
        self.lead.map(|lead| lead.sent + self.settings.lease_duration().saturating_sub(LEASE_MARGIN))
    }

    /// Who holds the lease, as far as is known.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        match &self.sight {
            Sight::Present { record, .. } => Some(record.holder.as_str()).filter(|holder| !holder.is_empty()),
            Sight::Unknown | Sight::Absent { .. } => None,
        }
    }

    /// What is to be done at `now`, when the wall clock shows `wall`. Ask again after each answer and each piece of news, and
    /// when the moment of [`Step::Wait`] has come.
    pub fn next(&mut self, now: Timestamp, wall: WallMicros) -> Step {
        if let Some(lead) = self.lead.take_if(|lead| now >= lead.sent + self.settings.renew_deadline()) {
            self.unsure = true;
            return Step::Lost(Loss::NotRenewed { since: lead.sent });
        }
        let deadline = self.lead.map(|lead| lead.sent + self.settings.renew_deadline());
        if self.call.is_some() {
            return Step::Wait(deadline);
        }
        if self.resigned {
            return self.leave(now, wall);
        }
        let free_at = self.free_at().filter(|_| !self.unsure);
        // A leader renews at its own pace; whoever follows claims the lease as soon as it is free.
        let due = match free_at {
            Some(free_at) if self.lead.is_none() => free_at.min(self.not_before),
            Some(_) | None => self.not_before,
        };
        if now < due {
            return Step::Wait(Some(deadline.map_or(due, |deadline| deadline.min(due))));
        }
        match free_at {
            Some(free_at) if free_at <= now => self.claim(now, wall),
            Some(_) | None => self.read(now),
        }
    }

    /// A call has ended.
    pub fn answered(&mut self, now: Timestamp, ticket: Ticket, answer: Answer) -> Option<News> {
        // The answer to a call that was given up says nothing that the next one does not say better.
        let call = self.call.take_if(|call| call.ticket == ticket)?;
        match (call.write, answer) {
            // What a read found may be older than what was told meanwhile. Older than what was known before, it is true all
            // the same: the store was put back.
            (None, Answer::Stored(version, _)) if call.overtaken && self.is_older(&version) => None,
            (None, Answer::Absent) if call.overtaken => None,
            (None, Answer::Stored(version, record)) => {
                self.unsure = false;
                if self.lead.is_some() {
                    self.not_before = now;
                }
                self.see(now, version, record)
            }
            (None, Answer::Absent) => {
                self.unsure = false;
                self.gone(now)
            }
            (None, Answer::Conflict | Answer::Unknown) => {
                self.released |= self.resigned;
                None
            }
            (Some((purpose, gain)), Answer::Stored(version, record)) => {
                self.unsure = false;
                if call.overtaken && self.is_older(&version) {
                    return None;
                }
                let news = self.see(now, version, record);
                let lasts = now < call.sent + self.settings.renew_deadline();
                if purpose == Purpose::Release {
                    self.released = true;
                } else if self.is_ours() && !self.resigned && lasts {
                    let gained = self.lead.replace(Lead { sent: call.sent }).is_none();
                    self.not_before = call.sent + self.settings.retry_period();
                    return gained.then_some(News::Leads(gain));
                }
                news
            }
            (Some((_, _)), Answer::Conflict) => {
                self.unsure = true;
                self.lead.take().map(|_| News::Lost(Loss::Conflict))
            }
            (Some((Purpose::Renew | Purpose::Release, _)), Answer::Absent) => {
                self.unsure = false;
                self.gone(now)
            }
            // Where a record cannot be created there is no place for one: as good as refused.
            (Some((Purpose::Acquire, _)), Answer::Absent) | (Some((_, _)), Answer::Unknown) => {
                self.unsure = true;
                self.released |= self.resigned;
                None
            }
        }
    }

    /// News of the record that came by itself, perhaps late: `None` when it seems to be gone.
    pub fn told(&mut self, now: Timestamp, stored: Option<(Version, Record)>) -> Option<News> {
        match (&self.sight, stored) {
            (Sight::Present { version: seen, .. }, Some((version, _))) if !version.is_after(seen) => None,
            (Sight::Unknown | Sight::Absent { .. } | Sight::Present { .. }, Some((version, record))) => {
                // Whatever an earlier write of ours did, it was to an older version than this one.
                self.unsure = false;
                if let Some(call) = &mut self.call {
                    call.overtaken = true;
                }
                self.see(now, version, record)
            }
            (Sight::Present { .. }, None) => {
                // It may be an old story, from before the record was made: a read of our own tells.
                self.unsure = true;
                self.not_before = now;
                None
            }
            (Sight::Unknown | Sight::Absent { .. }, None) => None,
        }
    }

    /// Whether this is the version of the record that was seen last.
    #[must_use]
    pub fn knows(&self, version: &Version) -> bool {
        matches!(&self.sight, Sight::Present { version: seen, .. } if seen == version)
    }

    /// Leads no more and will not again. What is left is to `release` the record, if it is held and nothing that needed it
    /// is going on; otherwise it runs out.
    pub fn resign(&mut self, release: bool) -> Option<News> {
        self.resigned = true;
        self.released = !release;
        self.lead.take().map(|_| News::Lost(Loss::Resigned))
    }

    fn is_older(&self, version: &Version) -> bool {
        matches!(&self.sight, Sight::Present { version: seen, .. } if seen.is_after(version))
    }

    fn is_ours(&self) -> bool {
        self.holder() == Some(self.identity.as_str())
    }

    /// From when on this candidate may write, as far as it knows.
    fn free_at(&self) -> Option<Timestamp> {
        match &self.sight {
            Sight::Unknown => None,
            Sight::Absent { free_at } => Some(*free_at),
            Sight::Present { .. } if self.holder().is_none() || self.is_ours() => Some(Timestamp::ZERO),
            Sight::Present { record, since, .. } => Some(*since + self.left_to(record)),
        }
    }

    /// How long a record is left to its holder. What it claims counts, within bounds, and at least what this candidate would
    /// claim itself: nobody has to know others' settings, and a number changed by hand makes no second leader.
    fn left_to(&self, record: &Record) -> Duration {
        record.held_for.clamp(self.settings.lease_duration(), LEASE_DURATION_MAX)
    }

    /// Notes what the record says.
    fn see(&mut self, now: Timestamp, version: Version, record: Record) -> Option<News> {
        let since = match &self.sight {
            // Labels and annotations of the object are no sign of life of its holder.
            Sight::Present { record: seen, since, .. } if *seen == record => *since,
            Sight::Present { .. } | Sight::Unknown | Sight::Absent { .. } => now,
        };
        let before = self.holder().map(str::to_owned);
        self.sight = Sight::Present { version, record, since };
        if self.is_ours() {
            return None;
        }
        let holder = self.holder().unwrap_or_default().to_owned();
        match self.lead.take() {
            Some(_) => Some(News::Lost(Loss::Taken(holder))),
            None if holder.is_empty() || before.as_ref() == Some(&holder) => None,
            None => Some(News::Follows(holder)),
        }
    }

    /// Notes that there is no record. Whoever held it may not know yet, so its time is waited for.
    fn gone(&mut self, now: Timestamp) -> Option<News> {
        let free_at = match &self.sight {
            Sight::Absent { free_at } => *free_at,
            Sight::Unknown => now,
            Sight::Present { .. } => self.free_at().unwrap_or(now).max(now),
        };
        self.sight = Sight::Absent { free_at };
        self.lead.take().map(|_| News::Lost(Loss::Deleted))
    }

    fn read(&mut self, now: Timestamp) -> Step {
        Step::Read(self.call(now, None))
    }

    /// Takes or renews the lease.
    fn claim(&mut self, now: Timestamp, wall: WallMicros) -> Step {
        let purpose = if self.lead.is_some() { Purpose::Renew } else { Purpose::Acquire };
        let record = |acquired, renewed, transitions| Record {
            holder: self.identity.clone(),
            held_for: self.settings.lease_duration(),
            acquired,
            renewed,
            transitions,
        };
        let (over, record, gain) = match &self.sight {
            Sight::Present { version, record: seen, .. } if self.is_ours() => {
                // The wall clock may have been set back; a renewal that looked like the one before would be none.
                let renewed = wall.max(seen.renewed.saturating_add(1));
                (Some(version.clone()), record(seen.acquired, renewed, seen.transitions), Gain::Free)
            }
            Sight::Present { version, record: seen, .. } => {
                let gain = if seen.holder.is_empty() { Gain::Free } else { Gain::Expired(seen.holder.clone()) };
                (Some(version.clone()), record(wall, wall, seen.transitions.saturating_add(1)), gain)
            }
            Sight::Absent { .. } | Sight::Unknown => (None, record(wall, wall, 0), Gain::First),
        };
        Step::Write { ticket: self.call(now, Some((purpose, gain))), purpose, over, record }
    }

    /// Releases what is held, in at most one call that is not answered.
    fn leave(&mut self, now: Timestamp, wall: WallMicros) -> Step {
        if self.released || self.release_calls == RELEASE_CALLS_MAX {
            return Step::Done;
        }
        self.release_calls += 1;
        if self.unsure {
            return self.read(now);
        }
        match &self.sight {
            Sight::Present { version, record, .. } if self.is_ours() => {
                let (over, purpose) = (Some(version.clone()), Purpose::Release);
                let renewed = wall.max(record.renewed.saturating_add(1));
                let record = Record {
                    holder: String::new(),
                    held_for: Duration::from_secs(1),
                    acquired: renewed,
                    renewed,
                    transitions: record.transitions,
                };
                Step::Write { ticket: self.call(now, Some((purpose, Gain::Free))), purpose, over, record }
            }
            Sight::Present { .. } | Sight::Absent { .. } | Sight::Unknown => Step::Done,
        }
    }

    fn call(&mut self, now: Timestamp, write: Option<(Purpose, Gain)>) -> Ticket {
        self.calls += 1;
        let ticket = Ticket(self.calls);
        self.call = Some(Call { ticket, sent: now, write, overtaken: false });
        self.not_before = now + self.pause();
        ticket
    }

    /// Until the next call. A leader keeps its pace; the others spread out, so that they do not all ask at once, and never
    /// wait longer.
    fn pause(&self) -> Duration {
        let period = self.settings.retry_period();
        if self.lead.is_some() {
            return period;
        }
        spread(&self.identity, self.calls, period)
    }
}

/// A pause of at least half of `period` and at most all of it. A hash instead of randomness: it differs between candidates,
/// and a test can repeat it.
pub(crate) fn spread(identity: &str, count: u64, period: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (identity, count).hash(&mut hasher);
    let part = u32::try_from(hasher.finish() % 1000).unwrap_or(0);
    period / 2 + period / 2 * part / 1000
}

#[cfg(test)]
mod tests;
