//! `kpa logs`: what replicas said, from the log files of the state folder, whether kpa runs or not.
//!
//! Invariant: reads the files only; with `-f` every line comes once, through rotations and new replicas.

use crate::api::DEFAULT_STATE_DIR;
use domain::{WallTime, duration};
use platform_local::{LogLine, ServiceLogs};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Between two looks of `--follow`.
const LOOK: Duration = Duration::from_millis(200);

/// Settings of `kpa logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service, as NAME or NAMESPACE/NAME; or one replica of it, as NAME-SLOT.
    #[arg(value_name = "NAME")]
    name: String,
    /// Keep reading, also what new replicas say.
    #[arg(short, long)]
    follow: bool,
    /// Only this replica.
    #[arg(long, value_name = "SLOT")]
    replica: Option<u32>,
    /// Only the last lines of each replica.
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Only what was said in the last time, such as 10m or 1h30m.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    since: Option<Duration>,
    /// Show when each line was said.
    #[arg(long)]
    timestamps: bool,
    /// The state folder of `kpa run`.
    #[arg(long, default_value = DEFAULT_STATE_DIR, value_name = "FOLDER")]
    state_dir: PathBuf,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let mut logs = ServiceLogs::open(&args.state_dir, &args.name, args.replica)?;
    let now = WallTime::from_unix_millis(runtime::clock::unix_millis());
    let several = logs.slots().len() > 1 || (args.follow && args.replica.is_none());
    let mut printer = Printer {
        out: BufWriter::new(io::stdout().lock()),
        label: several.then(|| logs.service().name().to_owned()),
        since: args.since.map(|since| now.before(since)),
        timestamps: args.timestamps,
    };
    logs.read(args.tail, |slot, line| printer.print(slot, &line))?;
    printer.out.flush()?;
    if !args.follow {
        logs.finish(|slot, line| printer.print(slot, &line))?;
        printer.out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        std::thread::sleep(LOOK);
        logs.look()?;
        logs.read(None, |slot, line| printer.print(slot, &line))?;
        printer.out.flush()?;
    }
}

/// How lines look.
struct Printer<W> {
    out: W,
    /// Whose lines they are, where several replicas are shown.
    label: Option<String>,
    since: Option<WallTime>,
    timestamps: bool,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, slot: u32, line: &LogLine) -> io::Result<()> {
        if self.since.is_some_and(|since| line.at.is_none_or(|at| at < since)) {
            return Ok(());
        }
        if let Some(label) = &self.label {
            write!(self.out, "{label}-{slot} | ")?;
        }
        if let (true, Some(at)) = (self.timestamps, line.at) {
            write!(self.out, "{at} ")?;
        }
        self.out.write_all(&line.text)?;
        self.out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_as_asked() {
        let shown = |label: Option<&str>, since: Option<u64>, timestamps: bool, at: Option<u64>| {
            let mut printer = Printer {
                out: Vec::new(),
                label: label.map(str::to_owned),
                since: since.map(WallTime::from_unix_millis),
                timestamps,
            };
            let line = LogLine { at: at.map(WallTime::from_unix_millis), text: b"hello".to_vec() };
            printer.print(3, &line).unwrap();
            String::from_utf8(printer.out).unwrap()
        };
        assert_eq!(shown(None, None, false, Some(7)), "hello\n");
        assert_eq!(shown(Some("app"), None, true, Some(7)), "app-3 | 1970-01-01T00:00:00.007Z hello\n");
        assert_eq!(shown(None, None, true, None), "hello\n");
        assert_eq!(shown(None, Some(7), false, Some(7)), "hello\n");
        assert_eq!(shown(None, Some(8), false, Some(7)), "");
        assert_eq!(shown(None, Some(0), false, None), "", "nobody knows when it was");
    }
}
