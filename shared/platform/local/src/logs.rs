//! Replicas' output: always read, split into lines, written to bounded files and, prefixed, to the terminal.
//!
//! Invariant: reading never waits for writing. A sink that cannot follow loses lines and says how many; a pipe that is
//! not emptied would freeze the replica.

mod files;
mod lines;

use files::Files;
use lines::Lines;
pub(crate) use lines::Tail;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Lines a sink may be behind by; with the longest lines 16 MiB.
const SINK_LINES: usize = 1024;
/// Sources remembered as failing; of more nothing is told.
const FAILING_MAX: usize = 256;
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
    text: Arc<[u8]>,
    /// Lines of the same sink that were lost just before this one.
    lost: u64,
}

/// What a sink's thread writes to.
trait Target: Send + 'static {
    fn write(&mut self, source: &Source, text: &[u8]) -> io::Result<()>;
}

/// Standard error.
struct Terminal;

impl Target for Terminal {
    fn write(&mut self, source: &Source, text: &[u8]) -> io::Result<()> {
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

    fn push(&self, source: &Arc<Source>, text: &Arc<[u8]>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let line = Line { source: Arc::clone(source), text: Arc::clone(text), lost };
        if self.queue.try_send(line).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

fn drain(lines: &Receiver<Line>, mut target: impl Target) {
    let mut failing = Failing::default();
    for Line { source, text, lost } in lines {
        let mut write = || {
            if lost > 0 {
                target.write(
                    &source,
                    format!("[{lost} lines dropped: output faster than it can be written]").as_bytes(),
                )?;
            }
            target.write(&source, &text)
        };
        match write() {
            Ok(()) => failing.recovers(&source),
            Err(error) if failing.begins(&source) => {
                tracing::warn!(source = %source.label, %error, "replicas' output cannot be written");
            }
            Err(_) => {}
        }
    }
}

/// The sources whose last line could not be written: each is told of once, however many others can be written meanwhile.
#[derive(Debug, Default)]
struct Failing(BTreeSet<PathBuf>);

impl Failing {
    /// Whether this is news. Beyond [`FAILING_MAX`] nothing is.
    fn begins(&mut self, source: &Source) -> bool {
        self.0.len() < FAILING_MAX && self.0.insert(source.path.clone())
    }

    fn recovers(&mut self, source: &Source) {
        if !self.0.is_empty() {
            self.0.remove(&source.path);
        }
    }
}

/// Where all output goes. Clones are the same sinks.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    files: Sink,
    terminal: Option<Sink>,
}

impl Logs {
    /// Starts the sinks' threads; they end with the last clone.
    pub(crate) fn start(terminal: bool) -> io::Result<Self> {
        let files = Sink::start("log-files", Files::default())?;
        let terminal = if terminal { Some(Sink::start("log-terminal", Terminal)?) } else { None };
        Ok(Self { files, terminal })
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
            let text: Arc<[u8]> = text.into();
            self.files.push(&source, &text);
            if let Some(terminal) = &self.terminal {
                terminal.push(&source, &text);
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
        fn write(&mut self, _: &Source, text: &[u8]) -> io::Result<()> {
            self.let_one.recv().map_err(io::Error::other)?;
            self.written.send(String::from_utf8_lossy(text).into_owned()).map_err(io::Error::other)
        }
    }

    #[test]
    fn a_full_sink_drops_and_says_how_many() {
        let ((gate, let_one), (written, lines)) = (mpsc::channel(), mpsc::channel());
        let sink = Sink::start("test", Gated { let_one, written }).unwrap();
        let source = Arc::new(Source { label: "app-0".into(), path: PathBuf::new() });
        let push = |text: &str| sink.push(&source, &Arc::from(text.as_bytes()));
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

    #[test]
    fn a_failure_is_told_once_a_source_and_again_after_it_has_passed() {
        let source = |name: &str| Source { label: name.into(), path: name.into() };
        let (full, fine) = (source("full"), source("fine"));
        let mut failing = Failing::default();
        assert!(failing.begins(&full));
        failing.recovers(&fine);
        assert!(!failing.begins(&full), "another source that can be written changes nothing");
        failing.recovers(&full);
        assert!(failing.begins(&full));
        let news = (0..2 * FAILING_MAX).filter(|number| failing.begins(&source(&number.to_string()))).count();
        assert_eq!(news, FAILING_MAX - 1, "bounded");
    }

    #[tokio::test]
    async fn what_a_replica_says_is_in_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start(false).unwrap();
        let source = Arc::new(Source { label: "app-0".into(), path: dir.path().join("default.app").join("0.log") });
        let tail = Arc::new(Mutex::new(Tail::default()));
        logs.read(&b"one\ntwo\nhalf"[..], Arc::clone(&source), Some(Arc::clone(&tail))).await;
        assert_eq!(tail.lock().last(), "half");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_to_string(&source.path).unwrap_or_default() != "one\ntwo\nhalf\n" {
            assert!(tokio::time::Instant::now() < deadline, "the file never got the lines");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
