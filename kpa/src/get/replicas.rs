//! `kpa get replicas`: each process of each service, as `kubectl get pods` shows pods.
//!
//! Invariant: selects as kubectl would; a service without replicas is no mistake, a name that nobody has is.

use super::list::{Item, Listing, Shown, show};
use super::row::age;
use crate::api;
use crate::selector::Selector;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Settings of `kpa get replicas`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Replicas or their services, as NAME or NAMESPACE/NAME. Default: all.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only those whose pods would carry these labels: the template's, and app with the service's name if it has none.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<Selector>,
    #[command(flatten)]
    list: Listing,
}

/// What the columns show of a replica.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Replica {
    id: String,
    name: String,
    service: String,
    state: String,
    address: Option<String>,
    pid: Option<i32>,
    restarts: u32,
    in_flight: u32,
    age_seconds: u64,
    outdated: bool,
    reason: Option<String>,
    labels: BTreeMap<String, String>,
}

/// What kubectl writes where there is nothing.
fn or_none<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "<none>".to_owned(), T::to_string)
}

impl Replica {
    fn service_name(&self) -> &str {
        self.service.split_once('/').map_or(&self.service, |(_, name)| name)
    }

    fn is(&self, name: &str) -> bool {
        match name.split_once('/') {
            Some((namespace, rest)) => namespace == self.namespace() && self.is(rest),
            None => self.name == name || self.service_name() == name,
        }
    }
}

impl Shown for Replica {
    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["NAME", "SERVICE", "STATE", "ADDRESS", "PID", "RESTARTS", "IN-FLIGHT", "AGE"];
        if wide {
            header.extend(["ID", "OUTDATED", "LABELS", "REASON"]);
        }
        header
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let mut cells = vec![
            self.name.clone(),
            self.service_name().to_owned(),
            self.state.clone(),
            or_none(self.address.as_ref()),
            or_none(self.pid.as_ref()),
            self.restarts.to_string(),
            self.in_flight.to_string(),
            age(self.age_seconds),
        ];
        if wide {
            let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let outdated = if self.outdated { "yes" } else { "no" };
            cells.extend([self.id.clone(), outdated.to_owned(), labels.join(","), or_none(self.reason.as_ref())]);
        }
        cells
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn namespace(&self) -> &str {
        self.service.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    fn ageless(&self) -> Self {
        Self { age_seconds: 0, ..self.clone() }
    }
}

pub(super) async fn main(args: &Args) -> anyhow::Result<()> {
    let look = async || super::list_of::<Replica>(&args.list.admin, "/v1/local/replicas").await;
    let all = look().await?;
    let unknown: Vec<&String> =
        args.names.iter().filter(|name| !all.iter().any(|replica| replica.row.is(name))).collect();
    for name in unknown {
        // A service that sleeps has none.
        if api::service(&args.list.admin, name).await.is_err() {
            let known: Vec<&str> = all.iter().map(|replica| replica.row.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            anyhow::bail!("there is no replica or service {name}; replicas: {known}");
        }
    }
    let chosen = |mut all: Vec<Item<Replica>>| {
        all.retain(|replica| {
            let named = args.names.is_empty() || args.names.iter().any(|name| replica.row.is(name));
            named && args.selector.as_ref().is_none_or(|selector| selector.matches(&replica.row.labels))
        });
        all
    };
    show(&args.list, chosen(all), async || Ok(chosen(look().await?))).await
}

#[cfg(test)]
mod tests {
    use super::super::list::{Format, View, items};
    use super::*;

    fn replicas() -> Vec<Item<Replica>> {
        let body = r#"[
            {"id":"app-0-1-1","name":"app-0","service":"default/app","slot":0,"state":"ready","address":"127.0.0.1:20001",
             "pid":41,"restarts":2,"inFlight":3,"ageSeconds":130,"outdated":false,"reason":null,"labels":{"app":"app"}},
            {"id":"app-1-1-2","name":"app-1","service":"default/app","slot":1,"state":"backoff","address":null,"pid":null,
             "restarts":5,"inFlight":0,"ageSeconds":9,"outdated":true,"reason":"ended with status 1","labels":{"app":"app"}}]"#;
        items(body.as_bytes()).unwrap()
    }

    #[test]
    fn the_columns_are_like_those_of_pods() {
        let narrow = View::new(None).all(replicas()).unwrap();
        assert_eq!(
            narrow,
            "NAME    SERVICE   STATE     ADDRESS           PID      RESTARTS   IN-FLIGHT   AGE\n\
             app-0   app       ready     127.0.0.1:20001   41       2          3           2m10s\n\
             app-1   app       backoff   <none>            <none>   5          0           9s\n"
        );
        let wide = View::new(Some(Format::Wide)).all(replicas()).unwrap();
        assert!(wide.contains("ID          OUTDATED   LABELS    REASON\n"), "{wide}");
        assert!(wide.ends_with("9s      app-1-1-2   yes        app=app   ended with status 1\n"), "{wide}");
    }

    #[test]
    fn a_replica_goes_by_its_name_and_by_its_services() {
        let replica = replicas().remove(0).row;
        for name in ["app-0", "default/app-0", "app", "default/app"] {
            assert!(replica.is(name), "{name}");
        }
        for name in ["app-1", "shop/app", "default/other", "default"] {
            assert!(!replica.is(name), "{name}");
        }
    }
}
