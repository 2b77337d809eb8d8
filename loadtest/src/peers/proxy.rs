//! How each proxy is started, so that all do equal work: keep-alive on both sides, the same three forwarding headers,
//! one thread.

use super::children::Child;
use super::generator;
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

/// The host that the activator routes to its one upstream; the others take any.
const HOST: &str = "bench.default.example.com";

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
}

impl Peer {
    /// All, in the order of the report.
    pub(super) const ALL: &'static [Self] = &[Self::Activator, Self::Nginx, Self::Haproxy];
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Activator => "activator",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
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
    /// The request of the benchmark.
    pub(super) fn request(&self) -> Vec<u8> {
        generator::request(HOST, "/")
    }

    /// Waits until it says that it is ready and answers.
    pub(super) async fn ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let ready = async {
            if let Some(admin) = self.admin {
                generator::until_ok(admin, "localhost", "/ready", limit).await?;
            }
            generator::until_ok(self.address, HOST, "/", limit).await
        };
        let outcome = ready.await;
        if self.child.has_ended() {
            bail!("{} ended while starting", self.peer);
        }
        outcome.with_context(|| self.peer.to_string())
    }
}

/// Starts `peer` in front of `backend`; `None` when it is not installed.
pub(super) fn start(
    peer: Peer,
    activator: Option<&Path>,
    backend: SocketAddr,
    folder: &Path,
) -> anyhow::Result<Option<Running>> {
    let address = SocketAddr::from(([127, 0, 0, 1], net::free_port()?));
    let mut admin = None;
    let command = match peer {
        Peer::Activator => {
            let Some(program) = find_activator(activator)? else { return Ok(None) };
            if program.components().any(|part| part.as_os_str() == "debug") {
                output::notice(&format!("{}: not optimised; its figures mean nothing", program.display()));
            }
            let control = SocketAddr::from(([127, 0, 0, 1], net::free_port()?));
            admin = Some(control);
            let mut command = Command::new(program);
            command.args(["--workers", "1", "--listen", &address.to_string(), "--admin", &control.to_string()]);
            command.args(["--upstream", &format!("default/bench={backend}")]);
            command
        }
        Peer::Nginx => {
            let Some(program) = find("nginx") else { return Ok(None) };
            let file = folder.join("nginx.conf");
            fs::write(&file, nginx_config(folder, address, backend))?;
            let mut command = Command::new(program);
            command.arg("-p").arg(folder).arg("-c").arg(&file).arg("-e").arg(folder.join("nginx-error.log"));
            command
        }
        Peer::Haproxy => {
            let Some(program) = find("haproxy") else { return Ok(None) };
            let file = folder.join("haproxy.cfg");
            fs::write(&file, haproxy_config(address, backend))?;
            let mut command = Command::new(program);
            command.arg("-db").arg("-f").arg(&file);
            command
        }
    };
    Ok(Some(Running { peer, child: Child::start(command, &peer.to_string())?, address, admin }))
}

fn find_activator(given: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(given) = given {
        if !given.is_file() {
            bail!("{} is no file", given.display());
        }
        return Ok(Some(given.to_owned()));
    }
    let beside = std::env::current_exe()?.with_file_name("activator");
    Ok([beside, PathBuf::from("target/dist/activator")].into_iter().find(|path| path.is_file()))
}

/// A program in one of the usual folders, those for administrators included.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn nginx_config(folder: &Path, listen: SocketAddr, backend: SocketAddr) -> String {
    let folder = folder.display();
    // Started as root the worker would change its user and could not write into the folder.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_timeout 1h; keepalive_requests 1000000000;
  upstream backend {{ server {backend}; keepalive 64; keepalive_timeout 1h; keepalive_requests 1000000000; }}
  server {{
    listen {listen} backlog=4096;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
    }}
  }}
}}
"
    )
}

fn haproxy_config(listen: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  option http-keep-alive
  http-reuse always
frontend front
  bind {listen}
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  default_backend back
backend back
  server s {backend}
"
    )
}
