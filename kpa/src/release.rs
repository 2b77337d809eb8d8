//! `kpa release`: lets go of services, or takes them back (kpa-behaviour 1.8).
//!
//! Invariant: with `--all`, one that cannot be released keeps no other from it.

use crate::api::{self, Where};
use crate::cluster::Cluster;
use crate::output;
use bytes::Bytes;
use domain::RevisionId;
use http::Method;
use platform_kubernetes::objects::Released;
use serde::Deserialize;
use std::process::ExitCode;
use std::time::Duration;

/// How long Services that led to the activators still do, while the pods that they are to lead to start. The Job that goes
/// before an uninstall has 280 s for everything.
const HAND_OVER: Duration = Duration::from_secs(120);

/// Settings of `kpa release`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The services, as NAME or NAMESPACE/NAME.
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
    /// Every service that is scaled.
    #[arg(long)]
    all: bool,
    /// Take them back: scale them again.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    cluster: Cluster,
}

/// The answer.
#[derive(Debug, Deserialize)]
struct Answer {
    released: bool,
    changed: bool,
    replicas: u32,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if args.cluster.is_meant() {
            return on_a_cluster(args).await;
        }
        let operator = args.place.operator()?;
        let mut services = Vec::new();
        if args.all {
            services = api::services(&args.place.admin).await?;
        }
        for name in &args.names {
            services.push(api::service(&args.place.admin, name).await?);
        }
        if services.is_empty() {
            output::remark("No resources found.");
        }
        let method = if args.undo { Method::DELETE } else { Method::POST };
        for service in services {
            match operator.change::<Answer>(method.clone(), &service, "release", Bytes::new()).await {
                Ok(answer) => output::print(&(sentence(&service, &answer) + "\n"))?,
                Err(error) if args.all && is_refusal(&error) => output::remark(&format!("{error}")),
                Err(error) => return Err(error),
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The same where the cluster itself is asked. With `--all` nothing of ours stays: it is what goes before an uninstall.
async fn on_a_cluster(args: &Args) -> anyhow::Result<ExitCode> {
    let open = args.cluster.open().await?;
    let listed = open.list(args.all).await?;
    let chosen: Vec<_> =
        listed.iter().filter(|one| args.all || args.names.iter().any(|name| open.is(one, name))).collect();
    if let Some(unknown) = args.names.iter().find(|name| !chosen.iter().any(|one| open.is(one, name))) {
        anyhow::bail!("there is no ScaledWorkload {unknown} in {}", open.place(args.all));
    }
    if chosen.is_empty() {
        output::remark("No resources found.");
    }
    let released = match (args.undo, args.all) {
        (true, _) => Released::No,
        (false, true) => Released::ForGood,
        (false, false) => Released::Yes,
    };
    let mut failed = None;
    let all: Vec<_> = chosen.iter().map(|one| &one.published).collect();
    for one in chosen {
        let service = RevisionId::new(&one.published.key.0, &one.published.key.1);
        match open.hand.release(&one.published, released).await {
            Ok(done) => {
                let answer =
                    Answer { released: released != Released::No, changed: done.changed, replicas: done.replicas.get() };
                output::print(&(sentence(&service, &answer) + "\n"))?;
            }
            Err(error) if args.all => {
                output::remark(&format!("{service}: {error}"));
                failed = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if released != Released::No
        && let Err(error) = open.hand.leave_services(&all, released, HAND_OVER).await
    {
        output::remark(&format!("the slices of a Service that led to the activators: {error}"));
        failed = Some(error);
    }
    // Whoever uninstalls next must know that something was left behind.
    failed
        .map_or(Ok(ExitCode::SUCCESS), |error| Err(anyhow::Error::new(error).context("not every workload was let go")))
}

/// Whether kpa answered that it cannot do this with this service.
fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(api::ApiError::Refused(_)))
}

fn sentence(service: &RevisionId, answer: &Answer) -> String {
    let replicas = output::count(usize::try_from(answer.replicas).unwrap_or(usize::MAX), "replica");
    match (answer.released, answer.changed) {
        (true, true) => format!("{service}: released with {replicas}; routed, and no longer scaled"),
        (true, false) => format!("{service}: was released before; it has {replicas}"),
        (false, true) => format!("{service}: taken back with {replicas}; scaled again"),
        (false, false) => format!("{service}: was not released; it has {replicas}"),
    }
}
