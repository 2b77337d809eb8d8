//! Where we are in a cluster and what of it we look at, and the way to its API server.

pub use kube::Client;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use std::time::Duration;

/// Longest wait for a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of the API server in an answer: longer than a watch lasts, so that only a dead connection meets it.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// Where we are and what we look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of our own pods, Services, Lease and ConfigMaps. Default `kpa-system`.
    pub namespace: String,
    /// The namespaces whose workloads are looked at; none: all of them.
    pub namespaces: Vec<String>,
    /// Label selector of namespaces whose workloads are looked at.
    pub namespace_selector: Option<String>,
    /// Label selector of Deployments that are looked at.
    pub object_selector: Option<String>,
    /// Existing Services may be made to lead to the activators, which takes rights of its own. Default no.
    pub take_over: bool,
    /// The Service of the activators. Default `kpa-activator`.
    pub activator_service: String,
    /// The Service of the autoscalers. Default `kpa-autoscaler`.
    pub autoscaler_service: String,
    /// `drain-delay` of activators unless it is configured: about what it takes until every proxy of the cluster knows
    /// that one leaves (kpa-behaviour 9). Default 10 s.
    pub drain_delay: Duration,
    /// `drain-grace` of activators unless it is configured. Default 1 h.
    pub drain_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "kpa-system".into(),
            namespaces: Vec::new(),
            namespace_selector: None,
            object_selector: None,
            take_over: false,
            activator_service: "kpa-activator".into(),
            autoscaler_service: "kpa-autoscaler".into(),
            drain_delay: Duration::from_secs(10),
            drain_grace: Duration::from_secs(3600),
        }
    }
}

/// Why the API server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig does not do.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    /// Neither in a pod nor with a kubeconfig.
    #[error(
        "no cluster is known: {0}; expected to run in a pod with a service account, or KUBECONFIG or ~/.kube/config. On one \
         machine, without Kubernetes: kpa run PATH"
    )]
    Nowhere(#[from] kube::config::InferConfigError),
    /// The client cannot be made.
    #[error("no client for the API server can be made: {0}")]
    Client(#[from] kube::Error),
}

/// A client for the cluster that we are in, else for the one that the kubeconfig names; `context` picks another of its
/// contexts. Nothing is asked of the API server yet. Also the namespace that the configuration names.
///
/// # Errors
///
/// What is missing.
pub async fn connect(context: Option<&str>) -> Result<(Client, String), ConnectError> {
    let config = match context {
        Some(context) => {
            let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
            Config::from_custom_kubeconfig(Kubeconfig::read()?, &options).await?
        }
        None => Config::infer().await?,
    };
    let namespace = config.default_namespace.clone();
    Ok((client(config)?, namespace))
}

/// A client with our timeouts. What is refused for now (429) is tried again where the whole can be judged, not by it.
fn client(mut config: Config) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    config.default_retry = false;
    Client::try_from(config)
}

/// The Apis of what is looked at: one for all namespaces, or one for each that is listed.
pub(crate) fn apis<K>(
    settings: &Settings,
    all: impl FnOnce() -> kube::Api<K>,
    one: impl Fn(&str) -> kube::Api<K>,
) -> Vec<kube::Api<K>> {
    if settings.namespaces.is_empty() {
        vec![all()]
    } else {
        settings.namespaces.iter().map(|namespace| one(namespace)).collect()
    }
}
