//! `kpa run` where it cannot start: one sentence, and nothing left running.

use crate::support::{Running, free_address, http_get, kpa, run, wait_for};
use std::fs;
use std::net::TcpListener;
use std::process::Stdio;

#[test]
fn an_address_that_is_taken_is_named_with_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (taken.local_addr().unwrap().to_string(), free_address().to_string());
    for (listen, admin, flag) in [(&taken, &free, "--listen"), (&free, &taken, "--admin")] {
        let (code, out, errors) = run(folder.path(), &["run", ".", "--listen", listen, "--admin", admin]);
        let sentence =
            format!("kpa: cannot listen on {taken} ({flag} chooses another address): Address already in use");
        assert_eq!((code, out.as_str(), errors.lines().count()), (1, "", 1), "{errors}");
        assert!(errors.starts_with(&sentence), "{errors}");
    }
}

#[test]
fn what_cannot_be_read_or_used_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let addresses = || [free_address().to_string(), free_address().to_string()];
    let fails = |path: &str| {
        let [listen, admin] = addresses();
        let args = ["run", path, "--listen", &listen, "--admin", &admin, "--state-dir", "state"];
        let (code, _, errors) = run(folder.path(), &args);
        assert_eq!((code, errors.lines().count()), (1, 1), "{errors}");
        errors
    };
    let error = fails("missing.yaml");
    assert!(error.contains("missing.yaml: No such file"), "{error}");

    fs::create_dir(folder.path().join("services")).unwrap();
    let [listen, admin] = addresses();
    let first = kpa(folder.path(), &["run", "services", "--listen", &listen, "--admin", &admin])
        .args(["--state-dir", "state"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let first = Running(first);
    let admin = admin.parse().unwrap();
    wait_for("the first", || http_get(admin, "admin", "/live"));
    let error = fails("services");
    assert!(error.contains(&format!("is in use by process {}", first.0.id())), "{error}");
}

/// After a restart clients are there before the services are known: they wait that moment and are not refused.
#[test]
fn whoever_connects_first_is_not_refused() {
    let folder = tempfile::tempdir().unwrap();
    let document = |number: u32| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: s{number}, annotations: {{kpa.dev/local-command: 'true'}}}}\n\
             spec:\n  selector: {{matchLabels: {{app: a}}}}\n  template:\n    metadata: {{labels: {{app: a}}}}\n    \
             spec: {{containers: [{{name: main, image: a, ports: [{{containerPort: 8080}}]}}]}}\n"
        )
    };
    let many: Vec<String> = (0..300).map(document).collect();
    fs::write(folder.path().join("many.yaml"), many.join("---\n")).unwrap();
    let [listen, admin] = [free_address(), free_address()];
    let child =
        kpa(folder.path(), &["run", "many.yaml", "--listen", &listen.to_string(), "--admin", &admin.to_string()])
            .args(["--state-dir", "state"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    let mut running = Running(child);
    let (head, _) = loop {
        assert!(running.0.try_wait().unwrap().is_none(), "it ended");
        if let Some(answer) = http_get(listen, "nobody.example.com", "/") {
            break answer;
        }
        std::thread::yield_now();
    };
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}
