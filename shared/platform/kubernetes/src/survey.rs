//! What an autoscaler makes of the Deployments of a cluster, found out again with a person's own rights.
//!
//! Invariant: reads only, and by the same code as the autoscaler; where that one keeps a last good value, so does this.

use crate::by_hand::{Hand, HandError};
use crate::objects::{Published, Released, ScaledWorkload, published};
use crate::trim::{Key, Rival, hpa, is_annotated, key, service};
use domain::activator_config::{self, ActivatorConfig};
use domain::annotations::Upstream;
use domain::defaults::{self, Defaults};
use domain::{Problem, Severity};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, Error};
use platform::manifest::{Adopted, NotAdopted, Surroundings, adopt};
use std::collections::BTreeMap;

/// Deployments that carry annotations of ours, and what they are read with.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// The Deployments, those of others among them.
    pub deployments: Vec<Deployment>,
    /// The Services of their namespaces.
    pub services: Vec<Service>,
    /// Other autoscalers in them.
    pub rivals: Vec<Rival>,
    /// Our own objects in them.
    pub published: Vec<Published>,
}

/// One Deployment that carries annotations of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its namespace and name.
    pub key: Key,
    /// What it is read as, or why it is not scaled.
    pub reading: Result<Adopted, NotAdopted>,
}

impl Found {
    /// What is wrong with it.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match &self.reading {
            Ok(adopted) => &adopted.revision.problems,
            Err(not) => &not.problems,
        }
    }
}

/// Reads every Deployment that carries annotations of ours, by namespace and name.
#[must_use]
pub fn read(objects: &Objects, configs: &Configs) -> Vec<Found> {
    let annotated = objects.deployments.iter().filter(|deployment| is_annotated(deployment));
    let mut found: Vec<Found> = annotated
        .map(|deployment| {
            let own = key(&deployment.metadata);
            let services: Vec<&Service> = objects
                .services
                .iter()
                .filter(|service| service.metadata.namespace.as_deref() == Some(own.0.as_str()))
                .collect();
            let rival = objects
                .rivals
                .iter()
                .find(|rival| rival.key.0 == own.0 && rival.target == ("Deployment".to_owned(), own.1.clone()));
            let published = objects.published.iter().find(|published| published.key == own);
            let around = Surroundings {
                defaults: &configs.defaults,
                unknown: &configs.unknown,
                services: &services,
                rival: rival.map(|rival| rival.called.as_str()),
                released: published.is_some_and(|published| published.released != Released::No),
            };
            let before = published.and_then(before);
            Found { reading: adopt(deployment, around, before.as_ref()), key: own }
        })
        .collect();
    found.sort_by(|one, other| one.key.cmp(&other.key));
    found
}

/// What was in force when our object was written: it holds what was good then.
fn before(published: &Published) -> Option<Adopted> {
    let spec = published.spec.as_ref().ok()?;
    Some(Adopted {
        revision: spec.resolved.clone().into(),
        port: u16::try_from(spec.port).ok()?,
        early_probe: None,
        service: None,
        take_over: false,
        upstream: Upstream::Pods,
        selector: LabelSelector::default(),
    })
}

/// The two ConfigMaps of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Configs {
    /// `config-autoscaler`, or the built-in values in place of it.
    pub defaults: Defaults,
    /// What is wrong with it, if it is not in force.
    unknown: Vec<Problem>,
    /// `config-activator`, or the built-in values in place of it.
    pub activator: ActivatorConfig,
    /// Everything that is wrong with either.
    pub problems: Vec<Problem>,
    /// Where each of the two stands; `None` where there is none.
    pub places: [Option<String>; 2],
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

impl Configs {
    /// From the data of the two maps in `namespace`: missing, or not to be read.
    fn new(namespace: &str, maps: [Result<Option<BTreeMap<String, String>>, String>; 2]) -> Self {
        let mut configs = Self::default();
        let names = [defaults::CONFIG_MAP, activator_config::CONFIG_MAP];
        for (index, (name, map)) in names.into_iter().zip(maps).enumerate() {
            let place = format!("ConfigMap {namespace}/{name}");
            match map {
                Err(error) => {
                    configs.unread.push(format!("{place} cannot be read, so its built-in values are: {error}"))
                }
                Ok(None) => {}
                Ok(Some(data)) => {
                    if index == 0 {
                        configs.autoscaler(&place, &data)
                    } else {
                        configs.activator(&place, &data)
                    }
                    configs.places[index] = Some(place);
                }
            }
        }
        configs
    }

    fn autoscaler(&mut self, place: &str, data: &BTreeMap<String, String>) {
        match Defaults::from_map(place, data) {
            Ok(read) => {
                self.problems.extend(read.warnings.iter().cloned());
                self.defaults = read;
            }
            Err(problems) => {
                self.unknown = problems.iter().filter(|one| one.severity == Severity::Error).cloned().collect();
                self.problems.extend(problems);
            }
        }
    }

    fn activator(&mut self, place: &str, data: &BTreeMap<String, String>) {
        match ActivatorConfig::from_map(place, data) {
            Ok(read) => {
                self.problems.extend(read.warnings.iter().cloned());
                self.activator = read;
            }
            Err(wrong) => {
                self.problems.extend(wrong.problems);
                self.activator = wrong.meanwhile;
            }
        }
    }
}

impl Hand {
    /// What is there, in one namespace or in all. Other autoscalers that may not be read are not there.
    ///
    /// # Errors
    ///
    /// When Deployments, Services or our own objects cannot be listed.
    pub async fn survey(&self, namespace: Option<&str>) -> Result<Objects, HandError> {
        let (client, all) = (self.client().clone(), ListParams::default());
        let kind = ApiResource::erase::<ScaledWorkload>(&());
        let ours: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
            None => Api::all_with(client.clone(), &kind),
        };
        let rivals = match api::<HorizontalPodAutoscaler>(&client, namespace).list(&all).await {
            Err(Error::Api(status)) if status.code == 403 => Vec::new(),
            list => list?.items,
        };
        Ok(Objects {
            deployments: api::<Deployment>(&client, namespace).list(&all).await?.items,
            services: api::<Service>(&client, namespace).list(&all).await?.items.into_iter().map(service).collect(),
            rivals: rivals.into_iter().map(hpa).collect(),
            published: match ours.list(&all).await {
                Err(Error::Api(status)) if status.code == 404 => return Err(HandError::NotInstalled),
                list => list?.items.into_iter().map(published).collect(),
            },
        })
    }

    /// The two ConfigMaps in `namespace`, which is kpa's own.
    ///
    /// # Errors
    ///
    /// When the API server cannot be reached. A map that may not be read is named in [`Configs::unread`].
    pub async fn configs(&self, namespace: &str) -> Result<Configs, HandError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client().clone(), namespace);
        let read = async |name: &str| match maps.get_opt(name).await {
            Ok(map) => Ok(Ok(map.map(|map| map.data.unwrap_or_default()))),
            Err(Error::Api(status)) if status.code == 403 => Ok(Err(status.message)),
            Err(error) => Err(HandError::Api(error)),
        };
        let both = [read(defaults::CONFIG_MAP).await?, read(activator_config::CONFIG_MAP).await?];
        Ok(Configs::new(namespace, both))
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(name: &str, annotations: &Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "prod", "annotations": annotations},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "main", "ports": [{"containerPort": 8080}]}]},
                },
            },
        }))
        .unwrap()
    }

    fn objects(annotations: &Value) -> Objects {
        let other = deployment("nobodys", &json!({}));
        Objects { deployments: vec![deployment("a", annotations), other], ..Objects::default() }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_value_that_stays_in_force() {
        let good = objects(&json!({"autoscaling.knative.dev/min-scale": "3"}));
        let configs = Configs::new("kpa-system", [Ok(None), Ok(None)]);
        let found = read(&good, &configs);
        assert_eq!(found.len(), 1, "others are none of our business");
        let adopted = found[0].reading.as_ref().unwrap();
        assert_eq!(found[0].problems(), []);

        let mut bad = objects(&json!({"autoscaling.knative.dev/min-scale": "two"}));
        let consequence = |objects: &Objects| read(objects, &configs)[0].problems()[0].consequence.clone();
        let without = consequence(&bad);
        let spec = json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
            "service": "s", "port": 8080, "resolved": *adopted.revision,
        });
        let object = json!({"apiVersion": "kpa.dev/v1alpha1", "kind": "ScaledWorkload",
            "metadata": {"name": "a", "namespace": "prod"}, "spec": spec});
        bad.published = vec![published(serde_json::from_value(object).unwrap())];
        assert!(consequence(&bad).contains('3') && !without.contains('3'), "{without} / {}", consequence(&bad));
    }

    #[test]
    fn what_is_not_scaled_has_its_reason() {
        let configs = Configs::default();
        let mut all = objects(&json!({"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}));
        let foreign = read(&all, &configs).remove(0).reading.unwrap_err();
        assert!(foreign.asked && foreign.reason.contains("another autoscaler's"), "{foreign:?}");
        all.deployments = vec![deployment("a", &json!({"autoscaling.knative.dev/target": "2"}))];
        all.rivals = vec![Rival {
            key: ("prod".into(), "h".into()),
            target: ("Deployment".into(), "a".into()),
            called: "HorizontalPodAutoscaler h".into(),
        }];
        let found = read(&all, &configs).remove(0);
        assert!(found.problems()[0].what.contains("HorizontalPodAutoscaler h"), "{found:?}");
    }

    #[test]
    fn a_map_that_is_wrong_or_may_not_be_read_is_said_to_be() {
        let bad = BTreeMap::from([("stable-window".to_owned(), "soon".to_owned())]);
        let configs = Configs::new("kpa-system", [Ok(Some(bad)), Err("forbidden".into())]);
        assert!(configs.problems[0].to_string().starts_with("ConfigMap kpa-system/config-autoscaler: "));
        assert_eq!(configs.places[1], None);
        assert!(configs.unread[0].contains("config-activator cannot be read"), "{:?}", configs.unread);
        let found = read(&objects(&json!({"autoscaling.knative.dev/target": "2"})), &configs).remove(0);
        assert!(matches!(found.reading.unwrap().revision.mode, domain::Mode::Invalid(_)), "nothing shrinks");
    }
}
