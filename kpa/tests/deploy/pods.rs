//! Every pod of ours: what it may do on its node, how it starts and stops, and that what selects it does.

use crate::chart::rendered;
use crate::objects::{Objects, config_map, items, listed, text, texts, union};
use activator::tls::arguments::TlsArguments;
use clap::Parser;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Each source of objects with its name.
fn sources() -> Vec<(&'static str, Objects)> {
    vec![
        ("deploy/base and release", union(listed("base"), listed("release"))),
        ("the chart", rendered(&json!({}))),
        (
            "the chart with values",
            rendered(&json!({"activator": {"drainGraceSeconds": 60}, "listenHost": "0.0.0.0", "namespaces": ["a"]})),
        ),
        ("the chart with TLS", rendered(&with_tls())),
    ]
}

/// Values with all that there is of TLS.
fn with_tls() -> Value {
    json!({"activator": {
        "tls": {"secrets": ["one", "two"], "clientCaSecret": "guests", "clientCrlSecret": "revoked"},
        "backendCaConfigMap": "roots",
    }})
}

/// Kind, name, pod template.
fn pods(all: &Objects) -> Vec<(&str, &str, &Value)> {
    let found: Vec<_> = all
        .iter()
        .filter(|((kind, ..), _)| ["Deployment", "Job"].contains(&kind.as_str()))
        .map(|((kind, _, name), object)| (kind.as_str(), name.as_str(), &object["spec"]["template"]))
        .collect();
    assert_eq!(found.len(), 3, "two programs and the release");
    found
}

/// The one container of a pod.
fn container(template: &Value) -> &Value {
    let [container] = items(template, "/spec/containers") else { panic!("one container: {template}") };
    container
}

/// The value of `--name=value`.
fn argument(container: &Value, name: &str) -> String {
    let args = texts(container, "/args");
    let value = args.iter().find_map(|arg| arg.strip_prefix(&format!("--{name}=")));
    value.unwrap_or_else(|| panic!("no --{name} in {args:?}")).to_owned()
}

/// Pod Security's level "restricted", and a file system that nothing can be written to.
#[test]
fn every_pod_is_restricted() {
    for (source, all) in sources() {
        for (_, name, template) in pods(&all) {
            let pod = &template["spec"];
            assert_eq!(
                pod["securityContext"],
                json!({
                    "runAsNonRoot": true,
                    "runAsUser": 65532,
                    "runAsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                }),
                "{source}: {name}"
            );
            assert_eq!(
                container(template)["securityContext"],
                json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                }),
                "{source}: {name}"
            );
            for field in ["hostNetwork", "hostPID", "hostIPC", "initContainers", "shareProcessNamespace"] {
                assert!(pod.get(field).is_none(), "{source}: {name}: {field}");
            }
            for volume in items(pod, "/volumes") {
                let read_only = ["projected", "secret", "configMap"].iter().any(|kind| volume.get(kind).is_some());
                assert!(read_only, "{source}: {name}: {volume}");
            }
            for port in items(container(template), "/ports") {
                assert!(port.get("hostPort").is_none(), "{source}: {name}: {port}");
            }
        }
    }
    let namespace = &listed("base")[&("Namespace".to_owned(), String::new(), "kpa-system".to_owned())];
    assert_eq!(text(namespace, "/metadata/labels/pod-security.kubernetes.io~1enforce"), "restricted");
}

#[test]
fn every_pod_asks_for_what_it_needs_and_memory_has_an_end() {
    for (source, all) in sources() {
        for (_, name, template) in pods(&all) {
            let resources = &container(template)["resources"];
            for field in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                assert!(!text(resources, field).is_empty(), "{source}: {name}: no {field} in {resources}");
            }
            // Throttling is latency for whoever waits.
            assert!(resources.pointer("/limits/cpu").is_none(), "{source}: {name}");
        }
    }
}

#[test]
fn programs_listen_where_probes_and_services_look() {
    for (source, all) in sources() {
        for (kind, name, template) in pods(&all) {
            if kind == "Job" {
                continue;
            }
            let container = container(template);
            let mut listening: Vec<u64> = Vec::new();
            for argument in texts(container, "/args") {
                if ["--listen=", "--admin=", "--tls-listen="].iter().any(|flag| argument.starts_with(flag)) {
                    listening.push(argument.rsplit(':').next().unwrap().parse().unwrap());
                }
            }
            let ports: Vec<u64> =
                items(container, "/ports").iter().map(|port| port["containerPort"].as_u64().unwrap()).collect();
            assert_eq!(ports, listening, "{source}: {name}");
            let names: Vec<&str> = items(container, "/ports").iter().map(|port| text(port, "/name")).collect();
            for (probe, path) in [("startupProbe", "/live"), ("livenessProbe", "/live"), ("readinessProbe", "/ready")] {
                let get = &container[probe]["httpGet"];
                assert_eq!(text(get, "/path"), path, "{source}: {name}: {probe}");
                assert!(names.contains(&text(get, "/port")), "{source}: {name}: {probe}");
            }
            let service = &all[&("Service".to_owned(), "kpa-system".to_owned(), name.to_owned())];
            for port in items(service, "/spec/ports") {
                assert!(names.contains(&text(port, "/targetPort")), "{source}: {name}: {port}");
            }
            for (flag, service) in [("activator-service", "kpa-activator"), ("autoscaler-service", "kpa-autoscaler")] {
                assert_eq!(argument(container, flag), service);
            }
        }
    }
}

/// The arguments about TLS as the activator reads them.
#[derive(clap::Parser)]
struct Read {
    #[command(flatten)]
    tls: TlsArguments,
}

/// What is asked for is what there is: files in what is mounted, a port that can be reached, and none of it by default.
#[test]
fn tls_has_its_files_and_its_port_where_it_is_asked_for() {
    let with_tls = rendered(&with_tls());
    let [plain, sealed] = [listed("base"), with_tls].map(|mut all| {
        let mut take = |kind: &str| {
            let key = (kind.to_owned(), "kpa-system".to_owned(), "kpa-activator".to_owned());
            all.remove(&key).unwrap_or_else(|| panic!("{key:?}"))
        };
        [take("Deployment"), take("Service"), take("NetworkPolicy")]
    });
    let tls_of = |deployment: &Value| {
        let args = texts(container(&deployment["spec"]["template"]), "/args");
        let tls =
            args.into_iter().filter(|argument| argument.starts_with("--tls-") || argument.starts_with("--backend-"));
        Read::try_parse_from(std::iter::once("activator".to_owned()).chain(tls)).map(|read| read.tls)
    };
    let ports = |service: &Value| -> Vec<(String, u64)> {
        let ports = items(service, "/spec/ports").iter();
        ports.map(|port| (text(port, "/name").to_owned(), port["port"].as_u64().unwrap())).collect()
    };
    let [deployment, service, policy] = &plain;
    let off = tls_of(deployment).unwrap();
    assert!(off.tls_listen.is_none() && off.tls_cert.is_empty() && off.backend_ca.is_none(), "{off:?}");
    // By this name activators and autoscalers find each other's doors, whichever ports there are.
    assert_eq!(ports(service), [("http".to_owned(), 80)]);
    assert!(!policy.to_string().contains("8443"));

    let [deployment, service, policy] = &sealed;
    let on = tls_of(deployment).unwrap();
    assert_eq!(ports(service), [("http".to_owned(), 80), ("https".to_owned(), 443)]);
    let let_in = &items(policy, "/spec/ingress")[0];
    assert_eq!((&let_in["ports"], let_in.get("from")), (&json!([{"port": 8080}, {"port": 8443}]), None));
    assert_eq!(on.tls_listen.unwrap().port(), 8443);
    let template = &deployment["spec"]["template"];
    // Where a file comes from: the object, and its key.
    let source = |path: &std::path::Path| {
        let folder = path.parent().unwrap().to_str().unwrap();
        let mounts: Vec<_> = items(container(template), "/volumeMounts").iter().collect();
        let mount = mounts.iter().find(|mount| text(mount, "/mountPath") == folder);
        let mount = mount.unwrap_or_else(|| panic!("{} is in none of {mounts:?}", path.display()));
        assert!(mount["readOnly"] == true && mount.get("subPath").is_none(), "renewed only as a folder: {mount}");
        let volumes = items(template, "/spec/volumes");
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let object = [text(volume, "/secret/secretName"), text(volume, "/configMap/name")].concat();
        format!("{object}/{}", path.file_name().unwrap().to_str().unwrap())
    };
    let all = |paths: &[PathBuf]| -> Vec<String> { paths.iter().map(|path| source(path)).collect() };
    assert_eq!(all(&on.tls_cert), ["one/tls.crt", "two/tls.crt"]);
    assert_eq!(all(&on.tls_key), ["one/tls.key", "two/tls.key"]);
    assert_eq!(source(&on.tls_client_ca.unwrap()), "guests/ca.crt");
    assert_eq!(source(&on.tls_client_crl.unwrap()), "revoked/ca.crl");
    assert_eq!(source(&on.backend_ca.unwrap()), "roots/ca.crt");

    // A check that is asked for is never left out in silence.
    for (values, missing) in [
        (json!({"clientCaSecret": "guests"}), "--tls-listen"),
        (json!({"secrets": ["one"], "clientCrlSecret": "revoked"}), "--tls-client-ca"),
    ] {
        let all = rendered(&json!({"activator": {"tls": values}}));
        let deployment = &all[&("Deployment".to_owned(), "kpa-system".to_owned(), "kpa-activator".to_owned())];
        let error = tls_of(deployment).unwrap_err().to_string();
        assert!(error.contains("required arguments") && error.contains(missing), "{error}");
    }
}

#[test]
fn an_activator_is_given_the_time_it_takes_to_leave() {
    for (source, all) in sources() {
        let (_, _, template) = pods(&all).into_iter().find(|(_, name, _)| *name == "kpa-activator").unwrap();
        let config = config_map(&all, "config-activator");
        let seconds = |key| domain::duration::parse(text(&config, key)).unwrap().as_secs();
        let grace = template["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > seconds("/drain-delay") + seconds("/drain-grace"), "{source}: {grace}");
    }
}

#[test]
fn leadership_ends_before_another_can_begin() {
    // kpa-behaviour 8: renew deadline + the time-out of a scale call (2 s) < lease duration.
    let all = union(listed("base"), listed("release"));
    let (_, _, template) = pods(&all).into_iter().find(|(_, name, _)| *name == "kpa-autoscaler").unwrap();
    let seconds = |flag| -> u64 { argument(container(template), flag).strip_suffix('s').unwrap().parse().unwrap() };
    assert!(seconds("renew-deadline") + 2 < seconds("lease-duration"));
    assert!(seconds("retry-period") * 2 < seconds("renew-deadline"));
}

/// The token by which our programs know each other.
#[test]
fn both_programs_have_a_token_where_they_are_told() {
    for (source, all) in sources() {
        for (kind, name, template) in pods(&all) {
            let container = container(template);
            assert_eq!(text(&template["spec"], "/serviceAccountName"), name, "{source}");
            assert!(
                all.contains_key(&("ServiceAccount".to_owned(), "kpa-system".to_owned(), name.to_owned())),
                "{source}"
            );
            if kind == "Job" {
                continue;
            }
            let mount = text(container, "/volumeMounts/0/mountPath");
            let token = &template["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
            assert_eq!(text(token, "/audience"), "kpa", "{source}: {name}");
            assert_eq!(
                argument(container, "token-file"),
                format!("{mount}/{}", text(token, "/path")),
                "{source}: {name}"
            );
            // What an argument expands is defined.
            let defined: Vec<&str> = items(container, "/env").iter().map(|variable| text(variable, "/name")).collect();
            for argument in texts(container, "/args") {
                for variable in argument.split("$(").skip(1) {
                    let variable = variable.split(')').next().unwrap();
                    assert!(defined.contains(&variable), "{source}: {name}: $({variable}) is not defined");
                }
            }
        }
    }
}

/// Services, budgets, policies, spreads and the HorizontalPodAutoscaler mean pods that there are.
#[test]
fn whatever_selects_pods_finds_some() {
    let mut checked = 0;
    for (source, all) in sources() {
        let pods = pods(&all);
        let finds = |selector: &Value| {
            let wanted =
                selector.as_object().filter(|wanted| !wanted.is_empty()).unwrap_or_else(|| panic!("{selector}"));
            pods.iter().any(|(.., template)| {
                let labels = template.pointer("/metadata/labels").unwrap();
                wanted.iter().all(|(label, value)| labels.get(label) == Some(value))
            })
        };
        for ((kind, _, name), object) in &all {
            let mut selectors: Vec<&Value> = Vec::new();
            match kind.as_str() {
                "Service" => selectors.push(&object["spec"]["selector"]),
                "PodDisruptionBudget" => selectors.push(&object["spec"]["selector"]["matchLabels"]),
                "NetworkPolicy" => {
                    selectors.push(&object["spec"]["podSelector"]["matchLabels"]);
                    for rule in items(object, "/spec/ingress") {
                        let from =
                            items(rule, "/from").iter().filter_map(|peer| peer.pointer("/podSelector/matchLabels"));
                        selectors.extend(from);
                    }
                }
                "Deployment" => {
                    selectors.push(&object["spec"]["selector"]["matchLabels"]);
                    let pod = &object["spec"]["template"]["spec"];
                    for spread in items(pod, "/topologySpreadConstraints") {
                        selectors.push(&spread["labelSelector"]["matchLabels"]);
                    }
                    let affinity = "/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution";
                    assert_eq!(items(pod, affinity).len(), 1, "{source}: {name}");
                    for term in items(pod, affinity) {
                        selectors.push(&term["podAffinityTerm"]["labelSelector"]["matchLabels"]);
                    }
                }
                "HorizontalPodAutoscaler" => {
                    let target =
                        ["Deployment", "kpa-system", text(object, "/spec/scaleTargetRef/name")].map(str::to_owned);
                    let target = &all[&target.into()];
                    assert!(target.pointer("/spec/replicas").is_none(), "{source}: two owners of one count");
                }
                _ => {}
            }
            for selector in selectors {
                assert!(finds(selector), "{source}: {kind} {name} selects no pod: {selector}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 30, "{checked}");
}
