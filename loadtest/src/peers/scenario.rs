//! What the proxies are compared at: one table, a line for each kind of load.
//!
//! Invariant: a scenario says the same to every proxy; what one of them cannot do is said in its notice.

use serde::Serialize;
use std::time::Duration;

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scenario {
    /// 2-byte answers over 64 connections.
    Small,
    /// The same without any forwarding field.
    Plain,
    /// 16 KiB answers.
    Medium,
    /// 1 MiB answers.
    Large,
    /// 1 000 connections.
    Crowd,
    /// A new connection for every request.
    Fresh,
    /// HTTP/2 without TLS towards the proxy: 8 connections of 8 streams.
    H2c,
    /// At most 10 requests at a time at the backend.
    Limited,
    /// 10 services, each with its own host and its own upstream.
    Ten,
    /// 1 000 services.
    Thousand,
    /// 1 000 open event streams of 10 events a second each.
    Streams,
    /// Uploads of 1 MiB.
    Upload,
}

/// What flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    /// GET, answered with so many bytes.
    Get { answer_bytes: usize },
    /// POST of so many bytes, answered with two.
    Post { body_bytes: usize },
    /// Streams that never end; what is counted are events.
    Events { every: Duration },
}

/// How clients use connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// HTTP/1.1, kept alive.
    KeptAlive,
    /// HTTP/1.1, one request each.
    Fresh,
    /// HTTP/2 by prior knowledge, so many streams each.
    H2 { streams: usize },
}

/// A scenario in numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// What flows.
    pub(super) traffic: Traffic,
    /// How clients use connections.
    pub(super) wire: Wire,
    /// Connections of clients.
    pub(super) connections: usize,
    /// Requests at a time at the backend; 0: as many as come.
    pub(super) limit: usize,
    /// Hosts, each with its own upstream.
    pub(super) services: usize,
    /// Whether X-Forwarded-For, -Proto and -Host are added.
    pub(super) forwarding: bool,
    /// Whether latencies are compared at the same offered load, too.
    pub(super) latency: bool,
}

impl Scenario {
    /// Its numbers.
    pub(super) const fn shape(self) -> Shape {
        const SMALL: Shape = Shape {
            traffic: Traffic::Get { answer_bytes: 2 },
            wire: Wire::KeptAlive,
            connections: 64,
            limit: 0,
            services: 1,
            forwarding: true,
            latency: false,
        };
        match self {
            Self::Small => Shape { latency: true, ..SMALL },
            Self::Plain => Shape { forwarding: false, ..SMALL },
            Self::Medium => Shape { traffic: Traffic::Get { answer_bytes: 16 * 1024 }, latency: true, ..SMALL },
            Self::Large => Shape { traffic: Traffic::Get { answer_bytes: 1024 * 1024 }, ..SMALL },
            Self::Crowd => Shape { connections: 1000, ..SMALL },
            Self::Fresh => Shape { wire: Wire::Fresh, ..SMALL },
            Self::H2c => Shape { wire: Wire::H2 { streams: 8 }, connections: 8, ..SMALL },
            Self::Limited => Shape { limit: 10, latency: true, ..SMALL },
            Self::Ten => Shape { services: 10, ..SMALL },
            Self::Thousand => Shape { services: 1000, ..SMALL },
            Self::Streams => {
                Shape { traffic: Traffic::Events { every: Duration::from_millis(100) }, connections: 1000, ..SMALL }
            }
            Self::Upload => Shape { traffic: Traffic::Post { body_bytes: 1024 * 1024 }, ..SMALL },
        }
    }

    /// Its name on the command line and in the report.
    pub(super) fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Its line of help, without the full stop.
    pub(super) fn about(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }
}

impl Shape {
    /// The hosts of the services, as the activator names those of its `--upstream`s.
    pub(super) fn hosts(&self) -> Vec<String> {
        (0..self.services).map(|number| format!("{}.default.example.com", service(number))).collect()
    }

    /// What is counted.
    pub(super) const fn unit(&self) -> &'static str {
        match self.traffic {
            Traffic::Events { .. } => "event",
            Traffic::Get { .. } | Traffic::Post { .. } => "request",
        }
    }

    /// Whether as much is offered as the proxy can take; else its core need not be busy.
    pub(super) const fn saturates(&self) -> bool {
        !matches!(self.traffic, Traffic::Events { .. })
    }
}

/// The name of a service.
pub(super) fn service(number: usize) -> String {
    format!("bench-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_scenario_has_a_name_and_says_what_it_is() {
        for scenario in Scenario::value_variants() {
            assert!(!scenario.name().is_empty() && !scenario.about().is_empty(), "{scenario:?}");
            assert_eq!(scenario.shape().hosts().len(), scenario.shape().services);
        }
        assert_eq!(Scenario::H2c.name(), "h2c");
    }
}
