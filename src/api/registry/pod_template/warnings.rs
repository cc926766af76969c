//! What a pod's author should know though it is no error: fields of the past, and definitions that hide each other.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::FieldPath;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, NodeSelectorTerm, PodAffinityTerm, PodSpec, PodTemplateSpec, Volume,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::validation::visit_containers;
use crate::validation::{addresses, amounts, text};

const LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
];
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const NO_MATCH: &str = "a null labelSelector results in matching no pod";

/// Warnings of a pod that is being created.
pub(crate) fn pod_warnings(metadata: &ObjectMeta, spec: &PodSpec) -> Vec<String> {
    warnings(metadata, spec, &FieldPath::root())
}

/// Warnings of the template of a workload.
pub(crate) fn template_warnings(
    template: Option<&PodTemplateSpec>,
    path: &FieldPath,
) -> Vec<String> {
    let Some(template) = template else {
        return Vec::new();
    };
    let metadata = template.metadata.clone().unwrap_or_default();
    warnings(&metadata, &template.spec.clone().unwrap_or_default(), path)
}

/// What a label of nodes was replaced by.
pub(crate) fn deprecated_label(label: &str) -> Option<&'static str> {
    LABELS
        .iter()
        .find(|(known, _)| *known == label)
        .map(|(_, message)| *message)
}

fn warnings(metadata: &ObjectMeta, spec: &PodSpec, path: &FieldPath) -> Vec<String> {
    let mut found = Vec::new();
    let own = path.child("spec");
    scheduling(&mut found, spec, &own);
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let annotations_path = path.child("metadata").child("annotations");
    for (key, message) in ANNOTATIONS {
        if annotations.contains_key(key) {
            found.push(format!("{}: {message}", annotations_path.key(key)));
        }
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        deprecated_volume(&mut found, volume, &own.child("volumes").index(index));
    }
    duplicates(&mut found, spec, &own);
    for (name, amount) in spec.overhead.iter().flatten() {
        fractional_bytes(&mut found, name, amount, &own.child("overhead"));
    }
    let profile = spec
        .security_context
        .as_ref()
        .and_then(|context| context.seccomp_profile.as_ref());
    if profile.is_none() && annotations.contains_key(SECCOMP_POD) {
        let message = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
        found.push(format!("{}: {message}", annotations_path.key(SECCOMP_POD)));
    }
    visit_containers(spec, &own, |container, path| {
        of_container(&mut found, container, path);
    });
    ports(&mut found, spec, &own);
    if spec
        .termination_grace_period_seconds
        .is_some_and(|seconds| seconds < 0)
    {
        let message = "must be >= 0; negative values are invalid and will be treated as 1";
        found.push(format!(
            "{}: {message}",
            own.child("terminationGracePeriodSeconds")
        ));
    }
    affinity(&mut found, spec, &own.child("affinity"));
    let dns = spec
        .dns_config
        .as_ref()
        .and_then(|config| config.nameservers.as_ref());
    for (index, address) in dns.into_iter().flatten().enumerate() {
        unusual_address(
            &mut found,
            address,
            &own.child("dnsConfig").child("nameservers").index(index),
        );
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        unusual_address(
            &mut found,
            &alias.ip,
            &own.child("hostAliases").index(index).child("ip"),
        );
    }
    found
}

fn scheduling(found: &mut Vec<String>, spec: &PodSpec, path: &FieldPath) {
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some(message) = deprecated_label(key) {
            found.push(format!(
                "{}: {message}",
                path.child("nodeSelector").key(key)
            ));
        }
    }
    if let Some(nodes) = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
    {
        let path = path.child("affinity").child("nodeAffinity");
        let required = nodes
            .required_during_scheduling_ignored_during_execution
            .as_ref();
        let terms = path
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .child("nodeSelectorTerms");
        for (index, term) in required
            .iter()
            .flat_map(|selector| selector.node_selector_terms.iter())
            .enumerate()
        {
            node_term(found, term, &terms.index(index));
        }
        let preferred = nodes
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        let terms = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in preferred.enumerate() {
            node_term(
                found,
                &term.preference,
                &terms.index(index).child("preference"),
            );
        }
    }
    for (index, constraint) in spec
        .topology_spread_constraints
        .iter()
        .flatten()
        .enumerate()
    {
        let path = path.child("topologySpreadConstraints").index(index);
        let key = &constraint.topology_key;
        if let Some(message) = deprecated_label(key) {
            found.push(format!("{}: {key} is {message}", path.child("topologyKey")));
        }
        if constraint.label_selector.is_none() {
            found.push(format!("{}: {NO_MATCH}", path.child("labelSelector")));
        }
    }
}

fn node_term(found: &mut Vec<String>, term: &NodeSelectorTerm, path: &FieldPath) {
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        if let Some(message) = deprecated_label(&requirement.key) {
            let path = path.child("matchExpressions").index(index).child("key");
            found.push(format!("{path}: {} is {message}", requirement.key));
        }
    }
}

fn deprecated_volume(found: &mut Vec<String>, volume: &Volume, path: &FieldPath) {
    for (is_used, field, message) in [
        (
            volume.photon_persistent_disk.is_some(),
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            volume.git_repo.is_some(),
            "gitRepo",
            "deprecated in v1.11, and disabled by default in v1.33+",
        ),
        (
            volume.scale_io.is_some(),
            "scaleIO",
            "deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            volume.flocker.is_some(),
            "flocker",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume.storageos.is_some(),
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume.quobyte.is_some(),
            "quobyte",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume.glusterfs.is_some(),
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            volume.cephfs.is_some(),
            "cephfs",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            volume.rbd.is_some(),
            "rbd",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
    ] {
        if is_used {
            found.push(format!("{}: {message}", path.child(field)));
        }
    }
}

fn duplicates(found: &mut Vec<String>, spec: &PodSpec, path: &FieldPath) {
    let mut addresses = BTreeSet::new();
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        if !addresses.insert(&alias.ip) {
            let path = path.child("hostAliases").index(index).child("ip");
            found.push(format!("{path}: duplicate ip {:?}", alias.ip));
        }
    }
    let mut names = BTreeSet::new();
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if !names.insert(&secret.name) {
            let path = path.child("imagePullSecrets").index(index).child("name");
            found.push(format!("{path}: duplicate name {:?}", secret.name));
        }
    }
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if secret.name.is_empty() {
            let path = path.child("imagePullSecrets").index(index).child("name");
            found.push(format!("{path}: invalid empty name \"\""));
        }
    }
}

fn fractional_bytes(
    found: &mut Vec<String>,
    name: &str,
    amount: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    path: &FieldPath,
) {
    if matches!(name, "memory" | "ephemeral-storage") && !amounts::amount(amount).is_whole() {
        let shown = amounts::shown(amount);
        found.push(format!(
            "{}: fractional byte value {shown:?} is invalid, must be an integer",
            path.key(name)
        ));
    }
}

fn of_container(found: &mut Vec<String>, container: &Container, path: &FieldPath) {
    let resources = container.resources.clone().unwrap_or_default();
    let path_of = |field: &str| path.child("resources").child(field);
    for name in ["memory", "ephemeral-storage"] {
        for (list, field) in [
            (&resources.limits, "limits"),
            (&resources.requests, "requests"),
        ] {
            if let Some(amount) = list.as_ref().and_then(|list| list.get(name)) {
                fractional_bytes(found, name, amount, &path_of(field));
            }
        }
    }
    let mut names = BTreeSet::new();
    for (index, variable) in container.env.iter().flatten().enumerate() {
        if names.insert(&variable.name) {
            continue;
        }
        let itself = format!("$({})", variable.name);
        let value = text(&variable.value);
        if variable.value_from.is_some() || value == itself || !value.contains(&itself) {
            found.push(format!(
                "{}: hides previous definition of {:?}, which may be dropped when using apply",
                path.child("env").index(index),
                variable.name
            ));
        }
    }
}

fn ports(found: &mut Vec<String>, spec: &PodSpec, path: &FieldPath) {
    let mut all: Vec<(FieldPath, ContainerPort)> = Vec::new();
    visit_containers(spec, path, |container, path| {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            all.push((path.child("ports").index(index), port.clone()));
        }
    });
    for (at, (path, port)) in all.iter().enumerate() {
        let (ip, host) = (text(&port.host_ip), port.host_port.unwrap_or(0));
        if !ip.is_empty() && host == 0 {
            let protocol = text(&port.protocol);
            found.push(format!(
                "{path}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{protocol} HostIP:{ip}}}",
                text(&port.name),
                port.container_port
            ));
        }
        let same = |other: &ContainerPort| {
            other.container_port == port.container_port && other.protocol == port.protocol
        };
        for (other_path, other) in all[..at].iter().filter(|(_, other)| same(other)) {
            let (other_ip, other_host) = (text(&other.host_ip), other.host_port.unwrap_or(0));
            if (ip, host) == (other_ip, other_host) {
                found.push(format!(
                    "{path}: duplicate port definition with {other_path}"
                ));
            } else if host == 0 || other_host == 0 {
                found.push(format!(
                    "{path}: overlapping port definition with {other_path}"
                ));
            } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                found.push(format!(
                    "{path}: dangerously ambiguous port definition with {other_path}"
                ));
            }
        }
    }
    let mut named: BTreeMap<&str, &FieldPath> = BTreeMap::new();
    for (path, port) in &all {
        let name = text(&port.name);
        if name.is_empty() {
            continue;
        }
        match named.get(name) {
            Some(other) => found.push(format!(
                "{path}: duplicate port name {name:?} with {other}, services and probes that select ports by name will \
                 use {other}"
            )),
            None => {
                named.insert(name, path);
            }
        }
    }
}

fn affinity(found: &mut Vec<String>, spec: &PodSpec, path: &FieldPath) {
    let Some(affinity) = &spec.affinity else {
        return;
    };
    if let Some(together) = &affinity.pod_affinity {
        let required = together
            .required_during_scheduling_ignored_during_execution
            .as_deref();
        let preferred = together
            .preferred_during_scheduling_ignored_during_execution
            .as_deref();
        terms(
            found,
            required.unwrap_or_default(),
            preferred.unwrap_or_default(),
            &path.child("podAffinity"),
        );
    }
    if let Some(apart) = &affinity.pod_anti_affinity {
        let required = apart
            .required_during_scheduling_ignored_during_execution
            .as_deref();
        let preferred = apart
            .preferred_during_scheduling_ignored_during_execution
            .as_deref();
        terms(
            found,
            required.unwrap_or_default(),
            preferred.unwrap_or_default(),
            &path.child("podAntiAffinity"),
        );
    }
}

fn terms(
    found: &mut Vec<String>,
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
    path: &FieldPath,
) {
    for (index, term) in required.iter().enumerate() {
        if term.label_selector.is_none() {
            let path = path
                .child("requiredDuringSchedulingIgnoredDuringExecution")
                .index(index)
                .child("labelSelector");
            found.push(format!("{path}: {NO_MATCH}"));
        }
    }
    for (index, term) in preferred.iter().enumerate() {
        if term.pod_affinity_term.label_selector.is_none() {
            let path = path
                .child("preferredDuringSchedulingIgnoredDuringExecution")
                .index(index);
            found.push(format!(
                "{}: {NO_MATCH}",
                path.child("podAffinityTerm").child("labelSelector")
            ));
        }
    }
}

/// Addresses that more than one text stands for.
pub(crate) fn unusual_address(found: &mut Vec<String>, address: &str, path: &FieldPath) {
    let Some(parsed) = addresses::parse_sloppy(address) else {
        return;
    };
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => {
            let canonical = v6.to_string();
            if canonical != address {
                found.push(format!(
                    "{path}: IPv6 address {address:?} should be in RFC 5952 canonical format ({canonical:?})"
                ));
            }
        }
        Ok(std::net::IpAddr::V4(_)) => {}
        _ => found.push(format!(
            "{path}: non-standard IP address {address:?} is invalid: use {:?}",
            parsed.to_string()
        )),
    }
}
