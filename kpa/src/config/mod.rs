//! `kpa config`: every cluster-wide setting in force, and where it stands; on a cluster, those of services too.

mod cluster;

use crate::cluster::Cluster;
use crate::output;
use crate::table::Table;
use anyhow::bail;
use domain::activator_config::CONFIG_MAP as ACTIVATOR_MAP;
use domain::defaults::CONFIG_MAP;
use domain::{Origin, Severity};
use platform::manifest;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Settings of `kpa config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files or folders of YAML, or - for standard input, that may hold the ConfigMaps config-autoscaler and config-activator. Without any: the built-in defaults. With --cluster instead: names of services whose settings are shown; without any, the cluster's ConfigMaps.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// ConfigMaps of all keys (yaml) instead of tables.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Yaml,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    if args.cluster.is_named() {
        return cluster::main(args);
    }
    let sources = platform_local::sources(&crate::input::inputs(&args.paths)?)?;
    let manifests = manifest::load(&sources, &manifest::Options::default(), None);
    let lost = manifests.config_problems().iter().chain(manifests.activator_problems());
    let mut told: Vec<String> = lost.map(ToString::to_string).collect();
    if !told.is_empty() {
        // A document that cannot be read may be either map.
        told.dedup();
        bail!("{}", told.join("\n"));
    }
    let warnings = manifests.defaults.warnings.iter().chain(&manifests.activator.warnings);
    for problem in warnings.filter(|problem| problem.severity > Severity::Notice) {
        output::remark(&problem.to_string());
    }
    let maps = [
        (CONFIG_MAP, manifests.defaults.with_origins(), manifests.config.as_deref()),
        (ACTIVATOR_MAP, manifests.activator.with_origins(), manifests.activator_place.as_deref()),
    ];
    let folder = std::env::current_dir().unwrap_or_default();
    let mut parts = Vec::new();
    for (name, values, place) in maps {
        if !args.paths.is_empty() && place.is_none() {
            output::remark(&format!("no ConfigMap {name} there: these are its built-in values"));
        }
        // A place is `file:line Kind namespace/name`.
        let place = place.and_then(|place| place.split_once(" ConfigMap "));
        let place = place.map(|(place, _)| output::relative(Path::new(place), &folder));
        let rows = values.into_iter().map(|(key, value, from)| [key.to_owned(), value, origin(from, place.as_deref())]);
        parts.push(match args.output {
            None => table(name, rows),
            Some(Format::Yaml) => yaml(name, rows),
        });
    }
    output::print(&parts.join(if args.output.is_none() { "\n" } else { "---\n" }))?;
    Ok(ExitCode::SUCCESS)
}

/// Where a value stands.
fn origin(origin: Origin, place: Option<&str>) -> String {
    match place {
        Some(place) if origin == Origin::ClusterConfig => place.to_owned(),
        _ => origin.to_string(),
    }
}

/// The keys of one map.
fn table(name: &str, rows: impl Iterator<Item = [String; 3]>) -> String {
    let header = [name.to_uppercase(), "VALUE".into(), "ORIGIN".into()];
    Table::default().lines(&std::iter::once(header).chain(rows).map(Vec::from).collect::<Vec<_>>())
}

/// A ConfigMap that sets all of it, each value with its origin in a comment.
fn yaml(name: &str, rows: impl Iterator<Item = [String; 3]>) -> String {
    let mut out = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n");
    for [key, value, origin] in rows {
        // Writing to a String cannot fail. A Rust string literal of such a value is a YAML one.
        let _ = writeln!(out, "  {key}: {value:?} # {origin}");
    }
    out
}
