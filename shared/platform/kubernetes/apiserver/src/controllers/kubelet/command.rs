//! A container's command line and environment, as a process gets them.
//!
//! Invariant: what cannot be honoured is an error that names the field; nothing of it is dropped silently.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

/// What is listened on when the container names no port.
const PORT_DEFAULT: i32 = 8080;

/// One process to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
}

/// The command of a pod's only container. `HOST` and `POD_IP` name the address to listen on, since here all pods share one
/// network; `PORT` is the container's first port. A container's own `env` wins over these.
///
/// # Errors
/// The field that cannot be honoured, and what would be right.
pub(super) fn command_line(pod: &Pod, address: IpAddr) -> Result<CommandLine, String> {
    let container = only_container(pod)?;
    let mut env = BTreeMap::from([
        ("HOST".to_owned(), address.to_string()),
        ("POD_IP".to_owned(), address.to_string()),
        ("PORT".to_owned(), first_port(container).to_string()),
    ]);
    for variable in container.env.iter().flatten() {
        let value = value(pod, address, variable, &env)?;
        env.insert(variable.name.clone(), value);
    }
    if container.env_from.as_ref().is_some_and(|sources| !sources.is_empty()) {
        return Err(format!("container {:?}: envFrom is not supported here; write env", container.name));
    }
    let words = container.command.iter().flatten().chain(container.args.iter().flatten());
    let mut words = words.map(|word| expand(word, &env));
    if container.command.as_ref().is_none_or(Vec::is_empty) {
        return Err(format!(
            "container {:?}: command is empty; images are not run here, so it must say what to run",
            container.name
        ));
    }
    let program = words.next().unwrap_or_default();
    let args = words.collect();
    Ok(CommandLine { program, args, env })
}

pub(super) fn only_container(pod: &Pod) -> Result<&Container, String> {
    match pod.spec.as_ref().map(|spec| spec.containers.as_slice()) {
        Some([container]) => Ok(container),
        other => Err(format!(
            "spec.containers: {} containers; a process stands for exactly one",
            other.map_or(0, <[_]>::len)
        )),
    }
}

pub(super) fn first_port(container: &Container) -> i32 {
    container.ports.iter().flatten().next().map_or(PORT_DEFAULT, |port| port.container_port)
}

fn value(pod: &Pod, address: IpAddr, variable: &EnvVar, env: &BTreeMap<String, String>) -> Result<String, String> {
    let Some(source) = &variable.value_from else {
        return Ok(expand(variable.value.as_deref().unwrap_or_default(), env));
    };
    let path = source.field_ref.as_ref().map(|field| &*field.field_path);
    let metadata = &pod.metadata;
    let found = match path {
        Some("status.podIP" | "status.podIPs") => Some(address.to_string()),
        Some("metadata.name") => metadata.name.clone(),
        Some("metadata.namespace") => metadata.namespace.clone(),
        Some("metadata.uid") => metadata.uid.clone(),
        Some("spec.nodeName") => pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        Some(_) | None => None,
    };
    found.ok_or_else(|| {
        format!(
            "env {:?}: valueFrom {} is not supported here; supported is fieldRef of status.podIP, metadata.name, \
             metadata.namespace, metadata.uid and spec.nodeName",
            variable.name,
            path.unwrap_or("without fieldRef"),
        )
    })
}

/// `$(NAME)` becomes its value, `$$(NAME)` becomes `$(NAME)`, and a name that is not known stays as it is.
fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let known = rest.strip_prefix('(').and_then(|inner| {
            let (name, after) = inner.split_once(')')?;
            Some((env.get(name)?, after))
        });
        match known {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing;

    #[test]
    fn variables_expand_as_in_kubernetes() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, wanted) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A", "$A"),
            ("$", "$"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(text, &env), wanted, "{text}");
        }
    }

    #[test]
    fn a_container_becomes_a_command_line() {
        let pod = testing::pod(&json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {"containers": [{
                "name": "c",
                "command": ["serve", "--bind=$(POD_IP)"],
                "args": ["$(PORT)", "$(WHO)"],
                "ports": [{"containerPort": 9000}],
                "env": [{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }]},
        }));
        let line = command_line(&pod, [127, 1, 2, 3].into()).unwrap();
        assert_eq!((&*line.program, line.args), ("serve", vec!["--bind=127.1.2.3".into(), "9000".into(), "p".into()]));
        assert_eq!(line.env["HOST"], "127.1.2.3");
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        let check = |spec: serde_json::Value, words: &[&str]| {
            let pod = testing::pod(&json!({"metadata": {"name": "p"}, "spec": spec}));
            let error = command_line(&pod, [127, 0, 0, 1].into()).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        check(json!({"containers": [{"name": "c"}]}), &["command", "\"c\""]);
        check(json!({"containers": [{"name": "c"}, {"name": "d"}]}), &["2 containers"]);
        let secret = json!({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
        check(json!({"containers": [{"name": "c", "command": ["a"], "env": [secret]}]}), &["KEY", "fieldRef"]);
    }
}
