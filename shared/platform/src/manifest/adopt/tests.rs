use super::*;
use domain::Severity;

fn deployment(yaml: &str) -> Deployment {
    serde_saphyr::from_str(yaml).unwrap()
}

fn simple(annotations: &str, extra: &str) -> Deployment {
    deployment(&format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: model
  namespace: prod
  creationTimestamp: "2026-01-02T03:04:05Z"
  annotations: {{{annotations}}}
spec:
  selector: {{matchLabels: {{app: model}}}}
  template:
    metadata: {{labels: {{app: model}}}}
    spec:
      containers:
      - name: server
        image: model
        ports: [{{containerPort: 9000}}]
{extra}
"#
    ))
}

fn around(defaults: &Defaults) -> Surroundings<'_> {
    Surroundings { defaults, unknown: &[], services: &[], rival: None, released: false }
}

const OURS: &str = r#"autoscaling.knative.dev/target: "10""#;

#[test]
fn an_annotated_deployment_is_ours_and_another_is_not() {
    let defaults = Defaults::default();
    let adopted = adopt(&simple(OURS, ""), around(&defaults), None).unwrap();
    assert_eq!(adopted.port, 9000);
    assert_eq!(adopted.revision.id.as_str(), "prod/model");
    assert_eq!(adopted.revision.mode, Mode::Act);
    assert_eq!(adopted.selector.match_labels.unwrap(), BTreeMap::from([("app".to_owned(), "model".to_owned())]));
    assert_eq!(adopted.revision.route.age_rank, 1_767_323_045_000);
    let other = adopt(&simple("", ""), around(&defaults), None).unwrap_err();
    assert!(!other.asked && other.reason.contains("no autoscaling.knative.dev/*"), "{other:?}");
}

#[test]
fn what_is_not_ours_says_what_would_change_it() {
    let defaults = Defaults::default();
    let class = r#"autoscaling.knative.dev/class: "hpa.autoscaling.knative.dev""#;
    let foreign = adopt(&simple(class, ""), around(&defaults), None).unwrap_err();
    assert!(foreign.asked && foreign.reason.contains("hpa.autoscaling.knative.dev"), "{foreign:?}");

    let mut owned = simple(OURS, "");
    owned.metadata.owner_references = Some(vec![
        serde_json::from_value(serde_json::json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "name": "r", "uid": "u", "controller": true,
        }))
        .unwrap(),
    ]);
    let refused = adopt(&owned, around(&defaults), None).unwrap_err();
    assert!(refused.reason.contains("Revision r") && refused.reason.contains("kpa.dev/manage"), "{refused:?}");
    owned.metadata.annotations.as_mut().unwrap().insert("kpa.dev/manage".into(), "true".into());
    assert_eq!(adopt(&owned, around(&defaults), None).unwrap().revision.mode, Mode::Act);

    let mut portless = simple(OURS, "");
    portless.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0].ports = None;
    let refused = adopt(&portless, around(&defaults), None).unwrap_err();
    assert!(refused.problems.iter().any(|problem| problem.expected.contains("kpa.dev/port")), "{refused:?}");
}

#[test]
fn a_selector_with_expressions_needs_a_service_by_name() {
    let defaults = Defaults::default();
    let expressed = |annotations: &str| {
        let mut deployment = simple(annotations, "");
        deployment.spec.as_mut().unwrap().selector = serde_json::from_value(serde_json::json!({
            "matchExpressions": [{"key": "app", "operator": "In", "values": ["model"]}],
        }))
        .unwrap();
        deployment
    };
    let refused = adopt(&expressed(OURS), around(&defaults), None).unwrap_err();
    assert!(refused.problems.iter().any(|problem| problem.expected.contains("kpa.dev/service")), "{refused:?}");
    let named = adopt(&expressed(r#"kpa.dev/service: "model-pods""#), around(&defaults), None).unwrap();
    assert_eq!(named.service.as_deref(), Some("model-pods"));
}

#[test]
fn a_service_is_taken_over_only_where_the_pods_can_be_listed_without_it() {
    let defaults = Defaults::default();
    let asks = |annotations: &str| {
        let adopted = adopt(&simple(annotations, ""), around(&defaults), None).unwrap();
        let told = adopted.revision.problems.iter().filter(|problem| problem.key == "kpa.dev/take-over").count();
        (adopted.take_over, told)
    };
    let (named, asked) = (r#"kpa.dev/service: "s""#, r#"kpa.dev/take-over: "true""#);
    assert_eq!(asks(&format!("{named}, {asked}")), (true, 0));
    assert_eq!(asks(named), (false, 0));
    assert_eq!(asks(asked), (false, 1), "which Service?");
    assert_eq!(asks(&format!(r#"{named}, {asked}, kpa.dev/upstream: "service""#)), (false, 1), "a circle");
    let mut expressed = simple(&format!("{named}, {asked}"), "");
    expressed.spec.as_mut().unwrap().selector = serde_json::from_value(serde_json::json!({
        "matchExpressions": [{"key": "app", "operator": "In", "values": ["model"]}],
    }))
    .unwrap();
    let adopted = adopt(&expressed, around(&defaults), None).unwrap();
    assert!(!adopted.take_over && adopted.revision.problems.iter().any(|p| p.expected == "matchLabels alone"));
}

#[test]
fn a_rival_and_a_release_leave_the_count_alone() {
    let defaults = Defaults::default();
    let rival = Surroundings { rival: Some("HorizontalPodAutoscaler model"), ..around(&defaults) };
    let adopted = adopt(&simple(OURS, ""), rival, None).unwrap();
    let expected = Mode::Refused(Refusal::AnotherAutoscaler("HorizontalPodAutoscaler model".into()));
    assert_eq!(adopted.revision.mode, expected);
    assert!(adopted.revision.problems.iter().any(|problem| problem.severity == Severity::Warning));
    let released = adopt(&simple(OURS, ""), Surroundings { released: true, ..around(&defaults) }, None).unwrap();
    assert_eq!(released.revision.mode, Mode::Refused(Refusal::Released));
}

#[test]
fn the_early_probe_is_the_containers_own_unless_only_the_kubelet_can_know() {
    let defaults = Defaults::default();
    let early = |extra: &str| adopt(&simple(OURS, extra), around(&defaults), None).unwrap().early_probe;
    assert!(matches!(early("").unwrap().check, ProbeCheck::Tcp { port: None }));
    let http = early("        readinessProbe: {httpGet: {path: /ready, port: 9000}}").unwrap();
    assert!(matches!(http.check, ProbeCheck::Http { port: None, ref path, .. } if path == "/ready"));
    assert_eq!(early("        readinessProbe: {exec: {command: [true]}}"), None);
    assert_eq!(early("        startupProbe: {httpGet: {path: /ready, port: 9000}}"), None);
}

#[test]
fn a_bad_value_keeps_the_last_good_one_and_without_any_it_never_shrinks() {
    let defaults = Defaults::default();
    let good = adopt(&simple(r#"autoscaling.knative.dev/min-scale: "3""#, ""), around(&defaults), None).unwrap();
    let bad = simple(r#"autoscaling.knative.dev/min-scale: "three""#, "");
    let kept = adopt(&bad, around(&defaults), Some(&good)).unwrap();
    assert_eq!((kept.revision.scaling.min_scale.get(), &kept.revision.mode), (3, &Mode::Act));
    let fresh = adopt(&bad, around(&defaults), None).unwrap();
    assert!(matches!(fresh.revision.mode, Mode::Invalid(_)));
}
