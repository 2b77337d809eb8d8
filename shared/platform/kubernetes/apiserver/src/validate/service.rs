//! Checks of Services.
//!
//! Invariant: a Service without a cluster address needs no ports; every other one does.

use super::names;
use crate::refusal::Cause;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(super) fn check(old: Option<&Value>, new: &Value, causes: &mut Vec<Cause>) {
    let spec = &new["spec"];
    let kind = spec["type"].as_str().unwrap_or("ClusterIP");
    if !matches!(kind, "ClusterIP" | "ExternalName" | "LoadBalancer" | "NodePort") {
        let known = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        causes.push(Cause::unsupported("spec.type", &spec["type"], &known));
    }
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let headless = spec["clusterIP"] == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    super::labels(&spec["selector"], "spec.selector", causes);
    let (mut by_name, mut by_number) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        let name = port["name"].as_str().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if !name.is_empty() {
            if let Some(why) = names::label(name) {
                causes.push(Cause::invalid(format!("{at}.name"), &json!(name), why));
            }
            if !by_name.insert(name) {
                causes.push(Cause::duplicate(format!("{at}.name"), &json!(name)));
            }
        }
        let number = port["port"].as_i64().unwrap_or(0);
        if !(1..=65_535).contains(&number) {
            let detail = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{at}.port"), &json!(number), detail));
        }
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            causes.push(Cause::unsupported(format!("{at}.protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]));
        }
        if !by_number.insert((number, protocol)) {
            causes.push(Cause::duplicate(at, &json!({ "port": number, "protocol": protocol })));
        }
    }
    if let Some(old) = old {
        let (before, now) = (&old["spec"]["clusterIP"], &spec["clusterIP"]);
        let keeps_address = old["spec"]["type"] != "ExternalName" && kind != "ExternalName";
        if keeps_address && before.is_string() && before != "" && before != now {
            let value = if now.is_null() { &json!("") } else { now };
            causes.push(Cause::invalid("spec.clusterIPs[0]", value, "may not change once set"));
        }
    }
}
