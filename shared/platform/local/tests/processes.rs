//! Real processes: started, seen ready, restarted, ended, and none left behind.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

mod support;

use domain::{EndpointState, Mode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use platform::ScaleError;
use platform_local::{Shutdown, StartError};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use support::{DEADLINE, Manifest, PROGRAM, Place, eventually, gone, is_alive};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

fn pid(line: &str) -> i32 {
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn a_replica_is_started_seen_ready_and_ended() {
    let place = Place::new(&Manifest::server("echo $$ > pid;"));
    let mut local = place.start().await;
    local.until("applied", |view| view.revision.is_some()).await;
    assert_eq!((local.view.requested.get(), local.view.endpoints.len()), (0, 0), "nothing runs before somebody asks");

    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    assert_eq!(local.passed.load(Relaxed), 1, "told before anybody could know of the replica");
    let address = local.view.endpoints[0].address;
    assert!(platform_local::DEFAULT_PORTS.contains(&address.port()));
    assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    let process = pid(&place.line("pid").await);

    local.scale(1, 0, &[]).await.unwrap();
    local.until("gone", |view| view.endpoints.is_empty()).await;
    gone(process).await;
    local.end().await;
}

#[tokio::test]
async fn a_replica_is_told_what_it_needs_to_know() {
    let script = r#"echo "$PORT $(PORT) $KPA_INSTANCE $PYTHONUNBUFFERED $GREETING $(pwd)" > told;"#;
    let manifest = Manifest {
        container: r#", "env":[{"name":"PORT","value":"8000"},{"name":"GREETING","value":"hello-$(PORT)"}]"#,
        ..Manifest::server(script)
    };
    let place = Place::new(&manifest);
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let port = local.view.endpoints[0].address.port();
    let instance = std::fs::read_to_string(place.state().join("instance")).unwrap();
    let told = place.line("told").await;
    assert_eq!(told, format!("{port} {port} {instance} 1 hello-{port} {}", place.manifests().display()));
    local.end().await;
}

#[tokio::test]
async fn ready_follows_the_probe() {
    let place = Place::new(&Manifest {
        container: r#", "ports":[{"containerPort":8000}],
            "readinessProbe":{"httpGet":{"path":"/","port":8000},"periodSeconds":1,"failureThreshold":1}"#,
        ..Manifest::server("")
    });
    std::fs::write(place.file("not-ready"), "").unwrap();
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.until("starting", |view| view.endpoints.len() == 1).await;
    let address = local.view.endpoints[0].address;
    eventually("it listens", || std::net::TcpStream::connect(address).ok()).await;
    std::fs::remove_file(place.file("not-ready")).unwrap();
    local.ready(1).await;
    let first = local.view.ready_ids();
    std::fs::write(place.file("not-ready"), "").unwrap();
    local.until("unready", |view| view.ready == 0).await;
    assert_eq!(local.view.endpoints[0].state, EndpointState::Starting);
    std::fs::remove_file(place.file("not-ready")).unwrap();
    local.ready(1).await;
    assert_eq!(local.view.ready_ids(), first, "the same process all along");
    local.end().await;
}

#[tokio::test]
async fn an_exec_probe_runs_in_the_replicas_environment() {
    let place = Place::new(&Manifest {
        container: r#", "readinessProbe":{"exec":{"command":["/bin/sh","-c","test -e open-$PORT"]}}"#,
        ..Manifest::server("touch open-$PORT;")
    });
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    local.end().await;
}

#[tokio::test]
async fn one_that_ignores_term_is_killed_after_its_grace_with_all_its_helpers() {
    let helpers = "sleep 1000 & echo $! > helper; setsid sleep 1000 & trap '' TERM;";
    let place = Place::new(&Manifest { grace: 1, ..Manifest::server(&format!("{helpers} echo $$ > pid;")) });
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let id = local.view.ready_ids().remove(0);
    let (leader, helper) = (pid(&place.line("pid").await), pid(&place.line("helper").await));
    assert_eq!(marked(&place, id.as_str()).len(), 3, "leader, helper, and one in a session of its own");

    let told = Instant::now();
    local.scale(1, 0, std::slice::from_ref(&id)).await.unwrap();
    gone(leader).await;
    assert!(told.elapsed() >= Duration::from_secs(1), "it had its grace");
    gone(helper).await;
    eventually("all of them gone", || marked(&place, id.as_str()).is_empty().then_some(())).await;
    local.end().await;
}

/// Processes that carry the mark of a replica of this place.
fn marked(place: &Place, replica: &str) -> Vec<i32> {
    let instance = std::fs::read_to_string(place.state().join("instance")).unwrap();
    let marks = [format!("KPA_INSTANCE={instance}"), format!("KPA_REPLICA={replica}")];
    let carries = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
            let vars = environ.split(|byte| *byte == 0);
            marks.iter().all(|mark| vars.clone().any(|var| var == mark.as_bytes()))
        })
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(carries).collect()
}

#[tokio::test]
async fn a_pre_stop_hook_runs_before_term() {
    let place = Place::new(&Manifest {
        container: r#", "lifecycle":{"preStop":{"exec":{"command":["/bin/sh","-c","echo hook >> order"]}}}"#,
        ..Manifest::shell(
            "trap 'echo term >> order; kill $!; exit 0' TERM; python3 server.py & while true; do wait $!; done",
        )
    });
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let id = local.view.ready_ids().remove(0);
    local.scale(1, 0, &[]).await.unwrap();
    eventually("all of them gone", || marked(&place, id.as_str()).is_empty().then_some(())).await;
    assert_eq!(std::fs::read_to_string(place.file("order")).unwrap(), "hook\nterm\n");
    local.end().await;
}

#[tokio::test]
async fn a_pre_stop_hook_may_be_a_wait_or_a_request() {
    let server = r#"trap 'echo term >> order; kill $!; exit 0' TERM; date +%s%N > started;
        python3 -c 'import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open("order", "a").write("GET " + self.path + chr(10))
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()' & while true; do wait $!; done"#;
    for (hook, order, at_least) in [
        (r#"{"httpGet":{"path":"/bye?now=1","port":8000}}"#, "GET /bye?now=1\nterm\n", Duration::ZERO),
        (r#"{"sleep":{"seconds":1}}"#, "term\n", Duration::from_secs(1)),
    ] {
        let container = format!(r#", "ports":[{{"containerPort":8000}}], "lifecycle":{{"preStop":{hook}}}"#);
        let place = Place::new(&Manifest { container: container.leak(), ..Manifest::shell(server) });
        let mut local = place.start().await;
        local.scale(0, 1, &[]).await.unwrap();
        local.ready(1).await;
        let (id, told) = (local.view.ready_ids().remove(0), Instant::now());
        local.scale(1, 0, &[]).await.unwrap();
        eventually("all of them gone", || marked(&place, id.as_str()).is_empty().then_some(())).await;
        assert_eq!(std::fs::read_to_string(place.file("order")).unwrap(), order);
        assert!(told.elapsed() >= at_least, "{hook}: {:?}", told.elapsed());
        local.end().await;
    }
}

#[tokio::test]
async fn a_pre_stop_hook_that_never_ends_costs_no_more_than_the_grace() {
    let place = Place::new(&Manifest {
        grace: 1,
        container: r#", "lifecycle":{"preStop":{"exec":{"command":["/bin/sh","-c","echo begun > hook; sleep 1000"]}}}"#,
        ..Manifest::server("")
    });
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let (id, told) = (local.view.ready_ids().remove(0), Instant::now());
    local.scale(1, 0, &[]).await.unwrap();
    assert_eq!(place.line("hook").await, "begun");
    eventually("all of them gone", || marked(&place, id.as_str()).is_empty().then_some(())).await;
    assert!(told.elapsed() >= Duration::from_secs(1), "the hook had the grace: {:?}", told.elapsed());
    local.end().await;
}

#[tokio::test]
async fn a_state_directory_that_is_deleted_stops_nothing_and_comes_back() {
    let place = Place::new(&Manifest::server("while true; do echo tick; sleep 0.05; done &"));
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let (before, token) = (local.view.ready_ids(), place.state().join(platform_local::TOKEN_FILE));
    std::fs::remove_dir_all(place.state()).unwrap();
    let shown = eventually("its token again", || std::fs::read_to_string(&token).ok().filter(|text| !text.is_empty()));
    assert_eq!(shown.await, local.platform.secret());
    let log = place.state().join("logs").join("default.app").join("0.log");
    eventually("its log again", || std::fs::read_to_string(&log).ok()?.contains("tick").then_some(())).await;
    assert_eq!(local.view.ready_ids(), before, "the same process all along");
    assert!(matches!(place.start_with(20_000..=20_001).await, Err(StartError::Locked { .. })), "it is in use");
    // What was asked for is remembered in the new one.
    local.end().await;
    let mut local = place.start_again().await;
    local.ready(1).await;
    local.end().await;
}

#[tokio::test]
async fn a_replica_that_dies_leaves_at_once_and_is_started_again() {
    let place = Place::new(&Manifest::server("echo $$ > pid;"));
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let first = local.view.ready_ids();
    kill(Pid::from_raw(pid(&place.line("pid").await)), Signal::SIGKILL).unwrap();
    local.until("another", |view| view.ready == 1 && view.ready_ids().len() == 1 && view.ready_ids() != first).await;
    assert_eq!(local.view.trouble, None, "once is no loop");
    local.end().await;
}

#[tokio::test]
async fn a_crash_loop_says_what_happens() {
    let manifest = Manifest {
        container: r#", "env":[{"name":"TOKEN","valueFrom":{"secretKeyRef":{"name":"keys","key":"TOKEN"}}}]"#,
        ..Manifest::shell("echo no weights for $TOKEN >&2; exit 3")
    };
    let place = Place::new(&manifest);
    std::fs::write(place.file("keys.env"), "TOKEN=xyzzy\n").unwrap();
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.until("in trouble", |view| view.trouble.is_some()).await;
    let trouble = local.view.trouble.clone().unwrap();
    assert_eq!((trouble.reason.as_str(), trouble.permanent), ("CrashLoopBackOff", false));
    assert!(trouble.message.contains("ended with status 3: no weights for ***"), "{}", trouble.message);
    assert!(local.view.endpoints.is_empty());
    // Mended: the new version does not wait for the old one's back-off.
    place.write(&Manifest::server(""));
    local.ready(1).await;
    assert_eq!(local.view.trouble, None);
    local.end().await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_said_to_be_missing() {
    let manifest = Manifest { command: vec!["no-such-program".into()], ..Manifest::server("") };
    let place = Place::new(&manifest);
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.until("in trouble", |view| view.trouble.is_some()).await;
    let trouble = local.view.trouble.clone().unwrap();
    assert_eq!((trouble.reason.as_str(), trouble.permanent), ("CommandNotFound", true));
    assert!(trouble.message.contains("no-such-program"), "{}", trouble.message);
    local.end().await;
}

#[tokio::test]
async fn exactly_the_named_replica_leaves() {
    let place = Place::new(&Manifest::server(""));
    let mut local = place.start().await;
    local.scale(0, 3, &[]).await.unwrap();
    local.ready(3).await;
    let ids = local.view.ready_ids();
    assert_eq!(local.scale(2, 1, &[]).await, Err(ScaleError::Changed { now: domain::Replicas::new(3) }));
    local.scale(3, 2, &ids[..1]).await.unwrap();
    local.ready(2).await;
    assert_eq!(local.view.ready_ids(), ids[1..]);
    local.end().await;
}

#[tokio::test]
async fn another_annotation_restarts_nothing_and_another_command_replaces() {
    let place = Place::new(&Manifest::server(""));
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let first = local.view.ready_ids();

    let max = |view: &support::View| view.revision.as_ref().and_then(|revision| *revision.scaling.max_scale);
    place.write(&Manifest { annotations: vec![("autoscaling.knative.dev/max-scale", "5")], ..Manifest::server("") });
    local.until("edited", |view| max(view) == Some(domain::Replicas::new(5))).await;
    assert_eq!(local.view.ready_ids(), first);

    place.write(&Manifest::server("true;"));
    local.until("replaced", |view| view.ready_ids().len() == 1 && view.ready_ids() != first).await;
    // What is replaced goes when somebody says that it is idle, and so does what is removed.
    local.until("draining", |view| view.draining_ids() == first).await;
    local.scale(1, 1, &first).await.unwrap();
    local.until("drained", |view| view.endpoints.len() == 1).await;

    let last = local.view.ready_ids();
    std::fs::remove_file(place.file("app.json")).unwrap();
    local.until("draining", |view| view.draining_ids() == last).await;
    assert_eq!(local.view.revision.as_ref().map(|revision| &revision.mode), Some(&Mode::Removed));
    local.scale(0, 0, &last).await.unwrap();
    local.until("deleted", |view| view.deleted).await;
    let id = last[0].clone();
    eventually("stopped", || marked(&place, id.as_str()).is_empty().then_some(())).await;
    local.end().await;
}

#[tokio::test]
async fn the_activators_configuration_is_told_and_followed() {
    let place = Place::new(&Manifest::server(""));
    let mut local = place.start().await;
    local.until("told what is built in", |view| view.activator.is_some()).await;
    let write = |data: &str| {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-activator}}\ndata: {{{data}}}\n");
        std::fs::write(place.file(".config.new"), text).unwrap();
        std::fs::rename(place.file(".config.new"), place.file("config.yaml")).unwrap();
    };
    let domain = |view: &support::View| view.activator.as_ref().map(|config| config.domain.value.clone());
    write("domain: models.lan");
    local.until("told of the edit", |view| domain(view).as_deref() == Some("models.lan")).await;
    // A wrong one changes nothing; the next good one is the next thing told.
    write("domain: b.lan, head-timeout: soon");
    eventually("the wrong one is read", || (!local.platform.problems().is_empty()).then_some(())).await;
    assert_eq!(*local.platform.manifests().activator.domain, "models.lan");
    write("domain: c.lan");
    local.until("told of the correction", |view| domain(view).as_deref() != Some("models.lan")).await;
    assert_eq!(domain(&local.view).as_deref(), Some("c.lan"));
    local.end().await;
}

#[tokio::test]
async fn a_port_that_somebody_has_is_not_used() {
    let place = Place::new(&Manifest::server(""));
    let stranger = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = stranger.local_addr().unwrap().port();
    // The range is the stranger's port alone: there is none for the replica.
    let mut local = place.start_with(port..=port).await.unwrap();
    local.scale(0, 1, &[]).await.unwrap();
    local.until("without a port", |view| view.trouble.is_some()).await;
    assert_eq!(local.view.trouble.clone().unwrap().reason, "NoFreePort");
    local.end().await;
}

#[tokio::test]
async fn a_stranger_on_the_port_is_never_taken_for_the_replica() {
    let script = "echo $PORT > told; if [ -e taken ]; then exec python3 server.py; fi; sleep 1000";
    let place = Place::new(&Manifest::shell(script));
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    let first: u16 = place.line("told").await.parse().unwrap();
    std::fs::write(place.file("taken"), "").unwrap();
    let _stranger = TcpListener::bind(("127.0.0.1", first)).await.unwrap();
    local.ready(1).await;
    assert_ne!(local.view.endpoints[0].address.port(), first);
    assert_eq!(local.view.were_ready.len(), 1);
    assert_eq!(local.view.trouble, None, "no crash");
    local.end().await;
}

#[tokio::test]
async fn without_our_annotations_it_runs_at_the_count_of_the_manifest() {
    let place = Place::new(&Manifest { annotations: Vec::new(), replicas: 2, ..Manifest::server("") });
    let mut local = place.start().await;
    local.ready(2).await;
    assert!(matches!(local.scale(2, 3, &[]).await, Err(ScaleError::Refused(_))));
    place.write(&Manifest { annotations: Vec::new(), replicas: 1, ..Manifest::server("") });
    local.ready(1).await;
    local.end().await;
}

#[tokio::test]
async fn counts_outlive_a_restart_and_names_are_never_used_again() {
    let place = Place::new(&Manifest::server(""));
    let mut local = place.start().await;
    local.scale(0, 2, &[]).await.unwrap();
    local.ready(2).await;
    let before = local.view.were_ready.clone();
    timeout(DEADLINE, local.platform.shutdown(Shutdown::Drain)).await.unwrap();
    assert!(before.iter().all(|id| marked(&place, id.as_str()).is_empty()));
    assert!(matches!(place.start_with(20_000..=20_001).await, Err(StartError::Locked { .. })), "it is still in use");
    drop(local);

    let mut local = place.start_again().await;
    local.ready(2).await;
    assert_eq!(local.view.requested.get(), 2);
    assert!(local.view.were_ready.is_disjoint(&before));
    local.end().await;
}

#[tokio::test]
async fn a_drain_can_be_cut_short() {
    let place = Place::new(&Manifest { grace: 3600, ..Manifest::server("trap '' TERM; echo $$ > pid;") });
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let process = pid(&place.line("pid").await);
    let (drain, kill) = (local.platform.clone(), local.platform.clone());
    let both = async {
        tokio::join!(drain.shutdown(Shutdown::Drain), async {
            local.until("draining", |view| view.endpoints.is_empty()).await;
            assert!(is_alive(process));
            kill.shutdown(Shutdown::Kill).await;
        })
    };
    timeout(DEADLINE, both).await.unwrap();
    assert!(!is_alive(process));
}

#[tokio::test]
async fn output_is_kept_in_the_log_file_of_the_slot() {
    let place = Place::new(&Manifest::server("echo to stdout; echo to stderr >&2;"));
    let mut local = place.start().await;
    local.scale(0, 1, &[]).await.unwrap();
    local.ready(1).await;
    let log = place.state().join("logs").join("default.app").join("0.log");
    eventually("both lines", || {
        let text = std::fs::read_to_string(&log).ok()?;
        (text.contains("to stdout\n") && text.contains("to stderr\n")).then_some(())
    })
    .await;
    local.end().await;
}

/// A process that is killed when it is let go, also by a test that fails.
struct HardKill(std::process::Child);

impl Drop for HardKill {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Starts a supervisor in a process of its own and waits until its replica has written its pid.
async fn supervisor_with_a_replica(place: &Place) -> (HardKill, i32) {
    let supervisor = HardKill(
        Command::new(PROGRAM)
            .arg("run")
            .args([place.state(), place.manifests()])
            .args(["app", "1"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let replica = pid(&place.line("pid").await);
    (supervisor, replica)
}

#[tokio::test]
async fn a_replica_is_told_when_its_supervisor_dies() {
    let place = Place::new(&Manifest::server("echo $$ > pid;"));
    let (supervisor, replica) = supervisor_with_a_replica(&place).await;
    assert!(is_alive(replica));
    drop(supervisor);
    gone(replica).await;
}

#[tokio::test]
async fn what_outlives_a_hard_kill_is_ended_by_the_next_start() {
    let place = Place::new(&Manifest { grace: 1, ..Manifest::server("trap '' TERM; sleep 1000 & echo $$ > pid;") });
    let (supervisor, replica) = supervisor_with_a_replica(&place).await;
    assert!(matches!(place.start_with(20_000..=20_001).await, Err(StartError::Locked { pid: Some(_), .. })));
    let records = place.state().join("replicas");
    eventually("written down", || std::fs::read_dir(&records).ok()?.next()?.ok()).await;
    drop(supervisor);
    assert!(is_alive(replica), "it does not listen to TERM");

    let mut local = place.start().await;
    assert!(!is_alive(replica));
    // What was asked for of the killed one is asked for still.
    local.ready(1).await;
    assert_eq!(local.view.requested.get(), 1);
    local.end().await;
}
