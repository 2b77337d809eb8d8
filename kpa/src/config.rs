//! `kpa config`: every cluster-wide setting in force, and where it stands.

use crate::output;
use crate::table::Table;
use anyhow::bail;
use domain::defaults::{CONFIG_MAP, Defaults};
use domain::{Origin, Severity};
use platform::manifest;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Settings of `kpa config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files or folders of YAML, or - for standard input, that may hold a ConfigMap config-autoscaler. Without any: the built-in defaults.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A ConfigMap of all keys (yaml) instead of a table.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Yaml,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let sources = platform_local::sources(&crate::input::inputs(&args.paths)?)?;
    let manifests = manifest::load(&sources, &manifest::Options::default(), None);
    let lost = manifests.config_problems();
    if !lost.is_empty() {
        let told: Vec<String> = lost.iter().map(ToString::to_string).collect();
        bail!("{}", told.join("\n"));
    }
    for problem in manifests.defaults.warnings.iter().filter(|problem| problem.severity > Severity::Notice) {
        output::remark(&problem.to_string());
    }
    if !args.paths.is_empty() && manifests.config.is_none() {
        output::remark(&format!("no ConfigMap {CONFIG_MAP} there: these are the built-in defaults"));
    }
    // A place is `file:line Kind namespace/name`.
    let place = manifests.config.as_deref().and_then(|place| place.split_once(" ConfigMap "));
    let folder = std::env::current_dir().unwrap_or_default();
    let place = place.map(|(place, _)| output::relative(Path::new(place), &folder));
    let place = place.as_deref();
    output::print(&match args.output {
        None => table(&manifests.defaults, place),
        Some(Format::Yaml) => yaml(&manifests.defaults, place),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Where a value stands.
fn origin(origin: Origin, place: Option<&str>) -> String {
    match place {
        Some(place) if origin == Origin::ClusterConfig => place.to_owned(),
        _ => origin.to_string(),
    }
}

fn table(defaults: &Defaults, place: Option<&str>) -> String {
    let header = ["KEY", "VALUE", "ORIGIN"].map(ToOwned::to_owned).to_vec();
    let rows =
        defaults.with_origins().into_iter().map(|(key, value, from)| vec![key.to_owned(), value, origin(from, place)]);
    Table::default().lines(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

/// A ConfigMap that sets all of it, each value with its origin in a comment.
fn yaml(defaults: &Defaults, place: Option<&str>) -> String {
    let mut out = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {CONFIG_MAP}\ndata:\n");
    for (key, value, from) in defaults.with_origins() {
        // Writing to a String cannot fail. A Rust string literal of such a value is a YAML one.
        let _ = writeln!(out, "  {key}: {value:?} # {}", origin(from, place));
    }
    out
}
