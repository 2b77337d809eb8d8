//! What people read is written after what activators need.

use crate::world::World;
use apiserver::{Matching, Verb};
use domain::{Replicas, RevisionId};
use platform::audience::{Audience, Shown};
use platform_kubernetes::cluster::ClusterPlatform;
use platform_kubernetes::publisher::{Publisher, YIELDS_FOR};
use platform_kubernetes::right::Right;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// More than is written at once.
const MANY: usize = 100;

fn shown(name: &str) -> Shown {
    Shown {
        revision: RevisionId::new("prod", name),
        reference: format!("Deployment/{name}"),
        targets: "0/7".into(),
        min: Replicas::ZERO,
        max: None,
        requested: Replicas::ZERO,
        ready: Replicas::ZERO,
        wanted: Replicas::ZERO,
        mode: "asleep",
        in_flight: 0,
        queued: 0,
        reason: "no requests".into(),
        why: None,
        trouble: None,
        problems: Vec::new(),
        conditions: Vec::new(),
    }
}

impl World {
    fn deploy_many(&self) {
        for number in 0..MANY {
            self.deploy(&format!("more-{number}"), 0, &json!({"autoscaling.knative.dev/target": "10"}));
        }
    }

    /// From now on every write of a Service takes so long.
    fn slow_services(&self, by: Duration) {
        self.server.faults().delay(Matching::any().verb(Verb::Patch).resource("services"), by);
    }

    fn publisher(&self, platform: &ClusterPlatform) -> Arc<Publisher> {
        let publisher = Arc::new(Publisher::new(self.client(), platform, Right::Always, "autoscaler-0"));
        let works = Arc::clone(&publisher);
        #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of the test")]
        drop(tokio::spawn(async move { works.run().await }));
        publisher
    }

    fn status(&self, name: &str) -> Option<()> {
        self.workload(name)?["status"]["mode"].is_string().then_some(())
    }

    fn objects(&self) -> usize {
        let list = self.get("/apis/kpa.dev/v1alpha1/namespaces/prod/scaledworkloads").unwrap();
        list["items"].as_array().unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_wait_until_every_workload_has_its_object() {
    let world = World::new();
    world.slow_services(Duration::from_secs(1));
    world.deploy_many();
    let (platform, mut view) = world.cluster();
    let publisher = world.publisher(&platform);
    view.synced().await;
    world.until("the first object", || world.workload("more-0")).await;
    publisher.show(shown("more-0"));
    world.until("its status", || world.status("more-0")).await;
    assert!(world.objects() > MANY - platform_kubernetes::publisher::WRITES_MAX * 2, "{}", world.objects());
}

#[tokio::test(start_paused = true)]
async fn statuses_do_not_wait_for_ever() {
    let world = World::new();
    world.deploy("a", 0, &json!({"autoscaling.knative.dev/target": "10"}));
    let (platform, mut view) = world.cluster();
    let publisher = world.publisher(&platform);
    view.synced().await;
    world.until("its object", || world.workload("a")).await;
    world.slow_services(Duration::from_secs(3600));
    world.deploy_many();
    world.until("that the autoscaler is behind", || platform.behind().borrow().then_some(())).await;
    let begun = Instant::now();
    publisher.show(shown("a"));
    world.until("its status", || world.status("a")).await;
    let waited = begun.elapsed();
    let tolerance = Duration::from_secs(1);
    assert!((YIELDS_FOR - tolerance..=YIELDS_FOR + tolerance).contains(&waited), "{waited:?}");
}
