//! What both programs are told of the cluster, on the command line or by the environment.

use crate::settings::Settings;
use crate::token::TOKEN_PATH;
use clap::Args;
use std::path::PathBuf;

/// Where we are in a cluster, and what of it we look at.
#[derive(Debug, Clone, Args)]
pub struct ClusterArguments {
    /// The namespace of our own pods, Services, Lease and ConfigMaps.
    #[arg(long, env = "POD_NAMESPACE", default_value = "kpa-system")]
    pub namespace: String,
    /// The name of this pod: by it activators and autoscalers know each other, so no two may have the same.
    #[arg(long, env = "POD_NAME", default_value = "kpa")]
    pub pod_name: String,
    /// A namespace whose workloads are looked at. May be repeated or comma separated; without it, all of them.
    #[arg(long = "watch-namespace", env = "KPA_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// The Service of the activators.
    #[arg(long, env = "KPA_ACTIVATOR_SERVICE", default_value = "kpa-activator")]
    pub activator_service: String,
    /// The Service of the autoscalers.
    #[arg(long, env = "KPA_AUTOSCALER_SERVICE", default_value = "kpa-autoscaler")]
    pub autoscaler_service: String,
    /// The projected service-account token that is shown to our own programs; audience kpa.
    #[arg(long, env = "KPA_TOKEN_FILE", default_value = TOKEN_PATH)]
    pub token_file: PathBuf,
    /// A context of the kubeconfig; without it the cluster that this runs in, else the current context.
    #[arg(long, env = "KPA_CONTEXT")]
    pub context: Option<String>,
}

impl ClusterArguments {
    /// The same as settings; selectors are the autoscaler's own.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            namespace: self.namespace.clone(),
            namespaces: self.watch_namespaces.iter().filter(|name| !name.is_empty()).cloned().collect(),
            activator_service: self.activator_service.clone(),
            autoscaler_service: self.autoscaler_service.clone(),
            ..Settings::default()
        }
    }
}
