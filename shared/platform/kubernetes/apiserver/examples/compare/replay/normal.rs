//! The form of an answer that is compared: without what must differ between two servers.
//!
//! Invariant: what stands for one thing stands for the same thing everywhere: uids by their object, versions by their order.

use super::allowed::ALLOWED;
use super::calls::NS;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Kinds that no controller of a real cluster writes: how often their objects changed is compared.
const COUNTED: [&str; 3] = ["ConfigMap", "Lease", "Widget"];
/// Who writes in a real cluster without being asked.
const CONTROLLERS: [&str; 3] = ["kube-controller-manager", "kube-apiserver", "kube-scheduler"];
/// Moments that the server writes.
const MOMENTS: [&str; 5] =
    ["creationTimestamp", "deletionTimestamp", "time", "expirationTimestamp", "lastTransitionTime"];

/// What has been seen of one server.
#[derive(Debug)]
pub(crate) struct Normal {
    namespace: String,
    /// Each uid, and what stands for it.
    uids: BTreeMap<String, String>,
    /// The versions of each object in the order in which they were seen.
    versions: BTreeMap<String, Vec<String>>,
    /// Names that the server made up, and what stands for them.
    names: BTreeMap<String, String>,
}

impl Normal {
    pub(crate) fn new(namespace: &str) -> Self {
        let (uids, versions, names) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { namespace: namespace.to_owned(), uids, versions, names }
    }

    /// The answer in the form that is compared.
    pub(crate) fn form(&mut self, answer: &Value) -> Value {
        let mut value = self.rename(answer);
        self.learn(&value, "");
        value = self.rename(&value);
        self.walk(&mut value, "");
        value
    }

    /// Known names and uids are replaced, wherever they stand.
    fn rename(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(list) => list.iter().map(|one| self.rename(one)).collect(),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(key, value)| (self.text(key), self.rename(value))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn text(&self, text: &str) -> String {
        let text = text.replace(&self.namespace, NS);
        // Uids stand within texts too: in the keys of owned fields.
        self.uids.iter().chain(&self.names).fold(text, |text, (made, shown)| text.replace(made, shown))
    }

    /// Remembers the objects in an answer.
    fn learn(&mut self, value: &Value, within: &str) {
        match value {
            Value::Array(list) => list.iter().for_each(|one| self.learn(one, within)),
            Value::Object(map) => {
                let kind = kind_of(map, within);
                if let Some(metadata) = map.get("metadata") {
                    self.learn_object(&kind, metadata);
                }
                map.values()
                    .filter(|value| value.is_object() || value.is_array())
                    .for_each(|value| self.learn(value, &kind));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn learn_object(&mut self, kind: &str, metadata: &Value) {
        let text = |key: &str| metadata[key].as_str().unwrap_or_default();
        let mut name = text("name").to_owned();
        let prefix = text("generateName");
        if name.strip_prefix(prefix).is_some_and(|made| !prefix.is_empty() && made.len() == 5) {
            let shown = format!("{prefix}{{made {}}}", self.names.len());
            self.names.insert(std::mem::replace(&mut name, shown.clone()), shown);
        }
        let uid = text("uid");
        if uid.is_empty() || uid.starts_with('{') || self.uids.contains_key(uid) {
            return;
        }
        let start = format!("{{uid of {kind} {name} ");
        let number = self.uids.values().filter(|known| known.starts_with(&start)).count();
        self.uids.insert(uid.to_owned(), format!("{start}{number}}}"));
    }

    fn walk(&mut self, value: &mut Value, within: &str) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(|one| self.walk(one, within)),
            Value::Object(map) => {
                let kind = kind_of(map, within);
                self.version(map, &kind);
                tidy(map, &kind);
                let is_whole = map.contains_key("metadata") || map.contains_key("resources");
                for allowed in ALLOWED.iter().filter(|allowed| is_whole && allowed.kind == kind) {
                    remove(map, &allowed.path.split(' ').collect::<Vec<_>>());
                }
                map.values_mut().for_each(|value| self.walk(value, &kind));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The version of an object becomes its number, or is only said to be there.
    fn version(&mut self, map: &mut Map<String, Value>, kind: &str) {
        let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        let Some(version) = metadata.get("resourceVersion").and_then(Value::as_str).map(str::to_owned) else { return };
        let uid = metadata.get("uid").and_then(Value::as_str).unwrap_or_default().to_owned();
        let shown = if COUNTED.contains(&kind) && !uid.is_empty() {
            let seen = self.versions.entry(uid).or_default();
            let number = seen.iter().position(|one| *one == version).unwrap_or_else(|| {
                seen.push(version.clone());
                seen.len() - 1
            });
            json!(format!("{{version {number}}}"))
        } else if version.parse::<u64>().is_ok_and(|number| number > 0) {
            json!("{version}")
        } else {
            json!(version)
        };
        metadata.insert("resourceVersion".to_owned(), shown);
    }
}

/// The kind of an object; in a list of a kind, the kind of its items.
fn kind_of(map: &Map<String, Value>, within: &str) -> String {
    let own = map.get("kind").and_then(Value::as_str).filter(|_| map.contains_key("apiVersion"));
    own.map_or_else(|| within.strip_suffix("List").unwrap_or(within).to_owned(), str::to_owned)
}

fn tidy(map: &mut Map<String, Value>, kind: &str) {
    for key in MOMENTS {
        let is_moment = |value: &Value| value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok());
        if map.get(key).is_some_and(is_moment) {
            map.insert(key.to_owned(), json!("{time}"));
        }
    }
    for key in ["token", "continue"] {
        if map.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty()) {
            map.insert(key.to_owned(), json!(format!("{{{key}}}")));
        }
    }
    for key in ["clusterIP", "clusterIPs"] {
        if let Some(value) = map.get_mut(key).filter(|value| value.to_string().contains(['.', ':'])) {
            *value = json!("{address}");
        }
    }
    if let Some(Value::Array(entries)) = map.get_mut("managedFields") {
        entries.retain(|entry| !CONTROLLERS.iter().any(|controller| entry["manager"] == *controller));
        entries.sort_by_cached_key(|entry| {
            format!("{} {} {}", entry["manager"], entry["operation"], entry["subresource"])
        });
    }
    match kind {
        "Status" => {
            map.remove("message");
            if let Some(Value::Array(causes)) = map.get_mut("causes") {
                causes.sort_by_cached_key(|cause| format!("{} {}", cause["field"], cause["reason"]));
            }
        }
        "Table" => table(map),
        // The text of the refusal.
        "TokenReview" if map.contains_key("error") => drop(map.insert("error".to_owned(), json!("{error}"))),
        _ => {}
    }
}

/// Descriptions of columns are prose, and ages pass.
fn table(map: &mut Map<String, Value>) {
    let mut ages = Vec::new();
    if let Some(Value::Array(columns)) = map.get_mut("columnDefinitions") {
        for (index, column) in columns.iter_mut().filter_map(Value::as_object_mut).enumerate() {
            column.remove("description");
            if column.get("name").is_some_and(|name| name == "Age") {
                ages.push(index);
            }
        }
    }
    for row in map.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
        for &age in &ages {
            if let Some(cell) = row["cells"].get_mut(age) {
                *cell = json!("{age}");
            }
        }
    }
}

fn remove(map: &mut Map<String, Value>, path: &[&str]) {
    match path {
        [] => {}
        [key] => drop(map.remove(*key)),
        [key, rest @ ..] => {
            let Some(inner) = map.get_mut(*key) else { return };
            match (inner, rest) {
                (Value::Array(list), ["*", rest @ ..]) => {
                    list.iter_mut().filter_map(Value::as_object_mut).for_each(|one| remove(one, rest));
                }
                (Value::Object(inner), rest) => {
                    remove(inner, rest);
                    // What held nothing else may be missing altogether.
                    if inner.is_empty() {
                        map.remove(*key);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_map(version: &str, uid: &str) -> Value {
        json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {
                "name": "a", "namespace": "ns-17", "uid": uid, "resourceVersion": version,
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
        })
    }

    #[test]
    fn versions_are_numbered_and_uids_named_by_their_object() {
        let mut normal = Normal::new("ns-17");
        let metadata = normal.form(&config_map("77", "u-1"))["metadata"].clone();
        assert_eq!(
            metadata,
            json!({
                "name": "a", "namespace": "{ns}", "uid": "{uid of ConfigMap a 0}", "resourceVersion": "{version 0}",
                "creationTimestamp": "{time}",
            })
        );
        assert_eq!(normal.form(&config_map("80", "u-1"))["metadata"]["resourceVersion"], "{version 1}");
        assert_eq!(normal.form(&config_map("77", "u-1"))["metadata"]["resourceVersion"], "{version 0}");
        assert_eq!(normal.form(&config_map("90", "u-2"))["metadata"]["uid"], "{uid of ConfigMap a 1}");
        assert_eq!(
            normal.form(&json!({ "owner=u-1": "u-1" })),
            json!({ "owner={uid of ConfigMap a 0}": "{uid of ConfigMap a 0}" })
        );
        let list = json!({
            "kind": "ConfigMapList", "apiVersion": "v1", "metadata": { "resourceVersion": "9", "continue": "abc" },
            "items": [{ "metadata": { "uid": "u-1", "name": "a", "resourceVersion": "80" } }],
        });
        let list = normal.form(&list);
        assert_eq!(list["metadata"], json!({ "resourceVersion": "{version}", "continue": "{continue}" }));
        assert_eq!(list["items"][0]["metadata"]["resourceVersion"], "{version 1}");
    }

    #[test]
    fn a_made_up_name_stands_for_itself_in_all_that_follows() {
        let mut normal = Normal::new("ns-17");
        let made = json!({ "metadata": { "name": "a-x8q2z", "generateName": "a-" } });
        assert_eq!(normal.form(&made)["metadata"]["name"], "a-{made 0}");
        assert_eq!(normal.form(&json!(["about a-x8q2z"])), json!(["about a-{made 0}"]));
    }

    #[test]
    fn texts_of_refusals_go_and_their_fields_stay() {
        let mut normal = Normal::new("ns-17");
        let refusal = json!({
            "kind": "Status", "apiVersion": "v1", "message": "x", "reason": "Invalid",
            "details": { "causes": [
                { "field": "b", "reason": "r", "message": "m" }, { "field": "a", "reason": "r", "message": "m" },
            ] },
        });
        assert_eq!(
            normal.form(&refusal),
            json!({
                "kind": "Status", "apiVersion": "v1", "reason": "Invalid",
                "details": { "causes": [{ "field": "a", "reason": "r" }, { "field": "b", "reason": "r" }] },
            })
        );
    }

    #[test]
    fn what_is_allowed_is_left_out_and_nothing_beside_it() {
        let mut normal = Normal::new("ns-17");
        let pod = json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "p", "generation": 1 },
            "spec": { "priority": 0, "schedulerName": "x" }, "status": { "qosClass": "BestEffort" },
        });
        let left =
            json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "p" }, "spec": { "schedulerName": "x" } });
        assert_eq!(normal.form(&pod), left);
        let mut other = pod;
        other["kind"] = json!("ConfigMap");
        assert_eq!(normal.form(&other), other);
    }
}
