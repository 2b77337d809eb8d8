//! `kpa scale`: a smallest count for some time, for a demonstration or a load that is expected.
//!
//! Invariant: it only raises, never beyond max-scale, and ends by itself; the manifest stays what it is.

use crate::api::{self, Where};
use crate::operate::FloorWish;
use crate::output;
use anyhow::Context;
use domain::{RevisionId, WallTime, duration};
use http::Method;
use serde::Deserialize;
use std::process::ExitCode;
use std::time::Duration;

/// Settings of `kpa scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service, as NAME or NAMESPACE/NAME.
    #[arg(value_name = "NAME")]
    name: String,
    /// At least so many replicas, at most max-scale.
    #[arg(long, value_name = "N", requires = "span", required_unless_present = "clear")]
    min: Option<u32>,
    /// For so long, such as 2h or 90m; at most 720h. What should stay longer belongs into the manifest.
    #[arg(id = "span", long = "for", value_name = "DURATION", value_parser = duration::parse, requires = "min")]
    span: Option<Duration>,
    /// End an earlier floor.
    #[arg(long, conflicts_with_all = ["min", "span"])]
    clear: bool,
    #[command(flatten)]
    place: Where,
}

/// The answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    floor: Option<Floor>,
    min_scale: u32,
}

#[derive(Debug, Deserialize)]
struct Floor {
    min: u32,
    until: WallTime,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let operator = args.place.operator()?;
        let service = api::service(&args.place.admin, &args.name).await?;
        let (method, body) = match (args.min, args.span) {
            (Some(min), Some(span)) => {
                let wish = FloorWish { min, span: duration::format(span) };
                (Method::POST, serde_json::to_vec(&wish).context("a floor can be written")?)
            }
            _ => (Method::DELETE, Vec::new()),
        };
        let answer: Answer = operator.change(method, &service, "floor", body.into()).await?;
        output::print(&(sentence(&service, &answer) + "\n"))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn sentence(service: &RevisionId, answer: &Answer) -> String {
    match &answer.floor {
        None => format!("{service}: no floor; min-scale is {}", answer.min_scale),
        Some(floor) if answer.min_scale > floor.min => format!(
            "{service}: min-scale is {} anyway; the floor of {} would count if it were lowered before {:.0}",
            answer.min_scale, floor.min, floor.until
        ),
        Some(floor) => format!("{service}: at least {} until {:.0}", floor.min, floor.until),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_one_sentence() {
        let service = RevisionId::new("default", "app");
        let floor = |min| Some(Floor { min, until: WallTime::from_unix_millis(0) });
        let says = |floor, min_scale| sentence(&service, &Answer { floor, min_scale });
        assert_eq!(says(None, 1), "default/app: no floor; min-scale is 1");
        assert_eq!(says(floor(3), 3), "default/app: at least 3 until 1970-01-01T00:00:00Z");
        assert_eq!(
            says(floor(2), 3),
            "default/app: min-scale is 3 anyway; the floor of 2 would count if it were lowered before \
             1970-01-01T00:00:00Z"
        );
    }
}
