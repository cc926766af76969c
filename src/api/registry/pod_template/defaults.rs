//! Defaults of pod specs, as `k8s.io/kubernetes/pkg/apis/core/v1` sets them.

use k8s_openapi::api::core::v1::{
    ContainerPort, EnvVar, Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements,
};

use super::volume_defaults::default_volume;

const GRACE_SECONDS: i64 = 30;
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// Both sorts of containers have these fields, in types of their own.
macro_rules! choices_of {
    ($container:expr) => {
        Choices {
            image: $container.image.as_deref(),
            pull_policy: &mut $container.image_pull_policy,
            termination_message_path: &mut $container.termination_message_path,
            termination_message_policy: &mut $container.termination_message_policy,
            ports: $container.ports.as_mut(),
            env: $container.env.as_mut(),
            probes: [
                $container.liveness_probe.as_mut(),
                $container.readiness_probe.as_mut(),
                $container.startup_probe.as_mut(),
            ],
            lifecycle: $container.lifecycle.as_mut(),
        }
    };
}

/// Sets `field` if it is missing or, as Go sees it, empty.
pub(crate) fn default_text(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

/// Defaults of the template of a workload.
pub(crate) fn default_template(template: &mut PodTemplateSpec) {
    if let Some(spec) = &mut template.spec {
        default_pod_spec(spec);
    }
}

/// Defaults that pods and templates share.
pub(crate) fn default_pod_spec(spec: &mut PodSpec) {
    // One thing under two names, of which the older one is deprecated.
    let account = [&spec.service_account_name, &spec.service_account]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty())
        .cloned();
    if account.is_some() {
        spec.service_account_name.clone_from(&account);
        spec.service_account = account;
    }
    default_text(&mut spec.dns_policy, "ClusterFirst");
    default_text(&mut spec.restart_policy, "Always");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds
        .get_or_insert(GRACE_SECONDS);
    default_text(&mut spec.scheduler_name, "default-scheduler");
    for volume in spec.volumes.iter_mut().flatten() {
        default_volume(volume);
    }
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        default_choices(choices_of!(container));
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        default_choices(choices_of!(container));
    }
    if spec.host_network == Some(true) {
        for container in spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten())
        {
            for port in container
                .ports
                .iter_mut()
                .flatten()
                .filter(|port| port.host_port.unwrap_or(0) == 0)
            {
                port.host_port = Some(port.container_port);
            }
        }
    }
}

/// What containers of every sort may leave out.
struct Choices<'a> {
    image: Option<&'a str>,
    pull_policy: &'a mut Option<String>,
    termination_message_path: &'a mut Option<String>,
    termination_message_policy: &'a mut Option<String>,
    ports: Option<&'a mut Vec<ContainerPort>>,
    env: Option<&'a mut Vec<EnvVar>>,
    probes: [Option<&'a mut Probe>; 3],
    lifecycle: Option<&'a mut Lifecycle>,
}

fn default_choices(choices: Choices<'_>) {
    let image = choices.image.unwrap_or_default();
    default_text(choices.pull_policy, pull_policy_for(image));
    default_text(choices.termination_message_path, TERMINATION_MESSAGE_PATH);
    default_text(choices.termination_message_policy, "File");
    choices.ports.into_iter().flatten().for_each(default_port);
    choices.env.into_iter().flatten().for_each(default_variable);
    choices.probes.into_iter().flatten().for_each(default_probe);
    choices.lifecycle.into_iter().for_each(default_lifecycle);
}

fn default_port(port: &mut ContainerPort) {
    default_text(&mut port.protocol, "TCP");
}

fn default_variable(variable: &mut EnvVar) {
    if let Some(field) = variable
        .value_from
        .as_mut()
        .and_then(|source| source.field_ref.as_mut())
    {
        default_text(&mut field.api_version, "v1");
    }
}

fn default_probe(probe: &mut Probe) {
    for (field, value) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if field.unwrap_or(0) == 0 {
            *field = Some(value);
        }
    }
    if let Some(get) = &mut probe.http_get {
        default_text(&mut get.path, "/");
        default_text(&mut get.scheme, "HTTP");
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn default_lifecycle(lifecycle: &mut Lifecycle) {
    lifecycle
        .post_start
        .iter_mut()
        .chain(lifecycle.pre_stop.iter_mut())
        .for_each(default_handler);
}

fn default_handler(handler: &mut LifecycleHandler) {
    if let Some(get) = &mut handler.http_get {
        default_text(&mut get.path, "/");
        default_text(&mut get.scheme, "HTTP");
    }
}

/// `Always` for the tag `latest`, said or meant; `IfNotPresent` for any other tag and for digests.
pub(super) fn pull_policy_for(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

/// What a pod's containers request when only a limit is given; templates keep what their author wrote.
pub(crate) fn default_requests_from_limits(spec: &mut PodSpec) {
    let containers = spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten());
    for resources in containers.filter_map(|container| container.resources.as_mut()) {
        requests_from_limits(resources);
    }
}

fn requests_from_limits(resources: &mut ResourceRequirements) {
    let Some(limits) = resources
        .limits
        .as_ref()
        .filter(|limits| !limits.is_empty())
    else {
        return;
    };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests
            .entry(name.clone())
            .or_insert_with(|| limit.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_decides_the_pull_policy() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy_for(image), policy, "{image}");
        }
    }
}
