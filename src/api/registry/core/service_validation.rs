//! What a Service must be: its ports, addresses and families, and what each type may and must say.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath, in_order};
use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServicePort, ServiceSpec};
use serde_json::Value;

use crate::pod_template::warnings::unusual_address;
use crate::validation::changes::json;
use crate::validation::{addresses, found, names, one_of, path, ports, required_one_of, text};

const NO_ADDRESS: &str = "None";
const AFFINITIES: [&str; 2] = ["ClientIP", "None"];
const AFFINITY_SECONDS_MAX: i32 = 86_400;
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const FAMILY_POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
const ADDRESS_MODES: [&str; 2] = ["Proxy", "VIP"];
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_FOR_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";
const IS_SET: &str = "may not change once set";

/// `old` is there on updates.
pub(super) fn validate(service: &Service, old: Option<&Service>) -> FieldErrors {
    let none = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&none);
    let old_spec = old.map(|old| old.spec.as_ref().unwrap_or(&none));
    let path = FieldPath::new("spec");
    found(|errors| {
        topology_annotations(errors, service);
        for_type(errors, spec, &path);
        all_ports(errors, spec, &path.child("ports"));
        names::labels(errors, spec.selector.as_ref(), &path.child("selector"));
        affinity(errors, spec, &path);
        cluster_addresses(errors, spec, old_spec, &path);
        external_addresses(errors, spec, old_spec, &path.child("externalIPs"));
        required_one_of(errors, text(&spec.type_), &TYPES, &path.child("type"));
        ports_apart(errors, spec, &path.child("ports"));
        source_ranges(errors, service, old, &path);
        balancer(errors, spec, &path);
        traffic(errors, spec, &path);
    })
}

/// What only an update can do wrong.
pub(super) fn validate_change(service: &Service, old: &Service) -> FieldErrors {
    let none = ServiceSpec::default();
    let (spec, old) = (
        service.spec.as_ref().unwrap_or(&none),
        old.spec.as_ref().unwrap_or(&none),
    );
    let path = FieldPath::new("spec");
    found(|errors| {
        let is_external = |spec: &ServiceSpec| type_of(spec) == "ExternalName";
        if !is_external(spec) && !is_external(old) {
            addresses_stay(errors, spec, old, &path);
            families_stay(errors, spec, old, &path);
        }
        if type_of(spec) == "LoadBalancer" && type_of(old) == "LoadBalancer" {
            let path = path.child("loadBalancerClass");
            if spec.load_balancer_class != old.load_balancer_class {
                errors.push(FieldError::invalid(
                    &path,
                    json(&spec.load_balancer_class),
                    IS_SET,
                ));
            }
        }
        let changes_port =
            spec.health_check_node_port.unwrap_or(0) != old.health_check_node_port.unwrap_or(0);
        if needs_health_check(spec) && needs_health_check(old) && changes_port {
            errors.push(FieldError::forbidden(
                &path.child("healthCheckNodePort"),
                "field is immutable",
            ));
        }
    })
}

pub(super) fn validate_status(service: &Service, old: &Service) -> FieldErrors {
    let balancer = |service: &Service| {
        service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.clone())
    };
    let is_balancer = service
        .spec
        .as_ref()
        .is_some_and(|spec| type_of(spec) == "LoadBalancer");
    let path = path(&["status", "loadBalancer", "ingress"]);
    let status = balancer(service).unwrap_or_default();
    found(|errors| {
        if !is_balancer
            && status
                .ingress
                .as_ref()
                .is_some_and(|points| !points.is_empty())
        {
            errors.push(FieldError::forbidden(
                &path,
                "may only be used when `spec.type` is 'LoadBalancer'",
            ));
        } else {
            entry_points(errors, &status, &balancer(old).unwrap_or_default(), &path);
        }
    })
}

fn entry_points(
    errors: &mut FieldErrors,
    status: &LoadBalancerStatus,
    old: &LoadBalancerStatus,
    path: &FieldPath,
) {
    let known: Vec<String> = old
        .ingress
        .iter()
        .flatten()
        .filter_map(|point| point.ip.clone())
        .collect();
    for (index, point) in status.ingress.iter().flatten().enumerate() {
        let path = path.index(index);
        let ip = text(&point.ip);
        if !ip.is_empty() {
            addresses::legacy_ip(errors, ip, &path.child("ip"), &known);
        }
        let mode_path = path.child("ipMode");
        match &point.ip_mode {
            None if ip.is_empty() => (),
            None => errors.push(FieldError::required(
                &mode_path,
                "must be specified when `ip` is set",
            )),
            Some(_) if ip.is_empty() => {
                errors.push(FieldError::forbidden(
                    &mode_path,
                    "may not be specified when `ip` is not set",
                ));
            }
            Some(mode) => one_of(errors, mode, &ADDRESS_MODES, &mode_path),
        }
        let host = text(&point.hostname);
        if !host.is_empty() {
            let path = path.child("hostname");
            names::dns_subdomain(errors, host, &path);
            if addresses::parse_sloppy(host).is_some() {
                errors.push(FieldError::invalid(
                    &path,
                    host,
                    "must be a DNS name, not an IP address",
                ));
            }
        }
    }
}

pub(super) fn warnings(service: &Service) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(spec) = &service.spec else {
        return warnings;
    };
    let path = FieldPath::new("spec");
    if service
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(TOPOLOGY_HINTS))
    {
        warnings.push(format!(
            "annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"
        ));
    }
    let without_address = text(&spec.cluster_ip) == NO_ADDRESS;
    if !text(&spec.cluster_ip).is_empty() && !without_address {
        for (index, address) in spec.cluster_ips.iter().flatten().enumerate() {
            unusual_address(
                &mut warnings,
                address,
                &path.child("clusterIPs").index(index),
            );
        }
    }
    let is_headless = type_of(spec) == "ClusterIP" && without_address;
    if is_headless {
        ignored_without_address(&mut warnings, spec);
    }
    let external = spec.external_ips.as_deref().unwrap_or_default();
    for (index, address) in external.iter().enumerate() {
        unusual_address(
            &mut warnings,
            address,
            &path.child("externalIPs").index(index),
        );
    }
    let is_alias = type_of(spec) == "ExternalName";
    if !external.is_empty() && !is_headless && !is_alias {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                .to_owned(),
        );
    }
    unusual_load_balancer(&mut warnings, spec, &path);
    if is_alias && !external.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_alias && !text(&spec.external_name).is_empty() {
        warnings
            .push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(&spec.traffic_distribution) == "PreferClose" {
        warnings.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""
                .to_owned(),
        );
    }
    warnings
}

fn ignored_without_address(warnings: &mut Vec<String>, spec: &ServiceSpec) {
    let external = spec.external_ips.as_deref().unwrap_or_default();
    for (is_set, field) in [
        (!text(&spec.load_balancer_ip).is_empty(), "loadBalancerIP"),
        (!external.is_empty(), "externalIPs"),
        (text(&spec.session_affinity) != "None", "SessionAffinity"),
    ] {
        if is_set {
            warnings.push(format!("spec.{field} is ignored for headless services"));
        }
    }
}

fn unusual_load_balancer(warnings: &mut Vec<String>, spec: &ServiceSpec, path: &FieldPath) {
    let address = text(&spec.load_balancer_ip);
    if !address.is_empty() {
        unusual_address(warnings, address, &path.child("loadBalancerIP"));
    }
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    for (index, range) in ranges.enumerate() {
        warnings.extend(addresses::unusual_cidr(
            range,
            &path.child("loadBalancerSourceRanges").index(index),
        ));
    }
}

fn type_of(spec: &ServiceSpec) -> &str {
    text(&spec.type_)
}

fn cluster_ips(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}

fn is_headless(spec: &ServiceSpec) -> bool {
    matches!(cluster_ips(spec), [only] if only == NO_ADDRESS)
}

fn is_reachable_from_outside(spec: &ServiceSpec) -> bool {
    let has_addresses = spec
        .external_ips
        .as_ref()
        .is_some_and(|addresses| !addresses.is_empty());
    matches!(type_of(spec), "LoadBalancer" | "NodePort")
        || type_of(spec) == "ClusterIP" && has_addresses
}

fn needs_health_check(spec: &ServiceSpec) -> bool {
    type_of(spec) == "LoadBalancer" && text(&spec.external_traffic_policy) == "Local"
}

fn topology_annotations(errors: &mut FieldErrors, service: &Service) {
    let Some(annotations) = &service.metadata.annotations else {
        return;
    };
    if let (Some(mode), Some(hints)) = (
        annotations.get(TOPOLOGY_MODE),
        annotations.get(TOPOLOGY_HINTS),
    ) && mode != hints
    {
        let path = path(&["metadata", "annotations"]).key(TOPOLOGY_MODE);
        let why = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.push(FieldError::invalid(&path, mode.as_str(), why));
    }
}

fn for_type(errors: &mut FieldErrors, spec: &ServiceSpec, path: &FieldPath) {
    let kind = type_of(spec);
    if spec.ports.as_ref().is_none_or(Vec::is_empty) && !is_headless(spec) && kind != "ExternalName"
    {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(
                &path.child("clusterIPs").index(0),
                NO_ADDRESS,
                why,
            ));
        }
        "ExternalName" => {
            let forbidden = [
                (!cluster_ips(spec).is_empty(), "clusterIPs"),
                (
                    spec.ip_families
                        .as_ref()
                        .is_some_and(|families| !families.is_empty()),
                    "ipFamilies",
                ),
                (spec.ip_family_policy.is_some(), "ipFamilyPolicy"),
            ];
            for (_, field) in forbidden.into_iter().filter(|(is_set, _)| *is_set) {
                errors.push(FieldError::forbidden(
                    &path.child(field),
                    "may not be set for ExternalName services",
                ));
            }
            let name = text(&spec.external_name);
            match name.strip_suffix('.').unwrap_or(name) {
                "" => errors.push(FieldError::required(&path.child("externalName"), "")),
                name => names::dns_subdomain(errors, name, &path.child("externalName")),
            }
        }
        _ => (),
    }
}

fn all_ports(errors: &mut FieldErrors, spec: &ServiceSpec, path: &FieldPath) {
    let all = spec.ports.as_deref().unwrap_or_default();
    let mut taken = BTreeSet::new();
    for (index, port) in all.iter().enumerate() {
        let path = path.index(index);
        let name = text(&port.name);
        let name_path = path.child("name");
        if !name.is_empty() {
            names::dns_label(errors, name, &name_path);
            if !taken.insert(name) {
                errors.push(FieldError::duplicate(&name_path, name));
            }
        } else if all.len() > 1 {
            errors.push(FieldError::required(&name_path, ""));
        }
        one_port(errors, port, &path);
    }
}

fn one_port(errors: &mut FieldErrors, port: &ServicePort, path: &FieldPath) {
    ports::number(errors, port.port, &path.child("port"));
    required_one_of(
        errors,
        text(&port.protocol),
        &ports::PROTOCOLS,
        &path.child("protocol"),
    );
    if let Some(target) = &port.target_port {
        ports::number_or_name(errors, target, &path.child("targetPort"));
    }
    if let Some(protocol) = &port.app_protocol {
        names::qualified_name(errors, protocol, &path.child("appProtocol"));
    }
}

/// No two ports with the same number and protocol, neither inside nor on nodes.
fn ports_apart(errors: &mut FieldErrors, spec: &ServiceSpec, path: &FieldPath) {
    let all = spec.ports.as_deref().unwrap_or_default();
    let node_port = |port: &ServicePort| port.node_port.filter(|number| *number != 0);
    if type_of(spec) == "ClusterIP" {
        for index in (0..all.len()).filter(|index| node_port(&all[*index]).is_some()) {
            let path = path.index(index).child("nodePort");
            errors.push(FieldError::forbidden(
                &path,
                "may not be used when `type` is 'ClusterIP'",
            ));
        }
    }
    let mut taken = BTreeSet::new();
    for (index, port) in all.iter().enumerate() {
        if let Some(number) = node_port(port)
            && !taken.insert((text(&port.protocol), number))
        {
            errors.push(FieldError::duplicate(
                &path.index(index).child("nodePort"),
                number,
            ));
        }
    }
    let mut taken = BTreeSet::new();
    for (index, port) in all.iter().enumerate() {
        if !taken.insert((text(&port.protocol), port.port)) {
            let shown = in_order(&[
                ("Name", "".into()),
                ("Protocol", json(&port.protocol)),
                ("AppProtocol", Value::Null),
                ("Port", port.port.into()),
                ("TargetPort", 0.into()),
                ("NodePort", 0.into()),
            ]);
            errors.push(FieldError::duplicate(&path.index(index), "").shown_as(shown));
        }
    }
}

fn affinity(errors: &mut FieldErrors, spec: &ServiceSpec, path: &FieldPath) {
    let kind = text(&spec.session_affinity);
    required_one_of(errors, kind, &AFFINITIES, &path.child("sessionAffinity"));
    let path = path.child("sessionAffinityConfig");
    let missing =
        |path: &FieldPath| FieldError::required(path, "when session affinity type is ClientIP");
    match (kind, &spec.session_affinity_config) {
        ("None", Some(_)) => {
            errors.push(FieldError::forbidden(
                &path,
                "must not be set when session affinity is None",
            ));
        }
        ("ClientIP", None) => errors.push(missing(&path)),
        ("ClientIP", Some(config)) => {
            let path = path.child("clientIP");
            let seconds_path = path.child("timeoutSeconds");
            match config
                .client_ip
                .as_ref()
                .map(|client| client.timeout_seconds)
            {
                None => errors.push(missing(&path)),
                Some(None) => errors.push(missing(&seconds_path)),
                Some(Some(seconds)) if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds) => {
                    let why =
                        format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                    errors.push(FieldError::invalid(&seconds_path, seconds, why));
                }
                Some(Some(_)) => (),
            }
        }
        _ => (),
    }
}

fn cluster_addresses(
    errors: &mut FieldErrors,
    spec: &ServiceSpec,
    old: Option<&ServiceSpec>,
    path: &FieldPath,
) {
    if type_of(spec) == "ExternalName" {
        return;
    }
    let list = cluster_ips(spec);
    let (list_path, families_path) = (path.child("clusterIPs"), path.child("ipFamilies"));
    match (text(&spec.cluster_ip), list.first()) {
        ("", Some(_)) => {
            errors.push(FieldError::invalid(
                &list_path,
                json(list),
                "must be empty when `clusterIP` is not specified",
            ));
        }
        ("", None) => (),
        (_, None) => errors.push(FieldError::required(&list_path, "")),
        (address, Some(first)) if address != first => {
            errors.push(FieldError::invalid(
                &list_path,
                json(list),
                "first value must match `clusterIP`",
            ));
        }
        _ => (),
    }
    let mut seen = BTreeSet::new();
    for (index, family) in spec.ip_families.iter().flatten().enumerate() {
        one_of(errors, family, &FAMILIES, &families_path.index(index));
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(
                &families_path.index(index),
                family.as_str(),
            ));
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        one_of(
            errors,
            policy,
            &FAMILY_POLICIES,
            &path.child("ipFamilyPolicy"),
        );
    }
    let refused = found(|errors| {
        each_cluster_address(
            errors,
            list,
            old.map(cluster_ips).unwrap_or_default(),
            &list_path,
        );
    });
    let has_invalid = !refused.is_empty();
    errors.extend(refused);
    if list.len() > 2 {
        errors.push(FieldError::invalid(
            &list_path,
            json(list),
            "may only hold up to 2 values",
        ));
    }
    if !has_invalid {
        addresses_fit_families(errors, spec, &list_path);
    }
}

fn each_cluster_address(
    errors: &mut FieldErrors,
    list: &[String],
    known: &[String],
    path: &FieldPath,
) {
    for (index, address) in list.iter().enumerate() {
        if index == 0 && address == NO_ADDRESS {
            if list.len() > 1 {
                errors.push(FieldError::invalid(
                    path,
                    json(list),
                    "'None' must be the first and only value",
                ));
            }
        } else {
            addresses::legacy_ip(errors, address, &path.index(index), known);
        }
    }
}

fn addresses_fit_families(errors: &mut FieldErrors, spec: &ServiceSpec, path: &FieldPath) {
    let list = cluster_ips(spec);
    if list.len() > 1 && !addresses::is_dual_stack(list.iter().map(String::as_str)) {
        errors.push(FieldError::invalid(
            path,
            json(list),
            "may specify no more than one IP for each IP family",
        ));
    }
    if is_headless(spec) {
        return;
    }
    for (index, (address, family)) in list
        .iter()
        .zip(spec.ip_families.iter().flatten())
        .enumerate()
    {
        let is_v6 = addresses::is_ipv6(address);
        if family == "IPv4" && is_v6 || family == "IPv6" && !is_v6 {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(
                &path.index(index),
                address.as_str(),
                why,
            ));
        }
    }
}

fn external_addresses(
    errors: &mut FieldErrors,
    spec: &ServiceSpec,
    old: Option<&ServiceSpec>,
    path: &FieldPath,
) {
    let known = old
        .and_then(|old| old.external_ips.as_deref())
        .unwrap_or_default();
    for (index, address) in spec.external_ips.iter().flatten().enumerate() {
        let path = path.index(index);
        let refused = found(|errors| addresses::legacy_ip(errors, address, &path, known));
        if refused.is_empty() {
            addresses::endpoint_ip(errors, address, &path);
        } else {
            errors.extend(refused);
        }
    }
}

fn source_ranges(
    errors: &mut FieldErrors,
    service: &Service,
    old: Option<&Service>,
    path: &FieldPath,
) {
    fn ranges(service: &Service) -> &[String] {
        service
            .spec
            .as_ref()
            .and_then(|spec| spec.load_balancer_source_ranges.as_deref())
            .unwrap_or_default()
    }
    fn annotation(service: &Service) -> Option<&String> {
        service.metadata.annotations.as_ref()?.get(SOURCE_RANGES)
    }
    let is_balancer = service
        .spec
        .as_ref()
        .is_some_and(|spec| type_of(spec) == "LoadBalancer");
    let listed = ranges(service);
    if !listed.is_empty() {
        let path = path.child("LoadBalancerSourceRanges");
        if !is_balancer {
            errors.push(FieldError::forbidden(&path, ONLY_FOR_BALANCERS));
        }
        let known: Vec<String> = old
            .map(ranges)
            .unwrap_or_default()
            .iter()
            .map(|range| range.trim().to_owned())
            .collect();
        for (index, range) in listed.iter().enumerate() {
            addresses::legacy_cidr(errors, range.trim(), &path.index(index), &known);
        }
    } else if let Some(value) = annotation(service) {
        let path = crate::validation::path(&["metadata", "annotations"]).key(SOURCE_RANGES);
        if !is_balancer {
            errors.push(FieldError::forbidden(&path, ONLY_FOR_BALANCERS));
        }
        let is_new = old.and_then(annotation) != Some(value);
        if is_new && !value.trim().is_empty() {
            for range in value.trim().split(',') {
                addresses::legacy_cidr(errors, range.trim(), &path, &[]);
            }
        }
    }
}

fn balancer(errors: &mut FieldErrors, spec: &ServiceSpec, path: &FieldPath) {
    let is_balancer = type_of(spec) == "LoadBalancer";
    match spec.allocate_load_balancer_node_ports {
        Some(_) if !is_balancer => {
            errors.push(FieldError::forbidden(
                &path.child("allocateLoadBalancerNodePorts"),
                ONLY_FOR_BALANCERS,
            ));
        }
        None if is_balancer => {
            errors.push(FieldError::required(
                &FieldPath::new("allocateLoadBalancerNodePorts"),
                "",
            ));
        }
        _ => (),
    }
    let path = path.child("loadBalancerClass");
    match &spec.load_balancer_class {
        Some(class) if is_balancer => names::qualified_name(errors, class, &path),
        Some(_) => errors.push(FieldError::forbidden(&path, ONLY_FOR_BALANCERS)),
        None => (),
    }
}

fn traffic(errors: &mut FieldErrors, spec: &ServiceSpec, path: &FieldPath) {
    let policy = text(&spec.external_traffic_policy);
    let policy_path = path.child("externalTrafficPolicy");
    if is_reachable_from_outside(spec) {
        required_one_of(errors, policy, &POLICIES, &policy_path);
    } else if !policy.is_empty() {
        errors.push(FieldError::invalid(
            &policy_path,
            policy,
            "may only be set for externally-accessible services",
        ));
    }
    let port_path = path.child("healthCheckNodePort");
    match (
        needs_health_check(spec),
        spec.health_check_node_port.unwrap_or(0),
    ) {
        (false, 0) => (),
        (false, port) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(&port_path, port, why));
        }
        (true, 0) => errors.push(FieldError::required(&port_path, "")),
        (true, port) => ports::number(errors, port, &port_path),
    }
    let inner_path = path.child("internalTrafficPolicy");
    match &spec.internal_traffic_policy {
        Some(policy) => one_of(errors, policy, &POLICIES, &inner_path),
        None if matches!(type_of(spec), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            errors.push(FieldError::required(&inner_path, ""));
        }
        None => (),
    }
    if let Some(distribution) = &spec.traffic_distribution {
        one_of(
            errors,
            distribution,
            &DISTRIBUTIONS,
            &path.child("trafficDistribution"),
        );
    }
}

/// The first address stays; a second one may come, and go if the Service asks for a single family.
fn addresses_stay(
    errors: &mut FieldErrors,
    spec: &ServiceSpec,
    old: &ServiceSpec,
    path: &FieldPath,
) {
    if is_headless(spec) && is_headless(old) {
        return;
    }
    let (new_list, old_list) = (cluster_ips(spec), cluster_ips(old));
    let at = |index: usize| path.child("clusterIPs").index(index);
    if new_list.len() == old_list.len() {
        for (index, _) in old_list
            .iter()
            .zip(new_list)
            .enumerate()
            .filter(|(_, (old, new))| old != new)
        {
            errors.push(FieldError::invalid(&at(index), json(new_list), IS_SET));
        }
        return;
    }
    let is_released = old_list.len() > new_list.len();
    if is_released && new_list.is_empty() {
        errors.push(FieldError::invalid(
            &at(0),
            json(&spec.cluster_ips),
            "primary clusterIP can not be unset",
        ));
    }
    if let (Some(new), Some(old)) = (new_list.first(), old_list.first())
        && new != old
    {
        errors.push(FieldError::invalid(&at(0), json(new_list), IS_SET));
    }
    if is_released && new_list.len() == 1 {
        must_be_single(errors, spec, "clusterIP", path);
    }
}

fn families_stay(
    errors: &mut FieldErrors,
    spec: &ServiceSpec,
    old: &ServiceSpec,
    path: &FieldPath,
) {
    if is_headless(spec) || is_headless(old) {
        return;
    }
    let new_list = spec.ip_families.as_deref().unwrap_or_default();
    let old_list = old.ip_families.as_deref().unwrap_or_default();
    let path_of_first = path.child("ipFamilies").index(0);
    if new_list.len() == old_list.len() {
        for _ in old_list
            .iter()
            .zip(new_list)
            .filter(|(old, new)| old != new)
        {
            errors.push(FieldError::invalid(&path_of_first, json(new_list), IS_SET));
        }
        return;
    }
    let is_released = old_list.len() > new_list.len();
    if is_released && cluster_ips(spec).is_empty() {
        errors.push(FieldError::invalid(
            &path_of_first,
            json(&spec.ip_families),
            "primary ipFamily can not be unset",
        ));
    }
    if let (Some(new), Some(old)) = (new_list.first(), old_list.first())
        && new != old
    {
        errors.push(FieldError::invalid(
            &path_of_first,
            json(&spec.cluster_ips),
            IS_SET,
        ));
    }
    if is_released && new_list.len() == 1 {
        must_be_single(errors, spec, "ipFamily", path);
    }
}

fn must_be_single(errors: &mut FieldErrors, spec: &ServiceSpec, released: &str, path: &FieldPath) {
    if text(&spec.ip_family_policy) != "SingleStack" {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {released}");
        errors.push(FieldError::invalid(
            &path.child("ipFamilyPolicy"),
            json(&spec.ip_family_policy),
            why,
        ));
    }
}
