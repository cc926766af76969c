//! Which probes of a pod should run now: startup first, then liveness and readiness; none for what does not run.

use std::collections::BTreeMap;
use std::sync::Arc;

use cri::{ContainerId, ContainerState, ContainerStatus};
use k8s_openapi::api::core::v1::{Container, ContainerStatus as ApiStatus, Pod, PodStatus};
use semantics::resources::is_sidecar;

use crate::pods::Inputs;
use crate::pods::facts::{ContainerKind, containers, init_containers};
use crate::probes::task::ProbeTask;
use crate::probes::{ProbeKind, ProbeResult};
use crate::services::Services;
use crate::worker::{Observed, Phase};

/// The probe tasks of one pod; dropping it ends them.
pub(crate) struct PodProbes {
    services: Arc<Services>,
    inputs: Arc<Inputs>,
    tasks: BTreeMap<(ContainerId, ProbeKind), Task>,
}

struct Task(env::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PodProbes {
    pub(crate) fn new(services: Arc<Services>, inputs: Arc<Inputs>) -> Self {
        Self {
            services,
            inputs,
            tasks: BTreeMap::new(),
        }
    }

    /// Starts and ends tasks so that they fit what runs.
    pub(crate) fn reconcile(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        phase: Phase,
        old: Option<&PodStatus>,
    ) {
        self.inputs.keep_probes(|id| {
            observed
                .containers
                .iter()
                .any(|container| container.id == *id)
        });
        let mut wanted = Vec::new();
        for (kind, container) in probed(pod) {
            let Some(status) = observed.newest(&container.name) else {
                continue;
            };
            let ContainerState::Running { started_at } = status.state else {
                continue;
            };
            self.adopt(status, started_at, container, old);
            let kinds = kinds_now(container, phase, |which| {
                self.inputs.probe(&status.id, which)
            });
            wanted.extend(
                kinds
                    .into_iter()
                    .map(|which| (kind, container, status, started_at, which)),
            );
        }
        self.tasks.retain(|key, _| {
            wanted
                .iter()
                .any(|(_, _, status, _, which)| (&status.id, which) == (&key.0, &key.1))
        });
        for (kind, container, status, started_at, which) in wanted {
            let key = (status.id.clone(), which);
            let Some(probe) = which
                .of(container)
                .filter(|_| !self.tasks.contains_key(&key))
            else {
                continue;
            };
            let task = ProbeTask {
                services: Arc::clone(&self.services),
                inputs: Arc::clone(&self.inputs),
                pod: Pod {
                    metadata: pod.metadata.clone(),
                    ..Pod::default()
                },
                kind,
                container: Container {
                    name: container.name.clone(),
                    ports: container.ports.clone(),
                    ..Container::default()
                },
                probe: probe.clone(),
                which,
                id: status.id.clone(),
                started_at,
                pod_ip: self.pod_ip(pod, observed),
            };
            self.tasks.insert(key, Task(env::spawn(task.run())));
        }
    }

    /// A container that ran before this kubelet began keeps the results that the API remembers.
    fn adopt(
        &self,
        status: &ContainerStatus,
        started_at: env::Timestamp,
        container: &Container,
        old: Option<&PodStatus>,
    ) {
        if started_at >= self.services.started_at {
            return;
        }
        let lists = old
            .into_iter()
            .flat_map(|old| [&old.container_statuses, &old.init_container_statuses]);
        let all: Vec<&ApiStatus> = lists.flatten().flatten().collect();
        let id = crate::status::container_id(&self.services.runtime_name, status);
        let Some(known) = all
            .into_iter()
            .find(|known| known.container_id.as_deref() == Some(&id))
        else {
            return;
        };
        let keep = |which: ProbeKind, holds: bool| {
            if holds
                && which.of(container).is_some()
                && self.inputs.probe(&status.id, which).is_none()
            {
                self.inputs
                    .set_probe(&status.id, which, ProbeResult::Success);
            }
        };
        keep(ProbeKind::Startup, known.started == Some(true));
        keep(ProbeKind::Readiness, known.ready);
    }

    fn pod_ip(&self, pod: &Pod, observed: &Observed) -> String {
        if crate::pods::facts::is_host_network(pod) {
            return self
                .services
                .config
                .addresses_now()
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
        }
        let newest = observed
            .sandboxes
            .first()
            .and_then(|sandbox| sandbox.addresses.first());
        newest.map(ToString::to_string).unwrap_or_default()
    }
}

fn probed(pod: &Pod) -> impl Iterator<Item = (ContainerKind, &Container)> {
    let sidecars = init_containers(pod).iter().filter(|init| is_sidecar(init));
    let sidecars = sidecars.map(|sidecar| (ContainerKind::Init, sidecar));
    sidecars.chain(
        containers(pod)
            .iter()
            .map(|container| (ContainerKind::Regular, container)),
    )
}

fn kinds_now(
    container: &Container,
    phase: Phase,
    result: impl Fn(ProbeKind) -> Option<ProbeResult>,
) -> Vec<ProbeKind> {
    if phase >= Phase::Terminated {
        return Vec::new();
    }
    let is_ending = phase >= Phase::Terminating;
    if container.startup_probe.is_some() {
        match result(ProbeKind::Startup) {
            Some(ProbeResult::Success) => {}
            // It is about to be restarted.
            Some(ProbeResult::Failure) => return Vec::new(),
            None => {
                return if is_ending {
                    Vec::new()
                } else {
                    vec![ProbeKind::Startup]
                };
            }
        }
    }
    let mut kinds = Vec::new();
    let liveness_failed = result(ProbeKind::Liveness) == Some(ProbeResult::Failure);
    if container.liveness_probe.is_some() && !is_ending && !liveness_failed {
        kinds.push(ProbeKind::Liveness);
    }
    if container.readiness_probe.is_some() {
        kinds.push(ProbeKind::Readiness);
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn liveness_and_readiness_wait_for_startup_and_only_readiness_outlives_the_call_to_end() {
        let probe = Some(k8s_openapi::api::core::v1::Probe::default());
        let container = Container {
            startup_probe: probe.clone(),
            liveness_probe: probe.clone(),
            readiness_probe: probe,
            ..Container::default()
        };
        assert_eq!(
            kinds_now(&container, Phase::Syncing, |_| None),
            [ProbeKind::Startup]
        );
        let started = |which| (which == ProbeKind::Startup).then_some(ProbeResult::Success);
        assert_eq!(
            kinds_now(&container, Phase::Syncing, started),
            [ProbeKind::Liveness, ProbeKind::Readiness]
        );
        assert_eq!(
            kinds_now(&container, Phase::Terminating, started),
            [ProbeKind::Readiness]
        );
    }
}
