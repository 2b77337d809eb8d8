use super::*;
use crate::objects::{Released, ScaledWorkloadStatus, published};
use crate::picture::{News, Seen};
use crate::trim;
use crate::wanted::owed;
use k8s_openapi::api::core::v1::ServiceSpec;
use std::sync::Arc;

const ASKS: &[(&str, &str)] = &[("kpa.dev/service", "s"), ("kpa.dev/take-over", "true")];

fn key_of(name: &str) -> Key {
    ("prod".into(), name.into())
}

/// A cluster in which everything was listed, and one activator is ready.
fn picture() -> Picture {
    let mut picture = Picture::new().taking_over();
    for news in [
        News::Workload(Seen::Listed),
        News::Service(Seen::Listed),
        News::Pod(Seen::Listed),
        News::Rival(Seen::Listed),
        News::Published(Seen::Listed),
        News::Config(Seen::Listed),
        News::Activators(Vec::new()),
        News::Slice(Seen::Listed),
    ] {
        picture.take(news);
    }
    picture.take(News::Doors(vec![door("10.1.0.1:8080")]));
    picture
}

fn door(address: &str) -> Door {
    let node = Some(Arc::from("node-1"));
    let (namespace, name, id) = ("kpa-system".into(), "kpa-activator-0".into(), domain::EndpointId::new("uid-0"));
    Door { address: address.parse().unwrap(), namespace, name, id, node, zone: None }
}

fn workload(picture: &mut Picture, name: &str, app: &str, created: &str, annotations: &[(&str, &str)]) {
    let deployment = json!({
        "metadata": {
            "name": name, "namespace": "prod", "uid": format!("uid-{name}"), "creationTimestamp": created,
            "annotations": annotations.iter().copied().collect::<BTreeMap<_, _>>(),
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": app}},
            "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {"containers": [{"name": "main", "ports": [{"containerPort": 8080}]}]},
            },
        },
    });
    picture.take(News::Workload(Seen::Is(trim::workload(serde_json::from_value(deployment).unwrap()))));
}

/// A Service `s` with this spec laid over an ordinary one.
fn service(picture: &mut Picture, spec: &Value, annotations: &Value) {
    let mut object = json!({
        "metadata": {"name": "s", "namespace": "prod", "uid": "uid-s", "resourceVersion": "7", "annotations": annotations},
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "selector": {"app": "a"},
            "ports": [{"name": "web", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    picture.take(News::Service(Seen::Is(trim::service(serde_json::from_value(object).unwrap()))));
}

fn slice(picture: &mut Picture, object: &Value) {
    picture.take(News::Slice(Seen::Is(trim::behind(serde_json::from_value(object.clone()).unwrap()))));
}

/// A slice of a Service as a controller makes it.
fn of_controller(name: &str, service: &str, controller: &str, ready: bool) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "prod",
            "labels": {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": controller},
        },
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
    })
}

fn settle(picture: &mut Picture) {
    let _told = picture.changes(&mut Vec::new());
}

fn told(picture: &mut Picture, name: &str) -> Vec<String> {
    settle(picture);
    let adopted = picture.adopted(&key_of(name)).unwrap();
    let problems = adopted.revision.problems.iter().filter(|problem| problem.key == KEY);
    problems.map(|problem| format!("{}; {}", problem.what, problem.consequence)).collect()
}

fn taken(picture: &mut Picture, name: &str) -> Option<String> {
    settle(picture);
    picture.judged(&key_of(name)).unwrap().taken.clone()
}

/// What is to be written, each in a word or two; what would be seen of it afterwards is taken in.
fn step(picture: &mut Picture, name: &str) -> Vec<String> {
    settle(picture);
    let mut done = Vec::new();
    for write in owed(picture, &key_of(name)) {
        done.push(match write {
            Write::Service(object) => {
                let seen = serde_json::from_value(object).unwrap();
                picture.take(News::Service(Seen::Is(trim::service(seen))));
                "own Service".into()
            }
            Write::Workload(object) => {
                let source = object["spec"]["service"].as_str().unwrap().to_owned();
                let named = object["spec"]["resolved"]["route"]["takenOver"].clone();
                let mut seen = published(serde_json::from_value(object).unwrap());
                if let Some(before) = picture.published(&key_of(name)) {
                    (seen.released, seen.status) = (before.released, before.status.clone());
                }
                picture.take(News::Published(Seen::Is(seen)));
                format!("object: {} {named}", if source == "s" { "s" } else { "own" })
            }
            Write::Slice(object) => {
                slice(picture, &object);
                format!("slice {}", object["endpoints"][0]["addresses"][0].as_str().unwrap())
            }
            Write::TakeSelector { kept, version, again, .. } => {
                assert_eq!(version.as_deref(), Some("7"));
                service(picture, &json!({"selector": null}), &json!({KEPT_SELECTOR: kept}));
                format!("take {kept}{}", if again { " again" } else { "" })
            }
            Write::GiveSelector { selector, .. } => {
                service(picture, &json!({"selector": selector}), &json!({}));
                format!("give {}", json!(selector))
            }
            Write::DeleteSlice(slice) => {
                picture.take(News::Slice(Seen::Gone(key_of(&slice))));
                if slice.starts_with("kpa-") { "delete our slice".into() } else { format!("delete {slice}") }
            }
            Write::DeleteEndpoints(endpoints) => format!("delete Endpoints {endpoints}"),
            Write::DeleteService(_) => {
                picture.take(News::Service(Seen::Gone(key_of(&service_name(&key_of(name))))));
                "delete own Service".into()
            }
            Write::Restore(..) => "restore".into(),
            Write::DeleteWorkload => {
                picture.take(News::Published(Seen::Gone(key_of(name))));
                "delete object".into()
            }
        });
    }
    done
}

/// Everything until nothing is owed any more; a line for each look.
fn run(picture: &mut Picture, name: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..20 {
        let done = step(picture, name);
        if done.is_empty() || Some(&done.join(", ")) == lines.last() {
            return lines;
        }
        lines.push(done.join(", "));
    }
    panic!("it never ends: {lines:#?}");
}

/// A workload that asks for `s`, from whose pods requests were answered so far.
fn asking_picture() -> Picture {
    let mut picture = picture();
    workload(&mut picture, "a", "a", "2026-01-02T03:04:05Z", &ASKS[..1]);
    service(&mut picture, &json!({}), &json!({}));
    slice(&mut picture, &of_controller("s-1", "s", CONTROLLERS[0], true));
    assert_eq!(run(&mut picture, "a"), ["object: s null"]);
    workload(&mut picture, "a", "a", "2026-01-02T03:04:05Z", ASKS);
    picture
}

const TAKEN: [&str; 4] = [
    "own Service, object: s \"s\"",
    "object: own \"s\"",
    "slice 10.1.0.1, take {\"app\":\"a\"}",
    "delete Endpoints s, delete s-1",
];

/// As far as it goes without the controller, then the rest.
fn take_it(picture: &mut Picture) {
    assert_eq!(run(picture, "a"), TAKEN[..1], "pods are looked for where they are listed");
    slice(picture, &of_controller("own-1", &service_name(&key_of("a")), CONTROLLERS[0], true));
    assert_eq!(run(picture, "a"), TAKEN[1..]);
}

#[test]
fn a_service_is_taken_step_by_step_and_given_back_when_the_key_goes() {
    let mut picture = asking_picture();
    take_it(&mut picture);
    assert_eq!(told(&mut picture, "a"), [""; 0]);

    workload(&mut picture, "a", "a", "2026-01-02T03:04:05Z", &ASKS[..1]);
    assert_eq!(run(&mut picture, "a"), ["give {\"app\":\"a\"}"], "until pods stand behind it our slices stay");
    slice(&mut picture, &of_controller("s-2", "s", CONTROLLERS[0], false));
    assert_eq!(run(&mut picture, "a"), [""; 0], "they start");
    slice(&mut picture, &of_controller("s-2", "s", CONTROLLERS[0], true));
    assert_eq!(run(&mut picture, "a"), ["delete our slice", "object: s null", "delete own Service"]);
}

#[test]
fn it_is_given_back_when_the_workload_is_let_go_or_released_and_not_when_it_is_gone() {
    for released in [false, true] {
        let mut picture = asking_picture();
        take_it(&mut picture);
        if released {
            let known = picture.published(&key_of("a")).unwrap().clone();
            let status = ScaledWorkloadStatus { restored: true, ..known.status.clone() };
            picture.take(News::Published(Seen::Is(Published { released: Released::Yes, status, ..known })));
            assert_eq!(run(&mut picture, "a"), ["object: own \"s\", give {\"app\":\"a\"}"]);
        } else {
            picture.take(News::Workload(Seen::Gone(key_of("a"))));
            assert_eq!(run(&mut picture, "a"), ["restore, give {\"app\":\"a\"}", "restore"]);
        }
        slice(&mut picture, &of_controller("s-2", "s", CONTROLLERS[0], true));
        let rest: &[&str] = if released {
            &["delete our slice", "object: s null", "delete own Service"]
        } else {
            &["restore, delete our slice", "restore, delete own Service, delete object"]
        };
        assert_eq!(run(&mut picture, "a"), rest);
    }
    // Whoever deletes a workload deletes what is routed: nobody is left to answer at the activators.
    let mut picture = asking_picture();
    take_it(&mut picture);
    picture.take(News::Workload(Seen::Gone(key_of("a"))));
    picture.take(News::Published(Seen::Gone(key_of("a"))));
    assert_eq!(run(&mut picture, "a"), ["give {\"app\":\"a\"}", "delete our slice"]);
    // And a Service that its owner deleted is not made again.
    let mut picture = asking_picture();
    take_it(&mut picture);
    picture.take(News::Service(Seen::Gone(key_of("s"))));
    assert_eq!(run(&mut picture, "a"), ["delete our slice", "object: own null"]);
    assert!(told(&mut picture, "a")[0].starts_with("there is no Service s"));
}

#[test]
fn slices_follow_the_activators_and_the_last_ones_stay() {
    let mut picture = asking_picture();
    take_it(&mut picture);
    picture.take(News::Doors(vec![door("10.1.0.2:8080"), door("10.1.0.3:8080"), door("[fd00::1]:8080")]));
    assert_eq!(run(&mut picture, "a"), ["slice 10.1.0.2"], "and IPv4 is all that this Service has");
    picture.take(News::Doors(Vec::new()));
    assert_eq!(run(&mut picture, "a"), [""; 0]);
    picture.take(News::Doors(vec![door("10.1.0.2:9000")]));
    assert_eq!(run(&mut picture, "a"), ["slice 10.1.0.2, delete our slice"], "another port is another slice");
    // Somebody's hand.
    service(&mut picture, &json!({"selector": {"app": "a", "tier": "x"}}), &json!({KEPT_SELECTOR: "{\"app\":\"a\"}"}));
    assert!(told(&mut picture, "a")[0].starts_with("somebody has put the selector of Service s back"));
    assert_eq!(run(&mut picture, "a"), ["take {\"app\":\"a\",\"tier\":\"x\"} again"], "the newest is what is kept");
    // What the mirroring controller makes of an Endpoints object that came back.
    slice(&mut picture, &of_controller("s-m", "s", CONTROLLERS[1], true));
    slice(&mut picture, &of_controller("s-x", "s", "somebody.else", true));
    assert_eq!(run(&mut picture, "a"), ["delete Endpoints s, delete s-m"]);
}

#[test]
fn without_an_activator_nothing_is_begun() {
    let mut picture = asking_picture();
    picture.take(News::Service(Seen::Gone(key_of("s"))));
    let _ = run(&mut picture, "a");
    let key = key_of("a");
    assert_eq!(take(&picture, &key, "s", "own"), [], "there is no Service");
    assert!(slices(&key, &Service::default(), &[]).is_empty());
    let many: Vec<Door> = (0..SLICE_ENDPOINTS_MAX + 5)
        .map(|n| Door {
            address: ([10, 1, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()], 80).into(),
            ..door("10.1.0.1:80")
        })
        .collect();
    let bounded = slices(&key, &Service::default(), &many);
    let endpoints: Vec<usize> = bounded.values().map(|slice| slice["endpoints"].as_array().unwrap().len()).collect();
    assert_eq!(endpoints, [SLICE_ENDPOINTS_MAX]);
}

#[test]
fn what_cannot_be_taken_over_is_told_and_stays() {
    for (spec, what) in [
        (json!({"type": "ExternalName", "clusterIP": null}), "Service s is an ExternalName"),
        (json!({"clusterIP": "None"}), "Service s is headless"),
        (json!({"ports": [{"port": 80}, {"port": 81}]}), "Service s has 2 ports"),
        (json!({"ports": [{"port": 53, "protocol": "UDP"}]}), "Service s has a port of UDP"),
        (json!({"selector": null}), "Service s has no selector"),
    ] {
        let mut picture = picture();
        service(&mut picture, &spec, &json!({}));
        workload(&mut picture, "a", "a", "2026-01-02T03:04:05Z", ASKS);
        let told = told(&mut picture, "a");
        assert!(matches!(&told[..], [one] if one.starts_with(what) && one.ends_with(STAYS)), "{what}: {told:?}");
        assert_eq!(taken(&mut picture, "a"), None);
        assert_eq!(run(&mut picture, "a"), ["object: s null"]);
    }
    for kind in ["ClusterIP", "NodePort", "LoadBalancer"] {
        let mut picture = picture();
        service(&mut picture, &json!({"type": kind}), &json!({}));
        workload(&mut picture, "a", "a", "2026-01-02T03:04:05Z", ASKS);
        assert_eq!(taken(&mut picture, "a").as_deref(), Some("s"), "{kind}");
    }
    // Without the rights.
    let mut plain = Picture::new();
    for news in [
        News::Workload(Seen::Listed),
        News::Service(Seen::Listed),
        News::Pod(Seen::Listed),
        News::Rival(Seen::Listed),
        News::Published(Seen::Listed),
        News::Config(Seen::Listed),
        News::Activators(Vec::new()),
    ] {
        plain.take(news);
    }
    service(&mut plain, &json!({}), &json!({}));
    workload(&mut plain, "a", "a", "2026-01-02T03:04:05Z", ASKS);
    settle(&mut plain);
    let problem = &plain.adopted(&key_of("a")).unwrap().revision.problems[0];
    assert!(problem.expected.contains("deploy/components/take-over"), "{problem}");
}

#[test]
fn a_service_that_two_want_belongs_to_the_older() {
    let (early, late) = ("2026-01-02T03:04:05Z", "2026-02-02T03:04:05Z");
    let reads = &ASKS[..1];
    let plain: &[(&str, &str)] = &[("autoscaling.knative.dev/target", "2")];
    // Name and app of a second workload, its age and keys; who has the Service, and how many of the two are told.
    for (name, app, created, keys, holder, problems) in [
        ("b", "b", late, ASKS, Some("a"), [0, 1]),
        ("b", "b", "2026-01-01T00:00:00Z", ASKS, Some("b"), [1, 0]),
        ("b", "b", late, reads, Some("a"), [0, 1]),
        ("b", "b", "2026-01-01T00:00:00Z", reads, None, [1, 0]),
        ("b", "a", late, plain, Some("a"), [0, 1]),
        ("b", "a", "2026-01-01T00:00:00Z", plain, None, [1, 0]),
        ("b", "b", late, plain, Some("a"), [0, 0]),
        ("s", "b", late, plain, None, [1, 0]),
    ] {
        for other_first in [false, true] {
            let mut picture = picture();
            service(&mut picture, &json!({}), &json!({}));
            let mut put = |one: bool| {
                if one {
                    workload(&mut picture, "a", "a", early, ASKS);
                } else {
                    workload(&mut picture, name, app, created, keys);
                }
                settle(&mut picture);
            };
            put(!other_first);
            put(other_first);
            let case = format!("{name} {app} {created} {keys:?} {other_first}");
            let has = ["a", name].into_iter().find(|name| taken(&mut picture, name).is_some());
            assert_eq!(has, holder, "{case}");
            assert_eq!(["a", name].map(|name| told(&mut picture, name).len()), problems, "{case}");
        }
    }
}

/// Kubernetes' own list of what a Service has: each field is either the selector, or must stay.
#[test]
fn of_a_service_that_is_not_ours_the_admission_policy_lets_pass_the_selector_alone() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../deploy/components/take-over/kustomization.yaml");
    let policy = std::fs::read_to_string(file).unwrap();
    let shown = format!("{:?}", ServiceSpec::default());
    let fields: Vec<String> = shown
        .split(": ")
        .filter_map(|part| part.rsplit([' ', '{']).next())
        .map(camel)
        .filter(|f| f != "None }")
        .collect();
    assert!(fields.len() >= 20 && fields.contains(&"clusterIPs".to_owned()), "{fields:?}");
    for field in fields.iter().filter(|field| field.chars().all(char::is_alphanumeric) && !field.is_empty()) {
        let stays = format!("(!has(object.spec.{field}) || object.spec.{field} == oldObject.spec.{field})");
        assert_eq!(policy.contains(&stays), field != "selector", "{field}");
    }
}

/// `cluster_ips` as `clusterIPs`.
fn camel(field: &str) -> String {
    let mut words = field.trim_end_matches('_').split('_');
    let first = words.next().unwrap_or_default().to_owned();
    let upper = |word: &str| match word {
        "ip" => "IP".to_owned(),
        "ips" => "IPs".to_owned(),
        word => word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect(),
    };
    words.fold(first, |all, word| all + &upper(word))
}
