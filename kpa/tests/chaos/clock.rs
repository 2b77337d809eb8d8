//! A wall clock of the program's own, which can be moved while it runs: libfaketime, loaded into it.
//!
//! Invariant: only the wall clock moves; whatever measures a span goes on as before.

use crate::program::Place;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// How soon a program looks at its clock's file again, in seconds.
const SEEN_AFTER_S: u32 = 1;
/// Between two lines of a log that are further apart by their time of day the clock was moved: every move is at least an
/// hour, and no run is quiet for so long.
const APART_MS: u64 = 30 * 60 * 1_000;
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// The library, where it is installed.
pub(crate) fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}

/// Gives `command` the clock of `place`, which shows the true time until it is moved.
pub(crate) fn give(command: &mut Command, place: &Place) -> io::Result<()> {
    let Some(library) = library() else { return Ok(()) };
    if !place.clock().exists() {
        set(place, 0)?;
    }
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", place.clock())
        .env("FAKETIME_CACHE_DURATION", SEEN_AFTER_S.to_string())
        .env("DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1");
    Ok(())
}

/// From now on the clock is so many seconds from the true time.
pub(crate) fn set(place: &Place, seconds: i64) -> io::Result<()> {
    // Put in place whole: a program that reads half of it would stop.
    let new = place.clock().with_extension("new");
    fs::write(&new, format!("{seconds:+}\n"))?;
    fs::rename(new, place.clock())
}

/// Whether a log, whose lines begin with their time of day, shows that the clock was moved.
pub(crate) fn was_moved(log: &str) -> bool {
    let times: Vec<u64> = log.lines().filter_map(time_of_day_ms).collect();
    times.windows(2).any(|pair| {
        let apart = pair[0].abs_diff(pair[1]);
        apart.min(DAY_MS - apart) > APART_MS
    })
}

/// `09:19:57.954Z …`
fn time_of_day_ms(line: &str) -> Option<u64> {
    let (time, _) = line.split_once("Z ")?;
    let mut parts = time.split([':', '.']).map(|part| part.parse::<u64>().ok());
    let [hour, minute, second, milli] = [parts.next()??, parts.next()??, parts.next()??, parts.next()??];
    Some(((hour * 60 + minute) * 60 + second) * 1_000 + milli)
}
