//! Replicas' output: always read, split into lines, written to bounded files and, prefixed, to the terminal.
//!
//! Invariant: reading never waits for writing. A sink that cannot follow, or that fails, loses lines and says how many; a
//! pipe that is not emptied would freeze the replica.

mod files;
mod lines;
pub(crate) mod read;

use crate::options::WallClock;
use domain::WallTime;
use files::Files;
use lines::Lines;
pub(crate) use lines::Tail;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Lines a sink may be behind by; with the longest lines 16 MiB.
const SINK_LINES: usize = 1024;
/// A source whose lines cannot be written is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Sources whose dropped lines are counted; beyond, counting begins anew.
const FAILING_MAX: usize = 1024;
/// Bytes read at once from a replica.
const READ_BYTES: usize = 16 * 1024;

/// One replica's slot as a source of lines.
#[derive(Debug)]
pub(crate) struct Source {
    /// Before every line on the terminal, such as `app-0`.
    pub(crate) label: String,
    /// Its log file.
    pub(crate) path: PathBuf,
}

/// A line on its way to a sink.
struct Line {
    source: Arc<Source>,
    /// When it was read.
    at: WallTime,
    text: Arc<[u8]>,
    /// Lines of the same sink that were lost just before this one.
    lost: u64,
}

/// What a sink's thread writes to.
trait Target: Send + 'static {
    fn write(&mut self, source: &Source, at: WallTime, text: &[u8]) -> io::Result<()>;
}

/// Standard error.
struct Terminal;

impl Target for Terminal {
    fn write(&mut self, source: &Source, _: WallTime, text: &[u8]) -> io::Result<()> {
        // One write a line, so that lines of several replicas never mix.
        let line = [source.label.as_bytes(), b" | ", text, b"\n"].concat();
        io::stderr().lock().write_all(&line)
    }
}

/// A bounded queue with a thread that empties it.
#[derive(Debug, Clone)]
struct Sink {
    queue: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

impl Sink {
    fn start(name: &str, target: impl Target) -> io::Result<Self> {
        let (queue, lines) = sync_channel(SINK_LINES);
        std::thread::Builder::new().name(name.into()).spawn(move || drain(&lines, target))?;
        Ok(Self { queue, lost: Arc::default() })
    }

    fn push(&self, source: &Arc<Source>, at: WallTime, text: &Arc<[u8]>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let line = Line { source: Arc::clone(source), at, text: Arc::clone(text), lost };
        if self.queue.try_send(line).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

/// A source whose lines cannot be written.
struct Failing {
    /// Lines dropped since the last one that was written.
    dropped: u64,
    /// Why.
    error: io::Error,
    /// When the next is tried: a disk that is nearly full would have each of them cut off again.
    next: WallTime,
}

impl Failing {
    /// Whether the next try is still to come; a clock that was set back is no reason to wait longer.
    fn waits(&self, at: WallTime) -> bool {
        at < self.next && at >= self.next.before(TRY_AGAIN)
    }
}

fn drain(lines: &Receiver<Line>, mut target: impl Target) {
    let mut failing: BTreeMap<PathBuf, Failing> = BTreeMap::new();
    for line in lines {
        let before = failing.remove(&line.source.path);
        if let Some(now) = write(&mut target, &line, before) {
            if failing.len() >= FAILING_MAX {
                failing.clear();
            }
            failing.insert(line.source.path.clone(), now);
        }
    }
}

/// Writes a line, behind a remark about those that were lost before it; gives what is lost now.
fn write(target: &mut impl Target, line: &Line, before: Option<Failing>) -> Option<Failing> {
    let Line { source, at, text, lost } = line;
    let mut dropped = lost + before.as_ref().map_or(0, |before| before.dropped);
    let why = match before {
        Some(before) if before.waits(*at) => return Some(Failing { dropped: dropped + 1, ..before }),
        Some(before) => Some(before.error.to_string()),
        None => None,
    };
    let mut attempt = || {
        if dropped > 0 {
            let why = why.as_deref().unwrap_or("output faster than it can be written");
            target.write(source, *at, format!("[{dropped} lines dropped: {why}]").as_bytes())?;
            dropped = 0;
        }
        target.write(source, *at, text)
    };
    match attempt() {
        Ok(()) => {
            if why.is_some() {
                tracing::info!(source = %source.label, "replicas' output is written again");
            }
            None
        }
        Err(error) => {
            if why.is_none() {
                tracing::warn!(source = %source.label, %error, "replicas' output cannot be written; it is dropped until it can");
            }
            Some(Failing { dropped: dropped + 1, error, next: at.after(TRY_AGAIN) })
        }
    }
}

/// Where all output goes. Clones are the same sinks.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    wall_clock: WallClock,
    files: Sink,
    terminal: Option<Sink>,
}

impl Logs {
    /// Starts the sinks' threads; they end with the last clone.
    pub(crate) fn start(terminal: bool, wall_clock: WallClock) -> io::Result<Self> {
        let files = Sink::start("log-files", Files::default())?;
        let terminal = if terminal { Some(Sink::start("log-terminal", Terminal)?) } else { None };
        Ok(Self { wall_clock, files, terminal })
    }

    /// Reads `pipe` to its end, whoever holds the other one.
    pub(crate) async fn read(
        self,
        mut pipe: impl AsyncRead + Unpin,
        source: Arc<Source>,
        tail: Option<Arc<Mutex<Tail>>>,
    ) {
        let (mut lines, mut buffer) = (Lines::default(), vec![0; READ_BYTES]);
        let mut line = |text: &[u8]| {
            if let Some(tail) = &tail {
                tail.lock().push(text);
            }
            let (text, at): (Arc<[u8]>, _) = (text.into(), (self.wall_clock)());
            self.files.push(&source, at, &text);
            if let Some(terminal) = &self.terminal {
                terminal.push(&source, at, &text);
            }
        };
        // An error means the same as the end: there is nothing more to read.
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            lines.push(&buffer[..read], &mut line);
        }
        lines.finish(&mut line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Writes each line only when it is let.
    struct Gated {
        let_one: Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Target for Gated {
        fn write(&mut self, _: &Source, _: WallTime, text: &[u8]) -> io::Result<()> {
            self.let_one.recv().map_err(io::Error::other)?;
            self.written.send(String::from_utf8_lossy(text).into_owned()).map_err(io::Error::other)
        }
    }

    #[test]
    fn a_full_sink_drops_and_says_how_many() {
        let ((gate, let_one), (written, lines)) = (mpsc::channel(), mpsc::channel());
        let sink = Sink::start("test", Gated { let_one, written }).unwrap();
        let source = Arc::new(Source { label: "app-0".into(), path: PathBuf::new() });
        let push = |text: &str| sink.push(&source, WallTime::default(), &Arc::from(text.as_bytes()));
        // The first is taken by the thread, or not yet: so many fit at most.
        for number in 0..SINK_LINES + 10 {
            push(&number.to_string());
        }
        let lost = sink.lost.load(Ordering::Relaxed);
        assert!((9..=10).contains(&lost), "{lost}");
        let taken = SINK_LINES + 10 - usize::try_from(lost).unwrap();
        for number in 0..taken {
            gate.send(()).unwrap();
            assert_eq!(lines.recv().unwrap(), number.to_string());
        }
        push("after");
        gate.send(()).unwrap();
        gate.send(()).unwrap();
        assert!(lines.recv().unwrap().starts_with(&format!("[{lost} lines dropped")));
        assert_eq!(lines.recv().unwrap(), "after");
    }

    /// Fails as long as it is told to, as a full disk does.
    struct Full {
        full: Receiver<bool>,
        written: mpsc::Sender<String>,
    }

    impl Target for Full {
        fn write(&mut self, _: &Source, _: WallTime, text: &[u8]) -> io::Result<()> {
            if self.full.recv().map_err(io::Error::other)? {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.send(String::from_utf8_lossy(text).into_owned()).map_err(io::Error::other)
        }
    }

    #[test]
    fn what_a_full_disk_drops_is_counted_and_tried_seldom() {
        let ((disk, full), (written, lines)) = (mpsc::channel(), mpsc::channel());
        let sink = Sink::start("test", Full { full, written }).unwrap();
        let source = Arc::new(Source { label: "app-0".into(), path: PathBuf::new() });
        let push = |line: &str, millis| {
            sink.push(&source, WallTime::from_unix_millis(millis), &Arc::from(line.as_bytes()));
        };
        let second = u64::try_from(TRY_AGAIN.as_millis()).unwrap();
        // One answer of the disk for each time that it is tried.
        for is_full in [false, true, true, false, true, false, false] {
            disk.send(is_full).unwrap();
        }
        push("first", 0);
        push("lost", 0);
        push("not tried", second - 1);
        push("tried and lost", second);
        push("not tried", second + 1);
        // Room for the remark only, then for both.
        push("lost after the remark", 2 * second);
        push("after", 3 * second);
        let found = [(); 4].map(|()| lines.recv().unwrap());
        let error = io::Error::from(io::ErrorKind::StorageFull);
        let remark = |count: u64| format!("[{count} lines dropped: {error}]");
        assert_eq!(found, ["first".to_owned(), remark(4), remark(1), "after".to_owned()]);
    }

    #[tokio::test]
    async fn what_a_replica_says_is_in_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start(false, WallTime::default).unwrap();
        let source = Arc::new(Source { label: "app-0".into(), path: dir.path().join("default.app").join("0.log") });
        let tail = Arc::new(Mutex::new(Tail::default()));
        logs.read(&b"one\ntwo\nhalf"[..], Arc::clone(&source), Some(Arc::clone(&tail))).await;
        assert_eq!(tail.lock().last(), "half");
        let written = ["one", "two", "half"].map(|line| format!("1970-01-01T00:00:00.000Z {line}\n")).concat();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while std::fs::read_to_string(&source.path).unwrap_or_default() != written {
            assert!(tokio::time::Instant::now() < deadline, "the file never got the lines");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
