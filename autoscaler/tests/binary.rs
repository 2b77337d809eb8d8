//! The program itself: what it says and with which status it ends.

use std::process::{Command, Output};

fn autoscaler(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        // A machine without a cluster.
        Command::new(env!("CARGO_BIN_EXE_autoscaler"))
            .args(arguments)
            .env("KPA_LISTEN", "127.0.0.1:0")
            .env("KUBECONFIG", "/nonexistent")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .output()
            .expect("the binary runs");
    (status.code(), String::from_utf8([stdout, stderr].concat()).expect("it writes text"))
}

#[test]
fn it_says_what_is_missing_instead_of_running_idle() {
    let (status, said) = autoscaler(&[]);
    assert_eq!(status, Some(1));
    assert!(said.contains("no cluster is known") && said.contains("kpa run"), "{said}");
}

#[test]
fn it_can_be_asked_what_it_is() {
    let (status, said) = autoscaler(&["--version"]);
    assert_eq!((status, said.trim()), (Some(0), concat!("autoscaler ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(autoscaler(&["--help"]).0, Some(0));
}

#[test]
fn wrong_use_is_told_apart_from_failure() {
    let (status, said) = autoscaler(&["--colour"]);
    assert_eq!(status, Some(64));
    assert!(said.contains("--colour"), "{said}");
    let (status, said) = autoscaler(&["--renew-deadline", "20s"]);
    assert_eq!(status, Some(64));
    assert!(said.contains("renew-deadline: 20s") && said.contains("lease-duration"), "{said}");
}
