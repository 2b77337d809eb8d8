//! A container's environment, with ConfigMaps, Secrets and fields filled in.
//!
//! Invariant: a value that came from a Secret, or is built from one, is marked secret.

use super::expand::references;
use super::report::Report;
use super::workload::EnvVar;
use k8s_openapi::api::core::v1::{self as core, Container};
use std::collections::BTreeMap;

type Data = BTreeMap<String, String>;

/// ConfigMaps and Secrets by namespace and name.
#[derive(Debug, Default)]
pub(super) struct References {
    pub(super) config_maps: BTreeMap<(String, String), Data>,
    pub(super) secrets: BTreeMap<(String, String), Data>,
    /// `NAME.env` files: what stands in for a ConfigMap or Secret called NAME in any namespace.
    pub(super) env_files: BTreeMap<String, Data>,
}

impl References {
    fn find(&self, secret: bool, namespace: &str, name: &str) -> Option<&Data> {
        let map = if secret { &self.secrets } else { &self.config_maps };
        map.get(&(namespace.to_owned(), name.to_owned())).or_else(|| self.env_files.get(name))
    }
}

/// What the fields of a pod are known to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct PodFields<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) labels: &'a Data,
    pub(super) annotations: &'a Data,
    pub(super) service_account: Option<&'a str>,
}

/// The environment of `container`: `envFrom` in its order, then `env` in its own. The last of a name wins.
pub(super) fn environment(
    container: &Container,
    path: &str,
    pod: PodFields<'_>,
    refs: &References,
    report: &mut Report,
) -> Vec<EnvVar> {
    let mut vars = Vec::new();
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        env_from(from, &format!("{path}.envFrom[{index}]"), pod.namespace, refs, report, &mut vars);
    }
    for (index, var) in container.env.iter().flatten().enumerate() {
        let key = format!("{path}.env[{index}]");
        if var.name.is_empty() || var.name.contains(['=', '\0']) {
            report.error(
                &key,
                format!("{:?} is no name of a variable", var.name),
                "a name without =",
                "it is left out",
            );
            continue;
        }
        let found = match &var.value_from {
            None => {
                let value = var.value.clone().unwrap_or_default();
                let built_from_secret = {
                    let names = references(&value);
                    vars.iter().any(|known: &EnvVar| known.secret && names.contains(&known.name))
                };
                Some((value, built_from_secret))
            }
            Some(source) => value_from(source, &var.name, &key, pod, refs, report),
        };
        if let Some((value, secret)) = found {
            if value.contains('\0') {
                report.error(&key, "the value holds a NUL".into(), "text", "it is left out");
            } else {
                vars.push(EnvVar { name: var.name.clone(), value, secret });
            }
        }
    }
    vars
}

fn env_from(
    from: &core::EnvFromSource,
    key: &str,
    namespace: &str,
    refs: &References,
    report: &mut Report,
    vars: &mut Vec<EnvVar>,
) {
    let (secret, name, optional) = match (&from.config_map_ref, &from.secret_ref) {
        (Some(map), _) => (false, &map.name, map.optional),
        (None, Some(map)) => (true, &map.name, map.optional),
        (None, None) => {
            report.warning(
                key,
                "names neither a ConfigMap nor a Secret".into(),
                "configMapRef or secretRef",
                "it is left out",
            );
            return;
        }
    };
    let Some(data) = refs.find(secret, namespace, name) else {
        if optional != Some(true) {
            let what = format!("there is no {} {namespace}/{name}", kind(secret));
            report.warning(key, what, &beside(secret, name, "KEY"), "its variables are not set");
        }
        return;
    };
    let prefix = from.prefix.as_deref().unwrap_or_default();
    for (name, value) in data {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let what = format!("{name:?} cannot be a variable: its name holds = or its value NUL");
            report.warning(key, what, "a name without = and a text", "it is left out");
            continue;
        }
        vars.push(EnvVar { name: format!("{prefix}{name}"), value: value.clone(), secret });
    }
}

/// The value of a reference and whether it is secret; `None` when it cannot be had.
fn value_from(
    source: &core::EnvVarSource,
    variable: &str,
    key: &str,
    pod: PodFields<'_>,
    refs: &References,
    report: &mut Report,
) -> Option<(String, bool)> {
    let unset = format!("{variable} is not set");
    let (secret, name, entry, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(map), _) => (false, &map.name, &map.key, map.optional),
        (None, Some(map)) => (true, &map.name, &map.key, map.optional),
        (None, None) => {
            let Some(field) = &source.field_ref else {
                let what = "only configMapKeyRef, secretKeyRef and fieldRef are known on one machine".into();
                report.warning(&format!("{key}.valueFrom"), what, "a value", &unset);
                return None;
            };
            let value = pod_field(&field.field_path, pod);
            if value.is_none() {
                let what = format!("{:?} is not known on one machine", field.field_path);
                report.warning(
                    &format!("{key}.valueFrom.fieldRef"),
                    what,
                    "metadata.name, metadata.namespace, metadata.labels['…'], status.podIP, status.hostIP or a value",
                    &unset,
                );
            }
            return value.map(|value| (value, false));
        }
    };
    let data = refs.find(secret, pod.namespace, name);
    if let Some(value) = data.and_then(|data| data.get(entry)) {
        return Some((value.clone(), secret));
    }
    if optional != Some(true) {
        let what = match data {
            None => format!("there is no {} {}/{name}", kind(secret), pod.namespace),
            Some(_) => format!("{} {}/{name} has no key {entry:?}", kind(secret), pod.namespace),
        };
        report.warning(&format!("{key}.valueFrom"), what, &beside(secret, name, entry), &unset);
    }
    None
}

const fn kind(secret: bool) -> &'static str {
    if secret { "Secret" } else { "ConfigMap" }
}

/// What would put a missing value there.
fn beside(secret: bool, name: &str, entry: &str) -> String {
    format!("a {} document beside it, or a file {name}.env with {entry}=…", kind(secret))
}

fn pod_field(path: &str, pod: PodFields<'_>) -> Option<String> {
    let entry = |map: &Data, of: &str| {
        let name = path.strip_prefix(of)?.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.get(name).cloned().unwrap_or_default())
    };
    match path {
        "metadata.name" => Some(pod.name.into()),
        "metadata.namespace" => Some(pod.namespace.into()),
        "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => Some("127.0.0.1".into()),
        "spec.nodeName" => Some("localhost".into()),
        "spec.serviceAccountName" => Some(pod.service_account.unwrap_or("default").into()),
        _ => entry(pod.labels, "metadata.labels").or_else(|| entry(pod.annotations, "metadata.annotations")),
    }
}

/// A `.env` file: `KEY=VALUE` lines, `#` comments, an optional `export`, optional quotation marks around the value. Also
/// the numbers of the lines that are nothing of this, from 1.
pub(super) fn env_file(text: &str) -> (Data, Vec<usize>) {
    let (mut data, mut wrong) = (Data::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        match line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some((name, value)) if !name.is_empty() => {
                let bare = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(value);
                data.insert(name.to_owned(), bare.to_owned());
            }
            _ => wrong.push(index + 1),
        }
    }
    (data, wrong)
}
