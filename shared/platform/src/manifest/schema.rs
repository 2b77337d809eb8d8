//! The names of the fields that Kubernetes' types have, asked of their decoders.
//!
//! Invariant: nothing is written down twice; a field that a newer version brings is known as soon as its type is.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The names of the fields of a struct.
pub(super) fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut asked: &'static [&'static str] = &[];
    // It fails always: only the question matters.
    drop(T::deserialize(Asked(&mut asked)));
    asked
}

/// Keeps the names of the fields that it is asked for.
struct Asked<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("holds nothing"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields that an object of a Deployment can have, by its path there; none where that is not known.
pub(super) fn fields_at(path: &str) -> &'static [&'static str] {
    match path {
        "" => return fields::<Deployment>(),
        "metadata" | "spec.template.metadata" => return fields::<ObjectMeta>(),
        "spec" => return fields::<DeploymentSpec>(),
        "spec.template" => return fields::<PodTemplateSpec>(),
        "spec.template.spec" => return fields::<PodSpec>(),
        _ => {}
    }
    // `containers[0].env[1]`: what is said of one item goes for all.
    let kind: String = path.split(']').map(|part| part.split('[').next().unwrap_or_default()).collect();
    let Some(kind) = kind.strip_prefix("spec.template.spec.containers") else { return &[] };
    match kind {
        "" => fields::<Container>(),
        ".env" => fields::<EnvVar>(),
        ".env.valueFrom" => fields::<EnvVarSource>(),
        ".envFrom" => fields::<EnvFromSource>(),
        ".ports" => fields::<ContainerPort>(),
        ".readinessProbe" | ".livenessProbe" | ".startupProbe" => fields::<Probe>(),
        ".readinessProbe.httpGet" | ".livenessProbe.httpGet" | ".startupProbe.httpGet" => fields::<HTTPGetAction>(),
        ".lifecycle" => fields::<Lifecycle>(),
        ".lifecycle.preStop" | ".lifecycle.postStart" => fields::<LifecycleHandler>(),
        ".resources" => fields::<ResourceRequirements>(),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_types_are_those_of_the_api() {
        assert_eq!(fields::<PodTemplateSpec>(), ["metadata", "spec"]);
        for (path, field) in [
            ("", "spec"),
            ("spec", "replicas"),
            ("spec.template.spec", "nodeSelector"),
            ("spec.template.spec.containers[1]", "image"),
            ("spec.template.spec.containers[0].env[12].valueFrom", "secretKeyRef"),
            ("spec.template.spec.containers[0].readinessProbe.httpGet", "port"),
        ] {
            assert!(fields_at(path).contains(&field), "{path}: {:?}", fields_at(path));
        }
        assert!(fields_at("spec.selector.matchLabels").is_empty());
    }
}
