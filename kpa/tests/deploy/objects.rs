//! YAML files to objects, and the kustomizations of which they are parts.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// kind, namespace (empty for what has none) and name.
pub(crate) type Key = (String, String, String);
pub(crate) type Objects = BTreeMap<Key, Value>;

/// A file or folder below `deploy/`.
pub(crate) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

#[track_caller]
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of a field, empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list, none where there is none.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of a list.
pub(crate) fn texts(value: &Value, pointer: &str) -> Vec<String> {
    items(value, pointer).iter().map(|item| item.as_str().expect("a text").to_owned()).collect()
}

/// Every object of some YAML. Two of the same kind, namespace and name are a mistake.
#[track_caller]
pub(crate) fn objects(yaml: &str) -> Objects {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\nin:\n{yaml}"));
    let mut found = Objects::new();
    for object in documents.into_iter().filter(|object| !object.is_null()) {
        assert!(!text(&object, "/apiVersion").is_empty(), "an object without apiVersion: {object}");
        let key = key(&object);
        assert!(!key.0.is_empty() && !key.2.is_empty(), "an object without kind or name: {object}");
        assert!(found.insert(key.clone(), object).is_none(), "{key:?} is there twice");
    }
    found
}

pub(crate) fn key(object: &Value) -> Key {
    let [kind, namespace, name] =
        ["/kind", "/metadata/namespace", "/metadata/name"].map(|field| text(object, field).to_owned());
    (kind, namespace, name)
}

/// A folder of `deploy/` whose kustomization does nothing but list files, as kustomize builds it.
#[track_caller]
pub(crate) fn listed(folder: &str) -> Objects {
    let folder = deploy(folder);
    let kustomization: Value = serde_saphyr::from_str(&read(&folder.join("kustomization.yaml"))).unwrap();
    let fields: Vec<&String> = kustomization.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["apiVersion", "kind", "resources"], "{}: more than a list", folder.display());
    let mut yaml = String::new();
    for file in texts(&kustomization, "/resources") {
        yaml.push_str("\n---\n");
        yaml.push_str(&read(&folder.join(file)));
    }
    objects(&yaml)
}

/// All of both. What both have is a mistake.
#[track_caller]
pub(crate) fn union(mut a: Objects, b: Objects) -> Objects {
    for (key, object) in b {
        assert!(a.insert(key.clone(), object).is_none(), "{key:?} is there twice");
    }
    a
}

/// Fails with every object that only one side has, and every one that differs with what differs.
#[track_caller]
pub(crate) fn assert_same(left_name: &str, left: &Objects, right_name: &str, right: &Objects) {
    assert!(!left.is_empty() && !right.is_empty(), "{left_name} or {right_name} is empty");
    let mut found = Vec::new();
    for (key, object) in left {
        match right.get(key) {
            None => found.push(format!("{key:?} is in {left_name} only")),
            Some(other) => differences(&format!("{} {}", key.0, key.2), object, other, &mut found),
        }
    }
    found.extend(
        right.keys().filter(|key| !left.contains_key(*key)).map(|key| format!("{key:?} is in {right_name} only")),
    );
    assert!(found.is_empty(), "{left_name} and {right_name} do not agree:\n  {}", found.join("\n  "));
}

fn differences(at: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left.keys().chain(right.keys().filter(|key| !left.contains_key(*key))) {
                let side = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                differences(&format!("{at}/{key}"), &side(left), &side(right), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(&format!("{at}/{index}"), left, right, found);
            }
        }
        _ if left == right => {}
        _ => found.push(format!("{at}: {left} and {right}")),
    }
}

#[test]
fn a_difference_is_named_with_its_place() {
    let parse =
        |image: &str| objects(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: [{image}]}}"));
    let caught = std::panic::catch_unwind(|| assert_same("here", &parse("a"), "there", &parse("b"))).unwrap_err();
    let said = caught.downcast_ref::<String>().unwrap();
    assert!(said.contains("Pod a/spec/0: \"a\" and \"b\""), "{said}");
}

/// A ConfigMap of `deploy/base` has the data and the comments of `config/`, but for the one value that a cluster needs.
#[test]
fn the_config_maps_are_those_of_the_config_folder() {
    for name in ["config-activator", "config-autoscaler"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(format!("{name}.yaml"));
        let built_in: Value = serde_saphyr::from_str(&read(&path)).unwrap();
        let mut expected = built_in["data"].as_object().unwrap().clone();
        assert!(expected.len() >= 10, "{name}: {expected:?}");
        let mut installed = config_map(&listed("base"), name);
        if name == "config-activator" {
            expected.insert("drain-delay".into(), "10s".into());
            // In seconds, because the chart adds it up; the same time.
            let grace = |of: &Value| domain::duration::parse(of.as_str().unwrap()).unwrap();
            assert_eq!(grace(&installed["drain-grace"]), grace(&expected["drain-grace"]));
            installed["drain-grace"] = expected["drain-grace"].clone();
        }
        assert_eq!(installed, Value::Object(expected), "deploy/base/{name}.yaml and config/{name}.yaml");
        let comments = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.starts_with("  #")).map(str::to_owned).collect()
        };
        assert_eq!(comments(&read(&deploy(&format!("base/{name}.yaml")))), comments(&read(&path)), "{name}");
    }
}

/// The data of one of our ConfigMaps.
#[track_caller]
pub(crate) fn config_map(all: &Objects, name: &str) -> Value {
    all[&("ConfigMap".to_owned(), "kpa-system".to_owned(), name.to_owned())]["data"].clone()
}

/// Every manifest can be read, and lies in a kustomization, in the chart or among the examples.
#[test]
fn no_manifest_is_left_out() {
    let mut folders = vec![deploy("")];
    let (mut seen, mut left_out) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        let listing = folder.join("kustomization.yaml");
        let listing = listing.exists().then(|| read(&listing));
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                if !["chart", "examples"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(".yaml") && name != "kustomization.yaml" {
                seen += 1;
                if !listing.as_ref().is_some_and(|listing| listing.contains(&format!("- {name}\n"))) {
                    left_out.push(path);
                }
                objects(&read(&entry.path()));
            }
        }
    }
    assert!(seen >= 10, "{seen} manifests");
    assert!(left_out.is_empty(), "in no kustomization: {left_out:?}");
}
