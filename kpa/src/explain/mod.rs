//! `kpa explain`: why a service has the replicas that it has, and what it waits for.
//!
//! Invariant: says what the running kpa, or on a cluster the acting autoscaler, has said; computes nothing of its own.

mod sentences;

use crate::api;
use crate::cluster::Cluster;
use crate::output;
use anyhow::Context;
use serde_json::Value;
use std::process::ExitCode;

/// Settings of `kpa explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The services, as NAME or NAMESPACE/NAME.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Where `kpa run` serves its API.
    #[arg(long, default_value = api::DEFAULT_ADDRESS, value_name = "ADDRESS:PORT")]
    admin: String,
    #[command(flatten)]
    cluster: Cluster,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(async {
        if args.cluster.is_meant() {
            let open = args.cluster.open().await?;
            return open.rows_of(args.names.iter().any(|name| name.contains('/'))).await;
        }
        let body = api::get(&args.admin, "/v1/revisions").await?;
        serde_json::from_slice(&body)
            .with_context(|| format!("{} does not answer as this kpa understands it", args.admin))
    })?;
    let Value::Array(rows) = rows else { anyhow::bail!("{} does not answer with a list", args.admin) };
    let mut parts = Vec::new();
    for name in &args.names {
        let fits: Vec<&Value> = rows.iter().filter(|row| row["name"] == **name || row["id"] == **name).collect();
        if fits.is_empty() {
            let known: Vec<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            anyhow::bail!("there is no service {name}; there is: {known}");
        }
        parts.extend(fits.into_iter().map(sentences::explain));
    }
    output::print(&parts.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}
