//! `kpa get --ignored`: what is recognised in the manifests and not used.
//!
//! Invariant: says where it stands and why.

use super::list::{Item, Listing, Shown, show};
use serde::Deserialize;

/// One object.
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
    fn id(&self) -> &str {
        &self.place
    }
    /// NAME has it already.
    fn namespace(&self) -> &str {
        ""
    }
    fn ageless(&self) -> Self {
        self.clone()
    }
}

pub(super) async fn main(args: &Listing) -> anyhow::Result<()> {
    let look = async || super::list_of::<Ignored>(&args.admin, "/v1/local/ignored").await;
    let first: Vec<Item<Ignored>> = look().await?;
    show(args, first, look).await
}
