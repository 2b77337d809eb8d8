//! Request metrics as Prometheus text, summed over the workers.
//!
//! Invariant: nothing on the request path knows of this; counters are read when somebody asks. Every name stands in
//! [`ALL`].

use crate::bounds::{Bounds, Limit, Stock};
use crate::error::Outcome;
use crate::gate::ColdCount;
use crate::local::watchdog::What;
use crate::local::{Counters, LATENCY_BUCKETS_MS};
use crate::revisions::Revisions;
use crate::sharing::{Bound, Shares};
use crate::tls::fault::{Fault, Reload};
use runtime::Clock;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// Name, type and help of every metric of this program.
pub const ALL: &[(&str, &str, &str)] = &[
    ("activator_requests_total", "counter", "Requests by how they ended (label outcome)."),
    ("activator_in_flight_requests", "gauge", "Requests in flight, waiting ones included."),
    ("activator_waiting_requests", "gauge", "Requests waiting for a replica."),
    ("activator_request_hops_total", "counter", "Requests sent on to another activator, which had a slot for them."),
    ("activator_request_replays_total", "counter", "Requests sent a second time because a connection had gone stale."),
    (
        "activator_sessions_strayed_total",
        "counter",
        "Requests that went to another replica than their session's, because that one was full.",
    ),
    (
        "activator_count_differences_total",
        "counter",
        "Times that a count differed from what was there for longer than a moment (label what); each is a defect.",
    ),
    ("activator_response_head_seconds", "histogram", "Time from the arrival of a request to its response head."),
    ("activator_connections", "gauge", "Connections of clients."),
    ("activator_held_requests", "gauge", "Requests held over all services, those between two tries included."),
    ("activator_held_body_bytes", "gauge", "Bytes that bodies of held requests may take up over HTTP/2."),
    ("activator_refused_total", "counter", "Requests and connections turned away because of a limit (label limit)."),
    (
        "activator_sharing_bounds_reached_total",
        "counter",
        "Times that a bound kept a request waiting which another activator might have had a slot for (label bound).",
    ),
    ("activator_replicas_usable", "gauge", "Replicas that may be sent requests."),
    ("activator_replicas_own", "gauge", "Of the usable ones, those that this activator itself sends requests to."),
    ("activator_replicas_paced", "gauge", "Replicas that get what waited no faster than they answer."),
    ("activator_replicas_probed", "gauge", "Replicas that are not ready and are asked by us whether they answer."),
    (
        "activator_suspects_unwatched_total",
        "counter",
        "Times that a replica which refused a connection went on to be used, because too many others had.",
    ),
    ("activator_replicas_unprobed", "gauge", "Replicas that are to be asked so, and for which there is no place."),
    ("activator_tls_handshakes_failed_total", "counter", "TLS handshakes of clients that failed (label reason)."),
    ("activator_tls_reloads_total", "counter", "Changed files of certificates, keys and roots (label result)."),
    ("activator_tls_certificate_expiry_seconds", "gauge", "Until when the certificate is valid, seconds since 1970."),
    ("activator_backend_tls_failed_total", "counter", "TLS handshakes with replicas that failed (label reason)."),
];

/// Appends the text of all request metrics.
pub fn render(revisions: &Revisions, clock: Clock, out: &mut String) {
    let mut rows: Vec<Row> = revisions.all().iter().map(|handle| Row::read(handle, clock)).collect();
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    for (name, kind, help) in ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for row in &rows {
            row.write(name, out);
        }
        write_bounds(revisions.bounds(), name, out);
        if *name == "activator_suspects_unwatched_total" {
            let _ = writeln!(out, "{name} {}", revisions.bounds().unwatched());
        }
        write_shares(revisions.shares(), name, out);
        write_tls(revisions.bounds(), name, out);
    }
}

/// What has no revision.
fn write_bounds(bounds: &Bounds, name: &str, out: &mut String) {
    let stock = match name {
        "activator_connections" => Stock::Connections,
        "activator_held_requests" => Stock::HeldRequests,
        "activator_held_body_bytes" => Stock::HeldBytes,
        "activator_refused_total" => {
            for limit in Limit::ALL {
                let _ = writeln!(out, "{name}{{limit=\"{}\"}} {}", limit.label(), bounds.refused(limit));
            }
            return;
        }
        _ => return,
    };
    let _ = writeln!(out, "{name} {}", bounds.stock(stock));
}

fn write_shares(shares: &Shares, name: &str, out: &mut String) {
    if name == "activator_sharing_bounds_reached_total" {
        for bound in Bound::ALL {
            let _ = writeln!(out, "{name}{{bound=\"{}\"}} {}", bound.label(), shares.reached(bound));
        }
    }
}

fn write_tls(bounds: &Bounds, name: &str, out: &mut String) {
    let reasons = |count: &dyn Fn(Fault) -> u64, out: &mut String| {
        for fault in Fault::ALL {
            let _ = writeln!(out, "{name}{{reason=\"{}\"}} {}", fault.label(), count(fault));
        }
    };
    match name {
        "activator_tls_handshakes_failed_total" => reasons(&|fault| bounds.tls.clients(fault), out),
        "activator_backend_tls_failed_total" => reasons(&|fault| bounds.tls.replicas(fault), out),
        "activator_tls_reloads_total" => {
            for reload in Reload::ALL {
                let _ = writeln!(out, "{name}{{result=\"{}\"}} {}", reload.label(), bounds.tls.reloads(reload));
            }
        }
        "activator_tls_certificate_expiry_seconds" => {
            if let Some(not_after) = bounds.tls.not_after() {
                let _ = writeln!(out, "{name} {not_after}");
            }
        }
        _ => {}
    }
}

struct Row {
    labels: String,
    outcomes: [u64; Outcome::COUNT],
    in_flight: u32,
    waiting: u32,
    replays: u64,
    hops: u64,
    strayed: u64,
    differences: [u64; What::COUNT],
    slot_differences: u64,
    latency: [u64; LATENCY_BUCKETS_MS.len() + 1],
    latency_sum_us: u64,
    usable: usize,
    own: usize,
    paced: usize,
    cold: ColdCount,
}

impl Row {
    fn read(handle: &crate::revisions::Handle, clock: Clock) -> Self {
        let counters = handle.counters();
        let sum = |value: &dyn Fn(&Counters) -> u64| counters.iter().map(|counters| value(counters)).sum();
        Self {
            labels: format!("namespace=\"{}\",revision=\"{}\"", handle.id.namespace(), handle.id.name()),
            outcomes: std::array::from_fn(|i| sum(&|counters| counters.outcomes[i].load(Relaxed))),
            in_flight: counters.iter().map(|counters| counters.meter.read(clock.now()).in_flight).sum(),
            waiting: handle.gate.waiting(),
            hops: sum(&|counters| counters.hops.load(Relaxed)),
            strayed: handle.gate.strayed() + sum(&|counters| counters.strayed.load(Relaxed)),
            differences: std::array::from_fn(|i| sum(&|counters| counters.differences[i].load(Relaxed))),
            slot_differences: handle.gate.differences(),
            replays: sum(&|counters| counters.replays.load(Relaxed)),
            latency: std::array::from_fn(|i| sum(&|counters| counters.latency[i].load(Relaxed))),
            latency_sum_us: sum(&|counters| counters.latency_sum_us.load(Relaxed)),
            usable: handle.gate.endpoints().iter().filter(|(_, usable)| *usable).count(),
            own: handle.gate.own(),
            paced: handle.gate.paced(),
            cold: handle.gate.cold(),
        }
    }

    fn write(&self, name: &str, out: &mut String) {
        let labels = &self.labels;
        let _ = match name {
            "activator_requests_total" => {
                for outcome in Outcome::ALL {
                    let count = self.outcomes[outcome.index()];
                    if count > 0 {
                        let _ = writeln!(out, "{name}{{{labels},outcome=\"{}\"}} {count}", outcome.label());
                    }
                }
                Ok(())
            }
            "activator_in_flight_requests" => writeln!(out, "{name}{{{labels}}} {}", self.in_flight),
            "activator_waiting_requests" => writeln!(out, "{name}{{{labels}}} {}", self.waiting),
            "activator_request_replays_total" => writeln!(out, "{name}{{{labels}}} {}", self.replays),
            "activator_request_hops_total" => writeln!(out, "{name}{{{labels}}} {}", self.hops),
            "activator_sessions_strayed_total" => writeln!(out, "{name}{{{labels}}} {}", self.strayed),
            "activator_count_differences_total" => {
                for what in What::ALL {
                    let count = self.differences[what as usize];
                    let _ = writeln!(out, "{name}{{{labels},what=\"{}\"}} {count}", what.label());
                }
                writeln!(out, "{name}{{{labels},what=\"slots\"}} {}", self.slot_differences)
            }
            "activator_replicas_usable" => writeln!(out, "{name}{{{labels}}} {}", self.usable),
            "activator_replicas_own" => writeln!(out, "{name}{{{labels}}} {}", self.own),
            "activator_replicas_paced" => writeln!(out, "{name}{{{labels}}} {}", self.paced),
            "activator_replicas_probed" => writeln!(out, "{name}{{{labels}}} {}", self.cold.probed),
            "activator_replicas_unprobed" => writeln!(out, "{name}{{{labels}}} {}", self.cold.unprobed),
            "activator_response_head_seconds" => self.write_latency(name, out),
            _ => Ok(()),
        };
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum shown to a person")]
    fn write_latency(&self, name: &str, out: &mut String) -> std::fmt::Result {
        let labels = &self.labels;
        let mut count = 0;
        for (i, bound) in LATENCY_BUCKETS_MS.iter().enumerate() {
            count += self.latency[i];
            writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {count}", *bound as f64 / 1e3)?;
        }
        count += self.latency[LATENCY_BUCKETS_MS.len()];
        writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
        writeln!(out, "{name}_sum{{{labels}}} {}", self.latency_sum_us as f64 / 1e6)?;
        writeln!(out, "{name}_count{{{labels}}} {count}")
    }
}
