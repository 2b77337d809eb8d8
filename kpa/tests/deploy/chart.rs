//! The chart: what it makes of its values, compared with the kustomizations object by object.

use crate::objects::{Objects, assert_same, deploy, items, listed, objects, read, text, union};
use crate::render::render;
use crate::tools::{kustomized, tool, with_component};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

const NAMESPACE: &str = "kpa-system";

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&read(&deploy(&format!("chart/kpa/{file}")))).unwrap()
}

/// Every template with its text.
fn templates() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(deploy("chart/kpa/templates"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(&entry.path())))
        .collect();
    found.sort();
    assert!(found.len() >= 8, "{found:?}");
    found
}

/// `over` wins, key by key, as Helm merges values.
fn merge(values: &mut Value, over: &Value) {
    match (values, over) {
        (Value::Object(values), Value::Object(over)) => {
            for (key, value) in over {
                merge(values.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (values, over) => *values = over.clone(),
    }
}

fn rendered_files(over: &Value) -> Vec<(String, String)> {
    let mut values = yaml("values.yaml");
    merge(&mut values, over);
    let chart = yaml("Chart.yaml");
    let root = json!({
        "Values": values,
        "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
        "Release": {"Name": "kpa", "Namespace": NAMESPACE},
    });
    templates()
        .into_iter()
        .map(|(name, template)| {
            let text = render(&template, &root).unwrap_or_else(|error| panic!("templates/{name}: {error}"));
            (name, text)
        })
        .collect()
}

/// Everything that the chart makes of these values, hooks included.
pub(crate) fn rendered(over: &Value) -> Objects {
    let files = rendered_files(over).into_iter().filter(|(name, _)| name.ends_with(".yaml"));
    objects(&files.map(|(_, text)| format!("\n---\n{text}")).collect::<String>())
}

/// Objects without and with `helm.sh/hook`, the latter without the hook's annotations.
fn without_hooks(all: Objects) -> (Objects, Objects) {
    let (hooks, installed): (Objects, Objects) =
        all.into_iter().partition(|(_, object)| object.pointer("/metadata/annotations/helm.sh~1hook").is_some());
    let hooks = hooks
        .into_iter()
        .map(|(key, mut object)| {
            let metadata = object["metadata"].as_object_mut().unwrap();
            let annotations = metadata.remove("annotations").unwrap();
            assert_eq!(annotations["helm.sh/hook"], "pre-delete", "{key:?}");
            assert_eq!(annotations["helm.sh/hook-delete-policy"], "before-hook-creation,hook-succeeded", "{key:?}");
            assert_eq!(annotations.as_object().unwrap().len(), 3, "{key:?}");
            (key, object)
        })
        .collect();
    (installed, hooks)
}

/// Helm makes the namespace itself (`--create-namespace`) or finds it there.
fn without_namespace(mut objects: Objects) -> Objects {
    objects.remove(&("Namespace".to_owned(), String::new(), NAMESPACE.to_owned())).expect("the base has a namespace");
    objects
}

#[test]
fn without_values_the_chart_is_the_base_and_its_hook_is_the_release() {
    let (installed, hooks) = without_hooks(rendered(&json!({})));
    assert_same("the chart", &installed, "deploy/base", &without_namespace(listed("base")));
    assert_same("the chart's hook", &hooks, "deploy/release", &listed("release"));
}

#[test]
fn with_namespaces_the_chart_is_the_overlay() {
    let (installed, hooks) = without_hooks(rendered(&json!({"namespaces": ["team-a", "team-b"]})));
    if let Some(overlay) = kustomized("overlays/namespaces") {
        assert_same("the chart", &installed, "the overlay", &without_namespace(overlay));
    }
    if let Some(overlay) = kustomized("overlays/namespaces/release") {
        assert_same("the chart's hook", &hooks, "the release overlay", &overlay);
    }
    let (taking, _) = without_hooks(rendered(&json!({"namespaces": ["team-a", "team-b"], "takeOver": true})));
    if let Some(overlay) = with_component("overlays/namespaces", "overlays/namespaces/take-over") {
        assert_same("with takeOver", &taking, "the overlay with its component", &without_namespace(overlay));
    }
}

#[test]
fn what_can_be_turned_on_is_what_the_components_add() {
    let base = rendered(&json!({}));
    let monitoring = rendered(&json!({"monitoring": {"podMonitor": {"enabled": true}}}));
    let added = objects(&read(&deploy("components/monitoring/pod-monitors.yaml")));
    assert_same("with monitoring", &monitoring, "the component", &union(base.clone(), added));

    let mut selecting = rendered(&json!({"namespaceSelector": "kpa.dev/enabled=true", "objectSelector": "a in (b)"}));
    let key = ("Deployment".to_owned(), NAMESPACE.to_owned(), "kpa-autoscaler".to_owned());
    let args = selecting.get_mut(&key).unwrap().pointer_mut("/spec/template/spec/containers/0/args").unwrap();
    let added = args.as_array_mut().unwrap();
    let added = added.split_off(added.len() - 2);
    assert_eq!(added, ["--namespace-selector=kpa.dev/enabled=true", "--object-selector=a in (b)"]);
    let component = objects(&read(&deploy("components/namespace-selector/rbac.yaml")));
    assert_same("with a selector", &selecting, "the component", &union(base.clone(), component));

    let component = objects(&read(&deploy("components/take-over/rbac.yaml")));
    let patched = patched_by("components/take-over", union(base.clone(), component));
    let taking = rendered(&json!({"takeOver": true}));
    assert_same("with takeOver", &taking, "the component", &patched);
    if let Some(built) = with_component("base", "components/take-over") {
        assert_same("kubectl kustomize", &without_namespace(built), "with takeOver", &without_hooks(taking).0);
    }

    let sealed = rendered(&json!({"activator": {"tls": {"secrets": ["kpa-activator-tls"]}}}));
    assert_same("with TLS", &sealed, "the component", &patched_by("components/tls", base));
    if let Some(built) = with_component("base", "components/tls") {
        assert_same("kubectl kustomize", &without_namespace(built), "with TLS", &without_hooks(sealed).0);
    }
}

/// As kustomize patches it: two kinds of operation are enough.
fn patched_by(component: &str, mut objects: Objects) -> Objects {
    let kustomization: Value = serde_saphyr::from_str(&read(&deploy(component).join("kustomization.yaml"))).unwrap();
    for patch in items(&kustomization, "/patches") {
        let target = (text(patch, "/target/kind"), text(patch, "/target/name"));
        let (_, object) =
            objects.iter_mut().find(|((kind, _, name), _)| (kind.as_str(), name.as_str()) == target).unwrap();
        let operations: Vec<Value> = serde_saphyr::from_str(text(patch, "/patch")).unwrap();
        for operation in &operations {
            let (path, value) = (text(operation, "/path"), operation["value"].clone());
            match (text(operation, "/op"), path.strip_suffix("/-")) {
                ("add", Some(list)) => object.pointer_mut(list).unwrap().as_array_mut().unwrap().push(value),
                ("replace", None) => *object.pointer_mut(path).unwrap() = value,
                other => panic!("{other:?}"),
            }
        }
    }
    objects
}

#[test]
fn what_can_be_turned_off_is_gone_and_what_is_set_arrives() {
    let over = json!({
        "hpa": {"enabled": false},
        "networkPolicy": {"enabled": false},
        "image": {"repository": "registry.example.com:5000/kpa", "tag": "v2"},
        "imagePullSecrets": [{"name": "pull"}],
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "listenHost": "0.0.0.0",
        "activator": {"replicas": 5, "drainGraceSeconds": 60, "drainDelaySeconds": 20, "workers": 4},
        "config": {"activator": {"domain": "models.example.org"}},
    });
    let all = rendered(&over);
    assert!(all.keys().all(|(kind, ..)| kind != "HorizontalPodAutoscaler" && kind != "NetworkPolicy"));
    let object = |kind: &str, name: &str| &all[&(kind.to_owned(), NAMESPACE.to_owned(), name.to_owned())];
    assert_eq!(object("Deployment", "kpa-activator")["spec"]["replicas"], 5);
    for (kind, name) in [("Deployment", "kpa-activator"), ("Deployment", "kpa-autoscaler"), ("Job", "kpa-release")] {
        let pod = &object(kind, name)["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["image"], "registry.example.com:5000/kpa:v2");
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "pull"}]));
        assert_eq!(pod["priorityClassName"], "system-cluster-critical");
        assert_eq!(pod["nodeSelector"], json!({"disk": "fast"}));
        assert_eq!(pod["tolerations"], json!([{"key": "gpu", "operator": "Exists"}]));
    }
    let pod = &object("Deployment", "kpa-activator")["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 130);
    let args = pod["containers"][0]["args"].to_string();
    for argument in ["--listen=0.0.0.0:8080", "--admin=0.0.0.0:8081", "--workers=4"] {
        assert!(args.contains(argument), "{argument} is not in {args}");
    }
    let config = &object("ConfigMap", "config-activator")["data"];
    assert_eq!((&config["domain"], &config["cluster-domain"]), (&json!("models.example.org"), &json!("cluster.local")));
    assert_eq!((&config["drain-delay"], &config["drain-grace"]), (&json!("20s"), &json!("60s")));

    let digest = format!("sha256:{}", "0".repeat(64));
    let pinned = rendered(&json!({"image": {"digest": digest, "tag": "v2"}}));
    let deployment = &pinned[&("Deployment".to_owned(), NAMESPACE.to_owned(), "kpa-autoscaler".to_owned())];
    let image = text(deployment, "/spec/template/spec/containers/0/image");
    assert_eq!(image, format!("kpa@{digest}"));
}

/// Account and rights are there before the Job that needs them.
#[test]
fn the_hook_has_its_rights_before_it_runs() {
    for over in [json!({}), json!({"namespaces": ["a"]})] {
        let weight = |kinds: &[&str]| -> Vec<i64> {
            let hooks = rendered(&over)
                .into_iter()
                .filter(|((kind, _, name), _)| name == "kpa-release" && kinds.contains(&kind.as_str()));
            hooks.map(|(_, o)| text(&o, "/metadata/annotations/helm.sh~1hook-weight").parse().unwrap()).collect()
        };
        let rights = weight(&["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]);
        let [job] = weight(&["Job"])[..] else { panic!("one Job") };
        assert_eq!(rights.len(), 3);
        assert!(rights.iter().all(|right| *right < job), "{rights:?} and {job}");
    }
}

#[test]
fn the_notes_name_the_namespaces_and_the_domain() {
    let notes = |over: &Value| rendered_files(over).into_iter().find(|(name, _)| name == "NOTES.txt").unwrap().1;
    let plain = notes(&json!({}));
    assert!(plain.contains("NAME.NAMESPACE.example.com") && !plain.contains("Only in these"), "{plain}");
    let some = notes(&json!({"namespaces": ["a", "b"], "config": {"activator": {"domain": "x.y"}}}));
    assert!(some.contains("Only in these namespaces: a, b.") && some.contains("NAME.NAMESPACE.x.y"), "{some}");
}

/// Where Helm is, it has the last word on what our own renderer made of the templates.
#[test]
fn helm_renders_what_these_tests_render() {
    for over in [
        json!({}),
        json!({"namespaces": ["team-a", "team-b"], "namespaceSelector": "a=b", "objectSelector": "c in (d, e)", "takeOver": true}),
        json!({
            "hpa": {"enabled": false},
            "networkPolicy": {"enabled": false},
            "monitoring": {"podMonitor": {"enabled": true}},
            "image": {"digest": format!("sha256:{}", "0".repeat(64))},
            "imagePullSecrets": [{"name": "pull"}],
            "tolerations": [{"operator": "Exists"}],
            "nodeSelector": {"a": "b"},
            "priorityClassName": "high",
            "activator": {
                "drainGraceSeconds": 604_800,
                "resources": {"limits": {"cpu": 2, "memory": "1Gi"}},
                "tls": {"secrets": ["one", "two"], "clientCaSecret": "guests", "clientCrlSecret": "revoked"},
                "backendCaConfigMap": "roots",
            },
            "config": {"autoscaler": {"max-scale-up-rate": "10"}},
        }),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), over.to_string()).unwrap();
        let values = file.path().to_str().unwrap();
        let args = ["template", "kpa", "chart/kpa", "--namespace", NAMESPACE, "-f", values];
        let Some(output) = tool("helm", &args) else { return };
        assert_same("helm template", &objects(&output), "our renderer", &rendered(&over));
    }
}

/// Every value is used by a template, every value that a template uses has a default (or it would not render), and both the
/// default and its schema are there.
#[test]
fn values_schema_and_templates_name_the_same_keys() {
    let schema: Value = serde_json::from_str(&read(&deploy("chart/kpa/values.schema.json"))).unwrap();
    let all: String = templates().into_iter().map(|(_, text)| text).collect();
    let mut seen = BTreeSet::new();
    compare("", &yaml("values.yaml"), &schema, &mut |path: &str| {
        seen.insert(path.to_owned());
        // A template may take a value as a whole.
        let whole = path.rmatch_indices('.').map(|(at, _)| &path[..at]).filter(|parent| !parent.is_empty());
        let used = std::iter::once(path).chain(whole).any(|path| {
            all.match_indices(&format!(".Values{path}"))
                .any(|(at, found)| !all[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '.'))
        });
        assert!(used, "values.yaml: no template uses {path}");
    });
    assert!(seen.len() >= 40, "{seen:?}");
}

/// Calls `leaf` for everything in `values` that the schema does not divide further, and fails where they do not agree.
fn compare(at: &str, values: &Value, schema: &Value, leaf: &mut dyn FnMut(&str)) {
    let kind = match values {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::Null => "null",
    };
    assert!(
        schema["type"] == kind || items(schema, "/enum").contains(values),
        "values.schema.json: {at} is {kind} in values.yaml and {} there",
        schema["type"]
    );
    let (Some(values), Some(properties)) = (values.as_object(), schema["properties"].as_object()) else {
        return leaf(at);
    };
    // Resources are Kubernetes' own: what they may hold is not ours to repeat in values.yaml.
    if at.ends_with(".resources") {
        return leaf(at);
    }
    assert_eq!(schema["additionalProperties"], false, "values.schema.json: {at} lets misspelt keys pass");
    for (key, value) in values {
        let inner = properties.get(key).unwrap_or_else(|| panic!("values.schema.json does not know {at}.{key}"));
        compare(&format!("{at}.{key}"), value, inner, leaf);
    }
    // Helm adds `global` to every chart's values.
    for key in properties.keys().filter(|key| *key != "global") {
        assert!(values.contains_key(key), "values.yaml has no {at}.{key}");
    }
}

#[test]
fn chart_image_and_workspace_have_one_version() {
    let chart = yaml("Chart.yaml");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((text(&chart, "/version"), text(&chart, "/appVersion")), (version, version));
}
