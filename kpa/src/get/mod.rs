//! `kpa get`: what `kpa run` does with each service, as `kubectl get hpa` would show it.
//!
//! Invariant: shows what the autoscaler says and computes nothing of its own.

mod row;
#[cfg(test)]
mod tests;

use crate::json::Json;
use crate::table::Table;
use crate::{api, output};
use anyhow::Context;
use row::{Columns, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_millis(500);

/// Settings of `kpa get`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The services to show, as NAME or NAMESPACE/NAME. Default: all.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Keep looking, and print a row whenever one changes (its age apart).
    #[arg(short, long)]
    watch: bool,
    /// What to show: more columns (wide), or everything that is known, the arithmetic of the last decision included
    /// (json, yaml: a list).
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// Where `kpa run` serves its API.
    #[arg(long, default_value = api::DEFAULT_ADDRESS, value_name = "ADDRESS:PORT")]
    admin: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Wide,
    Json,
    Yaml,
}

/// One revision: what the columns show, and everything.
#[derive(Debug, Clone)]
struct Status {
    row: Row,
    whole: Json,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut view = View::new(args.output);
        let first = wanted(look(&args.admin).await?, &args.names)?;
        if first.is_empty() && args.output.is_none_or(|format| format == Format::Wide) {
            output::remark("No resources found.");
        }
        if !args.watch {
            output::print(&view.all(first)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut now = first;
        loop {
            let news = view.news(now)?;
            if !news.is_empty() {
                output::print(&news)?;
            }
            tokio::time::sleep(LOOK).await;
            // A name that has gone may come back; it is no mistake any more.
            now = look(&args.admin).await?;
            now.retain(|status| args.names.is_empty() || args.names.iter().any(|name| status.is(name)));
        }
    })
}

async fn look(admin: &str) -> anyhow::Result<Vec<Status>> {
    let body = api::get(admin, "/v1/revisions").await?;
    statuses(&body).with_context(|| format!("{admin} does not answer as this kpa understands it"))
}

fn statuses(body: &[u8]) -> serde_json::Result<Vec<Status>> {
    let rows: Vec<Row> = serde_json::from_slice(body)?;
    let wholes: Vec<Json> = serde_json::from_slice(body)?;
    Ok(rows.into_iter().zip(wholes).map(|(row, whole)| Status { row, whole }).collect())
}

impl Status {
    fn is(&self, name: &str) -> bool {
        self.row.name == name || self.row.id == name
    }
}

/// The statuses with one of these names; all without any. A name that nobody has is a mistake.
fn wanted(mut all: Vec<Status>, names: &[String]) -> anyhow::Result<Vec<Status>> {
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|status| status.is(name))) {
        let known: Vec<&str> = all.iter().map(|status| status.row.id.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        anyhow::bail!("there is no service {unknown}; there is: {known}");
    }
    all.retain(|status| names.is_empty() || names.iter().any(|name| status.is(name)));
    Ok(all)
}

/// What has been printed, and how.
#[derive(Debug)]
struct View {
    format: Option<Format>,
    columns: Columns,
    table: Table,
    /// The header stands.
    headed: bool,
    seen: BTreeMap<String, Row>,
}

impl View {
    fn new(format: Option<Format>) -> Self {
        let wide = format.is_some();
        let columns = Columns { namespace: false, wide };
        Self { format, columns, table: Table::default(), headed: false, seen: BTreeMap::new() }
    }

    /// Everything, once.
    fn all(&mut self, statuses: Vec<Status>) -> anyhow::Result<String> {
        match self.format {
            None | Some(Format::Wide) => Ok(self.rows(&statuses)),
            Some(Format::Json) => {
                let wholes: Vec<&Json> = statuses.iter().map(|status| &status.whole).collect();
                Ok(serde_json::to_string_pretty(&wholes)? + "\n")
            }
            Some(Format::Yaml) => yaml(&statuses.into_iter().map(|status| status.whole.readable()).collect::<Vec<_>>()),
        }
    }

    /// What is new since the last call.
    fn news(&mut self, statuses: Vec<Status>) -> anyhow::Result<String> {
        let before = std::mem::take(&mut self.seen);
        self.seen = statuses.iter().map(|status| (status.row.id.clone(), status.row.clone())).collect();
        let same = |row: &Row| before.get(&row.id).is_some_and(|before| self.columns.unchanged(before, row));
        let news: Vec<Status> = statuses.into_iter().filter(|status| !same(&status.row)).collect();
        match self.format {
            None | Some(Format::Wide) => Ok(self.rows(&news)),
            Some(Format::Json) => {
                news.iter().map(|status| Ok(serde_json::to_string_pretty(&status.whole)? + "\n")).collect()
            }
            Some(Format::Yaml) => {
                news.into_iter().map(|status| Ok(format!("---\n{}", yaml(&status.whole.readable())?))).collect()
            }
        }
    }

    /// The rows as lines, under a header the first time, and again when a second namespace comes.
    fn rows(&mut self, statuses: &[Status]) -> String {
        if statuses.is_empty() {
            return String::new();
        }
        let shown = statuses.iter().map(|status| &status.row).chain(self.seen.values());
        let namespaces: BTreeSet<&str> = shown.map(|row| row.namespace.as_str()).collect();
        if namespaces.len() > 1 && !self.columns.namespace {
            self.columns.namespace = true;
            (self.table, self.headed) = (Table::default(), false);
        }
        let header = (!self.headed).then(|| self.columns.header());
        self.headed = true;
        let cells = statuses.iter().map(|status| self.columns.cells(&status.row));
        let lines: Vec<Vec<String>> = header.into_iter().chain(cells).collect();
        self.table.lines(&lines)
    }
}

fn yaml<T: serde::Serialize>(value: &T) -> anyhow::Result<String> {
    // Sentences stay on one line, where they can be searched for.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    Ok(serde_saphyr::to_string_with_options(value, options)?)
}
