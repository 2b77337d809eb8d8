//! The activator that is measured, and what the system says of it.

use super::tls::Tls;
use crate::children::Child;
use crate::peers::activator_binary;
use crate::{net, proc_stat};
use anyhow::Context as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long it may take to get ready.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Largest page of metrics.
const PAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A running activator.
pub(super) struct Subject {
    child: Child,
    pub(super) address: SocketAddr,
    admin: SocketAddr,
}

impl Subject {
    /// Starts it in front of so many services, all at `replica`, and waits until it is ready. With `tls` its address is the
    /// one where it speaks that.
    pub(super) async fn start(
        program: Option<&Path>,
        services: usize,
        replica: SocketAddr,
        tls: Option<&Tls>,
    ) -> anyhow::Result<Self> {
        let program = activator_binary(program)?.context("no activator: build it, or name it with --activator")?;
        let free = || Ok::<_, anyhow::Error>(SocketAddr::from(([127, 0, 0, 1], net::free_port()?)));
        let (mut address, admin) = (free()?, free()?);
        let mut command = Command::new(program);
        command.args(["--log", "warn", "--listen", &address.to_string(), "--admin", &admin.to_string()]);
        // A queue that has room for all, and a start that may take longer than this takes.
        command.args(["--annotation=kpa.dev/queue-depth=1000000", "--annotation=kpa.dev/start-deadline=1h"]);
        command.args(["--annotation=kpa.dev/queue-timeout=1h", "--annotation=kpa.dev/protocol=http1"]);
        if let Some(tls) = tls {
            address = free()?;
            command.args(tls.arguments(address));
        }
        command.args((0..services).map(|number| format!("--upstream=default/{}={replica}", name(number))));
        let subject = Self { child: Child::start(command, "activator")?, address, admin };
        let ready = async {
            while subject.page("/ready").await.is_none_or(|page| !page.starts_with("HTTP/1.1 200")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(START_LIMIT, ready).await.context("the activator does not get ready")?;
        Ok(subject)
    }

    /// Resident bytes.
    pub(super) fn rss(&self) -> anyhow::Result<u64> {
        Ok(proc_stat::rss_of_tree(self.child.id())?)
    }

    /// CPU time that it has used so far.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(proc_stat::cpu_of(self.child.id())?)
    }

    /// Open descriptors.
    pub(super) fn descriptors(&self) -> anyhow::Result<u64> {
        Ok(u64::try_from(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())?)
    }

    /// Requests that wait, as its metrics say.
    pub(super) async fn held(&self) -> anyhow::Result<usize> {
        let page = self.page("/metrics").await.context("no metrics")?;
        let value = page.lines().find_map(|line| line.strip_prefix("activator_held_requests "));
        Ok(value.context("activator_held_requests is not in the metrics")?.trim().parse()?)
    }

    async fn page(&self, path: &str) -> Option<String> {
        let mut stream = net::connect(self.admin).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut page = String::new();
        stream.take(PAGE_BYTES_MAX).read_to_string(&mut page).await.ok()?;
        Some(page)
    }
}

/// The name of a service; its host is this with `.default.example.com`.
fn name(number: usize) -> String {
    format!("held-{number}")
}

/// The host of the first service.
pub(super) fn host() -> String {
    format!("{}.default.example.com", name(0))
}

/// Memory that TCP's buffers take up in this network namespace, as /proc/net/sockstat says.
pub(super) fn socket_memory() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/net/sockstat")?;
    pages(&text).map(|pages| pages * 4096).context("/proc/net/sockstat is not as expected")
}

fn pages(sockstat: &str) -> Option<u64> {
    let mut words = sockstat.lines().find(|line| line.starts_with("TCP:"))?.split_ascii_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_memory_is_in_the_line_of_tcp() {
        assert_eq!(pages("sockets: used 9\nTCP: inuse 4 orphan 0 tw 2 alloc 5 mem 17\nUDP: inuse 1 mem 3\n"), Some(17));
        assert_eq!(pages("UDP: mem 3"), None);
        assert!(socket_memory().is_ok());
    }
}
