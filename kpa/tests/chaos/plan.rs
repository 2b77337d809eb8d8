//! The plan of a run: which fault and which edit comes when, and which services are asked for.
//!
//! Invariant: pure. It follows from the seed and the length alone; every kind of fault comes, the folder of state goes
//! exactly once, and whatever an edit breaks or removes a later one mends.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// Services that are judged in full.
pub(crate) const SERVICES: usize = 4;
/// The one whose object is removed and added again. It has clients of its own.
pub(crate) const GUEST: usize = SERVICES;
/// All of them.
pub(crate) const ALL: usize = SERVICES + 1;
/// A replica that refuses connections does so for this long.
pub(crate) const REFUSING: Duration = Duration::from_secs(1);
/// A replica that lies about its health does so for this long.
pub(crate) const LYING: Duration = Duration::from_secs(2);
/// Between two faults.
const FAULT_EVERY: Duration = Duration::from_millis(800);
/// How long a stopped replica stays stopped, in milliseconds.
const STOPPED_MS: std::ops::RangeInclusive<u64> = 1_000..=3_000;
/// How far the wall clock is moved, in seconds: an hour, more than a day, more than a year; all of them seen in the time of
/// day too.
const CLOCK_MOVES: [i64; 3] = [3_600, 30 * 3_600, 400 * 86_400 + 5 * 3_600];
/// A service is asked for and then left alone, in turns; the quiet part is long enough to fall asleep.
const TURN: Duration = Duration::from_secs(24);
const QUIET: Duration = Duration::from_secs(12);
/// Between the quiet parts of two services.
const QUIET_SHIFT: Duration = Duration::from_secs(4);
/// Edits until what was broken is mended, and what was removed is back.
const MENDED_AFTER: usize = 3;
const BACK_AFTER: usize = 6;

/// What happens to a replica, or to the folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT after so many milliseconds.
    Stop { ms: u64 },
    /// SIGUSR1: its listener closes, and opens again.
    Refuse,
    /// SIGUSR2: its next answer ends in its middle.
    Reset,
    /// SIGHUP: it says that it is not ready, and serves.
    Lie,
    /// The folder of state is deleted.
    LoseState,
    /// The log files lead to a full device.
    FullLogs,
    /// The wall clock is so many seconds from the true time, until it is moved again.
    MoveClock { seconds: i64 },
}

impl Fault {
    /// The kind, for the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Stop { .. } => "stopped for a while",
            Self::Refuse => "told to refuse connections",
            Self::Reset => "told to reset an answer",
            Self::Lie => "told to lie about its health",
            Self::LoseState => "state folder deleted",
            Self::FullLogs => "log files to a full device",
            Self::MoveClock { .. } => "wall clock moved",
        }
    }
}

/// What happens to the folder of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    /// An annotation that nobody reads.
    Harmless(usize),
    /// Another environment: other processes.
    Rollout(usize),
    /// The file is no YAML.
    Break(usize),
    /// And is again.
    Mend(usize),
    /// The guest's file goes.
    Remove,
    /// And comes back.
    Restore,
}

/// One fault in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stroke {
    /// Since the beginning of the load.
    pub(crate) at: Duration,
    /// The service it is meant for; another one if that has no replica.
    pub(crate) service: usize,
    /// Which of its replicas, modulo their number.
    pub(crate) pick: usize,
    pub(crate) fault: Fault,
}

/// Everything that is done to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) strokes: Vec<Stroke>,
    pub(crate) edits: Vec<Edit>,
}

impl Plan {
    /// For `length` of load with so many edits.
    pub(crate) fn new(seed: u64, length: Duration, edits: usize) -> Self {
        let mut dice = SmallRng::seed_from_u64(seed);
        Self { strokes: strokes(&mut dice, length), edits: plan_edits(&mut dice, edits) }
    }

    /// Time between two edits.
    pub(crate) fn edit_every(&self, length: Duration) -> Duration {
        length / u32::try_from(self.edits.len().max(1)).unwrap_or(u32::MAX)
    }
}

/// Whether `service` is asked for, so long after the beginning.
pub(crate) fn is_active(service: usize, at: Duration) -> bool {
    let shift = QUIET_SHIFT * u32::try_from(service + 1).unwrap_or(1);
    let since_quiet = (at + TURN.saturating_mul(8)).saturating_sub(shift).as_millis() % TURN.as_millis();
    since_quiet >= QUIET.as_millis()
}

fn strokes(dice: &mut SmallRng, length: Duration) -> Vec<Stroke> {
    let count = (length.as_millis() / FAULT_EVERY.as_millis()) as usize;
    let mut faults = Vec::with_capacity(count);
    while faults.len() < count {
        // Every kind in each round, in an order of its own.
        let stop = || Fault::Stop { ms: 0 };
        let clock = || Fault::MoveClock { seconds: 0 };
        let mut round =
            [Fault::Kill, stop(), Fault::Refuse, Fault::Reset, Fault::Lie, Fault::Reset, Fault::FullLogs, clock()];
        round.shuffle(dice);
        faults.extend(round);
    }
    faults.truncate(count);
    if let Some(middle) = faults.get_mut(count / 2) {
        *middle = Fault::LoseState;
    }
    let (mut at, mut ahead) = (Duration::ZERO, false);
    let mut stroke = |fault| {
        let fault = match fault {
            Fault::Stop { .. } => Fault::Stop { ms: dice.random_range(STOPPED_MS) },
            Fault::MoveClock { .. } => {
                // Back and forth, so that it goes back at least once.
                let seconds = CLOCK_MOVES[dice.random_range(0..CLOCK_MOVES.len())];
                let seconds = if ahead { seconds } else { -seconds };
                ahead = !ahead;
                Fault::MoveClock { seconds }
            }
            Fault::Kill | Fault::Refuse | Fault::Reset | Fault::Lie | Fault::LoseState | Fault::FullLogs => fault,
        };
        // Somewhere within its own span, so that faults sometimes come close together.
        let late = FAULT_EVERY.mul_f64(dice.random_range(0.0..1.0));
        let stroke =
            Stroke { at: at + late, service: dice.random_range(0..SERVICES), pick: dice.random_range(0..64), fault };
        at += FAULT_EVERY;
        stroke
    };
    faults.into_iter().map(&mut stroke).collect()
}

fn plan_edits(dice: &mut SmallRng, count: usize) -> Vec<Edit> {
    let (mut broken, mut away) = (None, None);
    let edit = |at| {
        // Both may be due at once; then one comes an edit later.
        let room = at + MENDED_AFTER.max(BACK_AFTER) + 2 < count;
        if let Some((_, service)) = broken.take_if(|(due, _)| *due <= at) {
            return Edit::Mend(service);
        }
        if away.take_if(|due| *due <= at).is_some() {
            return Edit::Restore;
        }
        let service = dice.random_range(0..SERVICES);
        // What is broken is written again by what mends it and by nothing else.
        let service = if broken.is_some_and(|(_, broken)| broken == service) { GUEST - 1 - service } else { service };
        match dice.random_range(0..100) {
            0..3 => Edit::Rollout(service),
            3..7 if room && broken.is_none() => {
                broken = Some((at + MENDED_AFTER, service));
                Edit::Break(service)
            }
            7..10 if room && away.is_none() => {
                away = Some(at + BACK_AFTER);
                Edit::Remove
            }
            _ => Edit::Harmless(service),
        }
    };
    (0..count).map(edit).collect()
}
