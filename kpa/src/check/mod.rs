//! `kpa check`: everything that is wrong with manifests, without running any of them, or with what is on a cluster.
//!
//! Invariant: reads exactly what `kpa run` would read, by the same code.

mod cluster;
mod report;

use crate::cluster::Cluster;
use crate::{input, output};
use domain::host::RouteTable;
use domain::{Problem, Revision};
use platform::manifest::{self, Manifests};
use report::Report;
use runtime::telemetry::{self, LogFormat};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Settings of `kpa check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files or folders of Kubernetes YAML; - is standard input. With --cluster instead: names of Deployments; without any,
    /// all that carry annotations of ours.
    #[arg(value_name = "PATH", required_unless_present_any = ["cluster", "context", "namespace", "all_namespaces"])]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    beside: input::Beside,
    /// Show what each service comes to as well: its host, its command, every setting with its origin.
    #[arg(short, long)]
    verbose: bool,
    /// Everything as one JSON object (json) instead of text.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Json,
}

/// Exit code 0 without errors (warnings and notices are none), 1 with.
pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    // A file of a folder that cannot be read is passed over with a line in the log.
    telemetry::logs(LogFormat::Human, "warn")?;
    if args.cluster.is_named() {
        return cluster::main(args);
    }
    let sources = platform_local::sources(&args.beside.inputs(&args.paths)?)?;
    let options = manifest::Options { images: args.beside.images(), ..manifest::Options::default() };
    let manifests = manifest::load(&sources, &options, None);
    let folder = std::env::current_dir().unwrap_or_default();
    let report = Report::new(&sources, &manifests, &problems(&manifests), &folder);
    output::print(&match args.output {
        Some(Format::Json) => serde_json::to_string_pretty(&report)? + "\n",
        None => report.text(args.verbose),
    })?;
    Ok(if report.errors() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Every problem once, those between services included.
fn problems(manifests: &Manifests) -> Vec<Problem> {
    let revisions: Vec<Arc<Revision>> = manifests.entries.iter().map(|entry| Arc::clone(&entry.revision)).collect();
    let config = &manifests.activator;
    let (_, claims) = RouteTable::build(&revisions, &config.domains(), &config.allowed_hosts);
    let mut once: Vec<Problem> = Vec::new();
    for problem in manifests.all_problems().chain(&claims) {
        // What is wrong with config-autoscaler is wrong with every service.
        if !once.contains(problem) {
            once.push(problem.clone());
        }
    }
    once
}
