//! What a kubelet writes into a pod's status.
//!
//! Invariant: a condition's transition time changes only when its status does.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::object::uid;
use super::{Ended, Seen, State};

/// The address of every node: pods have their own.
const HOST_IP: &str = "127.0.0.1";

/// The status of a pod as seen now, on top of what stands there.
pub(crate) fn pod_status(now: Timestamp, pod: &Pod, seen: &Seen) -> PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    let ips: Vec<PodIP> = seen.ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect();
    let running = matches!(seen.state, State::Running(_));
    let ready = running && seen.ready;
    let phase = match &seen.state {
        State::Running(_) => "Running",
        State::Ended(ended) if ended.exit_code == 0 => "Succeeded",
        State::Ended(_) => "Failed",
        // A container that ran once and waits to run again is part of a running pod.
        State::Waiting { .. } if seen.last.is_some() => "Running",
        State::Waiting { .. } => "Pending",
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let container_statuses: Vec<ContainerStatus> = containers
        .map(|container| {
            let image = container.image.clone().unwrap_or_default();
            ContainerStatus {
                container_id: running
                    .then(|| format!("containerd://{}-{}-{}", uid(&pod.metadata), container.name, seen.restarts)),
                image_id: image.clone(),
                image,
                last_state: seen.last.as_ref().map(terminated),
                name: container.name.clone(),
                ready,
                restart_count: seen.restarts,
                started: Some(running),
                state: Some(state(&seen.state)),
                ..ContainerStatus::default()
            }
        })
        .collect();
    let scheduled = [("PodScheduled", true), ("Initialized", true), ("ContainersReady", ready), ("Ready", ready)];
    let conditions = scheduled.iter().map(|(kind, is)| condition(now, &before, kind, *is)).collect();
    PodStatus {
        conditions: Some(conditions),
        container_statuses: Some(container_statuses),
        host_ip: Some(HOST_IP.to_owned()),
        host_ips: Some(vec![HostIP { ip: HOST_IP.to_owned() }]),
        phase: Some(phase.to_owned()),
        pod_ip: ips.first().map(|ip| ip.ip.clone()),
        pod_ips: (!ips.is_empty()).then_some(ips),
        start_time: before.start_time.clone().or(Some(Time(now))),
        ..before
    }
}

fn condition(now: Timestamp, before: &PodStatus, kind: &str, is: bool) -> PodCondition {
    let status = if is { "True" } else { "False" };
    let old = before.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    let unready = !is;
    PodCondition {
        last_transition_time: Some(since.unwrap_or(Time(now))),
        message: unready.then(|| "containers with unready status".to_owned()),
        reason: unready.then(|| "ContainersNotReady".to_owned()),
        status: status.to_owned(),
        type_: kind.to_owned(),
        ..PodCondition::default()
    }
}

fn state(state: &State) -> ContainerState {
    match state {
        State::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting {
                message: (!message.is_empty()).then(|| message.clone()),
                reason: Some(reason.clone()),
            }),
            ..ContainerState::default()
        },
        State::Running(since) => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
            ..ContainerState::default()
        },
        State::Ended(ended) => terminated(ended),
    }
}

fn terminated(ended: &Ended) -> ContainerState {
    let reason = if ended.exit_code == 0 { "Completed" } else { "Error" };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: ended.exit_code,
            finished_at: Some(Time(ended.finished)),
            reason: Some(reason.to_owned()),
            started_at: Some(Time(ended.started)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}
