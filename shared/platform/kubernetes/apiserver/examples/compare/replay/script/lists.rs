//! Lists: selectors, pages, versions, other forms.

use super::config_map;
use crate::replay::calls::{CONFIG_MAPS, METADATA_LIST, Recorder, Stopped, TABLE};
use serde_json::json;

pub(super) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    for (name, odd) in [("b", "no"), ("c", "yes"), ("d", "no"), ("e", "yes")] {
        calls.post("one for lists", CONFIG_MAPS, config_map(name, &json!({ "set": "one", "odd": odd }))).await?;
    }
    for (name, query) in [
        ("by a label", "labelSelector=set%3Done"),
        ("by two labels", "labelSelector=set%3Done,odd%3Dyes"),
        ("by inequality", "labelSelector=set%3Done,odd!%3Dyes"),
        ("by a set", "labelSelector=set%20in%20(one,two),odd%20notin%20(no)"),
        ("by presence", "labelSelector=set,odd,!other"),
        ("by a name", "fieldSelector=metadata.name%3Dc"),
        ("by another name", "fieldSelector=metadata.name!%3Dc&labelSelector=set%3Done"),
        ("by no selector", "labelSelector=set%20in"),
        ("by a field that cannot be selected", "fieldSelector=data.k%3Dv"),
        ("as of any version", "labelSelector=set%3Done&resourceVersion=0"),
        ("with a match and no version", "resourceVersionMatch=Exact"),
        ("with an unknown match", "resourceVersion=1&resourceVersionMatch=Nearly"),
        ("with a version that is none", "resourceVersion=abc"),
        ("of the future", "resourceVersion=9000000000000000"),
        ("with a limit that is none", "limit=many"),
    ] {
        calls.get(&format!("list {name}"), &format!("{CONFIG_MAPS}?{query}")).await?;
    }
    let pages = format!("{CONFIG_MAPS}?labelSelector=set%3Done&limit=2");
    let mut page = calls.get("first page", &pages).await?;
    calls.post("one more between two pages", CONFIG_MAPS, config_map("bb", &json!({ "set": "one" }))).await?;
    for name in ["second page", "third page"] {
        let next = page["metadata"]["continue"].as_str().unwrap_or_default().replace('=', "%3D");
        page = calls.get(name, &format!("{pages}&continue={next}")).await?;
    }
    calls.get("a page of nothing", &format!("{pages}&continue=nonsense")).await?;
    calls.get_as("list metadata only", METADATA_LIST, &format!("{CONFIG_MAPS}?labelSelector=set%3Done")).await?;
    calls.get_as("list as a table", TABLE, &format!("{CONFIG_MAPS}?labelSelector=odd%3Dyes")).await?;
    Ok(())
}
