//! `kpa replay`: the decisions that recorded seconds lead to, one JSON line a tick (docs/replay.md).
//!
//! Invariant: decides by the code that runs; a line or a setting that is wrong stops it before anything is printed.

use crate::output;
use anyhow::{Context, bail, ensure};
use autoscaler_core::replay::{SampleLine, replay};
use domain::annotations::{Annotated, KEYS, resolve};
use domain::defaults::Defaults;
use domain::{Problem, ScalingSpec, Severity};
use platform::manifest;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The longest gap between two lines. Every two seconds of it are a tick, so a slip in a number must not make millions.
const GAP_SECS_MAX: u64 = 7 * 24 * 3600;
/// The last second there can be: the year 33658, if they count from 1970.
const SECOND_MAX: u64 = 1_000_000_000_000;

/// Settings of `kpa replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One JSON object a line and second: t (whole seconds), concurrency, requests, ready. `-` is standard input.
    #[arg(long, value_name = "FILE")]
    samples: PathBuf,
    /// Settings as annotations. A key without prefix is looked for among all keys: target=10 window=30s.
    #[arg(long, value_name = "KEY=VALUE", num_args = 1.., value_parser = annotation, conflicts_with = "file")]
    annotations: Vec<(String, String)>,
    /// Settings of the Deployment in this file or folder, with its config-autoscaler.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Which Deployment of the file, as NAME or NAMESPACE/NAME, when there are several.
    #[arg(long, value_name = "NAME", requires = "file")]
    name: Option<String>,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let spec = match &args.file {
        Some(path) => from_manifest(path, args.name.as_deref())?,
        None => from_annotations(&args.annotations)?,
    };
    let shown = args.samples.display();
    let text = if args.samples == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        text
    } else {
        std::fs::read_to_string(&args.samples).with_context(|| format!("cannot read {shown}"))?
    };
    let lines = samples(&text).map_err(|(line, error)| error.context(format!("{shown}:{line}")))?;
    let mut out = String::new();
    for tick in replay(&spec, lines.into_iter()) {
        out.push_str(&serde_json::to_string(&tick)?);
        out.push('\n');
        // Written in pieces, so that a long recording does not have to fit twice.
        if out.len() >= 1 << 16 {
            output::print(&out)?;
            out.clear();
        }
    }
    output::print(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn annotation(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.contains('/') {
        return Ok((key.to_owned(), value.to_owned()));
    }
    let names = KEYS.iter().flat_map(|row| row.names());
    let known = names.into_iter().find(|name| name.split_once('/').is_some_and(|(_, name)| name == key));
    // An unknown one goes on under Knative's prefix, where the reading asks what was meant.
    Ok((known.map_or_else(|| format!("autoscaling.knative.dev/{key}"), ToOwned::to_owned), value.to_owned()))
}

fn from_annotations(annotations: &[(String, String)]) -> anyhow::Result<ScalingSpec> {
    let metadata: BTreeMap<String, String> = annotations.iter().cloned().collect();
    let input = Annotated { place: "--annotations", metadata: &metadata, template: &BTreeMap::new() };
    let resolution = resolve(&input, &Defaults::default(), None);
    stop_at(resolution.problems.iter().filter(|problem| problem.severity > Severity::Notice))?;
    Ok(resolution.scaling)
}

fn from_manifest(path: &Path, name: Option<&str>) -> anyhow::Result<ScalingSpec> {
    let sources = platform_local::sources(&crate::input::inputs(&[path.to_owned()])?)?;
    // Nothing is run, so an image without a command here is as good as any.
    let options = manifest::Options { any_image: Some("true".into()), ..manifest::Options::default() };
    let manifests = manifest::load(&sources, &options, None);
    stop_at(manifests.problems.iter().filter(|problem| problem.severity == Severity::Error))?;
    let is_wanted = |entry: &&manifest::Entry| {
        name.is_none_or(|name| entry.revision.id.name() == name || entry.revision.id.as_str() == name)
    };
    let wanted: Vec<&manifest::Entry> = manifests.entries.iter().filter(is_wanted).collect();
    match wanted.as_slice() {
        [entry] => {
            let scaling = |problem: &&Problem| problem.key.contains("annotations");
            let problems = entry.revision.problems.iter().filter(scaling);
            stop_at(problems.filter(|problem| problem.severity == Severity::Error))?;
            Ok(entry.revision.scaling.clone())
        }
        [] => bail!("there is no such Deployment in {}", path.display()),
        several => {
            let names: Vec<&str> = several.iter().map(|entry| entry.revision.id.as_str()).collect();
            bail!("{} has several Deployments; choose one with --name: {}", path.display(), names.join(", "))
        }
    }
}

/// Settings that are not what was written would give decisions that mean nothing.
fn stop_at<'a>(problems: impl Iterator<Item = &'a Problem>) -> anyhow::Result<()> {
    let told: Vec<String> = problems.map(ToString::to_string).collect();
    ensure!(told.is_empty(), "{}", told.join("\n"));
    Ok(())
}

/// The lines of a recording, or the number of the first wrong one with what is wrong. Empty lines are passed over.
fn samples(text: &str) -> Result<Vec<SampleLine>, (usize, anyhow::Error)> {
    let mut lines: Vec<SampleLine> = Vec::new();
    for (index, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let line = sample(text, lines.last()).map_err(|error| (index + 1, error))?;
        lines.push(line);
    }
    Ok(lines)
}

fn sample(text: &str, before: Option<&SampleLine>) -> anyhow::Result<SampleLine> {
    let line: SampleLine = serde_json::from_str(text)?;
    ensure!(line.concurrency >= 0.0 && line.requests >= 0.0, "a measurement is negative");
    ensure!(line.t <= SECOND_MAX, "t is after {SECOND_MAX}");
    if let Some(before) = before {
        ensure!(line.t >= before.t, "t is {} after {}: lines come in the order of t", line.t, before.t);
        let gap = line.t - before.t;
        ensure!(gap <= GAP_SECS_MAX, "a gap of {gap} s, more than a week: replay the parts one by one");
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(text: &str, line: usize, why: &str) {
        let (at, error) = samples(text).unwrap_err();
        assert_eq!(at, line);
        assert!(error.to_string().contains(why), "{error}");
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert_eq!(samples("\n{\"t\": 1}\n\n{\"t\": 1, \"ready\": 2}\n").unwrap().len(), 2);
        refuses("{\"t\": 1}\nnonsense", 2, "expected");
        refuses("{\"t\": 1}\n\n{\"t\": 2, \"concurency\": 1}", 3, "unknown field `concurency`");
        refuses("{\"concurrency\": 1}", 1, "missing field `t`");
        refuses("{\"t\": 5}\n{\"t\": 4}", 2, "t is 4 after 5");
        refuses("{\"t\": 5, \"concurrency\": -0.5}", 1, "negative");
        refuses("{\"t\": 0}\n{\"t\": 700000}", 2, "700000 s, more than a week");
        refuses("{\"t\": 18446744073709551615}", 1, "t is after");
    }

    #[test]
    fn keys_may_be_short() {
        assert_eq!(annotation("target=10").unwrap(), ("autoscaling.knative.dev/target".into(), "10".into()));
        assert_eq!(annotation("exact=true").unwrap(), ("kpa.dev/exact".into(), "true".into()));
        assert_eq!(annotation("a/b=c=d").unwrap(), ("a/b".into(), "c=d".into()));
        assert!(annotation("target").is_err());
        let spec = from_annotations(&[annotation("window=30s").unwrap()]).unwrap();
        assert_eq!(spec.stable_window.as_secs(), 30);
        let error = from_annotations(&[annotation("widow=30s").unwrap()]).unwrap_err().to_string();
        assert!(error.contains("did you mean"), "{error}");
        assert!(from_annotations(&[]).is_ok());
    }
}
