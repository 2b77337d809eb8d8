//! `kpa config --cluster`: the two ConfigMaps as they are in force there, or the settings of services.
//!
//! Invariant: a service's settings are those that its ScaledWorkload gives to the activators, each with its origin.

use super::{Args, Format, origin, table, yaml};
use crate::output;
use crate::table::Table;
use anyhow::bail;
use autoscaler_core::status::settings;
use domain::activator_config::CONFIG_MAP as ACTIVATOR_MAP;
use domain::defaults::CONFIG_MAP;
use platform_kubernetes::objects::Published;
use std::process::ExitCode;

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let names: Vec<String> = args.paths.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    runtime.block_on(async {
        let open = args.cluster.open().await?;
        if names.is_empty() {
            return maps(args, &open.configs().await?);
        }
        if args.output.is_some() {
            bail!("-o yaml prints ConfigMaps, and a service has none: leave out {}", names.join(" "));
        }
        let everything = names.iter().any(|name| name.contains('/'));
        let listed = open.list(everything).await?;
        let published = listed.into_iter().map(|listed| listed.published).collect();
        let chosen = open.named(published, &names, |published: &Published| &published.key)?;
        let parts: Vec<String> = chosen.iter().map(service).collect::<Result<_, _>>()?;
        output::print(&parts.join("\n"))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Both maps. Exit code 1 where a value is refused.
fn maps(args: &Args, configs: &platform_kubernetes::survey::Configs) -> anyhow::Result<ExitCode> {
    for problem in &configs.problems {
        output::remark(&problem.to_string());
    }
    let maps = [(CONFIG_MAP, configs.defaults.with_origins()), (ACTIVATOR_MAP, configs.activator.with_origins())];
    let parts: Vec<String> = maps
        .into_iter()
        .zip(&configs.places)
        .map(|((name, values), place)| {
            let rows =
                values.into_iter().map(|(key, value, from)| [key.to_owned(), value, origin(from, place.as_deref())]);
            match args.output {
                None => table(name, rows),
                Some(Format::Yaml) => yaml(name, rows),
            }
        })
        .collect();
    output::print(&parts.join(if args.output.is_none() { "\n" } else { "---\n" }))?;
    let refused = configs.problems.iter().any(|problem| problem.severity == domain::Severity::Error);
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Every setting of one service.
fn service(published: &Published) -> anyhow::Result<String> {
    let (namespace, name) = &published.key;
    let spec = match &published.spec {
        Ok(spec) => spec,
        Err(error) => bail!("ScaledWorkload {namespace}/{name} is of another release: {error}"),
    };
    let header = [format!("{namespace}/{name}"), "VALUE".to_owned(), "ORIGIN".to_owned()];
    let settings = settings(&spec.resolved.scaling, &spec.resolved.limits);
    let rows = settings.into_iter().map(|one| [one.key.to_owned(), one.value, one.origin.to_string()]);
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).map(Vec::from).collect();
    Ok(Table::default().lines(&rows))
}
