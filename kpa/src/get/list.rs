//! A list as kubectl prints it: once, or a row whenever one changes; as a table, JSON or YAML.
//!
//! Invariant: knows nothing of what it lists; a column never becomes narrower while it watches.

use crate::json::Json;
use crate::table::Table;
use crate::{api, output};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_millis(500);

/// How something is listed.
#[derive(Debug, clap::Args)]
pub(super) struct Listing {
    /// Keep looking, and print a row whenever one changes (its age apart).
    #[arg(short, long)]
    watch: bool,
    /// What to show: more columns (wide), or everything that is known, the arithmetic of the last decision included
    /// (json, yaml: a list).
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// Where `kpa run` serves its API.
    #[arg(long, default_value = api::DEFAULT_ADDRESS, value_name = "ADDRESS:PORT")]
    pub(super) admin: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Wide,
    Json,
    Yaml,
}

/// What the columns show of something.
pub(super) trait Shown: DeserializeOwned + Clone {
    /// The columns after NAMESPACE.
    fn header(wide: bool) -> Vec<&'static str>;
    /// Their cells.
    fn cells(&self, wide: bool) -> Vec<String>;
    /// What nothing else in the list has.
    fn id(&self) -> &str;
    /// NAMESPACE, which is shown when there is more than one.
    fn namespace(&self) -> &str;
    /// The same without its age, which alone is no change.
    fn ageless(&self) -> Self;
}

/// One thing: what the columns show, and everything.
#[derive(Debug, Clone)]
pub(super) struct Item<R> {
    pub(super) row: R,
    pub(super) whole: Json,
}

/// The items of a JSON list.
pub(super) fn items<R: Shown>(body: &[u8]) -> serde_json::Result<Vec<Item<R>>> {
    let rows: Vec<R> = serde_json::from_slice(body)?;
    let wholes: Vec<Json> = serde_json::from_slice(body)?;
    Ok(rows.into_iter().zip(wholes).map(|(row, whole)| Item { row, whole }).collect())
}

/// Prints `first`, and with `--watch` what `again` gives, for ever.
pub(super) async fn show<R: Shown>(
    args: &Listing,
    first: Vec<Item<R>>,
    again: impl AsyncFn() -> anyhow::Result<Vec<Item<R>>>,
) -> anyhow::Result<()> {
    let mut view = View::new(args.output);
    if first.is_empty() && args.output.is_none_or(|format| format == Format::Wide) {
        output::remark("No resources found.");
    }
    if !args.watch {
        return output::print(&view.all(first)?);
    }
    let mut now = first;
    loop {
        let news = view.news(now)?;
        if !news.is_empty() {
            output::print(&news)?;
        }
        tokio::time::sleep(LOOK).await;
        now = again().await?;
    }
}

/// What has been printed, and how.
#[derive(Debug)]
pub(super) struct View<R> {
    format: Option<Format>,
    /// More than one namespace is shown.
    namespaced: bool,
    table: Table,
    /// The header stands.
    headed: bool,
    seen: BTreeMap<String, R>,
}

impl<R: Shown> View<R> {
    pub(super) fn new(format: Option<Format>) -> Self {
        Self { format, namespaced: false, table: Table::default(), headed: false, seen: BTreeMap::new() }
    }

    const fn is_wide(&self) -> bool {
        self.format.is_some()
    }

    /// Everything, once.
    pub(super) fn all(&mut self, items: Vec<Item<R>>) -> anyhow::Result<String> {
        match self.format {
            None | Some(Format::Wide) => Ok(self.rows(&items)),
            Some(Format::Json) => {
                let wholes: Vec<&Json> = items.iter().map(|item| &item.whole).collect();
                Ok(serde_json::to_string_pretty(&wholes)? + "\n")
            }
            Some(Format::Yaml) => yaml(&items.into_iter().map(|item| item.whole.readable()).collect::<Vec<_>>()),
        }
    }

    /// What is new since the last call.
    pub(super) fn news(&mut self, items: Vec<Item<R>>) -> anyhow::Result<String> {
        let before = std::mem::take(&mut self.seen);
        self.seen = items.iter().map(|item| (item.row.id().to_owned(), item.row.clone())).collect();
        let wide = self.is_wide();
        let ageless = |row: &R| row.ageless().cells(wide);
        let same = |row: &R| before.get(row.id()).is_some_and(|before| ageless(before) == ageless(row));
        let news: Vec<Item<R>> = items.into_iter().filter(|item| !same(&item.row)).collect();
        match self.format {
            None | Some(Format::Wide) => Ok(self.rows(&news)),
            Some(Format::Json) => {
                news.iter().map(|item| Ok(serde_json::to_string_pretty(&item.whole)? + "\n")).collect()
            }
            Some(Format::Yaml) => {
                news.into_iter().map(|item| Ok(format!("---\n{}", yaml(&item.whole.readable())?))).collect()
            }
        }
    }

    /// The rows as lines, under a header the first time, and again when a second namespace comes.
    fn rows(&mut self, items: &[Item<R>]) -> String {
        if items.is_empty() {
            return String::new();
        }
        let shown = items.iter().map(|item| &item.row).chain(self.seen.values());
        let namespaces: BTreeSet<&str> = shown.map(Shown::namespace).collect();
        if namespaces.len() > 1 && !self.namespaced {
            self.namespaced = true;
            (self.table, self.headed) = (Table::default(), false);
        }
        let wide = self.is_wide();
        let line = |namespace: &str, mut cells: Vec<String>| {
            if self.namespaced {
                cells.insert(0, namespace.to_owned());
            }
            cells
        };
        let header = R::header(wide).into_iter().map(str::to_owned).collect();
        let header = (!self.headed).then(|| line("NAMESPACE", header));
        let cells = items.iter().map(|item| line(item.row.namespace(), item.row.cells(wide)));
        let lines: Vec<Vec<String>> = header.into_iter().chain(cells).collect();
        self.headed = true;
        self.table.lines(&lines)
    }
}

fn yaml<T: serde::Serialize>(value: &T) -> anyhow::Result<String> {
    // Sentences stay on one line, where they can be searched for.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    Ok(serde_saphyr::to_string_with_options(value, options)?)
}
