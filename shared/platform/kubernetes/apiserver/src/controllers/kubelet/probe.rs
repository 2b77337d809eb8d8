//! A readiness probe against a real process.
//!
//! Invariant: an answer counts only within the probe's timeout; a probe that is dropped half way counts as not made.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::pods::seconds;

/// How much of an answer is read: its status line stands in here.
const HEAD_BYTES: usize = 256;

enum How {
    /// Running is ready.
    None,
    Http {
        port: u16,
        path: String,
        host: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        port: u16,
    },
    Exec(Vec<String>),
}

/// The readiness of one run of a container.
pub(super) struct Readiness {
    how: How,
    address: IpAddr,
    due: Instant,
    period: Duration,
    timeout: Duration,
    success_threshold: i32,
    failure_threshold: i32,
    successes: i32,
    failures: i32,
    pub(super) ready: bool,
}

impl Readiness {
    /// # Errors
    /// The field of the probe that cannot be honoured.
    pub(super) fn new(container: &Container, address: IpAddr) -> Result<Self, String> {
        let probe = container.readiness_probe.clone();
        let given = probe.is_some();
        let probe = probe.unwrap_or_default();
        let or = |value: Option<i32>, default: i32| value.filter(|value| *value > 0).unwrap_or(default);
        Ok(Self {
            how: if given { how(container, &probe)? } else { How::None },
            address,
            due: Instant::now() + seconds(probe.initial_delay_seconds.unwrap_or(0)),
            period: seconds(or(probe.period_seconds, 10)),
            timeout: seconds(or(probe.timeout_seconds, 1)),
            success_threshold: or(probe.success_threshold, 1),
            failure_threshold: or(probe.failure_threshold, 3),
            successes: 0,
            failures: 0,
            ready: !given,
        })
    }

    /// Probes until the readiness changes. Without a probe it never does.
    pub(super) async fn changed(&mut self) {
        loop {
            if matches!(self.how, How::None) {
                std::future::pending::<()>().await;
            }
            sleep_until(self.due).await;
            let passed = timeout(self.timeout, self.how.try_once(self.address)).await.unwrap_or(false);
            self.due += self.period;
            if self.take(passed) {
                return;
            }
        }
    }

    /// Whether this result changed the readiness.
    fn take(&mut self, passed: bool) -> bool {
        let before = self.ready;
        if passed {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
            self.ready |= self.successes >= self.success_threshold;
        } else {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
            self.ready &= self.failures < self.failure_threshold;
        }
        self.ready != before
    }
}

fn how(container: &Container, probe: &Probe) -> Result<How, String> {
    let number = |port: &IntOrString| -> Result<u16, String> {
        let found = match port {
            IntOrString::Int(port) => Some(*port),
            IntOrString::String(name) => {
                let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
                named.map(|port| port.container_port)
            }
        };
        found
            .and_then(|port| u16::try_from(port).ok())
            .ok_or_else(|| format!("readinessProbe: port {port:?} is neither a number nor a name of containers.ports"))
    };
    if let Some(get) = &probe.http_get {
        if get.scheme.as_deref().is_some_and(|scheme| scheme != "HTTP") {
            return Err("readinessProbe.httpGet.scheme: only HTTP is probed here".to_owned());
        }
        let headers = get.http_headers.iter().flatten();
        return Ok(How::Http {
            port: number(&get.port)?,
            path: get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
            host: get.host.clone().unwrap_or_default(),
            headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
        });
    }
    if let Some(socket) = &probe.tcp_socket {
        return Ok(How::Tcp { port: number(&socket.port)? });
    }
    match probe.exec.as_ref().and_then(|exec| exec.command.clone()) {
        Some(command) if !command.is_empty() => Ok(How::Exec(command)),
        _ => Err("readinessProbe: none of httpGet, tcpSocket and exec; nothing else is probed here".to_owned()),
    }
}

impl How {
    async fn try_once(&self, address: IpAddr) -> bool {
        match self {
            Self::None => true,
            Self::Tcp { port } => TcpStream::connect((address, *port)).await.is_ok(),
            Self::Http { port, path, host, headers } => {
                let host = if host.is_empty() { address.to_string() } else { host.clone() };
                let code = get(address, *port, &host, path, headers).await;
                code.is_some_and(|code| (200..400).contains(&code))
            }
            Self::Exec(command) => {
                let [program, args @ ..] = command.as_slice() else { return false };
                let status = tokio::process::Command::new(program)
                    .args(args)
                    .stdin(std::process::Stdio::null())
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .kill_on_drop(true)
                    .status();
                status.await.is_ok_and(|status| status.success())
            }
        }
    }
}

/// The status code of a GET; none when there is no such answer.
async fn get(address: IpAddr, port: u16, host: &str, path: &str, headers: &[(String, String)]) -> Option<u16> {
    let mut stream = TcpStream::connect((address, port)).await.ok()?;
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: kube-probe/1.33\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("Accept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    stream.take(HEAD_BYTES as u64).read_to_end(&mut head).await.ok()?;
    let line = head.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(probe: &serde_json::Value) -> Container {
        let json = json!({"name": "c", "readinessProbe": probe, "ports": [{"name": "http", "containerPort": 80}]});
        serde_json::from_value(json).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn thresholds_decide() {
        let probe = json!({"tcpSocket": {"port": "http"}, "successThreshold": 2, "failureThreshold": 3});
        let mut readiness = Readiness::new(&container(&probe), [127, 0, 0, 1].into()).unwrap();
        let changes = [true, false, true, true, false, false, true, false, false, false];
        let ready: Vec<bool> = changes
            .into_iter()
            .map(|passed| {
                readiness.take(passed);
                readiness.ready
            })
            .collect();
        assert_eq!(ready, [false, false, false, true, true, true, true, true, true, false]);
    }

    #[test]
    fn probes_that_cannot_be_made_are_named() {
        for (probe, word) in [
            (json!({"grpc": {"port": 80}}), "nothing else"),
            (json!({"httpGet": {"port": "nope"}}), "nope"),
            (json!({"httpGet": {"port": 80, "scheme": "HTTPS"}}), "scheme"),
        ] {
            let error = how(&container(&probe), &container(&probe).readiness_probe.unwrap()).err().unwrap();
            assert!(error.contains(word), "{error}");
        }
    }
}
