//! `kpa check --cluster`: everything that is wrong with the Deployments of a cluster and its two ConfigMaps.
//!
//! Invariant: reads what the autoscaler reads, by the same code; what somebody may not read is said to be missing.

use super::report::lines;
use super::{Args, Format};
use crate::output::{self, count};
use domain::host::RouteTable;
use domain::{Problem, Revision, Severity};
use platform_kubernetes::survey::{Configs, Found};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let names: Vec<String> = args.paths.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let (found, configs, place) = runtime.block_on(async {
        let open = args.cluster.open().await?;
        let (found, configs) = open.survey().await?;
        let place = open.place(false);
        anyhow::Ok((open.named(found, &names, |found: &Found| &found.key)?, configs, place))
    })?;
    let problems = problems(&found, &configs);
    output::print(&match args.output {
        Some(Format::Json) => whole(&found, &problems)?,
        None => text(&found, &problems, &place),
    })?;
    let errors = problems.iter().any(|problem| problem.severity == Severity::Error);
    Ok(if errors { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Every problem once: of the maps, of each Deployment, and of hosts that two of them claim.
fn problems(found: &[Found], configs: &Configs) -> Vec<Problem> {
    let adopted = found.iter().filter_map(|found| found.reading.as_ref().ok());
    let revisions: Vec<Arc<Revision>> = adopted.map(|adopted| Arc::clone(&adopted.revision)).collect();
    let (_, claims) = RouteTable::build(&revisions, &configs.activator.domains(), &configs.activator.allowed_hosts);
    let mut once: Vec<Problem> = Vec::new();
    for problem in configs.problems.iter().chain(found.iter().flat_map(Found::problems)).chain(&claims) {
        if !once.contains(problem) {
            once.push(problem.clone());
        }
    }
    once
}

/// By object, then a line of sums.
fn text(found: &[Found], problems: &[Problem], place: &str) -> String {
    let mut objects: BTreeMap<String, String> = BTreeMap::new();
    for Found { key: (namespace, name), reading } in found {
        if let Err(not) = reading {
            let line = format!("    not scaled: {}\n", not.reason);
            objects.entry(format!("Deployment {namespace}/{name}")).or_default().push_str(&line);
        }
    }
    for problem in problems {
        let parts = [&problem.key, &problem.what, &problem.expected, &problem.consequence].map(String::as_str);
        objects.entry(problem.place.clone()).or_default().push_str(&lines(problem.severity, parts));
    }
    let mut out = String::new();
    for (object, lines) in objects {
        // Writing to a String cannot fail.
        let _ = write!(out, "  {object}\n{lines}");
    }
    let of = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let not = found.iter().filter(|found| found.reading.is_err()).count();
    let _ = writeln!(
        out,
        "{} with annotations of ours in {place}, {not} not scaled: {}, {}, {}",
        count(found.len(), "Deployment"),
        count(of(Severity::Error), "error"),
        count(of(Severity::Warning), "warning"),
        count(of(Severity::Notice), "notice"),
    );
    out
}

fn whole(found: &[Found], problems: &[Problem]) -> anyhow::Result<String> {
    let ignored = found.iter().filter_map(|found| {
        let not = found.reading.as_ref().err()?;
        Some(json!({"namespace": found.key.0, "name": found.key.1, "reason": not.reason}))
    });
    let services = found.iter().filter_map(|found| found.reading.as_ref().ok());
    let services = services.map(|adopted| adopted.revision.id.to_string());
    let report = json!({
        "services": services.collect::<Vec<_>>(),
        "problems": problems,
        "ignored": ignored.collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}
