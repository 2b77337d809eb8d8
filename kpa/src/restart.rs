//! `kpa restart`: replaces every process of a service by another of the same version, and loses no request.
//!
//! Invariant: only shows what the supervisor does; leaving it early stops nothing.

use crate::api::{self, Where};
use crate::output;
use anyhow::Context;
use bytes::Bytes;
use domain::{RevisionId, duration};
use http::Method;
use serde::Deserialize;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Settings of `kpa restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service, as NAME or NAMESPACE/NAME.
    #[arg(value_name = "NAME")]
    name: String,
    /// Begin it and do not wait for its end.
    #[arg(long)]
    no_wait: bool,
    /// Wait no longer than this, such as 10m; the restart goes on. Default: as long as it takes.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "no_wait")]
    timeout: Option<Duration>,
    #[command(flatten)]
    place: Where,
}

/// The answer.
#[derive(Debug, Deserialize)]
struct Begun {
    replaces: Vec<String>,
}

/// What is looked at of a replica.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Replica {
    id: String,
    name: String,
    service: String,
    state: String,
    outdated: bool,
    in_flight: u32,
    reason: Option<String>,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let operator = args.place.operator()?;
        let service = api::service(&args.place.admin, &args.name).await?;
        let begun: Begun = operator.change(Method::POST, &service, "restart", Bytes::new()).await?;
        if begun.replaces.is_empty() {
            output::print(&format!("{service}: nothing runs, so there is nothing to restart\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        output::print(&format!("{service}: restarting {}\n", output::count(begun.replaces.len(), "replica")))?;
        if args.no_wait {
            return Ok(ExitCode::SUCCESS);
        }
        let until = args.timeout.map(|timeout| Instant::now() + timeout);
        let mut last = String::new();
        loop {
            let progress = Progress::of(&begun.replaces, look(&args.place.admin, &service).await?);
            let line = progress.line();
            if line != last {
                output::print(&format!("{service}: {line}\n"))?;
                last = line;
            }
            if progress.is_done() {
                return Ok(ExitCode::SUCCESS);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                anyhow::bail!("{service}: not restarted within the timeout; it goes on (kpa get replicas {service})");
            }
            sleep(LOOK).await;
        }
    })
}

async fn look(admin: &str, service: &RevisionId) -> anyhow::Result<Vec<Replica>> {
    let body = api::get(admin, "/v1/local/replicas").await?;
    let mut all: Vec<Replica> =
        serde_json::from_slice(&body).with_context(|| format!("{admin} does not answer as this kpa understands it"))?;
    all.retain(|replica| replica.service == service.as_str());
    Ok(all)
}

/// How far it is.
#[derive(Debug)]
struct Progress {
    replaces: usize,
    old: Vec<Replica>,
    new: Vec<Replica>,
}

impl Progress {
    fn of(replaces: &[String], all: Vec<Replica>) -> Self {
        let (old, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|replica| replaces.contains(&replica.id));
        let new = rest.into_iter().filter(|replica| !replica.outdated).collect();
        Self { replaces: replaces.len(), old, new }
    }

    /// Nothing old is left, and nothing new is still on its way.
    fn is_done(&self) -> bool {
        self.old.is_empty() && self.new.iter().all(|replica| replica.state == "ready")
    }

    fn line(&self) -> String {
        let ready = self.new.iter().filter(|replica| replica.state == "ready").count();
        if self.is_done() {
            return format!("restarted, {ready} ready");
        }
        let mut parts =
            vec![format!("{ready} new ready, {} of {} old gone", self.replaces - self.old.len(), self.replaces)];
        parts.extend(self.new.iter().filter(|replica| replica.state != "ready").map(|replica| match &replica.reason {
            Some(reason) => format!("{} {}: {reason}", replica.name, replica.state),
            None => format!("{} {}", replica.name, replica.state),
        }));
        let busy = self.old.iter().filter(|replica| replica.state == "draining" && replica.in_flight > 0);
        parts.extend(busy.map(|replica| format!("{} draining, {} in flight", replica.name, replica.in_flight)));
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(id: &str, state: &str, outdated: bool) -> Replica {
        let (in_flight, reason) = (if state == "draining" { 3 } else { 0 }, None);
        Replica {
            id: id.into(),
            name: id.into(),
            service: "s".into(),
            state: state.into(),
            outdated,
            in_flight,
            reason,
        }
    }

    #[test]
    fn it_is_over_when_the_old_are_gone_and_the_new_are_ready() {
        let replaces = ["a".to_owned(), "b".to_owned()];
        let at = |all: Vec<Replica>| {
            let progress = Progress::of(&replaces, all);
            (progress.is_done(), progress.line())
        };
        let (a, b) = (replica("a", "ready", true), replica("b", "ready", true));
        assert_eq!(
            at(vec![a, b.clone(), replica("c", "starting", false)]),
            (false, "0 new ready, 0 of 2 old gone; c starting".into())
        );
        let draining = replica("a", "draining", true);
        assert_eq!(
            at(vec![draining, b, replica("c", "ready", false)]),
            (false, "1 new ready, 0 of 2 old gone; a draining, 3 in flight".into())
        );
        let crashed = Replica { reason: Some("ended with status 1".into()), ..replica("c", "backoff", false) };
        assert_eq!(at(vec![crashed]), (false, "0 new ready, 2 of 2 old gone; c backoff: ended with status 1".into()));
        let both = vec![replica("c", "ready", false), replica("d", "ready", false)];
        assert_eq!(at(both), (true, "restarted, 2 ready".into()));
        assert_eq!(at(Vec::new()), (true, "restarted, 0 ready".into()), "scaled to zero meanwhile");
    }
}
