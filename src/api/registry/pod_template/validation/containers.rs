//! Containers of all three kinds: names, images, ports, policies, and what each kind may not have.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerResizePolicy, EphemeralContainer, PodSpec,
};
use semantics::containers::as_container;

use super::volumes::KnownVolumes;
use super::{environment, mounts, probes, security};
use crate::validation::{amounts, names, one_of, ports, required_one_of, text};

const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];

/// What the checks of one container need of its pod.
struct Surroundings<'a> {
    spec: &'a PodSpec,
    volumes: &'a KnownVolumes,
    claims: &'a BTreeSet<String>,
}

/// Every container of every kind, with the way to it.
pub(crate) fn visit_containers(
    spec: &PodSpec,
    path: &FieldPath,
    mut visit: impl FnMut(&Container, &FieldPath),
) {
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        visit(container, &path.child("initContainers").index(index));
    }
    for (index, container) in spec.containers.iter().enumerate() {
        visit(container, &path.child("containers").index(index));
    }
    for (index, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        visit(
            &as_container(container),
            &path.child("ephemeralContainers").index(index),
        );
    }
}

pub(super) fn all(
    errors: &mut FieldErrors,
    spec: &PodSpec,
    volumes: &KnownVolumes,
    claims: &BTreeSet<String>,
    path: &FieldPath,
) {
    let surroundings = Surroundings {
        spec,
        volumes,
        claims,
    };
    regular(errors, &surroundings, &path.child("containers"));
    init(errors, &surroundings, &path.child("initContainers"));
    ephemeral(errors, &surroundings, &path.child("ephemeralContainers"));
}

fn regular(errors: &mut FieldErrors, surroundings: &Surroundings<'_>, path: &FieldPath) {
    let containers = &surroundings.spec.containers;
    if containers.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        common(errors, container, surroundings, &path);
        if !seen.insert(container.name.as_str()) {
            errors.push(FieldError::duplicate(
                &path.child("name"),
                container.name.as_str(),
            ));
        }
        probes::lifecycle_and_probes(errors, container, surroundings.spec, &path);
        restart_policy(errors, container, &path);
    }
    let mut taken = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        host_ports(errors, container, &mut taken, &path.index(index));
    }
}

fn init(errors: &mut FieldErrors, surroundings: &Surroundings<'_>, path: &FieldPath) {
    let spec = surroundings.spec;
    let mut seen: BTreeSet<&str> = spec
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let item = path.index(index);
        common(errors, container, surroundings, &item);
        if container.restart_policy.is_some() || has_restart_rules(container) {
            restart_policy(errors, container, &item);
        }
        if seen.contains(container.name.as_str()) {
            errors.push(FieldError::duplicate(
                &item.child("name"),
                container.name.as_str(),
            ));
        } else if !container.name.is_empty() {
            seen.insert(&container.name);
        }
        // Init containers run one by one, so their ports meet only their own. The path lacks the place, as upstream's does.
        host_ports(errors, container, &mut BTreeSet::new(), &path.index(0));
        if semantics::resources::is_sidecar(container) {
            probes::lifecycle_and_probes(errors, container, spec, &item);
            continue;
        }
        let why = "may not be set for init containers without restartPolicy=Always";
        for (is_set, field) in [
            (container.lifecycle.is_some(), "lifecycle"),
            (container.liveness_probe.is_some(), "livenessProbe"),
            (container.readiness_probe.is_some(), "readinessProbe"),
            (container.startup_probe.is_some(), "startupProbe"),
        ] {
            if is_set {
                errors.push(FieldError::forbidden(&item.child(field), why));
            }
        }
        for (index, policy) in container.resize_policy.iter().flatten().enumerate() {
            if policy.restart_policy == "RestartContainer" {
                let path = item
                    .child("resizePolicy")
                    .index(index)
                    .child("restartPolicy");
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(FieldError::invalid(
                    &path,
                    policy.restart_policy.as_str(),
                    why,
                ));
            }
        }
    }
}

fn ephemeral(errors: &mut FieldErrors, surroundings: &Surroundings<'_>, path: &FieldPath) {
    let spec = surroundings.spec;
    let others: BTreeSet<&str> = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| container.name.as_str())
        .collect();
    let mut seen = others.clone();
    for (index, ephemeral) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let path = path.index(index);
        let container = as_container(ephemeral);
        common(errors, &container, surroundings, &path);
        untrimmed_image(errors, &container, &path);
        if !seen.insert(&ephemeral.name) {
            errors.push(FieldError::duplicate(
                &path.child("name"),
                ephemeral.name.as_str(),
            ));
        }
        let target = text(&ephemeral.target_container_name);
        if !target.is_empty() && !others.contains(target) {
            errors.push(FieldError::not_found(
                &path.child("targetContainerName"),
                target,
            ));
        }
        forbidden_for_ephemeral(errors, ephemeral, &path);
    }
}

/// Nothing may rely on a container that is only there to look around.
fn forbidden_for_ephemeral(
    errors: &mut FieldErrors,
    container: &EphemeralContainer,
    path: &FieldPath,
) {
    let why = "cannot be set for an Ephemeral Container";
    let resources = container.resources.as_ref();
    let has_resources = resources.is_some_and(|resources| *resources != Default::default());
    for (is_set, field) in [
        (
            container
                .ports
                .as_ref()
                .is_some_and(|ports| !ports.is_empty()),
            "ports",
        ),
        (has_resources, "resources"),
        (
            container
                .resize_policy
                .as_ref()
                .is_some_and(|policies| !policies.is_empty()),
            "resizePolicy",
        ),
        (container.restart_policy.is_some(), "restartPolicy"),
        (
            container
                .restart_policy_rules
                .as_ref()
                .is_some_and(|rules| !rules.is_empty()),
            "restartPolicyRules",
        ),
        (container.liveness_probe.is_some(), "livenessProbe"),
        (container.readiness_probe.is_some(), "readinessProbe"),
        (container.startup_probe.is_some(), "startupProbe"),
        (container.lifecycle.is_some(), "lifecycle"),
    ] {
        if is_set {
            errors.push(FieldError::forbidden(&path.child(field), why));
        }
    }
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = path.child("volumeMounts").index(index);
        for (value, field) in [
            (&mount.sub_path, "subPath"),
            (&mount.sub_path_expr, "subPathExpr"),
        ] {
            if !text(value).is_empty() {
                errors.push(FieldError::forbidden(&path.child(field), why));
            }
        }
    }
}

fn common(
    errors: &mut FieldErrors,
    container: &Container,
    surroundings: &Surroundings<'_>,
    path: &FieldPath,
) {
    if container.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else {
        names::dns_label(errors, &container.name, &path.child("name"));
    }
    if text(&container.image).is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    }
    let policies = ["File", "FallbackToLogsOnError"];
    let policy = text(&container.termination_message_policy);
    required_one_of(
        errors,
        policy,
        &policies,
        &path.child("terminationMessagePolicy"),
    );
    container_ports(
        errors,
        container.ports.as_deref().unwrap_or_default(),
        &path.child("ports"),
    );
    what_it_sees(errors, container, surroundings, path);
    pull_policy(
        errors,
        text(&container.image_pull_policy),
        &path.child("imagePullPolicy"),
    );
    let resources = container.resources.as_ref();
    amounts::container_requirements(
        errors,
        resources,
        surroundings.claims,
        &path.child("resources"),
    );
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    resize_policy(
        errors,
        policies,
        text(&surroundings.spec.restart_policy),
        &path.child("resizePolicy"),
    );
    if let Some(context) = &container.security_context {
        security::container_context(
            errors,
            context,
            surroundings.spec,
            &path.child("securityContext"),
        );
    }
}

/// The variables, files and devices of a container.
fn what_it_sees(
    errors: &mut FieldErrors,
    container: &Container,
    surroundings: &Surroundings<'_>,
    path: &FieldPath,
) {
    environment::variables(
        errors,
        container.env.as_deref().unwrap_or_default(),
        &path.child("env"),
    );
    environment::sources(
        errors,
        container.env_from.as_deref().unwrap_or_default(),
        &path.child("envFrom"),
    );
    mounts::mounts(
        errors,
        container,
        surroundings.volumes,
        &path.child("volumeMounts"),
    );
    mounts::devices(
        errors,
        container,
        surroundings.volumes,
        &path.child("volumeDevices"),
    );
}

pub(super) fn pull_policy(errors: &mut FieldErrors, policy: &str, path: &FieldPath) {
    required_one_of(errors, policy, &PULL_POLICIES, path);
}

/// Templates once allowed it; a pod that runs does not.
pub(crate) fn untrimmed_image(errors: &mut FieldErrors, container: &Container, path: &FieldPath) {
    let image = text(&container.image);
    if image.trim().len() != image.len() {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, why));
    }
}

fn container_ports(errors: &mut FieldErrors, listed: &[ContainerPort], path: &FieldPath) {
    let mut seen = BTreeSet::new();
    for (index, port) in listed.iter().enumerate() {
        let path = path.index(index);
        let name = text(&port.name);
        if !name.is_empty() {
            let before = errors.len();
            ports::name(errors, name, &path.child("name"));
            if errors.len() == before && !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        match port.container_port {
            0 => errors.push(FieldError::required(&path.child("containerPort"), "")),
            number => ports::number(errors, number, &path.child("containerPort")),
        }
        if let Some(number) = port.host_port.filter(|number| *number != 0) {
            ports::number(errors, number, &path.child("hostPort"));
        }
        required_one_of(
            errors,
            text(&port.protocol),
            &ports::PROTOCOLS,
            &path.child("protocol"),
        );
    }
}

fn host_ports(
    errors: &mut FieldErrors,
    container: &Container,
    taken: &mut BTreeSet<String>,
    path: &FieldPath,
) {
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let Some(number) = port.host_port.filter(|number| *number != 0) else {
            continue;
        };
        let key = format!("{}/{}/{number}", text(&port.protocol), text(&port.host_ip));
        if !taken.insert(key.clone()) {
            errors.push(FieldError::duplicate(
                &path.child("ports").index(index).child("hostPort"),
                key,
            ));
        }
    }
}

fn resize_policy(
    errors: &mut FieldErrors,
    policies: &[ContainerResizePolicy],
    pod_restarts: &str,
    path: &FieldPath,
) {
    let mut seen = BTreeSet::new();
    for (index, policy) in policies.iter().enumerate() {
        if !seen.insert(policy.resource_name.as_str()) {
            errors.push(FieldError::duplicate(
                &path.index(index),
                policy.resource_name.as_str(),
            ));
        }
        required_one_of(errors, &policy.resource_name, &["cpu", "memory"], path);
        required_one_of(
            errors,
            &policy.restart_policy,
            &["NotRequired", "RestartContainer"],
            path,
        );
        if pod_restarts == "Never" && policy.restart_policy != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(
                path,
                policy.restart_policy.as_str(),
                why,
            ));
        }
    }
}

fn has_restart_rules(container: &Container) -> bool {
    container
        .restart_policy_rules
        .as_ref()
        .is_some_and(|rules| !rules.is_empty())
}

/// A container's own restart policy, and rules by exit code (KEP-5307).
fn restart_policy(errors: &mut FieldErrors, container: &Container, path: &FieldPath) {
    let rules = container
        .restart_policy_rules
        .as_deref()
        .unwrap_or_default();
    match &container.restart_policy {
        None if rules.is_empty() => return,
        None => errors.push(FieldError::required(
            &path.child("restartPolicy"),
            "must specify restartPolicy when restart rules are used",
        )),
        Some(policy) => one_of(
            errors,
            policy,
            &RESTART_POLICIES,
            &path.child("restartPolicy"),
        ),
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > RESTART_RULES_MAX {
        errors.push(FieldError::too_many(&path, rules.len(), RESTART_RULES_MAX));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        one_of(
            errors,
            &rule.action,
            &["Restart", "RestartAllContainers"],
            &path.child("action"),
        );
        let Some(codes) = &rule.exit_codes else {
            errors.push(FieldError::required(
                &path.child("exitCodes"),
                "must be specified",
            ));
            continue;
        };
        one_of(
            errors,
            &codes.operator,
            &["In", "NotIn"],
            &path.child("exitCodes").child("operator"),
        );
        let values = codes.values.as_ref().map_or(0, Vec::len);
        if values > EXIT_CODES_MAX {
            errors.push(FieldError::too_many(
                &path.child("exitCodes").child("values"),
                values,
                EXIT_CODES_MAX,
            ));
        }
    }
}

/// Variables that come from a file need a volume that containers can write (KEP-5359).
pub(super) fn file_keys(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    visit_containers(spec, path, |container, path| {
        for (index, variable) in container.env.iter().flatten().enumerate() {
            let Some(key) = variable
                .value_from
                .as_ref()
                .and_then(|source| source.file_key_ref.as_ref())
            else {
                continue;
            };
            let path = path
                .child("env")
                .index(index)
                .child("valueFrom")
                .child("fileKeyRef")
                .child("volumeName");
            match spec
                .volumes
                .iter()
                .flatten()
                .find(|volume| volume.name == key.volume_name)
            {
                None => errors.push(FieldError::not_found(&path, key.volume_name.as_str())),
                Some(volume) if volume.empty_dir.is_none() => errors.push(FieldError::invalid(
                    &path,
                    key.volume_name.as_str(),
                    "referenced volume must be of type emptyDir",
                )),
                Some(_) => {}
            }
        }
    });
}
