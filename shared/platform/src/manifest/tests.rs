mod patches;

use super::*;
use domain::{ActivatorConfig, Mode, Origin, ProbeCheck, Protocol, Refusal, Replicas, Resolved, Severity};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

/// The seed's two-document file, with its comment lines and its missing Secret.
const FASTAPI: &str = "---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-fastapi
spec:
  replicas: 2
  selector:
    matchLabels:
      app: app-fastapi
  template:
    metadata:
      labels:
        app: app-fastapi
    spec:
      containers:
        - name: app-fastapi
          image: ghcr.io/kyryl-opens-ml/app-fastapi:latest
          env:
            - name: WANDB_API_KEY
              valueFrom:
                secretKeyRef:
                  name: wandb
                  key: WANDB_API_KEY
          resources:
            limits:
              cpu: 500m
            requests:
              cpu: 200m
---
# The Service in front of it.
apiVersion: v1
kind: Service
metadata:
  name: app-fastapi
  labels:
    app: app-fastapi
spec:
  ports:
    - port: 8080
      protocol: TCP
  selector:
    app: app-fastapi
";

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into(), role: Role::Manifest }
}

fn read(text: &str) -> Manifests {
    load(&[source("apps/app.yaml", text)], &Options::default(), None)
}

/// A Deployment `name` with annotations and further container lines, each indented as it needs.
fn app(name: &str, annotations: &[(&str, &str)], container: &str) -> String {
    let mut text = format!("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n");
    if !annotations.is_empty() {
        text.push_str("  annotations:\n");
        for (key, value) in annotations {
            text.push_str(&format!("    {key}: {value:?}\n"));
        }
    }
    text.push_str(&format!(
        "spec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec:\n      containers:\n        - name: main\n          image: registry:5000/acme/{name}:1.2\n"
    ));
    for line in container.lines() {
        text.push_str(&format!("          {line}\n"));
    }
    text
}

const MIN: (&str, &str) = ("autoscaling.knative.dev/min-scale", "0");
const RUN: &str = "command: [run, it]";

#[track_caller]
fn only(manifests: &Manifests) -> &Entry {
    assert_eq!(manifests.entries.len(), 1, "{:#?}", manifests.problems);
    &manifests.entries[0]
}

/// The problems whose key ends with `key`, as one text.
fn about(manifests: &Manifests, key: &str) -> String {
    manifests.all_problems().filter(|problem| problem.key.ends_with(key)).map(ToString::to_string).collect()
}

#[test]
fn the_seeds_deployment_runs_with_what_stands_for_its_image() {
    let images = [("ghcr.io/kyryl-opens-ml/app-fastapi".to_owned(), "python app.py --port $(PORT)".to_owned())];
    let options = Options { images: images.into(), ..Options::default() };
    let manifests = load(&[source("apps/app.yaml", FASTAPI)], &options, None);
    let entry = only(&manifests);
    assert_eq!(entry.revision.id.as_str(), "default/app-fastapi");
    assert_eq!(entry.revision.mode, Mode::Refused(Refusal::NotAnnotated));
    assert_eq!(entry.workload.replicas, Replicas::new(2));
    assert_eq!(entry.workload.command, ["python", "app.py", "--port", "$(PORT)"]);
    assert_eq!(entry.workload.port, Some(8080), "from the Service that selects it");
    assert_eq!(entry.workload.working_dir, Path::new("apps"));
    assert!(entry.workload.env.is_empty());
    assert!(about(&manifests, "env[0].valueFrom").contains("wandb.env"), "{:#?}", entry.revision.problems);
    assert!(about(&manifests, "resources.limits").contains("cpu"));
    for (key, line) in [("metadata.annotations", 4), ("env[0].valueFrom", 21), ("resources.limits", 26)] {
        let problem = entry.revision.problems.iter().find(|problem| problem.key.ends_with(key)).unwrap();
        assert_eq!(problem.place, format!("apps/app.yaml:{line} Deployment default/app-fastapi"));
    }
    assert!(manifests.problems.is_empty() && manifests.ignored.is_empty());
}

#[test]
fn without_a_command_the_problem_says_what_to_write() {
    let manifests = read(FASTAPI);
    assert!(manifests.entries.is_empty());
    let problem = about(&manifests, "command");
    for way in ["kpa.dev/local-command", "--image 'ghcr.io/kyryl-opens-ml/app-fastapi:latest=COMMAND'"] {
        assert!(problem.contains(way), "{problem}");
    }
    assert_eq!(manifests.ignored[0].name, "default/app-fastapi");
}

#[test]
fn the_seeds_inference_service_is_named_and_its_annotations_resolve() {
    let annotations = [
        ("autoscaling.knative.dev/target", "10"),
        ("autoscaling.knative.dev/metric", "concurrency"),
        ("autoscaling.knative.dev/min-scale", "1"),
        ("autoscaling.knative.dev/max-scale", "10"),
        ("autoscaling.knative.dev/scale-down-delay", "30s"),
    ];
    let deployment = app("custom-model-autoscaling", &annotations, RUN);
    let manifests = read(&format!(
        "{deployment}---\napiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata:\n  name: custom-model\n\
         ---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: hpa, namespace: ml}}\n"
    ));
    let entry = only(&manifests);
    assert_eq!(entry.revision.mode, Mode::Act);
    assert!((entry.revision.scaling.signals[0].target() - 7.0).abs() < 1e-9);
    assert_eq!(entry.revision.scaling.scale_down_delay.value, Duration::from_secs(30));
    assert!(entry.revision.problems.is_empty(), "{:#?}", entry.revision.problems);
    let ignored: Vec<&str> = manifests.ignored.iter().map(|ignored| ignored.name.as_str()).collect();
    assert_eq!(ignored, ["default/custom-model", "ml/hpa"]);
    assert!(manifests.ignored.iter().all(|ignored| ignored.reason.contains("later release")));
}

#[test]
fn a_broken_document_hides_none_beside_it() {
    let good = app("good", &[MIN], RUN);
    let text = format!(
        "# first\n---\n{good}---\nkind: [unclosed\n---\n\n# only a comment\n---\n{}...\n---\nkind: Deployment\napiVersion: apps/v1\n\
         spec: {{replicas: many}}\n",
        app("also-good", &[MIN], RUN)
    );
    let manifests = read(&text);
    assert_eq!(manifests.entries.len(), 2);
    assert_eq!(manifests.problems.len(), 2, "{:#?}", manifests.problems);
    let lines: Vec<&str> = text.lines().collect();
    for (problem, what) in manifests.problems.iter().zip(["[unclosed", "many"]) {
        let place = &problem.place["apps/app.yaml:".len()..];
        let line: usize = place.split(' ').next().unwrap().parse().unwrap();
        let near = lines[line - 1..(line + 1).min(lines.len())].join("\n") + lines[line.saturating_sub(2)];
        assert!(near.contains(what), "{problem} points to {near:?}");
    }
}

#[test]
fn objects_are_never_counted_twice() {
    let manifests = read(&format!("{}---\n{}", app("a", &[MIN], RUN), app("a", &[], "command: [other]")));
    assert_eq!(only(&manifests).workload.command, ["run", "it"], "the first counts");
    assert!(about(&manifests, "metadata.name").contains("twice; expected one declaration; the one at apps/app.yaml:1"));
}

#[test]
fn lists_and_json_are_read() {
    let items: Vec<serde_json::Value> =
        ["a", "b"].iter().map(|name| serde_saphyr::from_str(&app(name, &[MIN], RUN)).unwrap()).collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    for path in ["list.json", "list.yaml"] {
        let manifests = load(&[source(path, &list)], &Options::default(), None);
        assert_eq!(manifests.entries.len(), 2, "{path}: {:?}", manifests.problems);
        assert_eq!(manifests.entries[1].workload.working_dir, Path::new("."));
    }
    let broken = load(&[source("x.json", &format!("{list}\n{{"))], &Options::default(), None);
    assert_eq!((broken.entries.len(), broken.problems.len()), (2, 1));
}

#[test]
fn where_the_command_comes_from() {
    #[track_caller]
    fn check(annotation: Option<&str>, image: Option<&str>, container: &str, expected: &[&str]) {
        let local = annotation.map(|command| ("kpa.dev/local-command", command));
        let annotations: Vec<(&str, &str)> = local.into_iter().chain([MIN]).collect();
        let images = image.map(|command| ("registry:5000/acme/a".to_owned(), command.to_owned()));
        let options = Options { images: images.into_iter().collect(), ..Options::default() };
        let manifests = load(&[source("a.yaml", &app("a", &annotations, container))], &options, None);
        assert_eq!(only(&manifests).workload.command, expected);
    }
    check(Some("one two"), Some("image"), RUN, &["one", "two"]);
    check(Some("one | two"), None, RUN, &["/bin/sh", "-c", "one | two"]);
    check(None, Some("image it"), RUN, &["image", "it"]);
    check(None, None, "command: [run]\nargs: [--port, 80, $(X)]", &["run", "--port", "80", "$(X)"]);
    let any = Options { any_image: Some("stand-in".into()), ..Options::default() };
    let manifests = load(&[source("a.yaml", &app("a", &[MIN], ""))], &any, None);
    assert_eq!(only(&manifests).workload.command, ["stand-in"]);
    let bad = read(&app("a", &[("kpa.dev/local-command", "a 'b")], RUN));
    assert!(bad.entries.is_empty() && about(&bad, "local-command\"]").contains("not closed"));
}

#[test]
fn the_environment_is_filled_in() {
    let refs = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {LEVEL: debug, PORT: 80}\n---\n\
                apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\ndata: {TOKEN: c2VjcmV0}\nstringData: {USER: me}\n---\n";
    let container = "command: [run]
envFrom:
  - configMapRef: {name: conf}
  - prefix: K_
    secretRef: {name: keys}
  - secretRef: {name: missing, optional: true}
env:
  - {name: PLAIN, value: x}
  - {name: NUMBER, value: 8}
  - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: TOKEN}}}
  - {name: LEVEL2, valueFrom: {configMapKeyRef: {name: conf, key: LEVEL}}}
  - {name: URL, value: http://$(TOKEN)@host}
  - {name: NOT, value: $$(TOKEN)$(PLAIN)}
  - {name: NS, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
  - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: APP, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
  - {name: UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
  - {name: GONE, valueFrom: {secretKeyRef: {name: keys, key: GONE}}}
  - {name: MAYBE, valueFrom: {secretKeyRef: {name: none, key: GONE, optional: true}}}
  - {name: FILE, valueFrom: {secretKeyRef: {name: wandb, key: A}}}
";
    let sources = [
        source("a.yaml", &format!("{refs}{}", app("a", &[MIN], container))),
        source("wandb.env", "# keys\nexport A='b c'\n\nB=2\nhunter2\n=3\n"),
    ];
    let manifests = load(&sources, &Options::default(), None);
    let wrong: Vec<&str> = manifests.problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(wrong, ["wandb.env:5", "wandb.env:6"]);
    assert!(!format!("{manifests:?}").contains("hunter2"));
    let entry = only(&manifests);
    let shown: Vec<String> = entry.workload.env.iter().map(|var| format!("{var:?}")).collect();
    assert_eq!(
        shown,
        [
            "LEVEL=debug",
            "PORT=80",
            "K_TOKEN=***",
            "K_USER=***",
            "PLAIN=x",
            "NUMBER=8",
            "TOKEN=***",
            "LEVEL2=debug",
            "URL=***",
            "NOT=$$(TOKEN)$(PLAIN)",
            "NS=default",
            "IP=127.0.0.1",
            "APP=a",
            "FILE=***",
        ]
    );
    let value = |name: &str| entry.workload.env.iter().find(|var| var.name == name).map(|var| var.value.as_str());
    assert_eq!((value("TOKEN"), value("K_USER"), value("FILE")), (Some("secret"), Some("me"), Some("b c")));
    assert!(about(&manifests, "env[9].valueFrom.fieldRef").contains("UID is not set"));
    assert!(about(&manifests, "env[10].valueFrom").contains("no key \"GONE\""));
    assert!(about(&manifests, "env[1].value").contains("Kubernetes refuses"));
    assert!(manifests.all_problems().all(|problem| !problem.to_string().contains("secret@")));
}

#[test]
fn ports_and_probes() {
    let container = "command: [run]
ports: [{name: web, containerPort: 9000}, {name: admin, containerPort: 9001}, {containerPort: 53, protocol: UDP}]
readinessProbe:
  httpGet: {path: healthz?x=1, port: web, httpHeaders: [{name: A, value: b}]}
  periodSeconds: 2
  failureThreshold: 5
livenessProbe: {tcpSocket: {port: 9001}, timeoutSeconds: 3}
startupProbe: {grpc: {port: 9000}}
lifecycle: {preStop: {httpGet: {path: /stop, port: 9000}}}
resources: {limits: {nvidia.com/gpu: 2}}
workingDir: sub/dir
";
    let manifests = read(&app("a", &[MIN], container));
    let workload = &only(&manifests).workload;
    assert_eq!(workload.port, Some(9000));
    assert!(about(&manifests, ".ports").contains("2 ports"));
    let ready = workload.readiness.as_ref().unwrap();
    let headers = vec![("A".to_owned(), "b".to_owned())];
    assert_eq!(ready.check, ProbeCheck::Http { port: None, path: "/healthz?x=1".into(), headers });
    assert_eq!(
        (ready.period, ready.timeout, ready.failure_threshold),
        (Duration::from_secs(2), Duration::from_secs(1), 5)
    );
    let live = workload.liveness.as_ref().unwrap();
    assert_eq!((&live.check, live.timeout), (&ProbeCheck::Tcp { port: Some(9001) }, Duration::from_secs(3)));
    assert_eq!(workload.startup.as_ref().unwrap().check, ProbeCheck::Tcp { port: None });
    assert!(about(&manifests, "startupProbe.grpc").contains("TCP connect"));
    assert_eq!(workload.pre_stop, Some(PreStop::Http { port: None, path: "/stop".into() }));
    assert_eq!((workload.gpus, workload.termination_grace), (2, Duration::from_secs(30)));
    assert_eq!(workload.working_dir, Path::new("apps/sub/dir"));

    let chosen = read(&app("a", &[MIN, ("kpa.dev/port", "9001")], container));
    let workload = &only(&chosen).workload;
    assert_eq!(workload.port, Some(9001));
    assert_eq!(workload.liveness.as_ref().unwrap().check, ProbeCheck::Tcp { port: None });
    assert!(about(&chosen, ".ports").is_empty());
}

#[test]
fn a_port_can_say_h2c() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: a}, ports: [{port: 80, targetPort: \
                   9000, appProtocol: kubernetes.io/h2c}]}\n";
    let named = app("a", &[MIN], "command: [run]\nports: [{name: h2c, containerPort: 9000}]");
    let unnamed = app("a", &[MIN], "command: [run]\nports: [{containerPort: 9000}]");
    let by_service = format!("{unnamed}{service}");
    let annotated =
        app("a", &[MIN, ("kpa.dev/protocol", "auto")], "command: [run]\nports: [{name: h2c, containerPort: 9000}]");
    for (text, protocol) in [
        (&named, Resolved::new(Protocol::H2c, Origin::Template)),
        (&by_service, Resolved::new(Protocol::H2c, Origin::Template)),
        (&unnamed, Resolved::default_value(Protocol::Auto)),
        (&annotated, Resolved::new(Protocol::Auto, Origin::Annotation)),
    ] {
        assert_eq!(only(&read(text)).revision.limits.protocol, protocol);
    }
}

#[test]
fn what_one_machine_does_not_do_is_named_with_its_path() {
    let text = app(
        "a",
        &[MIN],
        "command: [run]\nsecurityContext: {runAsUser: 1}\nvolumeMounts: [{name: v, mountPath: /v}]\ncomand: [typo]\nports: []",
    ) + "        - name: istio-proxy\n          image: proxy\n      initContainers: [{name: i, image: i}]\n      \
         volumes: [{name: v, emptyDir: {}}]\n      nodeSelector: {gpu: a100}\n      securityContext: {}\n";
    let manifests = read(&text);
    let pod = "spec.template.spec";
    for (path, severity) in [
        (format!("{pod}.containers[0].securityContext"), Severity::Warning),
        (format!("{pod}.containers[0].volumeMounts"), Severity::Warning),
        (format!("{pod}.containers[0].comand"), Severity::Warning),
        (format!("{pod}.containers[1]"), Severity::Warning),
        (format!("{pod}.initContainers"), Severity::Warning),
        (format!("{pod}.volumes"), Severity::Warning),
        (format!("{pod}.nodeSelector"), Severity::Notice),
    ] {
        assert!(
            manifests.all_problems().any(|problem| problem.key == path && problem.severity == severity),
            "{path}: {:#?}",
            only(&manifests).revision.problems
        );
    }
    assert_eq!(about(&manifests, "spec.securityContext"), "", "an empty one asks for nothing");
    assert!(about(&manifests, ".comand").contains("expected command (did you mean that?)"));
    assert_eq!(only(&manifests).revision.mode, Mode::Act);
}

#[test]
fn the_container_that_serves_is_found() {
    let sidecar_first = app("a", &[MIN], "command: [run]").replace("- name: main", "- name: queue-proxy")
        + "        - name: mine\n          command: [mine]\n";
    assert_eq!(only(&read(&sidecar_first)).workload.command, ["mine"]);
    let named = sidecar_first.replace(
        "metadata: {labels: {app: a}}",
        "metadata: {annotations: {kubectl.kubernetes.io/default-container: queue-proxy}}",
    );
    assert_eq!(only(&read(&named)).workload.command, ["run"]);
}

#[test]
fn names_and_owners() {
    for bad in ["Upper", "a.b", "-a", "a_b"] {
        let manifests = read(&app(bad, &[MIN], RUN));
        assert!(manifests.entries.is_empty() && about(&manifests, "metadata.name").contains("DNS label"), "{bad}");
    }
    let owned = |annotations: &[(&str, &str)]| {
        let owner =
            "metadata:\n  ownerReferences: [{apiVersion: v1, kind: Rollout, name: r, uid: u, controller: true}]\n";
        read(&app("a", annotations, RUN).replacen("metadata:\n", owner, 1))
    };
    assert_eq!(only(&owned(&[MIN])).revision.mode, Mode::Refused(Refusal::AnotherAutoscaler("Rollout r".into())));
    assert_eq!(only(&owned(&[MIN, ("kpa.dev/manage", "true")])).revision.mode, Mode::Act);
}

/// One step of an edit: what the file says, and what is then in force.
fn edit(steps: &[&str]) -> Vec<Manifests> {
    let mut states: Vec<Manifests> = Vec::new();
    for text in steps {
        states.push(load(&[source("a.yaml", text)], &Options::default(), states.last()));
    }
    states
}

#[test]
fn what_was_good_survives_a_bad_edit() {
    let three = app("a", &[("autoscaling.knative.dev/min-scale", "3")], RUN);
    let wrong = app("a", &[("autoscaling.knative.dev/min-scale", "two")], RUN);
    let no_command = app("a", &[("autoscaling.knative.dev/min-scale", "4")], "");
    let half_written = &three[..three.len() / 2];
    let unreadable = format!("{three}  - [\n");
    let states = edit(&[&three, &wrong, &unreadable, half_written, &no_command, &three, ""]);
    for (step, state) in states[..6].iter().enumerate() {
        let entry = only(state);
        let expected = if step == 4 { 4 } else { 3 };
        assert_eq!(entry.revision.scaling.min_scale.value, Replicas::new(expected), "step {step}");
        assert_eq!(entry.revision.mode, Mode::Act, "step {step}");
        assert_eq!(entry.workload.command, ["run", "it"]);
        let clean = matches!(step, 0 | 5);
        assert_eq!(entry.revision.problems.is_empty(), clean, "step {step}: {:#?}", entry.revision.problems);
    }
    assert_eq!(states[0].entries, states[5].entries, "corrected is as before");
    assert!(states[6].entries.is_empty(), "an object that was taken out is gone");
    assert!(matches!(only(&read(&wrong)).revision.mode, Mode::Invalid(_)), "never good");
}

#[test]
fn a_bad_config_keeps_the_last_good_one_and_without_any_nothing_shrinks() {
    let config = |window: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-autoscaler}}\ndata:\n  stable-window: {window}\n"
        )
    };
    let app = app("a", &[MIN], RUN);
    let with = |window: &str| format!("{app}{}", config(window));
    let (good, bad) = (with("30s"), with("30"));
    let broken = format!("{app}{}  - [", config("30s"));
    let states = edit(&[&good, &bad, &broken, &app]);
    for state in &states[..3] {
        assert_eq!(
            only(state).revision.scaling.stable_window,
            Resolved::new(Duration::from_secs(30), Origin::ClusterConfig)
        );
        assert_eq!(only(state).revision.mode, Mode::Act);
    }
    assert!(!states[1].problems.is_empty() && !states[2].problems.is_empty());
    assert_eq!(states[3].defaults, Defaults::default(), "taken out: the built-in ones");

    for lost in [&bad, &broken] {
        let started = edit(&[lost, lost, &good]);
        for state in &started[..2] {
            assert!(matches!(only(state).revision.mode, Mode::Invalid(ref why) if !why.is_empty()));
            assert_eq!(only(state).revision.scaling.stable_window.value, Duration::from_secs(60));
        }
        assert_eq!(only(&started[2]).revision.mode, Mode::Act);
    }
    let unknown = read(&format!("{}  max-scal: 3\n", with("30s")));
    assert!(unknown.problems[0].expected.contains("max-scale"));
}

#[test]
fn a_bad_activator_config_keeps_the_last_good_one_and_without_any_opens_nothing() {
    let config = |data: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-activator}}\ndata: {{{data}}}\n")
    };
    let good = config("domain: a.io, trusted-proxies: 10.0.0.0/8");
    let bad = config("domain: b.io, trusted-proxies: 10.0.0.0/99");
    let broken = format!("{good}  - [");
    let states = edit(&[&good, &bad, &broken, ""]);
    for state in &states[..3] {
        assert_eq!(state.activator.domain, Resolved::new("a.io".to_owned(), Origin::ClusterConfig));
        assert_eq!(state.activator.trusted_proxies.to_string(), "10.0.0.0/8");
        assert!(
            state.activator_place.as_ref().unwrap().contains("config-activator")
                && state.activator_problems().is_empty()
        );
    }
    assert!(!states[1].problems.is_empty() && !states[2].problems.is_empty());
    assert_eq!(states[3].activator, ActivatorConfig::default(), "taken out: the built-in values");

    let started = edit(&[&bad, &bad, &good]);
    for state in &started[..2] {
        assert!(!state.activator_problems().is_empty());
        assert_eq!(
            (state.activator.domain.as_str(), state.activator.trusted_proxies.to_string()),
            ("b.io", "none".into())
        );
        assert_eq!(state.problems.len(), 1, "{:?}", state.problems);
    }
    assert!(started[2].activator_problems().is_empty());
    assert_eq!(*started[2].activator.domain, "a.io");
    assert_eq!(edit(&[&broken])[0].activator, ActivatorConfig::cautious());

    let both = read(&format!(
        "{good}---\n{}---\n{}",
        good.replace("{name:", "{namespace: other, name:"),
        app("a", &[MIN], RUN)
    ));
    assert!(both.ignored.iter().any(|ignored| ignored.reason.contains("another config-activator")));
    assert_eq!(only(&both).revision.mode, Mode::Act, "how services scale is another map's business");
}

#[test]
fn age_outlives_edits() {
    let (a, b) = (app("a", &[MIN], RUN), app("b", &[MIN], RUN));
    let states = edit(&[&b, &format!("{a}---\n{b}")]);
    let rank = |name: &str| states[1].entry(&RevisionId::new("default", name)).unwrap().revision.route.age_rank;
    assert!(rank("b") < rank("a"), "b was there first");
}

#[test]
fn a_refused_local_command_lets_nothing_else_run() {
    let wrong = app("a", &[("kpa.dev/local-command", " ")], RUN);
    assert!(read(&wrong).entries.is_empty());
    let states = edit(&[&app("a", &[("kpa.dev/local-command", "mine")], RUN), &wrong]);
    assert_eq!(only(&states[1]).workload.command, ["mine"]);
}

#[test]
fn hostile_files_are_refused_in_time() {
    let laughs: String =
        (1..30).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    let laughs = format!("a0: &a0 [x,x,x]\n{laughs}kind: List\n");
    for text in [laughs, "[".repeat(200_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "a".repeat(9 << 20)] {
        for path in ["x.yaml", "x.json"] {
            let manifests = load(&[source(path, &text)], &Options::default(), None);
            assert!(manifests.entries.is_empty() && !manifests.problems.is_empty(), "{path} {:.20}", text);
            assert!(manifests.problems[0].to_string().len() < 1_000);
        }
    }
}

/// The file of the repository.
#[test]
fn the_config_file_parses_and_equals_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/config-autoscaler.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let manifests = load(&[Source { path, text, role: Role::Manifest }], &Options::default(), None);
    assert!(manifests.problems.is_empty() && manifests.ignored.is_empty(), "{:#?}", manifests.problems);
    assert_eq!(manifests.defaults.to_map(), Defaults::default().to_map());
    assert_eq!(manifests.defaults.stable_window.origin, Origin::ClusterConfig, "every key is written");
    assert!(manifests.config.unwrap().ends_with("ConfigMap default/config-autoscaler"));
    let keys: Vec<&str> = domain::defaults::CONFIG_KEYS.iter().map(|row| row.key).collect();
    let text = manifests.defaults.to_map();
    assert!(text.iter().map(|(key, _)| *key).eq(keys));
}

/// The other file of the repository.
#[test]
fn the_activators_config_file_parses_and_equals_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/config-activator.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let manifests = load(&[Source { path, text, role: Role::Manifest }], &Options::default(), None);
    assert!(manifests.problems.is_empty() && manifests.ignored.is_empty(), "{:#?}", manifests.problems);
    let rows =
        |config: &ActivatorConfig| config.with_origins().into_iter().map(|(key, value, _)| (key, value)).collect();
    let (read, built_in): (Vec<_>, Vec<_>) = (rows(&manifests.activator), rows(&ActivatorConfig::default()));
    assert_eq!(read, built_in);
    assert!(manifests.activator.with_origins().iter().all(|(_, _, origin)| *origin == Origin::ClusterConfig));
    assert!(manifests.activator_place.unwrap().ends_with("ConfigMap default/config-activator"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    /// Files cut, spliced and overwritten at random: reading never panics, and nothing good beside them is lost.
    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((0_usize..2_000, 0_usize..40, "[-\\[\\]{}:,'\"&*!|> #\\n\\ta-z0-9µ]{0,8}"), 1..6),
        json in any::<bool>(),
    ) {
        let config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler}\ndata: {stable-window: 30s}\n";
        let mut text: Vec<char> = format!("{FASTAPI}---\n{}{config}", app("a", &[MIN], RUN)).chars().collect();
        for (at, cut, insert) in edits {
            let at = at.min(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let neighbour = source("good.yaml", &app("neighbour", &[MIN], RUN));
        let path = if json { "x.json" } else { "x.yaml" };
        let sources = [source(path, &text), neighbour];
        let first = load(&sources, &Options::default(), None);
        let id = RevisionId::new("default", "neighbour");
        prop_assert!(first.entry(&id).is_some());
        let again = load(&sources, &Options::default(), Some(&first));
        prop_assert_eq!(again.entries.len(), first.entries.len());
        prop_assert!(again.entries.iter().all(|entry| !entry.workload.command.is_empty()));
    }
}

#[test]
fn members_of_an_exclusive_group_that_disagree_about_its_slots_are_named() {
    let member = |namespace: &str, name: &str, group: &str, slots: &str| {
        let annotations = format!("{{kpa.dev/exclusive-group: \"{group}\", kpa.dev/exclusive-slots: \"{slots}\"}}");
        let spec = "spec: {template: {spec: {containers: [{name: m, image: m, command: [serve]}]}}}";
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}, annotations: {annotations}}}\n{spec}\n"
        )
    };
    let text = [
        member("default", "a", "gpu", "2"),
        member("default", "b", "gpu", "1"),
        member("default", "c", "other", "3"),
        member("elsewhere", "d", "gpu", "4"),
    ];
    let manifests = read(&text.concat());
    assert_eq!(manifests.entries.len(), 4, "{:?}", manifests.problems);
    let told: Vec<_> = manifests.problems.iter().filter(|problem| problem.key == "kpa.dev/exclusive-slots").collect();
    assert_eq!(told.len(), 1, "groups are of one namespace: {told:?}");
    assert_eq!(told[0].place, "Deployment default/a");
    assert_eq!(told[0].what, "2 disagrees with default/b, which says 1");
}
