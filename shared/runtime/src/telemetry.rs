//! Logs and metrics of a process: one calm line a happening, and Prometheus text for whoever asks.
//!
//! Invariant: nothing here is called while a request is served; numbers of the request path are kept by their owners and
//! rendered by a [`TextSource`] when somebody asks.

use crate::clock::unix_millis;
use crate::tasks::Tasks;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;
use parking_lot::RwLock;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// A series that nobody touches for this long is forgotten, so a deleted revision leaves `/metrics` by itself. Owners of
/// cached handles touch them at least once a second.
pub const METRICS_IDLE: Duration = Duration::from_secs(300);
/// Raw histogram samples are folded into buckets this often; without it they pile up.
pub const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// Upper bounds of every histogram, in seconds: 100 µs to 10 min, for event-loop turns as for cold starts.
pub const BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `04:31:02.123Z default/model: ready in 1.2 s`: time, message, fields; the level only when it is not the usual one.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = TelemetryError;
    fn from_str(word: &str) -> Result<Self, TelemetryError> {
        match word {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(TelemetryError::Format(word.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

/// Why logs or metrics could not be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TelemetryError {
    /// Not one of the formats.
    Format(String),
    /// The filter cannot be read.
    Filter(String),
    /// Another part of the process has done it already.
    Installed,
}

impl fmt::Display for TelemetryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(word) => write!(f, "{word:?} is no log format: expected human or json"),
            Self::Filter(why) => {
                write!(f, "the log filter cannot be read: {why}; expected such as \"info,activator=debug\"")
            }
            Self::Installed => f.write_str("logs or metrics are set up already in this process"),
        }
    }
}

impl std::error::Error for TelemetryError {}

/// Sends the process's log lines to standard error. `filter` is in the syntax of `tracing_subscriber::EnvFilter`.
///
/// # Errors
/// When the filter cannot be read or logs are set up already.
pub fn logs(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(quiet(filter)).map_err(|error| TelemetryError::Filter(error.to_string()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match format {
        LogFormat::Human => builder.event_format(Calm).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| TelemetryError::Installed)
}

/// rustls writes a line, some of them warnings, for whatever odd thing a peer sends: anybody could fill the log. Who wants
/// them names it in the filter.
fn quiet(filter: &str) -> String {
    if filter.contains("rustls") { filter.to_owned() } else { format!("{filter},rustls=off") }
}

/// The human format.
struct Calm;

impl<S, N> FormatEvent<S, N> for Calm
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "{} ", TimeOfDay(unix_millis()))?;
        let meta = event.metadata();
        match *meta.level() {
            Level::INFO => {}
            Level::WARN | Level::ERROR => write!(writer, "{}: ", meta.level())?,
            _ => write!(writer, "{} {}: ", meta.level(), meta.target())?,
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Milliseconds since the epoch as a time of day, UTC.
struct TimeOfDay(u64);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, millis) = (self.0 / 1000, self.0 % 1000);
        write!(f, "{:02}:{:02}:{:02}.{millis:03}Z", secs / 3600 % 24, secs / 60 % 60, secs % 60)
    }
}

/// Appends complete Prometheus text (`# HELP`, `# TYPE`, samples) of numbers kept elsewhere. Runs on a thread for
/// it whenever somebody asks for `/metrics`.
pub type TextSource = Arc<dyn Fn(&mut String) + Send + Sync>;

/// What `/metrics` shows. Clones show the same.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    sources: Arc<RwLock<Vec<TextSource>>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("sources", &self.sources.read().len()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Makes the process's `metrics` calls end here.
    ///
    /// # Errors
    /// When another recorder is installed already.
    pub fn install() -> Result<Self, TelemetryError> {
        let (recorder, metrics) = Self::detached();
        ::metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Installed)?;
        Ok(metrics)
    }

    /// A recorder that is not the process's: for tests (`metrics::with_local_recorder`) and embedding.
    #[must_use]
    pub fn detached() -> (PrometheusRecorder, Self) {
        let builder = PrometheusBuilder::new().idle_timeout(MetricKindMask::ALL, Some(METRICS_IDLE));
        let Ok(builder) = builder.set_buckets(BUCKETS) else { unreachable!("only an empty list is refused") };
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        (recorder, Self { handle, sources: Arc::default() })
    }

    /// Appends `source` to every rendering from now on.
    pub fn add_source(&self, source: TextSource) {
        self.sources.write().push(source);
    }

    /// The page, in Prometheus text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = self.handle.render();
        // Cloned out of the lock: a source may take its time.
        let sources = self.sources.read().clone();
        for source in sources {
            if !page.is_empty() && !page.ends_with('\n') {
                page.push('\n');
            }
            source(&mut page);
        }
        page
    }

    /// Folds raw samples until the program stops.
    pub fn keep_up(&self, tasks: &Tasks) {
        let (handle, stop) = (self.handle.clone(), tasks.stopping());
        tasks.service("metrics upkeep", async move {
            let mut ticks = tokio::time::interval(METRICS_UPKEEP);
            loop {
                tokio::select! {
                    biased; // Stopping first: a last upkeep serves nobody.
                    () = stop.cancelled() => break,
                    _ = ticks.tick() => handle.run_upkeep(),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_fill_the_log_by_way_of_rustls() {
        for (filter, expected) in [
            ("info", "info,rustls=off"),
            ("info,access=debug", "info,access=debug,rustls=off"),
            ("info,rustls=debug", "info,rustls=debug"),
        ] {
            assert_eq!(quiet(filter), expected);
            assert!(EnvFilter::try_new(quiet(filter)).is_ok());
        }
    }

    use parking_lot::Mutex;
    use std::io;
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn human_lines_are_calm() {
        let lines = Lines::default();
        let subscriber =
            tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).event_format(Calm).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("default/model: ready in 1.2 s");
            tracing::warn!(revision = "default/model", "no replica");
        });
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(lines, ["default/model: ready in 1.2 s", "WARN: no replica revision=\"default/model\""]);
        assert_eq!(text.split_once(' ').unwrap().0.len(), "04:31:02.123Z".len());
    }

    #[test]
    fn the_time_of_day_is_utc() {
        assert_eq!(TimeOfDay(0).to_string(), "00:00:00.000Z");
        assert_eq!(TimeOfDay(86_400_000 * 3 + 3_723_045).to_string(), "01:02:03.045Z");
    }

    #[test]
    fn unreadable_settings_say_what_would_be_right() {
        assert!("Human".parse::<LogFormat>().unwrap_err().to_string().contains("expected human or json"));
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert!(matches!(logs(LogFormat::Human, "info,=[=nonsense"), Err(TelemetryError::Filter(_))));
    }

    #[test]
    fn sources_follow_what_is_recorded() {
        let (recorder, metrics) = Metrics::detached();
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::counter!("kpa_tests_total").increment(2);
            ::metrics::histogram!("kpa_test_seconds").record(0.2);
        });
        metrics.add_source(Arc::new(|page| page.push_str("kpa_extra 1\n")));
        let page = metrics.render();
        assert!(page.contains("kpa_tests_total 2"), "{page}");
        assert!(page.contains("kpa_test_seconds_bucket{le=\"0.25\"} 1"), "{page}");
        assert!(page.contains("kpa_test_seconds_bucket{le=\"0.1\"} 0"), "{page}");
        assert!(page.ends_with("\nkpa_extra 1\n"), "{page}");
    }
}
