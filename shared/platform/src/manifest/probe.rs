//! Probes and the preStop hook.
//!
//! Invariant: a port that equals the serving one, by number or name, is `None`, so that it follows the replica's own
//! (kpa-behaviour 10.1).

use super::ports;
use super::report::Report;
use super::workload::PreStop;
use domain::{Probe, ProbeCheck};
use k8s_openapi::api::core::v1::{self as core, Container};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;

/// A container whose probes are read.
#[derive(Clone, Copy)]
pub(super) struct Probed<'a> {
    pub(super) container: &'a Container,
    /// Where it stands in the manifest.
    pub(super) path: &'a str,
    /// The serving port.
    pub(super) serving: Option<u16>,
}

impl Probed<'_> {
    /// One probe; `field` is its name in the container. `None` when it has none that can be honoured.
    pub(super) fn probe(self, field: &str, probe: Option<&core::Probe>, report: &mut Report) -> Option<Probe> {
        let probe = probe?;
        let key = format!("{}.{field}", self.path);
        let check = self.check(&key, probe, report)?;
        let mut seconds = |name: &str, value: Option<i32>, default: u64| {
            Duration::from_secs(at_least_one(&key, name, value, default, report))
        };
        let (timeout, period) =
            (seconds("timeoutSeconds", probe.timeout_seconds, 1), seconds("periodSeconds", probe.period_seconds, 10));
        let mut times = |name: &str, value: Option<i32>, default: u64| {
            u32::try_from(at_least_one(&key, name, value, default, report)).unwrap_or(u32::MAX)
        };
        Some(Probe {
            check,
            timeout,
            period,
            failure_threshold: times("failureThreshold", probe.failure_threshold, 3),
            success_threshold: times("successThreshold", probe.success_threshold, 1),
        })
    }

    fn check(self, key: &str, probe: &core::Probe, report: &mut Report) -> Option<ProbeCheck> {
        if let Some(get) = &probe.http_get {
            return Some(self.http(&format!("{key}.httpGet"), get, report));
        }
        if let Some(tcp) = &probe.tcp_socket {
            let key = format!("{key}.tcpSocket");
            other_host(&key, tcp.host.as_deref(), report);
            return Some(ProbeCheck::Tcp { port: self.port(&key, &tcp.port, report) });
        }
        if let Some(exec) = &probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            if !command.is_empty() {
                return Some(ProbeCheck::Exec { command });
            }
        }
        if let Some(grpc) = &probe.grpc {
            let key = format!("{key}.grpc");
            report.warning(
                &key,
                "gRPC probes are not served in this release".into(),
                "httpGet, tcpSocket or exec",
                "the port is probed by a TCP connect",
            );
            return Some(ProbeCheck::Tcp { port: self.port(&key, &IntOrString::Int(grpc.port), report) });
        }
        report.error(key, "probes nothing".into(), "httpGet, tcpSocket or exec", "it is left out");
        None
    }

    fn http(self, key: &str, get: &core::HTTPGetAction, report: &mut Report) -> ProbeCheck {
        other_host(key, get.host.as_deref(), report);
        let port = self.port(key, &get.port, report);
        if get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
            report.warning(
                &format!("{key}.scheme"),
                "HTTPS probes are not served in this release".into(),
                "HTTP",
                "the port is probed by a TCP connect",
            );
            return ProbeCheck::Tcp { port };
        }
        let headers = get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
        ProbeCheck::Http { port, path: absolute(get.path.as_deref()), headers }
    }

    /// The port of a check, `None` for the one that serves.
    fn port(self, key: &str, port: &IntOrString, report: &mut Report) -> Option<u16> {
        let number = ports::resolve(port, self.container);
        if number.is_none() {
            let what = match port {
                IntOrString::Int(number) => format!("{number} is no port"),
                IntOrString::String(name) => format!("{name:?} is the name of no port of the container"),
            };
            report.error(&format!("{key}.port"), what, "a port of the container", "the serving port is probed");
        }
        number.filter(|number| Some(*number) != self.serving)
    }

    /// `lifecycle.preStop`.
    pub(super) fn pre_stop(self, report: &mut Report) -> Option<PreStop> {
        let handler = self.container.lifecycle.as_ref()?.pre_stop.as_ref()?;
        let key = format!("{}.lifecycle.preStop", self.path);
        if let Some(get) = &handler.http_get {
            let key = format!("{key}.httpGet");
            other_host(&key, get.host.as_deref(), report);
            return Some(PreStop::Http {
                port: self.port(&key, &get.port, report),
                path: absolute(get.path.as_deref()),
            });
        }
        if let Some(sleep) = &handler.sleep {
            return Some(PreStop::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))));
        }
        let command = handler.exec.as_ref().and_then(|exec| exec.command.clone()).unwrap_or_default();
        if command.is_empty() {
            report.warning(&key, "does nothing that is known here".into(), "exec, httpGet or sleep", "it is left out");
            return None;
        }
        Some(PreStop::Exec(command))
    }
}

fn at_least_one(key: &str, name: &str, value: Option<i32>, default: u64, report: &mut Report) -> u64 {
    match value {
        None => default,
        // Kubernetes takes 0 for "not set".
        Some(0) => default,
        Some(value) => u64::try_from(value).unwrap_or_else(|_| {
            let what = format!("{value} is negative");
            report.error(&format!("{key}.{name}"), what, "1 or more", &format!("{default} is taken"));
            default
        }),
    }
}

fn other_host(key: &str, host: Option<&str>, report: &mut Report) {
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        let what = format!("{host:?} is not where the replica is");
        report.warning(&format!("{key}.host"), what, "no host", "the replica itself is asked");
    }
}

fn absolute(path: Option<&str>) -> String {
    match path.unwrap_or_default() {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    }
}
