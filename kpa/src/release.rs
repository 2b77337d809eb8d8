//! `kpa release`: lets go of services, or takes them back (kpa-behaviour 1.8).
//!
//! Invariant: with `--all`, one that cannot be released keeps no other from it.

use crate::api::{self, Where};
use crate::output;
use bytes::Bytes;
use domain::RevisionId;
use http::Method;
use serde::Deserialize;
use std::process::ExitCode;

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
