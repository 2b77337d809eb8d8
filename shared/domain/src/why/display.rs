//! A decision as one calm sentence of arithmetic: `stable 10.0 / (10 x 0.70) -> 2`.
//!
//! Invariant: says the step that had the last word, with the numbers it had.

use super::{Backlog, Demand, Demands, Hold, Idleness, Step, Why};
use crate::signal::Signal;
use std::fmt;

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signal = match self.signal {
            Signal::Concurrency => "",
            Signal::Rps => " rps",
            Signal::Cpu => " % cpu",
            Signal::Memory => " MiB",
        };
        // A sum that has gone up and down again may be a rounding error below zero; nobody wants to read "-0.0".
        let reading = (self.reading * 10.0).round() / 10.0 + 0.0;
        write!(f, "{reading:.1}{signal} / ({} x {:.2}) -> {}", self.total, self.utilization, self.wanted)
    }
}

/// One calm sentence of arithmetic: the step that had the last word, with the numbers it had.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replicas, requested, ready, .. } = self;
        let stable = |f: &mut fmt::Formatter<'_>| match self.demand {
            Some(demand) => write!(f, "stable {}", demand.stable),
            None => f.write_str("no reading"),
        };
        match self.step() {
            Step::Stable => {
                stable(f)?;
                match self.demand {
                    Some(demand) if demand.stable.wanted != *replicas => write!(f, ", limited to {replicas}"),
                    _ => Ok(()),
                }
            }
            Step::Panic => match self.demand {
                Some(Demands { panic, .. }) if panic.wanted == *replicas => write!(f, "panic {panic}"),
                Some(Demands { panic, .. }) => write!(f, "panic {panic}, highest so far {replicas}"),
                None => write!(f, "in panic, highest so far {replicas}"),
            },
            Step::Delay => {
                stable(f)?;
                write!(f, ", held at {replicas} by scale-down-delay")
            }
            Step::Min => {
                stable(f)?;
                write!(f, ", at least {replicas}")
            }
            Step::Max => {
                stable(f)?;
                write!(f, ", at most {replicas}")
            }
            Step::Idleness => {
                stable(f)?;
                match self.idleness {
                    _ if !self.zero_allowed => f.write_str(", zero is not allowed"),
                    Idleness::Starting => write!(f, ", kept at {replicas}: no replica was ready yet"),
                    Idleness::Young { .. } => {
                        write!(f, ", kept at {replicas}: ready for less than {} s", self.window_seconds)
                    }
                    Idleness::Retained { until } => {
                        write!(f, ", kept at {replicas} for another {:.1} s", until.since(self.at).as_secs_f64())
                    }
                    Idleness::Asleep | Idleness::Spent | Idleness::Failed { .. } => Ok(()),
                }
            }
            Step::Backlog => match self.backlog {
                Some(Backlog { load, target, .. }) => {
                    write!(f, "{load} in flight / {target:.1} -> {replicas}, without waiting for the average")
                }
                None => Ok(()),
            },
            Step::Hold => {
                let reason = self.hold.map_or("", Hold::as_str);
                write!(f, "kept at {replicas}: {reason}")
            }
            Step::NoReading => write!(f, "kept at {requested}: nothing was measured yet ({ready} ready)"),
            Step::StartFailed => f.write_str("no replica became ready in time"),
            Step::Exclusive if replicas < requested => f.write_str("makes room in its exclusive group"),
            Step::Exclusive if replicas.is_zero() => f.write_str("waits for a slot of its exclusive group"),
            Step::Exclusive => write!(f, "at most {replicas}: its exclusive group has no free slot"),
            Step::Wake => f.write_str("woken by a request although it is not ours to scale"),
        }
    }
}
