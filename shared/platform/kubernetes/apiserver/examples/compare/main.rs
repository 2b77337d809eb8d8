//! One series of calls against the server in memory and against a real one, and how their answers differ:
//! `cargo run -p apiserver --example compare -- --kubeconfig FILE [--namespace NAME]`.
//!
//! Everything stands in one new namespace, beside one definition in a group that is named after it, and is deleted at the
//! end. Exits with 1 when an answer differs, and with 2 when the comparison could not be made. `--namespace` names the
//! namespace, which must not exist; otherwise its name is random.

mod replay;

use apiserver::controllers::{Cluster, ClusterOptions};
use apiserver::{Options, Server};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use replay::allowed::ALLOWED;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// What is kept of the server in memory: less than the series writes, so that its beginning is too old at its end.
const HISTORY_EVENTS: usize = 64;

/// What the command line asks for.
struct Arguments {
    kubeconfig: PathBuf,
    namespace: String,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut kubeconfig, mut namespace) = (None, None);
        while let Some(word) = words.next() {
            let place = match word.as_str() {
                "--kubeconfig" => &mut kubeconfig,
                "--namespace" => &mut namespace,
                other => {
                    return Err(format!(
                        "{other:?} means nothing here; expected --kubeconfig FILE or --namespace NAME"
                    ));
                }
            };
            *place = Some(words.next().ok_or_else(|| format!("{word} needs a value"))?);
        }
        let kubeconfig = kubeconfig.ok_or("--kubeconfig FILE is missing: which real server?")?.into();
        // The keys of a new hash table are the randomness that the standard library has.
        let random = RandomState::new().build_hasher().finish() % 100_000_000;
        Ok(Self { kubeconfig, namespace: namespace.unwrap_or_else(|| format!("kpa-compare-{random}")) })
    }
}

fn main() -> ExitCode {
    let out = &mut io::stdout();
    let ended = Arguments::read(std::env::args().skip(1))
        .and_then(|arguments| compare(&arguments, out).map_err(|error| error.to_string()));
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            // Where stderr is closed, the exit code is all that is left to say.
            let _ = writeln!(io::stderr(), "compare: {why}");
            ExitCode::from(2)
        }
    }
}

/// Whether the answers are the same.
fn compare(arguments: &Arguments, out: &mut impl Write) -> Result<bool, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = KubeConfigOptions::default();
        let real = Config::from_custom_kubeconfig(Kubeconfig::read_from(&arguments.kubeconfig)?, &options).await?;
        let server = Server::new(Options { history_events_max: HISTORY_EVENTS, ..Options::real_time() });
        // No node: nothing runs here, while dependents follow their owners.
        let _cluster =
            Cluster::start(server.clone(), ClusterOptions { nodes: Vec::new(), ..ClusterOptions::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let memory = Config::new(format!("http://{}", listener.local_addr()?).parse()?);
        let both = async {
            let memory = replay::record(&memory, &arguments.namespace).await?;
            let real = replay::record(&real, &arguments.namespace).await?;
            Ok::<_, replay::Stopped>(replay::compared(&memory, &real))
        };
        let compared = tokio::select! {
            compared = both => compared?,
            served = server.serve(listener) => return Err(format!("the server in memory ended: {served:?}").into()),
        };
        for one in ALLOWED {
            writeln!(out, "not compared: {}: {}: {}", one.kind, one.path.replace(' ', "."), one.why)?;
        }
        write!(out, "{compared}")?;
        Ok(compared.differences.is_empty())
    })
}
