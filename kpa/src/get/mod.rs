//! `kpa get`: what `kpa run` does with each service, as `kubectl get hpa` would show it; its replicas, as `kubectl get pods`
//! would; and what of the manifests is not used.
//!
//! Invariant: shows what the running kpa says and computes nothing of its own.

mod ignored;
mod list;
mod replicas;
mod row;
#[cfg(test)]
mod tests;

use crate::api;
use crate::cluster::Cluster;
use anyhow::Context;
use list::{Item, Listing, items, show};
use row::Row;
use std::process::ExitCode;

/// Settings of `kpa get`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// The services to show, as NAME or NAMESPACE/NAME. Default: all.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// What is recognised in the manifests and not used, with place and reason, instead of services. On a cluster: the
    /// Deployments that carry annotations of ours and are not scaled.
    #[arg(long, conflicts_with = "names")]
    ignored: bool,
    #[command(flatten)]
    list: Listing,
    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Shows the replicas, each a process, in columns like those of `kubectl get pods`.
    #[command(visible_alias = "pods")]
    Replicas(replicas::Args),
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &args.what {
            Some(What::Replicas(args)) => replicas::main(args).await?,
            None if args.ignored => ignored::main(&args.list, &args.cluster).await?,
            None => services(args).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn services(args: &Args) -> anyhow::Result<()> {
    let open = if args.cluster.is_meant() { Some(args.cluster.open().await?) } else { None };
    let look = async || match &open {
        Some(open) => Ok(items(&serde_json::to_vec(&open.rows().await?)?)?),
        None => look(&args.list.admin).await,
    };
    let first = wanted(look().await?, &args.names)?;
    show(&args.list, first, async || {
        let mut now = look().await?;
        // A name that has gone may come back; it is no mistake any more.
        now.retain(|status| args.names.is_empty() || args.names.iter().any(|name| status.row.is(name)));
        Ok(now)
    })
    .await
}

async fn look(admin: &str) -> anyhow::Result<Vec<Item<Row>>> {
    list_of(admin, "/v1/revisions").await
}

/// What `GET path` lists.
async fn list_of<R: list::Shown>(admin: &str, path: &str) -> anyhow::Result<Vec<Item<R>>> {
    let body = api::get(admin, path).await?;
    items(&body).with_context(|| format!("{admin} does not answer as this kpa understands it"))
}

/// The statuses with one of these names; all without any. A name that nobody has is a mistake.
fn wanted(mut all: Vec<Item<Row>>, names: &[String]) -> anyhow::Result<Vec<Item<Row>>> {
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|status| status.row.is(name))) {
        let known: Vec<&str> = all.iter().map(|status| status.row.id.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        anyhow::bail!("there is no service {unknown}; there is: {known}");
    }
    all.retain(|status| names.is_empty() || names.iter().any(|name| status.row.is(name)));
    Ok(all)
}
