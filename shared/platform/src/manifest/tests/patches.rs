//! Patches, and files of the tools that make manifests.

use super::*;

fn patch(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into(), role: Role::Patch }
}

/// The head of a patch for Deployment `name`, ready for `metadata`'s further fields.
fn head(name: &str) -> String {
    format!("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n")
}

fn annotated(name: &str, key: &str, value: &str) -> String {
    head(name) + &format!("  annotations:\n    {key}: {value:?}\n")
}

const MIN_KEY: &str = "autoscaling.knative.dev/min-scale";

#[track_caller]
fn min_scale(manifests: &Manifests, name: &str) -> (Replicas, Mode) {
    let entry = manifests.entry(&RevisionId::new("default", name)).unwrap();
    (entry.revision.scaling.min_scale.value, entry.revision.mode.clone())
}

fn places(manifests: &Manifests) -> Vec<String> {
    manifests.all_problems().map(|problem| format!("{} | {}", problem.place, problem.key)).collect()
}

#[test]
fn a_patch_annotates_the_seeds_deployment_without_touching_it() {
    let images = [("ghcr.io/kyryl-opens-ml/app-fastapi".to_owned(), "serve".to_owned())];
    let options = Options { images: images.into(), ..Options::default() };
    let sources = [source("apps/app.yaml", FASTAPI), patch("p/patch.yaml", &annotated("app-fastapi", MIN_KEY, "1"))];
    let manifests = load(&sources, &options, None);
    assert_eq!(min_scale(&manifests, "app-fastapi"), (Replicas::ONE, Mode::Act));
    let entry = only(&manifests);
    assert_eq!((entry.workload.port, entry.workload.replicas), (Some(8080), Replicas::new(2)));
    assert_eq!(entry.workload.working_dir, Path::new("apps"), "the folder of what is patched");
    assert_eq!(entry.patches, [Path::new("p/patch.yaml")]);
    let at = places(&manifests);
    assert!(at.iter().any(|at| at.starts_with("apps/app.yaml:21 Deployment default/app-fastapi |")), "{at:?}");
}

#[test]
fn patches_merge_in_their_order_and_as_kubernetes_says() {
    let container = "command: [run]\nenv: [{name: A, value: a}, {name: B, value: b}]\nports: [{containerPort: 80}]";
    let pod = |container: &str| {
        format!("spec:\n  template:\n    spec:\n      containers:\n        - name: main\n          {container}\n")
    };
    let first = head("a") + &pod("env: [{name: B, value: c}, {name: C, value: 7}]");
    let second = head("a") + &pod("command: [other]\n          env: [{name: A, $patch: delete}]");
    let sources = [source("a.yaml", &app("a", &[MIN], container)), patch("1.yaml", &first), patch("2.yaml", &second)];
    let manifests = load(&sources, &Options::default(), None);
    let workload = &only(&manifests).workload;
    let env: Vec<String> = workload.env.iter().map(|var| format!("{var:?}")).collect();
    assert_eq!(
        (env, workload.command.join(" "), workload.port),
        (vec!["B=c".into(), "C=7".into()], "other".into(), Some(80))
    );
    assert_eq!(places(&manifests), ["1.yaml:10 Deployment default/a | spec.template.spec.containers[0].env[1].value"]);
}

#[test]
fn a_problem_stands_where_its_value_is_written() {
    let bad = annotated("a", MIN_KEY, "two") + "spec:\n  replicas: -1\n";
    let text = app("a", &[("autoscaling.knative.dev/target", "x")], "command: [run]\nports: [{containerPort: 0}]");
    let manifests = load(&[source("a.yaml", &text), patch("p.yaml", &bad)], &Options::default(), None);
    let Mode::Invalid(problems) = &only(&manifests).revision.mode else { panic!("never good") };
    assert!(problems.iter().any(|problem| problem.place.starts_with("p.yaml:6 ")), "{problems:#?}");
    let at = places(&manifests);
    for expected in [
        format!("p.yaml:6 Deployment default/a | metadata.annotations[{MIN_KEY:?}]"),
        "a.yaml:6 Deployment default/a | metadata.annotations[\"autoscaling.knative.dev/target\"]".into(),
        "p.yaml:8 Deployment default/a | spec.replicas".into(),
        "a.yaml:16 Deployment default/a | spec.template.spec.containers[0].ports[0].containerPort".into(),
    ] {
        assert!(at.contains(&expected), "{expected} in {at:#?}");
    }
    let no_command = load(&[source("a.yaml", &app("a", &[MIN], "")), patch("p.yaml", &bad)], &Options::default(), None);
    let at = places(&no_command);
    assert!(at.iter().any(|at| at.starts_with("a.yaml:13 Deployment default/a (patched by p.yaml) |")), "{at:#?}");
}

#[test]
fn a_value_of_the_wrong_type_in_a_patch_is_named_there() {
    let wrong = head("a") + "spec:\n  replicas: three\n";
    let manifests =
        load(&[source("a.yaml", &app("a", &[MIN], RUN)), patch("p.yaml", &wrong)], &Options::default(), None);
    let problem = &manifests.problems[0];
    assert_eq!((problem.place.as_str(), problem.key.as_str()), ("p.yaml:6 Deployment default/a", "spec.replicas"));
    assert_eq!(problem.what, "\"three\" is not a whole number");
}

#[test]
fn a_patch_that_fits_nothing_says_what_could_have_been_meant() {
    let other = app("app-two", &[MIN], RUN).replace("name: app-two\n", "name: app-two\n  namespace: ml\n");
    let text = format!("{}---\n{other}", app("app-one", &[MIN], RUN));
    #[track_caller]
    fn check(text: &str, patched: &str, key: &str, expected: &str) {
        let manifests = load(&[source("a.yaml", text), patch("p.yaml", patched)], &Options::default(), None);
        let problem = manifests.problems.iter().find(|problem| problem.place.starts_with("p.yaml:")).unwrap();
        assert!(problem.severity == Severity::Error && problem.key == key, "{problem}");
        assert!(problem.expected.contains(expected), "{problem}");
        assert!(problem.consequence.starts_with("it changes nothing"), "{problem}");
        assert_eq!(manifests.entries.len(), 2);
    }
    check(&text, &head("app-onne"), "metadata.name", "app-one (did you mean that?)");
    check(
        &text,
        &head("app-one").replace("Deployment", "StatefulSet"),
        "metadata.name",
        "Deployment default/app-one of apps/v1",
    );
    check(&text, &(head("app-two") + "  namespace: lm\n"), "metadata.name", "Deployment ml/app-two of apps/v1");
    check(&text, &head("quite-another"), "metadata.name", "one of Deployment default/app-one, Deployment ml/app-two");
    check(&text, "kind: Deployment\napiVersion: apps/v1\n", "metadata.name", "metadata.name of the object");
    check(&text, "- op: replace\n  path: /spec/replicas\n  value: 3\n", "document", "a part of an object");
    check(&text, "kind: [x\n", "kind", "a bracket");
    check(
        &text,
        &(head("app-one") + "spec: {template: {spec: {containers: [{image: x}]}}}\n"),
        "spec.template.spec.containers[0]",
        "name in each",
    );
    let both = text
        .replace("name: app-two\n  namespace: ml", "name: app-one\n  namespace: ml")
        .replace("namespace: ml", "namespace: m2")
        + "---\n"
        + &app("app-one", &[MIN], RUN).replace("name: app-one\n", "name: app-one\n  namespace: m3\n");
    let both = both.replacen("name: app-one\n", "name: app-one\n  namespace: m1\n", 1);
    let manifests = load(&[source("a.yaml", &both), patch("p.yaml", &head("app-one"))], &Options::default(), None);
    assert_eq!(
        manifests.problems[0].what,
        "could mean Deployment m1/app-one or Deployment m2/app-one or Deployment m3/app-one"
    );
}

#[test]
fn a_patch_without_a_namespace_finds_the_only_object_of_its_name() {
    let text = app("a", &[MIN], RUN).replace("name: a\n", "name: a\n  namespace: ml\n");
    let sources = [source("a.yaml", &text), patch("p.yaml", &annotated("a", MIN_KEY, "3"))];
    let manifests = load(&sources, &Options::default(), None);
    assert_eq!(only(&manifests).revision.scaling.min_scale.value, Replicas::new(3));
}

/// One step of an edit of the patch; the manifest stays as it is.
fn edit_patch(text: &str, steps: &[&str]) -> Vec<Manifests> {
    let mut states: Vec<Manifests> = Vec::new();
    for step in steps {
        let sources = [source("a.yaml", text), patch("p.yaml", step)];
        states.push(load(&sources, &Options::default(), states.last()));
    }
    states
}

#[test]
fn a_broken_patch_keeps_what_it_last_said() {
    let text = format!("{}---\n{}", app("a", &[MIN], RUN), app("b", &[MIN], RUN));
    let good = format!("{}---\n{}", annotated("a", MIN_KEY, "3"), annotated("b", MIN_KEY, "2"));
    let unreadable = "kind: [".to_owned();
    let typing_error = good.replace("name: b", "name: bb");
    let one_edited = good.replace("\"3\"", "\"4\"") + "---\nkind: [";
    let bad_value = good.replace("\"3\"", "\"three\"");
    let bad_type = good.clone() + "spec: {replicas: x}\n";
    let states = edit_patch(&text, &[&good, &unreadable, &typing_error, &one_edited, &bad_value, &bad_type, &good, ""]);
    let three = |a: u32, b: u32| ((Replicas::new(a), Mode::Act), (Replicas::new(b), Mode::Act));
    let found: Vec<_> = states.iter().map(|state| (min_scale(state, "a"), min_scale(state, "b"))).collect();
    let expected =
        [three(3, 2), three(3, 2), three(3, 2), three(4, 2), three(4, 2), three(3, 2), three(3, 2), three(0, 0)];
    assert_eq!(found, expected);
    for (step, state) in states.iter().enumerate() {
        let clean = matches!(step, 0 | 6 | 7);
        assert_eq!(state.all_problems().next().is_none(), clean, "step {step}: {:#?}", places(state));
    }
    let told = |step: usize| states[step].all_problems().map(ToString::to_string).collect::<String>();
    assert!(told(1).contains("what this file last said of its objects stays in force"), "{}", told(1));
    assert!(told(2).contains("p.yaml:11 Deployment default/bb: metadata.name: there is no Deployment default/bb"));
}

#[test]
fn a_patch_that_could_never_be_read_lets_nothing_shrink() {
    let text = app("a", &[MIN], RUN);
    let states = edit_patch(&text, &["kind: [", "kind: [", &annotated("a", MIN_KEY, "3")]);
    for state in &states[..2] {
        assert!(matches!(min_scale(state, "a"), (Replicas::ZERO, Mode::Invalid(why)) if why[0].place == "p.yaml:1"));
        assert!(state.problems[0].consequence.contains("no service is scaled down"));
    }
    assert_eq!(min_scale(&states[2], "a"), (Replicas::new(3), Mode::Act));
}

#[test]
fn a_broken_manifest_is_not_blamed_on_its_patch() {
    let good = app("a", &[MIN], RUN);
    let patch = patch("p.yaml", &annotated("a", MIN_KEY, "3"));
    let first = load(&[source("a.yaml", &good), patch.clone()], &Options::default(), None);
    let broken = load(&[source("a.yaml", "kind: ["), patch.clone()], &Options::default(), Some(&first));
    assert_eq!((min_scale(&broken, "a"), broken.problems.len()), ((Replicas::new(3), Mode::Act), 1));
    let mended = load(&[source("a.yaml", &good), patch], &Options::default(), Some(&broken));
    assert_eq!(mended.entries, first.entries);
}

#[test]
fn other_kinds_are_patched_too() {
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler}\ndata: {stable-window: 30s}\n";
    let set = |window: &str| config.replace("30s", window);
    let app = app("a", &[MIN], RUN);
    let sources = |window: &str| [source("a.yaml", &format!("{app}---\n{config}")), patch("p.yaml", &set(window))];
    let good = load(&sources("90s"), &Options::default(), None);
    assert_eq!(good.defaults.stable_window.value, Duration::from_secs(90));
    let bad = load(&sources("1s"), &Options::default(), Some(&good));
    assert_eq!(bad.defaults.stable_window.value, Duration::from_secs(90));
    assert_eq!(places(&bad)[0], "p.yaml:4 ConfigMap default/config-autoscaler | data[\"stable-window\"]");
}

#[test]
fn a_patch_among_the_manifests_is_no_second_declaration() {
    let sources = [source("a-patch.yaml", &annotated("a", MIN_KEY, "3")), source("a.yaml", &app("a", &[MIN], RUN))];
    let manifests = load(&sources, &Options::default(), None);
    assert_eq!(min_scale(&manifests, "a"), (Replicas::ZERO, Mode::Act));
    assert!(manifests.problems.is_empty() && manifests.ignored[0].reason.contains("--patch"), "{manifests:#?}");
    let with_container = head("a") + "spec: {template: {spec: {containers: [{name: main, args: [x]}]}}}\n";
    let manifests = load(&[source("b.yaml", &with_container), sources[1].clone()], &Options::default(), None);
    assert!(only(&manifests).workload.command == ["run", "it"] && manifests.problems.is_empty(), "{manifests:#?}");
    // Without the whole it is what it was: a Deployment that cannot be run.
    let alone = load(&sources[..1], &Options::default(), None);
    assert!(about(&alone, "containers").contains("there is none"));
}

#[test]
fn files_of_other_tools_are_one_notice_each() {
    let template =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n  replicas: {{ .n }}\n";
    let sources = [
        source("k/kustomization.yaml", "resources: [app.yaml]\npatches: [{path: p.yaml}]\n"),
        source("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 0.1.0\n"),
        source("c/values.yaml", "replicas: 2\n"),
        source("c/templates/a.yaml", template),
        source("c/templates/b.yaml", "{{- if .Values.x }}\nkind: Service\n{{- end }}\n"),
        source("k/app.yaml", &app("a", &[MIN], RUN)),
    ];
    let manifests = load(&sources, &Options::default(), None);
    let told: Vec<String> = manifests.problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(manifests.problems.iter().all(|problem| problem.severity == Severity::Notice && problem.key == "document"));
    for (told, (place, instead)) in told.iter().zip([
        ("k/kustomization.yaml:1", "kustomize build k | kpa run -"),
        ("c/Chart.yaml:1", "helm template NAME c | kpa run -"),
        ("c/templates/a.yaml:1", "helm template NAME c | kpa run -"),
    ]) {
        assert!(told.starts_with(place) && told.contains(instead), "{told}");
    }
    assert!(told[2].contains("one of 2 Helm templates"), "{}", told[2]);
    only(&manifests);

    let braces = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: chat}\ndata:\n  t: |\n    {{ message }}\n";
    let text = format!("{}{braces}", app("a", &[MIN], RUN));
    assert!(read(&text).problems.is_empty(), "braces in a text are no template");
    let broken = read(&format!("{text}---\nkind: [unclosed\n"));
    assert_eq!(broken.problems[0].severity, Severity::Error, "nor do they hide an error beside them");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: proptest::test_runner::RngSeed::Fixed(11), ..ProptestConfig::default() })]

    /// Patches cut and overwritten at random: reading never panics, what was good stays, and a mended patch mends all.
    #[test]
    fn mutated_patches_never_panic(
        edits in prop::collection::vec((0_usize..400, 0_usize..40, "[-\\[\\]{}:,'\"&*!|> #\\n$a-z0-9µ]{0,8}"), 1..6),
    ) {
        let text = app("a", &[MIN], RUN);
        let good = annotated("a", MIN_KEY, "3") + "spec: {template: {spec: {containers: [{name: main, env: [{name: X, value: y}]}]}}}\n";
        let mut mutated: Vec<char> = good.chars().collect();
        for (at, cut, insert) in edits {
            let at = at.min(mutated.len());
            let end = (at + cut).min(mutated.len());
            mutated.splice(at..end, insert.chars());
        }
        let mutated: String = mutated.into_iter().collect();
        let states = edit_patch(&text, &[&good, &mutated, &good]);
        prop_assert_eq!(states[1].entries.len(), 1);
        prop_assert_eq!(&states[2].entries, &states[0].entries);
    }
}
