//! The objects that controllers read and write, typed where a controller looks inside and as mere metadata elsewhere.
//!
//! Invariant: an object names its resource, namespace and name; what cannot be read as its type is an error, never a guess.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;
use serde_json::Value;

/// A kind of object as it stands in a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Resource {
    /// Empty for the core group.
    pub(crate) group: Cow<'static, str>,
    pub(crate) version: Cow<'static, str>,
    pub(crate) plural: Cow<'static, str>,
}

impl Resource {
    const fn fixed(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), version: Cow::Borrowed(version), plural: Cow::Borrowed(plural) }
    }
}

/// What one controller works on: a resource, a namespace (empty for cluster-scoped objects) and a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// An object of a kind that no controller looks into; enough for garbage collection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Other {
    pub(crate) resource: Resource,
    pub(crate) metadata: ObjectMeta,
}

/// A kind that controllers know as a type.
pub(crate) trait Typed: Sized + k8s_openapi::Metadata<Ty = ObjectMeta> {
    const RESOURCE: Resource;
    fn of(object: &Object) -> Option<&Arc<Self>>;
}

macro_rules! objects {
    ($($kind:ident $group:literal $version:literal $plural:literal;)*) => {
        /// One object of the cluster.
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) enum Object {
            $($kind(Arc<$kind>),)*
            Other(Arc<Other>),
        }

        $(
            impl Typed for $kind {
                const RESOURCE: Resource = Resource::fixed($group, $version, $plural);
                fn of(object: &Object) -> Option<&Arc<Self>> {
                    if let Object::$kind(found) = object { Some(found) } else { None }
                }
            }
            impl From<$kind> for Object {
                fn from(object: $kind) -> Self {
                    Self::$kind(Arc::new(object))
                }
            }
        )*

        impl Object {
            pub(crate) fn resource(&self) -> Resource {
                match self {
                    $(Self::$kind(_) => <$kind as Typed>::RESOURCE,)*
                    Self::Other(other) => other.resource.clone(),
                }
            }

            pub(crate) fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(object) => &object.metadata,)*
                    Self::Other(other) => &other.metadata,
                }
            }

            pub(crate) fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self {
                    $(Self::$kind(object) => &mut Arc::make_mut(object).metadata,)*
                    Self::Other(other) => &mut Arc::make_mut(other).metadata,
                }
            }

            /// Reads what a store answered.
            ///
            /// # Errors
            /// When the JSON is not an object of its resource; the text names field and expectation.
            pub(crate) fn read(resource: &Resource, json: &Value) -> Result<Self, serde_json::Error> {
                $(if *resource == <$kind as Typed>::RESOURCE {
                    return Ok(Self::$kind(Arc::new($kind::deserialize(json)?)));
                })*
                let metadata = ObjectMeta::deserialize(&json["metadata"])?;
                Ok(Self::Other(Arc::new(Other { resource: resource.clone(), metadata })))
            }

            /// The object as a store takes it; none for one of which only the metadata is known.
            pub(crate) fn json(&self) -> Option<Value> {
                match self {
                    $(Self::$kind(object) => serde_json::to_value(&**object).ok(),)*
                    Self::Other(_) => None,
                }
            }
        }
    };
}

objects! {
    Namespace "" "v1" "namespaces";
    Node "" "v1" "nodes";
    Pod "" "v1" "pods";
    Service "" "v1" "services";
    EndpointSlice "discovery.k8s.io" "v1" "endpointslices";
    Deployment "apps" "v1" "deployments";
    ReplicaSet "apps" "v1" "replicasets";
    PodDisruptionBudget "policy" "v1" "poddisruptionbudgets";
}

impl Object {
    pub(crate) fn id(&self) -> Id {
        id_of(self.resource(), self.metadata())
    }
}

pub(crate) fn id_of(resource: Resource, metadata: &ObjectMeta) -> Id {
    Id {
        resource,
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// The id of a typed object.
pub(crate) fn id<T: Typed>(object: &T) -> Id {
    id_of(T::RESOURCE, object.metadata())
}

pub(crate) fn uid(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}

/// The reference that makes `owner` the controller of what carries it.
pub(crate) fn controller_reference<T: Typed>(owner: &T) -> OwnerReference {
    OwnerReference {
        api_version: T::API_VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        name: name(owner.metadata()).to_owned(),
        uid: uid(owner.metadata()).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Who controls an object, if anybody does.
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

pub(crate) fn is_controlled_by<T: Typed>(metadata: &ObjectMeta, owner: &T) -> bool {
    controller_of(metadata).is_some_and(|reference| reference.uid == uid(owner.metadata()))
}
