//! What may stand in a real server's answers, or be missing in them, without being a difference.
//!
//! Invariant: each entry names one field of one kind, and the reason; nothing else is left out of the comparison.

/// One field that is not compared.
#[derive(Debug)]
pub(crate) struct Allowed {
    /// The kind of the object.
    pub(crate) kind: &'static str,
    /// Keys from the object down, separated by spaces; `*` is every element of a list.
    pub(crate) path: &'static str,
    /// Why a difference in it says nothing about the server in memory.
    pub(crate) why: &'static str,
}

const fn allowed(kind: &'static str, path: &'static str, why: &'static str) -> Allowed {
    Allowed { kind, path, why }
}

/// All of them.
pub(crate) const ALLOWED: &[Allowed] = &[
    allowed("Deployment", "status", "the real deployment controller writes it when it likes"),
    allowed(
        "Deployment",
        "metadata annotations deployment.kubernetes.io/revision",
        "the real deployment controller counts revisions",
    ),
    allowed("Namespace", "status", "the namespace controller and its conditions"),
    allowed("CustomResourceDefinition", "status", "controllers of the real server accept names and serve kinds later"),
    allowed("PodDisruptionBudget", "status", "the disruption controller writes it"),
    allowed("Pod", "spec tolerations", "admission DefaultTolerationSeconds, which a cluster may do without"),
    allowed("Pod", "spec priority", "admission Priority, with the cluster's own classes"),
    allowed("Pod", "spec preemptionPolicy", "admission Priority"),
    allowed("Pod", "spec imagePullSecrets", "copied from the service account"),
    allowed("Pod", "metadata generation", "counted for pods since 1.33"),
    allowed("Pod", "status qosClass", "computed of requests and limits; nobody here reads it"),
    allowed("Pod", "status conditions", "written by whoever schedules"),
    allowed("Pod", "status observedGeneration", "since 1.33"),
    allowed("Service", "spec ipFamilies", "IPv4 or IPv6 is the cluster's choice"),
    allowed("Service", "spec ipFamilyPolicy", "the cluster's choice"),
    allowed("ServiceAccount", "secrets", "clusters before 1.24 made one"),
    allowed(
        "TokenReview",
        "status user extra authentication.kubernetes.io/credential-id",
        "the token's own number, since 1.30 where it is switched on",
    ),
    allowed("TokenReview", "status user extra authentication.kubernetes.io/node-name", "since 1.30 where switched on"),
    allowed("TokenReview", "status user extra authentication.kubernetes.io/node-uid", "since 1.30 where switched on"),
    allowed("TokenRequest", "spec boundObjectRef", "null or absent where nothing is bound"),
    allowed("APIResourceList", "resources * storageVersionHash", "a hash of where the kind is stored"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exception_is_named_once_and_has_its_reason() {
        for (index, one) in ALLOWED.iter().enumerate() {
            assert!(one.why.len() > 9 && !one.path.is_empty(), "{one:?}");
            assert!(!matches!(one.path, "metadata" | "spec" | "*"), "{one:?} would hide too much");
            assert!(
                !ALLOWED[index + 1..].iter().any(|other| (other.kind, other.path) == (one.kind, one.path)),
                "{one:?}"
            );
        }
    }
}
