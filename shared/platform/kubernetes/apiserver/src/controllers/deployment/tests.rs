//! Rollouts as traces: the bounds of a rolling update at every moment, and the statuses a person reads.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::pods::{is_active, is_ready};
use super::super::replicaset::ReplicaSets;
use super::super::testing::{self, Bench};
use super::*;

/// A Deployment with its controllers, and pods that become ready when told.
struct Stage {
    bench: Bench,
    key: Id,
    deployments: Deployments,
    sets: ReplicaSets,
}

impl Stage {
    fn new(replicas: i32, strategy: &Value, more: &Value) -> Self {
        let mut json = testing::deployment(replicas, strategy);
        json_patch::merge(&mut json, more);
        let mut bench = Bench::default();
        let key = bench.add(testing::read::<Deployment>(&json).into()).id();
        let mut stage = Self { bench, key, deployments: Deployments, sets: ReplicaSets::default() };
        stage.settle();
        stage
    }

    fn settle(&mut self) {
        self.bench.settle(&mut [&mut self.deployments, &mut self.sets]);
    }

    fn look(&self) -> Deployment {
        Deployment::clone(Deployment::of(self.bench.world.find(&self.key).unwrap()).unwrap())
    }

    fn edit(&mut self, change: impl FnOnce(&mut k8s_openapi::api::apps::v1::DeploymentSpec)) {
        let mut deployment = self.look();
        change(deployment.spec.as_mut().unwrap());
        self.bench.replace(deployment.into(), true);
    }

    fn image(&mut self, image: &str) {
        self.edit(|spec| spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned()));
    }

    fn active(&self) -> Vec<Arc<Pod>> {
        self.bench.world.list::<Pod>(None).filter(|pod| is_active(pod)).cloned().collect()
    }

    fn make_ready(&mut self, pod: &Pod, ready: bool) {
        let Some(found) = self.bench.world.get::<Pod>("default", name(&pod.metadata)) else { return };
        let mut pod = Pod::clone(found);
        let is = if ready { "True" } else { "False" };
        let time = self.bench.now().to_string();
        let status = json!({
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": is, "lastTransitionTime": time}],
        });
        pod.status = serde_json::from_value(status).unwrap();
        self.bench.replace(pod.into(), false);
    }

    fn all_ready(&mut self) {
        for pod in self.active().into_iter().filter(|pod| !is_ready(pod)) {
            self.make_ready(&pod, true);
        }
        self.settle();
    }

    fn finish(&mut self) {
        for _ in 0..100 {
            self.settle();
            if self.active().iter().all(|pod| is_ready(pod)) {
                return;
            }
            self.all_ready();
        }
        panic!("the rollout does not end");
    }

    /// One look at each ReplicaSet, after everything that happened was told.
    fn sync_sets(&mut self) {
        let world = self.bench.world.clone();
        for change in std::mem::take(&mut self.bench.changes) {
            self.sets.affected(&world, &change);
        }
        let keys: Vec<Id> = world.list::<ReplicaSet>(None).map(|set| id(&**set)).collect();
        for key in keys {
            self.bench.step(&mut self.sets, &world, &key);
        }
    }

    fn ready(&self) -> usize {
        self.active().iter().filter(|pod| is_ready(pod)).count()
    }

    /// Looks at everything again and again while all pods get ready, as a runner does.
    fn finish_from_anywhere(&mut self) {
        for _ in 0..60 {
            self.sync_sets();
            let (world, key) = (self.bench.world.clone(), self.key.clone());
            self.bench.step(&mut self.deployments, &world, &key);
            self.sync_sets();
            for pod in self.active().into_iter().filter(|pod| !is_ready(pod)) {
                self.make_ready(&pod, true);
            }
        }
    }

    fn sizes(&self) -> Vec<i32> {
        let mut sets: Vec<&Arc<ReplicaSet>> = self.bench.world.list::<ReplicaSet>(None).collect();
        // Uids count up here.
        sets.sort_by_key(|set| uid(&set.metadata).to_owned());
        sets.into_iter().map(|set| numbers::size(set)).collect()
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let conditions = self.look().status.unwrap().conditions.unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition.type_ == kind);
        found.map(|found| (found.status, found.reason.unwrap())).unwrap_or_default()
    }
}

fn rolling(surge: &str, unavailable: &str) -> Value {
    let value = |text: &str| text.parse::<i32>().map_or_else(|_| json!(text), |count| json!(count));
    json!({
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": value(surge), "maxUnavailable": value(unavailable)},
    })
}

#[track_caller]
fn fences(replicas: i32, surge: &str, unavailable: &str, wanted: (i32, i32)) {
    let deployment: Deployment = testing::read(&testing::deployment(replicas, &rolling(surge, unavailable)));
    let found = (numbers::max_surge(&deployment), numbers::max_unavailable(&deployment));
    assert_eq!(found, wanted, "{replicas} replicas, {surge} more, {unavailable} fewer");
}

#[test]
fn surges_round_up_absences_down_and_something_always_moves() {
    fences(10, "25%", "25%", (3, 2));
    fences(1, "25%", "25%", (1, 0));
    fences(3, "0", "25%", (0, 1));
    fences(4, "0", "0%", (0, 1));
    fences(5, "100%", "100%", (5, 5));
    fences(2, "3", "7", (3, 2));
    fences(0, "25%", "25%", (0, 0));
    fences(7, "1%", "99%", (1, 6));
    assert_eq!(scaled(&IntOrString::String("x".to_owned()), 10, true), 0, "no percentage is nothing");
}

#[test]
fn a_deployment_comes_up_and_says_so() {
    let mut stage = Stage::new(3, &json!({}), &json!({"spec": {"progressDeadlineSeconds": 600}}));
    assert_eq!(stage.sizes(), [3]);
    let set = stage.bench.world.list::<ReplicaSet>(None).next().unwrap();
    let hash = &set.metadata.labels.as_ref().unwrap()[TEMPLATE_HASH];
    assert_eq!(set.metadata.name, Some(format!("model-{hash}")));
    assert_eq!(set.spec.as_ref().unwrap().selector.match_labels.as_ref().unwrap()[TEMPLATE_HASH], *hash);
    let pod = &stage.active()[0];
    assert_eq!(pod.metadata.labels.as_ref().unwrap()[TEMPLATE_HASH], *hash);
    assert!(pod.metadata.generate_name.as_ref().unwrap().starts_with(&format!("model-{hash}-")));
    assert_eq!(stage.condition("Available"), ("False".to_owned(), "MinimumReplicasUnavailable".to_owned()));
    assert_eq!(stage.condition("Progressing").1, "ReplicaSetUpdated");
    stage.all_ready();
    let status = stage.look().status.unwrap();
    let counts = [status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas];
    assert_eq!(counts, [Some(3); 4]);
    assert_eq!(status.unavailable_replicas, None);
    assert_eq!(status.observed_generation, stage.look().metadata.generation);
    assert_eq!(stage.condition("Available"), ("True".to_owned(), "MinimumReplicasAvailable".to_owned()));
    assert_eq!(stage.condition("Progressing"), ("True".to_owned(), "NewReplicaSetAvailable".to_owned()));
    assert_eq!(stage.look().metadata.annotations.unwrap()[REVISION], "1");
}

#[test]
fn a_rollout_goes_step_by_step_and_back_to_an_old_template() {
    let mut stage = Stage::new(4, &rolling("1", "0"), &json!({}));
    stage.finish();
    stage.image("b");
    stage.settle();
    assert_eq!(stage.sizes(), [4, 1]);
    stage.all_ready();
    assert_eq!(stage.sizes(), [3, 2]);
    stage.finish();
    assert_eq!(stage.sizes(), [0, 4]);
    stage.image("a");
    stage.finish();
    stage.finish();
    assert_eq!(stage.sizes(), [4, 0], "the old ReplicaSet is used again");
    assert_eq!(stage.look().metadata.annotations.unwrap()[REVISION], "3");
}

#[test]
fn a_rollout_that_hangs_keeps_what_is_available() {
    let mut stage = Stage::new(4, &rolling("25%", "25%"), &json!({"spec": {"progressDeadlineSeconds": 60}}));
    stage.finish();
    stage.image("broken");
    stage.settle();
    assert_eq!(stage.sizes(), [3, 2]);
    stage.bench.now += 30;
    let outcome = stage.deployments.reconcile(stage.bench.now(), &stage.bench.world, &stage.key);
    assert_eq!(outcome.again_in.unwrap().as_secs(), 31);
    stage.bench.now += 31;
    let (key, world) = (stage.key.clone(), stage.bench.world.clone());
    stage.bench.step(&mut stage.deployments, &world, &key);
    stage.settle();
    assert_eq!(stage.condition("Progressing"), ("False".to_owned(), "ProgressDeadlineExceeded".to_owned()));
    assert_eq!(stage.sizes(), [3, 2]);
}

#[test]
fn recreate_waits_for_the_end_of_every_old_pod() {
    let mut stage = Stage::new(2, &json!({"type": "Recreate"}), &json!({}));
    for pod in stage.active() {
        let mut bound = Pod::clone(stage.bench.world.get::<Pod>("default", name(&pod.metadata)).unwrap());
        bound.spec.as_mut().unwrap().node_name = Some("n".to_owned());
        stage.bench.replace(bound.into(), false);
    }
    stage.finish();
    stage.image("b");
    stage.settle();
    assert_eq!(stage.sizes(), [0]);
    let leaving: Vec<Id> = stage.bench.world.list::<Pod>(None).map(|pod| id(&**pod)).collect();
    assert_eq!(leaving.len(), 2);
    stage.bench.remove(&leaving[0]);
    stage.settle();
    assert_eq!(stage.sizes(), [0], "one old pod still runs");
    stage.bench.remove(&leaving[1]);
    stage.settle();
    assert_eq!(stage.sizes(), [0, 2]);
}

#[test]
fn several_replica_sets_are_scaled_in_proportion() {
    let mut stage = Stage::new(10, &rolling("3", "2"), &json!({}));
    stage.finish();
    stage.image("b");
    stage.settle();
    assert_eq!(stage.sizes(), [8, 5]);
    stage.edit(|spec| spec.replicas = Some(15));
    stage.settle();
    assert_eq!(stage.sizes(), [11, 7], "the published example: of five more the larger takes three");
    stage.edit(|spec| spec.replicas = Some(0));
    stage.settle();
    assert_eq!(stage.sizes(), [0, 0]);
}

#[test]
fn a_paused_deployment_scales_and_does_not_roll() {
    let mut stage = Stage::new(2, &rolling("1", "0"), &json!({"spec": {"progressDeadlineSeconds": 600}}));
    stage.finish();
    stage.edit(|spec| spec.paused = Some(true));
    stage.image("b");
    stage.edit(|spec| spec.replicas = Some(5));
    stage.settle();
    assert_eq!(stage.sizes(), [5]);
    assert_eq!(stage.condition("Progressing"), ("Unknown".to_owned(), "DeploymentPaused".to_owned()));
    stage.edit(|spec| spec.paused = Some(false));
    stage.finish();
    stage.settle();
    stage.finish();
    assert_eq!(stage.sizes(), [0, 5]);
}

#[test]
fn old_replica_sets_beyond_the_limit_are_thrown_away() {
    let mut stage = Stage::new(1, &rolling("1", "0"), &json!({"spec": {"revisionHistoryLimit": 2}}));
    stage.finish();
    for image in ["b", "c", "d", "e"] {
        stage.image(image);
        stage.settle();
        stage.finish();
    }
    assert_eq!(stage.sizes(), [0, 0, 1]);
}

#[test]
fn a_taken_name_counts_as_a_collision() {
    let strategy = json!({});
    let plain: Deployment = testing::read(&testing::deployment(1, &strategy));
    let hash = super::super::hash::template(&plain.spec.as_ref().unwrap().template, None);
    let mut bench = Bench::default();
    let squatter = json!({
        "metadata": {"name": set_name(&plain, &hash), "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "other"}}},
    });
    bench.add(testing::read::<ReplicaSet>(&squatter).into());
    bench.add(plain.into());
    bench.settle(&mut [&mut Deployments]);
    assert_eq!(bench.world.list::<ReplicaSet>(None).count(), 2);
    let deployment = bench.world.list::<Deployment>(None).next().unwrap();
    assert_eq!(deployment.status.as_ref().unwrap().collision_count, Some(1));
}

#[test]
fn a_failure_to_create_pods_reaches_the_deployment() {
    let mut stage = Stage::new(1, &json!({}), &json!({}));
    let refusal = super::super::write::Refusal {
        code: 403,
        reason: "Forbidden".to_owned(),
        message: "exceeded quota".to_owned(),
    };
    stage.bench.refuse_pods = Some(refusal);
    stage.edit(|spec| spec.replicas = Some(3));
    // The runner would try again and again; here once is enough.
    let world = stage.bench.world.clone();
    let key = stage.key.clone();
    stage.bench.step(&mut stage.deployments, &world, &key);
    let set = id(&**stage.bench.world.list::<ReplicaSet>(None).next().unwrap());
    let world = stage.bench.world.clone();
    stage.bench.step(&mut stage.sets, &world, &set);
    let world = stage.bench.world.clone();
    stage.bench.step(&mut stage.deployments, &world, &key);
    assert_eq!(stage.condition("ReplicaFailure"), ("True".to_owned(), "FailedCreate".to_owned()));
}

#[derive(Debug, Clone)]
enum Step {
    Ready(usize),
    Unready(usize),
    Deployment,
    Sets,
    Image(u8),
    Scale(i32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..20_usize).prop_map(Step::Ready),
        1 => (0..20_usize).prop_map(Step::Unready),
        5 => Just(Step::Deployment),
        5 => Just(Step::Sets),
        1 => (0..4_u8).prop_map(Step::Image),
        1 => (0..12_i32).prop_map(Step::Scale),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// At every moment of any rollout: never more pods than surge allows, never fewer available than may be missing; and
    /// when everything gets ready, all pods are of the newest template.
    #[test]
    fn a_rollout_stays_within_its_fences(
        replicas in 0..10_i32, surge in 0..4_i32, unavailable in 0..4_i32, steps in steps(),
    ) {
        let mut stage = Stage::new(replicas, &rolling(&surge.to_string(), &unavailable.to_string()), &json!({}));
        stage.finish();
        stage.image("b");
        for step in steps {
            match step {
                Step::Ready(index) | Step::Unready(index) => {
                    let active = stage.active();
                    if let Some(pod) = active.get(index) {
                        stage.make_ready(pod, matches!(step, Step::Ready(_)));
                    }
                }
                Step::Image(number) => stage.image(&format!("image-{number}")),
                Step::Scale(replicas) => stage.edit(|spec| spec.replicas = Some(replicas)),
                Step::Sets => stage.sync_sets(),
                Step::Deployment => {
                    // With statuses of an older moment the real one misjudges, too; the bounds are those of a fresh look.
                    stage.sync_sets();
                    stage.sync_sets();
                    let (pods, ready) = (stage.active().len(), stage.ready());
                    let (world, key, now) = (stage.bench.world.clone(), stage.key.clone(), stage.bench.now());
                    let deployment = stage.look();
                    let sets: Vec<Arc<ReplicaSet>> = world.list::<ReplicaSet>(None).cloned().collect();
                    let scales = Look::new(now, &deployment, &sets, &[]).is_scaling();
                    stage.bench.step(&mut stage.deployments, &world, &key);
                    stage.sync_sets();
                    stage.sync_sets();
                    let desired = numbers::desired(&deployment);
                    let most = usize::try_from(desired + numbers::max_surge(&deployment)).unwrap();
                    let least = usize::try_from(desired - numbers::max_unavailable(&deployment)).unwrap();
                    prop_assert!(stage.active().len() <= pods.max(most), "{} pods of {most}", stage.active().len());
                    // A smaller wanted number takes ready pods away, and is meant to.
                    let enough = if scales { least.min(ready).min(stage.ready()) } else { least.min(ready) };
                    prop_assert!(stage.ready() >= enough, "{} ready of {ready}, {least} needed", stage.ready());
                }
            }
        }
        stage.finish_from_anywhere();
        let desired = numbers::desired(&stage.look());
        prop_assert_eq!(stage.active().len(), usize::try_from(desired).unwrap());
        let newest = stage.look().spec.unwrap().template.spec.unwrap().containers[0].image.clone();
        for pod in stage.active() {
            prop_assert_eq!(&pod.spec.as_ref().unwrap().containers[0].image, &newest);
        }
    }
}
