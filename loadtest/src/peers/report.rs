//! What is printed: for each scenario a line for each proxy and the ratio to the better peer; of several, a table of them.

use super::generator::Seen;
use super::proxy::Peer;
use super::scenario::Scenario;
use super::spread::Spread;
use crate::stats::Percentiles;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One proxy's turn in one round.
#[derive(Debug)]
pub(super) struct Round {
    /// Which round.
    pub(super) number: usize,
    /// Whose turn.
    pub(super) peer: Peer,
    /// CPU time of the proxy.
    pub(super) cpu: Duration,
    /// CPU time of backend and generator.
    pub(super) load_cpu: Duration,
    /// Resident memory afterwards.
    pub(super) rss_bytes: u64,
    /// What the load saw.
    pub(super) seen: Seen,
}

impl Round {
    fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.seen.count as f64
    }

    fn per_second(&self, of: f64) -> f64 {
        of / self.seen.elapsed.as_secs_f64()
    }
}

/// All scenarios that were measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Suite {
    machine: String,
    rounds: usize,
    seconds: f64,
    pub(super) scenarios: Vec<Outcome>,
}

impl Suite {
    pub(super) fn new(rounds: usize, seconds: f64, scenarios: Vec<Outcome>) -> Self {
        Self { machine: machine(), rounds, seconds, scenarios }
    }

    /// Whether every scenario has a ratio of at most `limit`, where there is one.
    pub(super) fn keeps(&self, limit: Option<f64>) -> bool {
        let within = |limit: f64| move |it: &Outcome| it.ratio.as_ref().is_some_and(|it| it.spread.median <= limit);
        limit.is_none_or(|limit| self.scenarios.iter().all(within(limit)))
    }
}

/// The result of one scenario.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    pub(super) scenario: Scenario,
    pub(super) proxies: Vec<Line>,
    /// Of the activator to the better peer; missing when one of them was not measured.
    pub(super) ratio: Option<Ratio>,
    /// Missing when it was left out.
    pub(super) latency: Option<AtEqualLoad>,
}

/// Latencies while every proxy gets the same number of requests a second.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AtEqualLoad {
    pub(super) requests_per_second: f64,
    pub(super) percentiles: BTreeMap<Peer, Percentiles>,
}

/// One proxy, the medians over all rounds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    pub(super) proxy: Peer,
    /// Events of streams count like requests.
    requests_per_second: f64,
    pub(super) cpu_micros_per_request: Spread,
    p50_ms: f64,
    p99_ms: f64,
    rss_mib: f64,
    /// Busy part of the proxy's core; the rate is the proxy's own limit only near 1.
    core_utilisation: f64,
    /// Busy part of the core of backend and generator.
    load_utilisation: f64,
    errors: u64,
}

/// CPU per request of the activator, divided by the better peer's in the same round.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ratio {
    pub(super) to: Peer,
    /// The median and quartiles over the rounds.
    pub(super) spread: Spread,
    /// 1.0 lies between the quartiles: these rounds cannot tell the two apart.
    equal: bool,
}

impl Outcome {
    /// Of all turns of all rounds.
    pub(super) fn new(scenario: Scenario, rounds: &[Round]) -> Self {
        let proxies: Vec<Line> = Peer::ALL.iter().filter_map(|peer| Line::of(*peer, rounds)).collect();
        Self { scenario, ratio: Ratio::of(&proxies, rounds), latency: None, proxies }
    }

    /// The median rate of the slowest proxy, in requests a second.
    pub(super) fn slowest_rate(&self) -> f64 {
        self.proxies.iter().map(|line| line.requests_per_second).fold(f64::INFINITY, f64::min)
    }
}

impl Line {
    fn of(proxy: Peer, rounds: &[Round]) -> Option<Self> {
        let own = || rounds.iter().filter(move |round| round.peer == proxy);
        let median = |value: &dyn Fn(&Round) -> f64| Some(Spread::of(own().map(value))?.median);
        Some(Self {
            proxy,
            requests_per_second: median(&|round| round.per_second(round.seen.count as f64))?,
            cpu_micros_per_request: Spread::of(own().map(Round::cpu_micros))?,
            p50_ms: median(&|round| round.seen.latencies.percentiles().p50)?,
            p99_ms: median(&|round| round.seen.latencies.percentiles().p99)?,
            rss_mib: own().map(|round| round.rss_bytes).max()? as f64 / f64::from(1024 * 1024),
            core_utilisation: median(&|round| round.per_second(round.cpu.as_secs_f64()))?,
            load_utilisation: median(&|round| round.per_second(round.load_cpu.as_secs_f64()))?,
            errors: own().map(|round| round.seen.errors).sum(),
        })
    }
}

impl Ratio {
    fn of(proxies: &[Line], rounds: &[Round]) -> Option<Self> {
        let peers = proxies.iter().filter(|line| line.proxy != Peer::Activator);
        let better =
            peers.min_by(|a, b| a.cpu_micros_per_request.median.total_cmp(&b.cpu_micros_per_request.median))?;
        let of = |peer, number| rounds.iter().find(|round| round.peer == peer && round.number == number);
        let ratios = rounds.iter().filter(|round| round.peer == Peer::Activator).filter_map(|ours| {
            let theirs = of(better.proxy, ours.number)?;
            Some(ours.cpu_micros() / theirs.cpu_micros())
        });
        let spread = Spread::of(ratios)?;
        Some(Self { to: better.proxy, spread, equal: spread.holds(1.0) })
    }
}

/// Processor, number of cores and kernel, as a reader of the figures needs them.
fn machine() -> String {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let name = cpuinfo.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{}, {cores} cores, Linux {}", name.unwrap_or("unknown processor"), kernel.trim())
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, rounds, seconds, scenarios } = self;
        writeln!(f, "machine: {machine}")?;
        writeln!(f, "{rounds} rounds of {seconds} s, one core for the proxy and one for the load")?;
        for outcome in scenarios {
            write!(f, "\n{outcome}")?;
        }
        if scenarios.len() > 1 {
            write!(
                f,
                "\nCPU µs per request: medians, and the ratio to the better peer within each round\n\n{:<12}",
                "scenario"
            )?;
            for peer in Peer::ALL {
                write!(f, "{peer:>11}")?;
            }
            writeln!(f, "   ratio (quartiles)")?;
            for outcome in scenarios {
                outcome.row(f)?;
            }
        }
        Ok(())
    }
}

impl Outcome {
    /// Its line in the table of scenarios.
    fn row(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12}", self.scenario.name())?;
        for peer in Peer::ALL {
            match self.proxies.iter().find(|line| line.proxy == *peer) {
                Some(line) => write!(f, "{:>11.2}", line.cpu_micros_per_request.median)?,
                None => write!(f, "{:>11}", "-")?,
            }
        }
        match &self.ratio {
            Some(ratio) => writeln!(f, "   {} to {}", ratio.spread, ratio.to),
            None => writeln!(f, "   -"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, name) = (self.scenario.shape(), self.scenario.name());
        writeln!(f, "{name}: {}\n", self.scenario.about())?;
        let unit = shape.unit();
        writeln!(
            f,
            "proxy       {unit:>7}s/s   CPU µs/{unit:<7} (quartiles)   p50 ms   p99 ms  RSS MiB  core  load core"
        )?;
        for line in &self.proxies {
            writeln!(
                f,
                "{:<10} {:>11.0}   {:>26}   {:>6.2}   {:>6.2}  {:>7.1}  {:>3.0}%       {:>3.0}%",
                line.proxy,
                line.requests_per_second,
                line.cpu_micros_per_request.to_string(),
                line.p50_ms,
                line.p99_ms,
                line.rss_mib,
                line.core_utilisation * 100.0,
                line.load_utilisation * 100.0,
            )?;
            if line.errors > 0 {
                writeln!(f, "{:<10} {} clients failed: its figures do not count", line.proxy, line.errors)?;
            }
            if line.core_utilisation < 0.9 && shape.saturates() {
                writeln!(f, "{:<10} its core was not busy: the rate is not its limit", line.proxy)?;
            }
        }
        if let Some(AtEqualLoad { requests_per_second, percentiles }) = &self.latency {
            writeln!(f, "\nlatency at {requests_per_second:.0} requests/s each, from the intended send")?;
            for (peer, percentiles) in percentiles {
                writeln!(f, "{peer:<10} {percentiles}")?;
            }
        }
        match &self.ratio {
            Some(Ratio { to, spread, equal }) => {
                let verdict = if *equal { "equal within the spread" } else { "median (quartiles)" };
                writeln!(f, "\nCPU ratio to the better peer, {to}: {spread}, {verdict}")
            }
            None => writeln!(f, "\nno CPU ratio: it needs the activator and another proxy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(number: usize, peer: Peer, cpu_micros: u64) -> Round {
        Round {
            number,
            peer,
            cpu: Duration::from_micros(cpu_micros * 1000),
            load_cpu: Duration::ZERO,
            rss_bytes: 0,
            seen: Seen { count: 1000, elapsed: Duration::from_secs(1), ..Seen::default() },
        }
    }

    #[test]
    fn the_ratio_is_taken_within_a_round() {
        // The machine is half as fast in the second round; the ratio stays 1.2.
        let rounds = [
            round(0, Peer::Activator, 12),
            round(0, Peer::Nginx, 10),
            round(0, Peer::Haproxy, 20),
            round(1, Peer::Activator, 24),
            round(1, Peer::Nginx, 20),
            round(1, Peer::Haproxy, 40),
        ];
        let suite = Suite::new(2, 1.0, vec![Outcome::new(Scenario::Small, &rounds)]);
        assert!(suite.keeps(None) && suite.keeps(Some(1.21)) && !suite.keeps(Some(1.19)));
        let ratio = suite.scenarios[0].ratio.as_ref().unwrap();
        assert_eq!(ratio.to, Peer::Nginx);
        assert!((ratio.spread.median - 1.2).abs() < 1e-9 && !ratio.equal);
        assert!((ratio.spread.upper_quartile - 1.2).abs() < 1e-9);
    }

    #[test]
    fn without_a_peer_there_is_no_ratio() {
        let rounds = [round(0, Peer::Activator, 12)];
        let alone = Outcome::new(Scenario::Small, &rounds);
        assert!(alone.ratio.is_none());
        let both = Suite::new(1, 1.0, vec![alone, Outcome::new(Scenario::Fresh, &rounds)]).to_string();
        assert!(both.contains("no CPU ratio") && both.lines().last().unwrap().starts_with("fresh "), "{both}");
    }
}
