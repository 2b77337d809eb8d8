//! Every object that we live by is deleted under load, one kind after the other. What is no removal of the service itself
//! costs no request, and all comes back.

use crate::outage::load;
use crate::service::requests;
use crate::support::{http_get, wait_for};
use crate::world::{Program, World};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/model";
const WORKLOAD: &str = "/apis/kpa.dev/v1alpha1/namespaces/default/scaledworkloads/model";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kpa-system/leases/kpa-autoscaler";
const REPLICAS: usize = 3;

impl World {
    fn delete(&self, path: &str) {
        let (status, answer) = self.request(&Method::DELETE, path, None);
        assert!(status.is_success(), "DELETE {path}: {status} {answer}");
    }

    /// Deletes an object that somebody makes anew; waits until that is done.
    fn replace(&self, path: &str) {
        let before = self.get(path)["metadata"]["uid"].clone();
        assert!(before.is_string(), "{path} is not there");
        self.delete(path);
        wait_for(path, || {
            let uid = &self.get(path)["metadata"]["uid"];
            (uid.is_string() && *uid != before).then_some(())
        });
    }

    fn items(&self, path: &str) -> Vec<Value> {
        self.get(path)["items"].as_array().unwrap().clone()
    }

    /// Paths of the EndpointSlices of our Service for the model, and how many of its pods they list as ready.
    fn slices(&self) -> (Vec<String>, usize) {
        let service = self.workload("model")["spec"]["service"].as_str().unwrap_or_default().to_owned();
        let all = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let slices = self.items(&format!("{all}?labelSelector=kubernetes.io/service-name={service}"));
        let listed = slices.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        let ready = listed.filter(|endpoint| endpoint["conditions"]["ready"] == true).count();
        (slices.iter().map(|slice| format!("{all}/{}", slice["metadata"]["name"].as_str().unwrap())).collect(), ready)
    }

    fn pods(&self) -> Vec<String> {
        let pods = self.items("/api/v1/namespaces/default/pods?labelSelector=app=model");
        pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    fn deploy_model(&self) {
        // A server that is told to leave serves on for a moment, as it should.
        let graceful = json!({
            "env": [{"name": "LEAVES_IN", "value": "2"}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
        });
        let fixed = json!({"autoscaling.knative.dev/min-scale": REPLICAS.to_string()});
        self.deploy("model", u32::try_from(REPLICAS).unwrap(), &fixed, &graceful);
    }

    /// Everything is as it was: all pods are listed, and the activator sends to exactly them.
    fn is_whole(&self, activator: &Program) {
        wait_for("all of it again", || {
            let usable = activator.metric("activator_replicas_usable", "model")?;
            (self.slices().1 == REPLICAS && self.pods().len() == REPLICAS && usable == REPLICAS.to_string())
                .then_some(())
        });
    }
}

#[test]
fn every_object_that_is_deleted_comes_back_and_costs_no_request() {
    let world = World::new();
    world.deploy_model();
    world.deploy("sleeper", 0, &json!({"autoscaling.knative.dev/target": "2"}), &json!({}));
    let (autoscaler, activator) = (world.autoscaler(0).ready(), world.activator(0).ready());
    ["model", "sleeper"].iter().for_each(|name| activator.has_route(name));
    world.is_whole(&activator);
    let under_load = |what: &str, act: &dyn Fn()| {
        let (asked, failed) = load(&activator, "model", || {
            act();
            // Some of what follows comes a moment later, and meets requests too.
            std::thread::sleep(Duration::from_secs(1));
            world.is_whole(&activator);
        });
        println!("{what}: {asked} requests, {failed} failed");
        assert_eq!(failed, 0, "{what}: of {asked}\n{}\n{}", activator.log(), autoscaler.log());
    };

    under_load("the ScaledWorkload", &|| world.replace(WORKLOAD));
    under_load("the Service", &|| {
        let service = world.workload("model")["spec"]["service"].as_str().unwrap().to_owned();
        world.replace(&format!("/api/v1/namespaces/default/services/{service}"));
    });
    under_load("the EndpointSlices", &|| {
        let (slices, _) = world.slices();
        assert!(!slices.is_empty());
        slices.iter().for_each(|slice| world.delete(slice));
    });
    under_load("the Lease", &|| {
        world.replace(LEASE);
        assert_eq!(requests(&activator, "sleeper", 1, 1), 0, "whoever leads decides");
    });
    under_load("the pods, one by one", &|| {
        for pod in world.pods() {
            world.delete(&format!("/api/v1/namespaces/default/pods/{pod}"));
            wait_for("another pod in its place", || (!world.pods().contains(&pod)).then_some(()));
            world.is_whole(&activator);
        }
    });

    // The service itself: while it is away its requests are held, and then refused.
    world.delete(DEPLOYMENT);
    let answered = |status: &str| {
        wait_for(status, || {
            let (head, _) = http_get(activator.address, "model.default.example.com", "/")?;
            head.starts_with(&format!("HTTP/1.1 {status}")).then_some(())
        });
    };
    answered("404");
    wait_for("nothing of it", || (world.workload("model")["code"] == 404 && world.pods().is_empty()).then_some(()));
    world.deploy_model();
    answered("200");
    under_load("the Deployment, once it is back", &|| {});
}
