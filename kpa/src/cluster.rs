//! Commands that ask a cluster instead of a running `kpa run`.
//!
//! Invariant: what is asked is our own objects, with the rights of whoever asks; a cluster is asked only when a flag names
//! one, or in a pod.

use anyhow::Context;
use domain::WallTime;
use platform_kubernetes::by_hand::{Hand, Listed};
use platform_kubernetes::settings::connect;
use serde_json::{Value, json};

/// Which cluster.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "On a cluster")]
pub(crate) struct Cluster {
    /// Ask the cluster of the kubeconfig's current context; in a pod, the pod's own. So does any of the flags below.
    #[arg(long)]
    cluster: bool,
    /// Ask the cluster of this context of the kubeconfig.
    #[arg(long, env = "KPA_CONTEXT", value_name = "CONTEXT")]
    context: Option<String>,
    /// The namespace. Default: that of the context.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// The namespaces that the programs look at, where they do not look at all of them.
    #[arg(long = "watch-namespace", env = "KPA_WATCH_NAMESPACES", value_delimiter = ',', hide = true)]
    watch_namespaces: Vec<String>,
}

impl Cluster {
    /// Whether a cluster is asked at all.
    pub(crate) fn is_meant(&self) -> bool {
        let named = self.cluster || self.context.is_some() || self.namespace.is_some() || self.all_namespaces;
        named || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    }

    /// The way to it.
    pub(crate) async fn open(&self) -> anyhow::Result<Open> {
        let (client, namespace) = connect(self.context.as_deref()).await?;
        let namespace = self.namespace.clone().unwrap_or(namespace);
        let watched = self.watch_namespaces.iter().filter(|name| !name.is_empty()).cloned().collect();
        Ok(Open {
            hand: Hand::new(client),
            namespace: if self.all_namespaces { None } else { Some(namespace) },
            named: self.namespace.is_some(),
            watched,
        })
    }
}

/// A cluster that is asked.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) hand: Hand,
    /// `None`: all.
    namespace: Option<String>,
    /// Somebody named it.
    named: bool,
    watched: Vec<String>,
}

impl Open {
    /// What is looked at, for people.
    pub(crate) fn place(&self, everything: bool) -> String {
        match &self.namespace {
            Some(namespace) if self.named || !everything => format!("namespace {namespace}"),
            _ => "any namespace".to_owned(),
        }
    }

    /// Our objects. `everything`: of every namespace that is looked at, unless one was named.
    pub(crate) async fn list(&self, everything: bool) -> anyhow::Result<Vec<Listed>> {
        let now = WallTime::from_unix_millis(runtime::clock::unix_millis());
        let list = async |namespace: Option<&str>| self.hand.list(namespace, now).await;
        let one = self.namespace.as_deref().filter(|_| self.named || !everything);
        if one.is_some() || self.watched.is_empty() {
            return list(one).await.context("ScaledWorkloads cannot be listed");
        }
        let mut all = Vec::new();
        for namespace in &self.watched {
            all.extend(list(Some(namespace)).await.with_context(|| format!("namespace {namespace}"))?);
        }
        Ok(all)
    }

    /// Whether somebody means this one by `name`: NAME or NAMESPACE/NAME.
    pub(crate) fn is(&self, listed: &Listed, name: &str) -> bool {
        let (namespace, own) = &listed.published.key;
        own == name || format!("{namespace}/{own}") == name
    }

    /// The list as `kpa run` would give it.
    pub(crate) async fn rows(&self) -> anyhow::Result<Value> {
        let everything = self.namespace.is_none();
        Ok(self.list(everything).await?.iter().map(row).collect())
    }
}

/// The columns, and everything that is published of it.
fn row(listed: &Listed) -> Value {
    let (published, (namespace, name)) = (&listed.published, &listed.published.key);
    let status = &published.status;
    let resolved = published.spec.as_ref().ok().map(|spec| &spec.resolved);
    json!({
        "id": format!("{namespace}/{name}"),
        "name": name,
        "namespace": namespace,
        "reference": status.reference,
        "targets": status.targets,
        "minPods": status.min_pods,
        "maxPods": status.max_pods.parse::<u32>().ok(),
        "replicas": status.replicas,
        "ageSeconds": listed.age_seconds,
        "ready": status.ready_replicas,
        "mode": status.mode,
        "inFlight": status.in_flight,
        "queued": status.queued,
        "reason": status.reason,
        "wanted": status.wanted_replicas,
        "lastDecision": status.last_decision,
        "trouble": status.trouble,
        "problems": status.problems,
        "conditions": status.conditions,
        "resolved": resolved,
    })
}
