//! Commands that ask a cluster instead of a running `kpa run`.
//!
//! Invariant: what is asked is our own objects, with the rights of whoever asks; a cluster is asked only when a flag names
//! one, or in a pod.

use crate::output;
use anyhow::Context;
use domain::WallTime;
use platform_kubernetes::by_hand::{Hand, Listed};
use platform_kubernetes::settings::connect;
use platform_kubernetes::survey::{self, Configs, Found};
use platform_kubernetes::trim::Key;
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
    /// The namespace that kpa itself is in.
    #[arg(long, value_name = "NAMESPACE", default_value = "kpa-system")]
    kpa_namespace: String,
    /// The namespaces that the programs look at, where they do not look at all of them.
    #[arg(long = "watch-namespace", env = "KPA_WATCH_NAMESPACES", value_delimiter = ',', hide = true)]
    watch_namespaces: Vec<String>,
}

impl Cluster {
    /// Whether a cluster is asked at all.
    pub(crate) fn is_meant(&self) -> bool {
        self.is_named() || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    }

    /// Whether a flag says so: also in a pod, files are read where files are named.
    pub(crate) const fn is_named(&self) -> bool {
        self.cluster || self.context.is_some() || self.namespace.is_some() || self.all_namespaces
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
            own: self.kpa_namespace.clone(),
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
    /// The namespace of kpa.
    own: String,
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

    /// Every Deployment that carries annotations of ours as the autoscaler reads it, and what it is read with.
    pub(crate) async fn survey(&self) -> anyhow::Result<(Vec<Found>, Configs)> {
        let configs = self.configs().await?;
        let one = self.namespace.as_deref();
        let namespaces: Vec<Option<&str>> = match one {
            None if !self.watched.is_empty() => self.watched.iter().map(|name| Some(name.as_str())).collect(),
            one => vec![one],
        };
        let mut found = Vec::new();
        for namespace in namespaces {
            let objects = self.hand.survey(namespace).await.context("the Deployments cannot be read")?;
            found.extend(survey::read(&objects, &configs));
        }
        Ok((found, configs))
    }

    /// The cluster's ConfigMaps. What may not be read is said.
    pub(crate) async fn configs(&self) -> anyhow::Result<Configs> {
        let configs = self.hand.configs(&self.own).await?;
        configs.unread.iter().for_each(|unread| output::remark(unread));
        Ok(configs)
    }

    /// Those of `all` that go by one of `names`; all without any. A name that nobody has is a mistake.
    pub(crate) fn named<T>(
        &self,
        mut all: Vec<T>,
        names: &[String],
        key: impl Fn(&T) -> &Key,
    ) -> anyhow::Result<Vec<T>> {
        let is = |one: &T, name: &String| {
            let (namespace, own) = key(one);
            own == name || format!("{namespace}/{own}") == *name
        };
        if let Some(unknown) = names.iter().find(|name| !all.iter().any(|one| is(one, name))) {
            anyhow::bail!("there is no Deployment {unknown} with annotations of ours in {}", self.place(false));
        }
        all.retain(|one| names.is_empty() || names.iter().any(|name| is(one, name)));
        Ok(all)
    }

    /// Whether somebody means this one by `name`: NAME or NAMESPACE/NAME.
    pub(crate) fn is(&self, listed: &Listed, name: &str) -> bool {
        let (namespace, own) = &listed.published.key;
        own == name || format!("{namespace}/{own}") == name
    }

    /// The list as `kpa run` would give it.
    pub(crate) async fn rows(&self) -> anyhow::Result<Value> {
        self.rows_of(self.namespace.is_none()).await
    }

    /// The same; `everything`: of every namespace that is looked at, unless one was named.
    pub(crate) async fn rows_of(&self, everything: bool) -> anyhow::Result<Value> {
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
