//! What tests of the built program share: running it, waiting for it, talking to it.
#![allow(dead_code, reason = "not every test binary needs all of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// Nothing on an idle machine takes this long; a loaded one is given it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// The built program, in `folder`.
pub(crate) fn kpa(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kpa"));
    command.current_dir(folder).args(args).env_remove("KPA_LOG");
    command
}

/// Runs it to its end.
pub(crate) fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = kpa(folder, args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A program that is ended, whatever becomes of the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `condition` gives something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
}

/// `kpa run` on addresses of its own, ended with this value.
pub(crate) struct Kpa {
    running: Running,
    folder: PathBuf,
    /// Where clients connect.
    pub(crate) proxy: SocketAddr,
    /// Where the API is.
    pub(crate) admin: SocketAddr,
}

impl Kpa {
    /// Starts it in `folder`, which gets its state and its log, and waits until it is ready. `input` is what it reads from
    /// standard input.
    #[track_caller]
    pub(crate) fn start(folder: &Path, args: &[&str], input: &str) -> Self {
        let (proxy, admin) = (free_address(), free_address());
        let (listen, admin_text) = (proxy.to_string(), admin.to_string());
        let addresses = ["--listen", &listen, "--admin", &admin_text, "--state-dir", "state"];
        let mut child = kpa(folder, &[&["run"], args, &addresses].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::from(std::fs::File::create(folder.join("log")).unwrap()))
            .spawn()
            .unwrap();
        // Who does not read it has closed it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let mut kpa = Self { running: Running(child), folder: folder.to_owned(), proxy, admin };
        wait_for("ready", || {
            assert!(kpa.running.0.try_wait().unwrap().is_none(), "{}", kpa.log());
            http_get(admin, "admin", "/ready").filter(|(head, _)| head.starts_with("HTTP/1.1 200"))
        });
        kpa
    }

    /// Everything it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// `kpa get` with further words.
    pub(crate) fn get(&self, args: &[&str]) -> String {
        run(&self.folder, &[&["get", "--admin", &self.admin.to_string()], args].concat()).1
    }

    /// What `kpa get` shows of one service.
    #[track_caller]
    pub(crate) fn shown(&self, name: &str) -> serde_json::Value {
        wait_for("the service in kpa get", || {
            let list: serde_json::Value = serde_json::from_str(&self.get(&[name, "-o", "json"])).ok()?;
            list.get(0).cloned()
        })
    }
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// One HTTP/1.1 exchange on a connection of its own: status line and headers, and body.
pub(crate) fn http_get(address: SocketAddr, host: &str, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}
