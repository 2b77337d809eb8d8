//! The manifests: four services that differ in what can go wrong with them, and a guest that comes and goes.
//!
//! Invariant: a file is replaced whole, by a rename.

use crate::plan::ALL;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The environment variable that every replica of a run carries, whatever becomes of the state folder.
pub(crate) const MARK: &str = "CHAOS_RUN";

/// One service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    /// kpa.dev/container-concurrency; 0 is none.
    pub(crate) limit: u32,
    target: u32,
    max_scale: u32,
    /// Its replicas close idle connections after a second.
    pub(crate) closes_idle: bool,
    /// Of a hundred requests, so many are streams.
    pub(crate) streams: u32,
    /// Judged clients.
    pub(crate) clients: usize,
}

/// All services, by number; the last is the guest.
pub(crate) const TABLE: [Service; ALL] = [
    Service { name: "open", limit: 0, target: 2, max_scale: 4, closes_idle: false, streams: 10, clients: 8 },
    Service { name: "limited", limit: 2, target: 2, max_scale: 3, closes_idle: false, streams: 15, clients: 7 },
    Service { name: "closer", limit: 0, target: 2, max_scale: 3, closes_idle: true, streams: 5, clients: 6 },
    Service { name: "streams", limit: 0, target: 2, max_scale: 4, closes_idle: false, streams: 85, clients: 6 },
    Service { name: "guest", limit: 0, target: 2, max_scale: 3, closes_idle: false, streams: 30, clients: 2 },
];

/// A folder of manifests, and what is written into it.
#[derive(Debug)]
pub(crate) struct Manifests {
    folder: PathBuf,
    ledgers: PathBuf,
    mark: String,
    edits: [u32; ALL],
    generations: [u32; ALL],
}

impl Manifests {
    pub(crate) fn new(folder: &Path, ledgers: &Path, mark: &str) -> io::Result<Self> {
        let [folder, ledgers] = [folder, ledgers].map(Path::to_owned);
        let manifests = Self { folder, ledgers, mark: mark.to_owned(), edits: [0; ALL], generations: [0; ALL] };
        (0..ALL).try_for_each(|service| manifests.write(service))?;
        Ok(manifests)
    }

    /// Changes an annotation that nobody reads.
    pub(crate) fn touch(&mut self, service: usize) -> io::Result<()> {
        self.edits[service] += 1;
        self.write(service)
    }

    /// Changes the environment: every replica is replaced.
    pub(crate) fn roll_out(&mut self, service: usize) -> io::Result<()> {
        self.generations[service] += 1;
        self.write(service)
    }

    /// Makes the file one that no reader understands.
    pub(crate) fn damage(&self, service: usize) -> io::Result<()> {
        self.replace(service, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: [\n")
    }

    pub(crate) fn remove(&self, service: usize) -> io::Result<()> {
        fs::remove_file(self.file(service))
    }

    pub(crate) fn write(&self, service: usize) -> io::Result<()> {
        self.replace(service, &self.text(service))
    }

    fn file(&self, service: usize) -> PathBuf {
        self.folder.join(format!("{}.yaml", TABLE[service].name))
    }

    fn replace(&self, service: usize, text: &str) -> io::Result<()> {
        let next = self.folder.join(format!(".{}.new", TABLE[service].name));
        fs::write(&next, text)?;
        fs::rename(next, self.file(service))
    }

    fn text(&self, service: usize) -> String {
        let Service { name, limit, target, max_scale, closes_idle, .. } = TABLE[service];
        let program = std::env::current_exe().expect("this program has a file");
        let (program, ledgers, mark) = (program.display(), self.ledgers.display(), &self.mark);
        let idle = if closes_idle { "close" } else { "keep" };
        let (edit, generation) = (self.edits[service], self.generations[service]);
        format!(
            r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  annotations:
    example.com/edit: "{edit}"
    autoscaling.knative.dev/target: "{target}"
    autoscaling.knative.dev/target-utilization-percentage: "100"
    autoscaling.knative.dev/window: 6s
    autoscaling.knative.dev/max-scale: "{max_scale}"
    kpa.dev/container-concurrency: "{limit}"
    kpa.dev/queue-timeout: 10m
    kpa.dev/local-command: "'{program}' replica {name} $(PORT) '{ledgers}' {limit} {idle}"
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: main
          image: chaos:latest
          ports: [{{containerPort: 8080}}]
          env:
            - {{name: {MARK}, value: "{mark}"}}
            - {{name: GENERATION, value: "{generation}"}}
          readinessProbe:
            httpGet: {{path: /healthz, port: 8080}}
            periodSeconds: 1
            failureThreshold: 1
"#
        )
    }
}
