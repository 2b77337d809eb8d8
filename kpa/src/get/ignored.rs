//! `kpa get --ignored`: what is recognised in the manifests and not used, or on a cluster carries our annotations and is not
//! scaled.
//!
//! Invariant: says where it stands and why.

use super::list::{Item, Listing, Shown, items, show};
use crate::cluster::Cluster;
use platform_kubernetes::survey::Found;
use serde::{Deserialize, Serialize};

/// One object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ignored {
    place: String,
    kind: String,
    name: String,
    reason: String,
}

impl Shown for Ignored {
    fn header(_: bool) -> Vec<&'static str> {
        vec!["PLACE", "KIND", "NAME", "REASON"]
    }
    fn cells(&self, _: bool) -> Vec<String> {
        [&self.place, &self.kind, &self.name, &self.reason].map(Clone::clone).to_vec()
    }
    /// On a cluster the place is a namespace.
    fn id(&self) -> &str {
        if self.place.contains(':') { &self.place } else { &self.name }
    }
    /// NAME has it already.
    fn namespace(&self) -> &str {
        ""
    }
    fn ageless(&self) -> Self {
        self.clone()
    }
}

pub(super) async fn main(args: &Listing, cluster: &Cluster) -> anyhow::Result<()> {
    if cluster.is_meant() {
        let open = cluster.open().await?;
        let look = async || of_cluster(open.survey().await?.0);
        let first = look().await?;
        return show(args, first, look).await;
    }
    let look = async || super::list_of::<Ignored>(&args.admin, "/v1/local/ignored").await;
    let first: Vec<Item<Ignored>> = look().await?;
    show(args, first, look).await
}

/// Those that carry our annotations and are not scaled.
fn of_cluster(found: Vec<Found>) -> anyhow::Result<Vec<Item<Ignored>>> {
    let ignored = found.into_iter().filter_map(|found| {
        let Err(not) = found.reading else { return None };
        let (place, name) = found.key;
        Some(Ignored { place, kind: "Deployment".into(), name, reason: not.reason })
    });
    Ok(items(&serde_json::to_vec(&ignored.collect::<Vec<_>>())?)?)
}
