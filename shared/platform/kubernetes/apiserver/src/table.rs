//! Objects as tables for people: what `kubectl get` prints.
//!
//! Invariant: a kind without columns of its own has its name and its age.

use crate::form::{Include, partial};
use crate::object::{self, at};
use crate::resources::{Form, Type};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// Name, type, priority (0: always shown), and what stands in the cell.
type Column = (&'static str, &'static str, i32, fn(&Value, Timestamp) -> Value);

/// A table of objects.
pub(crate) fn of(
    kind: &Type,
    items: &[Arc<Value>],
    metadata: &Value,
    include: Include,
    now: Timestamp,
    with_columns: bool,
) -> Value {
    let custom = match &kind.form {
        Form::Custom(form) => form.columns.as_slice(),
        Form::Typed(_) => &[],
    };
    let own = if kind.is_custom() { Vec::new() } else { columns(&kind.kind) };
    let has_age = custom.iter().any(|column| column["jsonPath"] == ".metadata.creationTimestamp")
        || matches!(kind.kind.as_str(), "Event" | "CustomResourceDefinition");
    // An Event's own name says nothing to people.
    let name_priority = i64::from(kind.kind == "Event");
    let head = |name: &str, kind: &str, format: &str, priority: i64| json!({ "name": name, "type": kind, "format": format, "description": "", "priority": priority });
    let mut definitions = vec![head("Name", "string", "name", name_priority)];
    definitions.extend(own.iter().map(|(name, kind, priority, _)| head(name, kind, "", i64::from(*priority))));
    for column in custom {
        let text = |key: &str| column[key].as_str().unwrap_or_default();
        let priority = column["priority"].as_i64().unwrap_or(0);
        definitions.push(head(text("name"), text("type"), text("format"), priority));
    }
    if !has_age {
        definitions.push(head("Age", "string", "", 0));
    }
    let rows: Vec<Value> = items
        .iter()
        .map(|object| {
            let mut cells = vec![json!(object::name(object))];
            cells.extend(own.iter().map(|(_, _, _, cell)| cell(object, now)));
            cells.extend(custom.iter().map(|column| custom_cell(column, object, now)));
            if !has_age {
                cells.push(age(&object["metadata"]["creationTimestamp"], now));
            }
            let included = match include {
                Include::None => Value::Null,
                Include::Metadata => partial(object),
                Include::Object => kind.outward(object),
            };
            json!({ "cells": cells, "object": included })
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": if with_columns { json!(definitions) } else { Value::Null },
        "rows": rows,
    })
}

fn custom_cell(column: &Value, object: &Value, now: Timestamp) -> Value {
    let path = column["jsonPath"].as_str().unwrap_or_default();
    let found = json_path(object, path);
    match (column["type"].as_str(), found) {
        (_, None) => Value::Null,
        (Some("date"), Some(value)) => age(&value, now),
        (Some("string"), Some(value)) if !value.is_string() => json!(value.to_string()),
        (_, Some(value)) => value,
    }
}

/// The JSON paths that columns use: `.a.b`, `.a[0].b`, `.a[?(@.type=="X")].b`.
fn json_path(object: &Value, path: &str) -> Option<Value> {
    let mut here = object.clone();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[?(@.") {
            let (condition, after) = after.split_once(")]")?;
            let (key, wanted) = condition.split_once("==")?;
            let wanted = wanted.trim().trim_matches(['"', '\'']);
            here = here.as_array()?.iter().find(|item| item[key.trim()] == wanted)?.clone();
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (index, after) = after.split_once(']')?;
            here = match index.parse::<usize>() {
                Ok(index) => here.get(index)?.clone(),
                Err(_) => here.get(index.trim_matches(['"', '\'']))?.clone(),
            };
            rest = after;
        } else {
            let text = rest.trim_start_matches('.');
            let end = text.find(['.', '[']).unwrap_or(text.len());
            here = here.get(&text[..end])?.clone();
            rest = &text[end..];
        }
    }
    Some(here)
}

/// A span as kubectl shows it, from a time in an object until now.
fn age(since: &Value, now: Timestamp) -> Value {
    let since = since.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let Some(since) = since else { return json!("<unknown>") };
    json!(span(now.duration_since(since).as_secs()))
}

fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: &str, small: i64, less: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{less}") }
    };
    match seconds {
        ..0 => "<invalid>".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ => two(days / 365, "y", days % 365, "d"),
    }
}

fn number(object: &Value, path: &str) -> Value {
    at(object, path).cloned().filter(Value::is_number).unwrap_or_else(|| json!(0))
}

fn text_or(object: &Value, path: &str, otherwise: &str) -> Value {
    let found = at(object, path).and_then(Value::as_str).filter(|text| !text.is_empty());
    json!(found.unwrap_or(otherwise))
}

fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn joined(items: &[Value], one: impl Fn(&Value) -> Option<String>, otherwise: &str) -> Value {
    let texts: Vec<String> = items.iter().filter_map(one).collect();
    json!(if texts.is_empty() { otherwise.to_owned() } else { texts.join(",") })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn selector(object: &Value, path: &str) -> Value {
    let labels = at(object, path).and_then(crate::selector::Labels::of_object);
    json!(labels.filter(|labels| !labels.is_empty()).map_or_else(|| "<none>".to_owned(), |labels| labels.to_string()))
}

fn containers(object: &Value, key: &str) -> Value {
    joined(list(object, "spec.template.spec.containers"), |container| text(&container[key]), "")
}

fn pod_status(pod: &Value) -> Value {
    if object::is_terminating(pod) {
        return json!("Terminating");
    }
    let waiting = list(pod, "status.containerStatuses").iter().find_map(|status| {
        let state = &status["state"];
        text(&state["waiting"]["reason"]).or_else(|| text(&state["terminated"]["reason"]))
    });
    waiting
        .or_else(|| text(&pod["status"]["reason"]))
        .map_or_else(|| text_or(pod, "status.phase", ""), |why| json!(why))
}

fn columns(kind: &str) -> Vec<Column> {
    match kind {
        "Pod" => vec![
            ("Ready", "string", 0, |pod, _| {
                let ready = list(pod, "status.containerStatuses").iter().filter(|one| one["ready"] == true).count();
                json!(format!("{ready}/{}", list(pod, "spec.containers").len()))
            }),
            ("Status", "string", 0, |pod, _| pod_status(pod)),
            ("Restarts", "string", 0, |pod, _| {
                let counts =
                    list(pod, "status.containerStatuses").iter().filter_map(|one| one["restartCount"].as_i64());
                json!(counts.sum::<i64>().to_string())
            }),
            ("IP", "string", 1, |pod, _| text_or(pod, "status.podIP", "<none>")),
            ("Node", "string", 1, |pod, _| text_or(pod, "spec.nodeName", "<none>")),
        ],
        "Deployment" => vec![
            ("Ready", "string", 0, |object, _| {
                json!(format!("{}/{}", number(object, "status.readyReplicas"), number(object, "spec.replicas")))
            }),
            ("Up-to-date", "string", 0, |object, _| number(object, "status.updatedReplicas")),
            ("Available", "string", 0, |object, _| number(object, "status.availableReplicas")),
            ("Containers", "string", 1, |object, _| containers(object, "name")),
            ("Images", "string", 1, |object, _| containers(object, "image")),
            ("Selector", "string", 1, |object, _| selector(object, "spec.selector")),
        ],
        "ReplicaSet" => vec![
            ("Desired", "integer", 0, |object, _| number(object, "spec.replicas")),
            ("Current", "integer", 0, |object, _| number(object, "status.replicas")),
            ("Ready", "integer", 0, |object, _| number(object, "status.readyReplicas")),
        ],
        "StatefulSet" => vec![("Ready", "string", 0, |object, _| {
            json!(format!("{}/{}", number(object, "status.readyReplicas"), number(object, "spec.replicas")))
        })],
        "Service" => vec![
            ("Type", "string", 0, |object, _| text_or(object, "spec.type", "")),
            ("Cluster-IP", "string", 0, |object, _| text_or(object, "spec.clusterIP", "<none>")),
            ("External-IP", "string", 0, |object, _| text_or(object, "spec.externalName", "<none>")),
            ("Port(s)", "string", 0, |object, _| {
                let one = |port: &Value| Some(format!("{}/{}", port["port"], port["protocol"].as_str()?));
                joined(list(object, "spec.ports"), one, "<none>")
            }),
            ("Selector", "string", 1, |object, _| selector(&json!({ "matchLabels": object["spec"]["selector"] }), "")),
        ],
        _ => more_columns(kind),
    }
}

fn more_columns(kind: &str) -> Vec<Column> {
    match kind {
        "Namespace" => vec![("Status", "string", 0, |object, _| text_or(object, "status.phase", ""))],
        "Node" => vec![("Status", "string", 0, |node, _| {
            let ready = list(node, "status.conditions").iter().find(|one| one["type"] == "Ready");
            let word = match ready.and_then(|one| one["status"].as_str()) {
                Some("True") => "Ready",
                Some(_) => "NotReady",
                None => "Unknown",
            };
            let closed = if node["spec"]["unschedulable"] == true { ",SchedulingDisabled" } else { "" };
            json!(format!("{word}{closed}"))
        })],
        "EndpointSlice" => vec![
            ("AddressType", "string", 0, |object, _| text_or(object, "addressType", "")),
            ("Ports", "string", 0, |object, _| {
                joined(list(object, "ports"), |port| Some(port["port"].to_string()), "<unset>")
            }),
            ("Endpoints", "string", 0, |object, _| {
                let first = |endpoint: &Value| text(&endpoint["addresses"][0]);
                joined(list(object, "endpoints"), first, "<unset>")
            }),
        ],
        "Lease" => vec![("Holder", "string", 0, |object, _| text_or(object, "spec.holderIdentity", ""))],
        "ConfigMap" => vec![("Data", "string", 0, |object, _| {
            let count = |key: &str| object[key].as_object().map_or(0, serde_json::Map::len);
            json!(count("data") + count("binaryData"))
        })],
        "Secret" => vec![
            ("Type", "string", 0, |object, _| text_or(object, "type", "")),
            ("Data", "string", 0, |object, _| json!(object["data"].as_object().map_or(0, serde_json::Map::len))),
        ],
        "Event" => vec![
            ("Last Seen", "string", 0, |event, now| {
                let times = ["series.lastObservedTime", "lastTimestamp", "eventTime"];
                let last = times.iter().find_map(|path| at(event, path).filter(|time| time.is_string()));
                age(last.unwrap_or(&Value::Null), now)
            }),
            ("Type", "string", 0, |event, _| text_or(event, "type", "")),
            ("Reason", "string", 0, |event, _| text_or(event, "reason", "")),
            ("Object", "string", 0, |event, _| {
                let object = &event["involvedObject"];
                let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
                json!(format!("{kind}/{}", object["name"].as_str().unwrap_or_default()))
            }),
            ("Message", "string", 0, |event, _| text_or(event, "message", "")),
        ],
        "HorizontalPodAutoscaler" => vec![
            ("Reference", "string", 0, |object, _| {
                let target = &object["spec"]["scaleTargetRef"];
                let part = |key: &str| target[key].as_str().unwrap_or_default();
                json!(format!("{}/{}", part("kind"), part("name")))
            }),
            ("MinPods", "string", 0, |object, _| number(object, "spec.minReplicas")),
            ("MaxPods", "string", 0, |object, _| number(object, "spec.maxReplicas")),
            ("Replicas", "string", 0, |object, _| number(object, "status.currentReplicas")),
        ],
        "PodDisruptionBudget" => vec![
            ("Min Available", "string", 0, |object, _| {
                object["spec"].get("minAvailable").cloned().unwrap_or_else(|| json!("N/A"))
            }),
            ("Max Unavailable", "string", 0, |object, _| {
                object["spec"].get("maxUnavailable").cloned().unwrap_or_else(|| json!("N/A"))
            }),
        ],
        "RoleBinding" | "ClusterRoleBinding" => vec![("Role", "string", 0, |object, _| {
            let part = |key: &str| object["roleRef"][key].as_str().unwrap_or_default();
            json!(format!("{}/{}", part("kind"), part("name")))
        })],
        "CustomResourceDefinition" => {
            vec![("Created At", "date", 0, |object, _| object["metadata"]["creationTimestamp"].clone())]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_columns() {
        let object = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }], "n": 3 } });
        assert_eq!(json_path(&object, ".status.conditions[?(@.type==\"Ready\")].status"), Some(json!("True")));
        assert_eq!(json_path(&object, ".status.conditions[0].type"), Some(json!("Ready")));
        assert_eq!(json_path(&object, ".status.n"), Some(json!(3)));
        assert_eq!(json_path(&object, ".status.none.x"), None);
    }

    #[test]
    fn spans_as_people_read_them() {
        for (seconds, shown) in [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (601, "10m"),
            (10_860, "3h1m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
        ] {
            assert_eq!(span(seconds), shown);
        }
    }
}
