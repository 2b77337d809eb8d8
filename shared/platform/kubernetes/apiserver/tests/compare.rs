//! The comparison with a real API server, tried on two servers in memory: it finds no difference between two that are the
//! same, and the difference where one misbehaves. `KPA_E2E=1` with `KUBECONFIG` compares with a real one.

#![expect(clippy::unwrap_used, reason = "what cannot go on here fails its test")]

#[path = "../examples/compare/replay/mod.rs"]
mod replay;

use apiserver::controllers::{Cluster, ClusterOptions};
use apiserver::{Matching, Options, Reply, Server, Verb};
use futures_util::FutureExt;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use tokio::task::JoinSet;

/// A server in memory on a socket, with controllers and no nodes.
struct Served {
    server: Server,
    config: Config,
    _cluster: Cluster,
    /// Aborted with it.
    _serving: JoinSet<std::io::Result<()>>,
}

async fn served(seed: u64) -> Served {
    let server = Server::new(Options { seed, history_events_max: 64, ..Options::real_time() });
    let cluster = Cluster::start(server.clone(), ClusterOptions { nodes: Vec::new(), ..ClusterOptions::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
    let mut serving = JoinSet::new();
    let serves = server.clone();
    serving.spawn(async move { serves.serve(listener).await });
    Served { server, config, _cluster: cluster, _serving: serving }
}

/// How many objects there are that are not a cluster's own.
fn left(server: &Server) -> Vec<String> {
    let resources = [
        ("", "configmaps"),
        ("", "pods"),
        ("apps", "deployments"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
    ];
    let count = |&(group, plural): &(&str, &str)| server.objects(group, plural).len();
    let mut left: Vec<String> =
        resources.iter().filter(|one| count(one) > 0).map(|(_, plural)| (*plural).to_owned()).collect();
    left.extend(server.names("", "namespaces", "").into_iter().filter(|name| name.starts_with("kpa-compare")));
    left
}

#[tokio::test]
async fn two_servers_that_are_the_same_do_not_differ_and_nothing_is_left() {
    let (one, two) = (served(1).await, served(2).await);
    let first = replay::record(&one.config, "kpa-compare-a").await.unwrap();
    // Another name, and versions that are not the first one's.
    two.server.account("elsewhere", "somebody").unwrap();
    let second = replay::record(&two.config, "kpa-compare-bb").await.unwrap();
    let compared = replay::compared(&first, &second);
    assert_eq!(compared.differences, Vec::<String>::new(), "{compared}");
    assert_eq!((compared.left_out.len(), compared.steps), (0, first.len()));
    assert!(compared.steps > 200, "{}", compared.steps);
    // The series meets what it is there for, and not 404 everywhere.
    let codes: BTreeSet<u16> = first.iter().map(|step| step.code).collect();
    for code in [200, 201, 400, 401, 403, 404, 405, 409, 415, 422, 504] {
        assert!(codes.contains(&code), "{code} is missing of {codes:?}");
    }
    let gone = first.last().unwrap();
    assert_eq!(
        (&gone.answer[0]["type"], &gone.answer[0]["object"]["code"]),
        (&json!("ERROR"), &json!(410)),
        "{gone:?}"
    );
    for served in [&one, &two] {
        assert_eq!(left(&served.server), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_server_that_misbehaves_is_found_out() {
    let (one, two) = (served(1).await, served(1).await);
    let faults = two.server.faults();
    // Carried out and denied; refused; and a kind that is not served as it was.
    faults.lose_answers(1, Matching::any().verb(Verb::Patch).resource("deployments/scale"), Reply::Conflict);
    faults.answer_next(1, Matching::any().verb(Verb::Update).resource("leases"), Reply::Internal);
    let first = replay::record(&one.config, "kpa-compare-a").await.unwrap();
    let second = replay::record(&two.config, "kpa-compare-a").await.unwrap();
    let compared = replay::compared(&first, &second);
    for wanted in [
        "scale whose test fails: .reason: in memory \"Invalid\", real \"Conflict\"",
        "a lease is taken: status: in memory 200, real 500",
    ] {
        assert!(compared.differences.iter().any(|line| line == wanted), "{wanted}\n{compared}");
    }
    assert_eq!(left(&two.server), Vec::<String>::new());
}

/// Makes two objects, of which one is held by its finalizer.
async fn half(calls: &mut replay::Recorder) -> Result<(), replay::Stopped> {
    for finalizers in [json!([]), json!(["kpa.test/held"])] {
        let object = json!({ "metadata": { "generateName": "half-", "finalizers": finalizers } });
        let made = calls.post("one", "/api/v1/namespaces/{ns}/configmaps", object).await?;
        assert!(made["metadata"]["uid"].is_string(), "{made}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_made_is_deleted_when_the_series_stops() {
    let one = served(1).await;
    let series = async |calls: &mut replay::Recorder| {
        half(calls).await?;
        Err(replay::Stopped::Interrupted(None))
    };
    let why = replay::record_of(&one.config, "kpa-compare-a", series).await.unwrap_err().to_string();
    assert!(why.starts_with("interrupted"), "{why}");
    assert_eq!(left(&one.server), Vec::<String>::new());

    let series = async |calls: &mut replay::Recorder| {
        half(calls).await?;
        panic!("in the middle");
    };
    let panicked = AssertUnwindSafe(replay::record_of(&one.config, "kpa-compare-a", series)).catch_unwind().await;
    assert!(panicked.is_err());
    assert_eq!(left(&one.server), Vec::<String>::new());
}

#[tokio::test]
async fn a_namespace_that_exists_is_left_alone() {
    let one = served(1).await;
    let why = replay::record(&one.config, "default").await.unwrap_err().to_string();
    assert!(why.contains("\"default\" cannot be made") && why.contains("nothing was changed"), "{why}");
    assert!(one.server.object("", "namespaces", "", "default").is_some());
}

/// Against the cluster of `KUBECONFIG`.
#[tokio::test]
async fn the_server_in_memory_answers_as_a_real_one() {
    let kubeconfig = std::env::var_os("KUBECONFIG");
    let (Some(_), Some(kubeconfig)) = (std::env::var_os("KPA_E2E").filter(|asked| asked == "1"), kubeconfig) else {
        println!("left out: no real server; KPA_E2E=1 and KUBECONFIG=FILE name one");
        return;
    };
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let real = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let name = format!("kpa-compare-{}", std::process::id());
    let memory = replay::record(&served(1).await.config, &name).await.unwrap();
    let real = replay::record(&real, &name).await.unwrap();
    let compared = replay::compared(&memory, &real);
    println!("{compared}");
    assert!(compared.differences.is_empty(), "{compared}");
}
