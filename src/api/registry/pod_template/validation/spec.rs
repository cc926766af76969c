//! A pod's spec as a whole: the order of checks is that of upstream, so that errors come in the same order.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath, dns1123_subdomain_error};
use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec, PodTemplateSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{affinity, annotations, containers, scheduling, security, volumes};
use crate::validation::{
    addresses, amounts, names, numbers, required_one_of, resource_names, text,
};

const NAMESERVERS_MAX: usize = 3;
const SEARCH_PATHS_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;
const HOSTNAME_OVERRIDE_BYTES_MAX: usize = 64;

/// Whose spec it is: a real pod is held to more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holder<'a> {
    Pod(&'a ObjectMeta),
    Template,
}

impl Holder<'_> {
    pub(super) fn is_pod(self) -> bool {
        matches!(self, Self::Pod(_))
    }
}

/// The template of a workload.
pub(crate) fn template_spec(
    errors: &mut FieldErrors,
    template: &PodTemplateSpec,
    path: &FieldPath,
) {
    let empty = ObjectMeta::default();
    let metadata = template.metadata.as_ref().unwrap_or(&empty);
    let no_spec = PodSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&no_spec);
    names::labels(errors, metadata.labels.as_ref(), &path.child("labels"));
    names::annotations(
        errors,
        metadata.annotations.as_ref(),
        &path.child("annotations"),
    );
    annotations::pod_annotations(
        errors,
        metadata.annotations.as_ref(),
        spec,
        &path.child("annotations"),
    );
    pod_spec(errors, spec, Holder::Template, &path.child("spec"));
    annotations::matching_annotations(
        errors,
        metadata.annotations.as_ref(),
        spec,
        &path.child("spec"),
    );
    if spec
        .ephemeral_containers
        .as_ref()
        .is_some_and(|containers| !containers.is_empty())
    {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(
            &path.child("spec").child("ephemeralContainers"),
            why,
        ));
    }
}

pub(crate) fn pod_spec(
    errors: &mut FieldErrors,
    spec: &PodSpec,
    holder: Holder<'_>,
    path: &FieldPath,
) {
    if spec.termination_grace_period_seconds.is_none() {
        errors.push(FieldError::required(
            &path.child("terminationGracePeriodSeconds"),
            "",
        ));
    }
    let volumes = volumes::volumes(
        errors,
        spec.volumes.as_deref().unwrap_or_default(),
        holder,
        &path.child("volumes"),
    );
    let claims = resource_claims(errors, spec, holder, &path.child("resourceClaims"));
    containers::all(errors, spec, &volumes, &claims, path);
    pod_resources(errors, spec, &claims, path);
    host_ports(errors, spec, holder, path);
    restart_and_dns_policy(errors, spec, path);
    names::labels(
        errors,
        spec.node_selector.as_ref(),
        &path.child("nodeSelector"),
    );
    security::pod_context(errors, spec, &path.child("securityContext"));
    if let Some(affinity) = &spec.affinity {
        affinity::affinity(errors, affinity, &path.child("affinity"));
    }
    dns_config(
        errors,
        spec.dns_config.as_ref(),
        text(&spec.dns_policy),
        &path.child("dnsConfig"),
    );
    readiness_gates(errors, spec, path);
    scheduling::gates(
        errors,
        spec.scheduling_gates.as_deref().unwrap_or_default(),
        &path.child("schedulingGates"),
    );
    scheduling::topology_spread(
        errors,
        spec.topology_spread_constraints
            .as_deref()
            .unwrap_or_default(),
        &path.child("topologySpreadConstraints"),
    );
    security::windows_host_processes(errors, spec, path);
    security::user_namespace(errors, spec, path);
    hostname_override(errors, spec, path);
    names_and_deadlines(errors, spec, path);
    scheduling::tolerations(
        errors,
        spec.tolerations.as_deref().unwrap_or_default(),
        &path.child("tolerations"),
    );
    host_aliases(errors, spec, path);
    classes_and_overhead(errors, spec, path);
    security::operating_system(errors, spec, path);
    containers::file_keys(errors, spec, path);
}

fn readiness_gates(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = path
            .child("readinessGates")
            .index(index)
            .child("conditionType");
        names::qualified_name(errors, &gate.condition_type, &path);
    }
}

fn host_aliases(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.child("hostAliases").index(index);
        addresses::legacy_ip(errors, &alias.ip, &path.child("ip"), &[]);
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            names::dns_subdomain(errors, name, &path.child("hostnames").index(index));
        }
    }
}

fn restart_and_dns_policy(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    let restart = ["Always", "OnFailure", "Never"];
    required_one_of(
        errors,
        text(&spec.restart_policy),
        &restart,
        &path.child("restartPolicy"),
    );
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    required_one_of(
        errors,
        text(&spec.dns_policy),
        &dns,
        &path.child("dnsPolicy"),
    );
}

fn resource_claims(
    errors: &mut FieldErrors,
    spec: &PodSpec,
    holder: Holder<'_>,
    path: &FieldPath,
) -> BTreeSet<String> {
    let claims = spec.resource_claims.as_deref().unwrap_or_default();
    let is_static = matches!(holder, Holder::Pod(metadata) if annotations::is_mirror(metadata));
    let mut seen = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        if is_static {
            errors.push(FieldError::forbidden(
                &FieldPath::root(),
                "static pods do not support resource claims",
            ));
            continue;
        }
        let path = path.index(index);
        if claim.name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if !seen.insert(claim.name.clone()) {
            errors.push(FieldError::duplicate(
                &path.child("name"),
                claim.name.as_str(),
            ));
        } else {
            names::dns_label(errors, &claim.name, &path.child("name"));
        }
        let shown = serde_json::json!({"Name": claim.name, "ResourceClaimName": claim.resource_claim_name,
            "ResourceClaimTemplateName": claim.resource_claim_template_name});
        match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (Some(_), Some(_)) => errors.push(FieldError::invalid(
                &path,
                shown,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            )),
            (None, None) => errors.push(FieldError::invalid(
                &path,
                shown,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            )),
            _ => {}
        }
        for (name, field) in [
            (&claim.resource_claim_name, "resourceClaimName"),
            (
                &claim.resource_claim_template_name,
                "resourceClaimTemplateName",
            ),
        ] {
            if let Some(name) = name {
                names::dns_subdomain(errors, name, &path.child(field));
            }
        }
    }
    claims
        .iter()
        .map(|claim| claim.name.clone())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Resources of the pod as a whole must hold those of its containers (KEP-2837).
fn pod_resources(
    errors: &mut FieldErrors,
    spec: &PodSpec,
    claims: &BTreeSet<String>,
    path: &FieldPath,
) {
    let Some(resources) = &spec.resources else {
        return;
    };
    let path = path.child("resources");
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        errors.push(FieldError::forbidden(
            &path,
            "may not be set for a windows pod",
        ));
        return;
    }
    if resources.claims.is_some() {
        errors.push(FieldError::forbidden(
            &path.child("claims"),
            "claims may not be set for Resources at pod-level",
        ));
    }
    amounts::pod_requirements(errors, Some(resources), claims, &path);
    let mut without = spec.clone();
    without.resources = None;
    without.overhead = None;
    for (name, sum) in semantics::resources::pod_requests(&without) {
        let request = resources
            .requests
            .as_ref()
            .and_then(|requests| requests.get(&name));
        if let Some(request) = request.filter(|request| sum > amounts::amount(request)) {
            let why =
                format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.push(FieldError::invalid(
                &path.child("requests").key(&name),
                amounts::shown(request),
                why,
            ));
        }
    }
    for (name, sum) in semantics::resources::pod_limits(&without) {
        let limit = resources
            .limits
            .as_ref()
            .and_then(|limits| limits.get(&name));
        let is_exceeded = resource_names::is_huge_pages(&name);
        if let Some(limit) = limit.filter(|limit| is_exceeded && sum > amounts::amount(limit)) {
            let why =
                format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.push(FieldError::invalid(
                &path.child("limits").key(&name),
                amounts::shown(limit),
                why,
            ));
        }
    }
    container_limits(errors, spec, resources, &path);
}

fn container_limits(
    errors: &mut FieldErrors,
    spec: &PodSpec,
    resources: &ResourceRequirements,
    path: &FieldPath,
) {
    for (index, container) in spec.containers.iter().enumerate() {
        let limits = container
            .resources
            .as_ref()
            .and_then(|resources| resources.limits.as_ref());
        for (name, limit) in limits.into_iter().flatten() {
            let whole = resources
                .limits
                .as_ref()
                .and_then(|limits| limits.get(name));
            if let Some(whole) =
                whole.filter(|whole| amounts::amount(limit) > amounts::amount(whole))
            {
                let path = path
                    .child("containers")
                    .index(index)
                    .key(name)
                    .child("limits");
                let why = format!(
                    "must be less than or equal to pod limits of {}",
                    amounts::shown(whole)
                );
                errors.push(FieldError::invalid(&path, amounts::shown(limit), why));
            }
        }
    }
}

/// On the host's network, a port of the container is a port of the host.
fn host_ports(errors: &mut FieldErrors, spec: &PodSpec, holder: Holder<'_>, path: &FieldPath) {
    if spec.host_network != Some(true) {
        return;
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.child("containers").index(index).child("ports");
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or(0);
            if (holder.is_pod() || host_port != 0) && host_port != port.container_port {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(
                    &path.index(index).child("hostPort"),
                    host_port,
                    why,
                ));
            }
        }
    }
}

fn dns_config(
    errors: &mut FieldErrors,
    config: Option<&PodDNSConfig>,
    policy: &str,
    path: &FieldPath,
) {
    let nameservers = config
        .and_then(|config| config.nameservers.as_deref())
        .unwrap_or_default();
    if policy == "None" {
        if config.is_none() {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(path, why));
            return;
        }
        if nameservers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(FieldError::required(&path.child("nameservers"), why));
            return;
        }
    }
    let Some(config) = config else { return };
    if nameservers.len() > NAMESERVERS_MAX {
        let why = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(FieldError::invalid(
            &path.child("nameservers"),
            nameservers.to_vec(),
            why,
        ));
    }
    for (index, address) in nameservers.iter().enumerate() {
        addresses::legacy_ip(
            errors,
            address,
            &path.child("nameservers").index(index),
            &[],
        );
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    let searches_path = path.child("searches");
    if searches.len() > SEARCH_PATHS_MAX {
        let why = format!("must not have more than {SEARCH_PATHS_MAX} search paths");
        errors.push(FieldError::invalid(&searches_path, searches.to_vec(), why));
    }
    if searches.join(" ").len() > SEARCH_CHARACTERS_MAX {
        let why = format!(
            "must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(&searches_path, searches.to_vec(), why));
    }
    for (index, search) in searches
        .iter()
        .enumerate()
        .filter(|(_, search)| *search != ".")
    {
        let search = search.strip_suffix('.').unwrap_or(search);
        names::dns_subdomain_with_underscores(errors, search, &searches_path.index(index));
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if text(&option.name).is_empty() {
            errors.push(FieldError::required(
                &path.child("options").index(index),
                "must not be empty",
            ));
        }
    }
}

fn hostname_override(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    let Some(name) = &spec.hostname_override else {
        return;
    };
    let path = path.child("hostnameOverride");
    if spec.set_hostname_as_fqdn == Some(true) {
        errors.push(FieldError::forbidden(
            &path,
            "may not be specified when setHostnameAsFQDN is true",
        ));
    }
    if spec.host_network == Some(true) {
        errors.push(FieldError::forbidden(
            &path,
            "may not be specified when hostNetwork is true",
        ));
    }
    if name.len() > HOSTNAME_OVERRIDE_BYTES_MAX {
        errors.push(FieldError::too_long(
            &path,
            i64::try_from(HOSTNAME_OVERRIDE_BYTES_MAX).unwrap_or(i64::MAX),
        ));
    }
    names::dns_subdomain(errors, name, &path);
}

fn names_and_deadlines(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    for (name, field) in [
        (&spec.service_account_name, "serviceAccountName"),
        (&spec.node_name, "nodeName"),
    ] {
        optional_subdomain(errors, text(name), &path.child(field));
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        numbers::in_range(
            errors,
            seconds,
            1,
            i64::from(i32::MAX),
            &path.child("activeDeadlineSeconds"),
        );
    }
    for (name, field) in [(&spec.hostname, "hostname"), (&spec.subdomain, "subdomain")] {
        let name = text(name);
        if !name.is_empty() {
            names::dns_label(errors, name, &path.child(field));
        }
    }
}

fn optional_subdomain(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    if !name.is_empty() {
        errors
            .extend(dns1123_subdomain_error(name).map(|why| FieldError::invalid(path, name, why)));
    }
}

fn classes_and_overhead(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    optional_subdomain(
        errors,
        text(&spec.priority_class_name),
        &path.child("priorityClassName"),
    );
    if let Some(class) = &spec.runtime_class_name {
        names::dns_subdomain(errors, class, &path.child("runtimeClassName"));
    }
    if let Some(policy) = &spec.preemption_policy {
        required_one_of(
            errors,
            policy,
            &["PreemptLowerPriority", "Never"],
            &path.child("preemptionPolicy"),
        );
    }
    if let Some(overhead) = &spec.overhead {
        let requirements = ResourceRequirements {
            limits: Some(overhead.clone()),
            ..ResourceRequirements::default()
        };
        amounts::container_requirements(
            errors,
            Some(&requirements),
            &BTreeSet::new(),
            &path.child("overhead"),
        );
    }
}
