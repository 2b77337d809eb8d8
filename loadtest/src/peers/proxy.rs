//! Starting each proxy, so that all do equal work.
//!
//! Invariant: a proxy that is not installed is left out with a notice, and no other is affected.

use super::configs;
use super::generator;
use super::scenario::{Shape, service};
use crate::children::Child;
use anyhow::{Context as _, bail};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::net;
use crate::output;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Peer {
    /// Ours.
    Activator,
    /// nginx with one worker.
    Nginx,
    /// HAProxy with one thread.
    Haproxy,
    /// Envoy with one worker.
    Envoy,
}

impl Peer {
    /// All, in the order of the report.
    pub(super) const ALL: &'static [Self] = &[Self::Activator, Self::Nginx, Self::Haproxy, Self::Envoy];
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Activator => "activator",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        })
    }
}

/// A proxy that was started.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) peer: Peer,
    pub(super) child: Child,
    pub(super) address: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Running {
    /// Waits until it says that it is ready and accepts connections.
    pub(super) async fn ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let ready = async {
            if let Some(admin) = self.admin {
                generator::until_ok(admin, "localhost", "/ready", limit).await?;
            }
            generator::until_accepted(self.address, limit).await
        };
        let outcome = ready.await;
        if self.child.has_ended() {
            bail!("{} ended while starting", self.peer);
        }
        outcome.with_context(|| self.peer.to_string())
    }
}

/// Where programs are that are not in the usual places.
#[derive(Debug, Clone, Default)]
pub(super) struct Programs {
    /// The activator.
    pub(super) activator: Option<PathBuf>,
    /// Envoy.
    pub(super) envoy: Option<PathBuf>,
}

impl Programs {
    fn find(&self, peer: Peer) -> anyhow::Result<Option<PathBuf>> {
        let (given, name) = match peer {
            Peer::Activator => return activator_binary(self.activator.as_deref()),
            Peer::Envoy => (&self.envoy, "envoy"),
            Peer::Nginx => (&None, "nginx"),
            Peer::Haproxy => (&None, "haproxy"),
        };
        if let Some(given) = given {
            return existing(given).map(Some);
        }
        // The usual folders, those for administrators included.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        Ok(std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|file| file.is_file()))
    }
}

/// The activator's binary: that which is given, else beside this one, else in target/dist.
pub(crate) fn activator_binary(given: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(given) = given {
        return existing(given).map(Some);
    }
    let beside = std::env::current_exe()?.with_file_name("activator");
    Ok([beside, PathBuf::from("target/dist/activator")].into_iter().find(|path| path.is_file()))
}

fn existing(file: &Path) -> anyhow::Result<PathBuf> {
    if !file.is_file() {
        bail!("{} is no file", file.display());
    }
    Ok(file.to_owned())
}

/// Starts `peer` in front of `backend`; `None` when it is not installed.
pub(super) fn start(
    peer: Peer,
    programs: &Programs,
    backend: SocketAddr,
    shape: &Shape,
    folder: &Path,
) -> anyhow::Result<Option<Running>> {
    let Some(program) = programs.find(peer)? else { return Ok(None) };
    let address = SocketAddr::from(([127, 0, 0, 1], net::free_port()?));
    let mut admin = None;
    let mut command = Command::new(&program);
    match peer {
        Peer::Activator => {
            if program.components().any(|part| part.as_os_str() == "debug") {
                output::notice(&format!("{}: not optimised; its figures mean nothing", program.display()));
            }
            let control = SocketAddr::from(([127, 0, 0, 1], net::free_port()?));
            admin = Some(control);
            command.args(["--workers", "1", "--listen", &address.to_string(), "--admin", &control.to_string()]);
            command.args(["--log", "warn"]);
            command.args((0..shape.services).map(|n| format!("--upstream=default/{}={backend}", service(n))));
            if !shape.forwarding {
                command.args(["--set", "forwarded=off"]);
            }
            // As the others do it; by default it would speak to the backend what the client speaks.
            command.arg("--annotation=kpa.dev/protocol=http1");
            if shape.limit > 0 {
                command.arg(format!("--annotation=kpa.dev/container-concurrency={}", shape.limit));
            }
        }
        Peer::Nginx => {
            let file = folder.join("nginx.conf");
            fs::write(&file, configs::nginx(folder, address, backend, shape))?;
            command.arg("-p").arg(folder).arg("-c").arg(&file).arg("-e").arg(folder.join("nginx-error.log"));
            if shape.limit > 0 {
                output::notice("nginx: has no queue for a limit of requests at a time, and runs without the limit");
            }
        }
        Peer::Haproxy => {
            let (file, hosts) = (folder.join("haproxy.cfg"), folder.join("haproxy.hosts"));
            fs::write(&hosts, configs::haproxy_hosts(shape))?;
            fs::write(&file, configs::haproxy(&hosts, address, backend, shape))?;
            command.arg("-db").arg("-f").arg(&file);
        }
        Peer::Envoy => {
            let file = folder.join("envoy.json");
            fs::write(&file, configs::envoy(address, backend, shape).to_string())?;
            command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(&file);
        }
    }
    Ok(Some(Running { peer, child: Child::start(command, &peer.to_string())?, address, admin }))
}
