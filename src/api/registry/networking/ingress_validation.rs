//! What an Ingress must be: rules, paths and what they lead to.

use apimachinery::{FieldError, FieldErrors, FieldPath, NameRule};
use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
};

use crate::validation::{addresses, found, names, path, ports, text};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
/// What routers take for steps in a path.
const FORBIDDEN_IN_PATHS: [&str; 6] = ["//", "/./", "/../", "%2f", "%2F", "\\"];
const FORBIDDEN_AT_ENDS: [&str; 2] = ["/..", "/."];
const IS_ADDRESS: &str = "must be a DNS name, not an IP address";

pub(super) fn validate(ingress: &Ingress, old: Option<&Ingress>) -> FieldErrors {
    let none = IngressSpec::default();
    let spec = ingress.spec.as_ref().unwrap_or(&none);
    let old = old.map(|old| old.spec.as_ref().unwrap_or(&none));
    let path = FieldPath::new("spec");
    found(|errors| {
        let rules = spec.rules.as_deref().unwrap_or_default();
        if rules.is_empty() && spec.default_backend.is_none() {
            let why = "either `defaultBackend` or `rules` must be specified";
            errors.push(FieldError::invalid(
                &path,
                crate::validation::changes::json(&spec.rules),
                why,
            ));
        }
        if let Some(default) = &spec.default_backend {
            backend(errors, default, &path.child("defaultBackend"));
        }
        let wildcards_may_be_wrong = old.is_some_and(has_wrong_wildcard);
        for (index, rule) in rules.iter().enumerate() {
            one_rule(
                errors,
                rule,
                wildcards_may_be_wrong,
                &path.child("rules").index(index),
            );
        }
        let secrets_may_be_wrong = old.is_some_and(has_wrong_secret);
        tls(errors, spec, secrets_may_be_wrong, &path.child("tls"));
        if let Some(class) = &spec.ingress_class_name {
            names::dns_subdomain(errors, class, &path.child("ingressClassName"));
        }
    })
}

/// The class of a new Ingress is told once, or twice the same.
pub(super) fn one_class(ingress: &Ingress) -> FieldErrors {
    let annotation = ingress
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(CLASS_ANNOTATION));
    let class = ingress
        .spec
        .as_ref()
        .and_then(|spec| spec.ingress_class_name.as_ref());
    found(|errors| {
        if let (Some(annotation), Some(class)) = (annotation, class)
            && annotation != class
        {
            let why = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(
                &path(&["annotations", CLASS_ANNOTATION]),
                annotation.as_str(),
                why,
            ));
        }
    })
}

pub(super) fn validate_status(ingress: &Ingress, old: &Ingress) -> FieldErrors {
    let points = |ingress: &Ingress| {
        let balancer = ingress
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        balancer
            .and_then(|balancer| balancer.ingress.clone())
            .unwrap_or_default()
    };
    let known: Vec<String> = points(old)
        .into_iter()
        .filter_map(|point| point.ip)
        .collect();
    found(|errors| {
        for (index, point) in points(ingress).iter().enumerate() {
            let path = path(&["status", "loadBalancer", "ingress"]).index(index);
            if !text(&point.ip).is_empty() {
                addresses::legacy_ip(errors, text(&point.ip), &path.child("ip"), &known);
            }
            let host = text(&point.hostname);
            if !host.is_empty() {
                names::dns_subdomain(errors, host, &path.child("hostname"));
                if addresses::parse_sloppy(host).is_some() {
                    errors.push(FieldError::invalid(
                        &path.child("hostname"),
                        host,
                        IS_ADDRESS,
                    ));
                }
            }
        }
    })
}

fn has_wrong_secret(spec: &IngressSpec) -> bool {
    let root = FieldPath::root();
    let mut names = spec
        .tls
        .iter()
        .flatten()
        .map(|tls| text(&tls.secret_name))
        .filter(|name| !name.is_empty());
    names.any(|name| !found(|errors| names::dns_subdomain(errors, name, &root)).is_empty())
}

fn has_wrong_wildcard(spec: &IngressSpec) -> bool {
    let mut wildcards = spec
        .rules
        .iter()
        .flatten()
        .filter(|rule| text(&rule.host).contains('*'));
    wildcards.any(|rule| !found(|errors| paths(errors, rule, &FieldPath::root())).is_empty())
}

fn host(errors: &mut FieldErrors, host: &str, path: &FieldPath) {
    if host.contains('*') {
        names::wildcard_subdomain(errors, host, path);
    } else {
        names::dns_subdomain(errors, host, path);
    }
}

fn tls(errors: &mut FieldErrors, spec: &IngressSpec, secrets_may_be_wrong: bool, path: &FieldPath) {
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        let path = path.index(index);
        for (index, name) in tls.hosts.iter().flatten().enumerate() {
            host(errors, name, &path.child("hosts").index(index));
        }
        let secret = text(&tls.secret_name);
        if !secret.is_empty() && !secrets_may_be_wrong {
            names::dns_subdomain(errors, secret, &path.child("secretName"));
        }
    }
}

fn one_rule(
    errors: &mut FieldErrors,
    rule: &IngressRule,
    wildcards_may_be_wrong: bool,
    path: &FieldPath,
) {
    let name = text(&rule.host);
    if !name.is_empty() {
        let path = path.child("host");
        if addresses::parse_sloppy(name).is_some() {
            errors.push(FieldError::invalid(&path, name, IS_ADDRESS));
        }
        host(errors, name, &path);
    }
    if !(wildcards_may_be_wrong && name.contains('*')) {
        paths(errors, rule, path);
    }
}

fn paths(errors: &mut FieldErrors, rule: &IngressRule, path: &FieldPath) {
    let Some(http) = &rule.http else { return };
    let path = path.child("http").child("paths");
    if http.paths.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    for (index, one) in http.paths.iter().enumerate() {
        one_path(errors, one, &path.index(index));
    }
}

fn one_path(errors: &mut FieldErrors, rule: &HTTPIngressPath, path: &FieldPath) {
    let target = text(&rule.path);
    let mut refuse =
        |why: String| errors.push(FieldError::invalid(&path.child("path"), target, why));
    let is_absolute = target.starts_with('/');
    match rule.path_type.as_str() {
        "Exact" | "Prefix" => {
            if !is_absolute {
                refuse("must be an absolute path".to_owned());
            }
            for part in FORBIDDEN_IN_PATHS
                .into_iter()
                .filter(|part| target.contains(part))
            {
                refuse(format!("must not contain '{part}'"));
            }
            for end in FORBIDDEN_AT_ENDS
                .into_iter()
                .filter(|end| target.ends_with(end))
            {
                refuse(format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !target.is_empty() && !is_absolute {
                refuse("must be an absolute path".to_owned());
            }
        }
        "" => {
            errors.push(FieldError::required(
                &path.child("pathType"),
                "pathType must be specified",
            ));
            return;
        }
        other => errors.push(FieldError::not_supported(
            &path.child("pathType"),
            other,
            &PATH_TYPES,
        )),
    }
    backend(errors, &rule.backend, &path.child("backend"));
}

fn backend(errors: &mut FieldErrors, backend: &IngressBackend, path: &FieldPath) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(
                path,
                "",
                "cannot set both resource and service backends",
            ));
        }
        (Some(resource), None) => typed_reference(errors, resource, &path.child("resource")),
        (None, Some(service)) => service_backend(errors, service, path),
        (None, None) => errors.push(FieldError::invalid(
            path,
            "",
            "resource or service backend is required",
        )),
    }
}

fn service_backend(errors: &mut FieldErrors, service: &IngressServiceBackend, path: &FieldPath) {
    let service_path = path.child("service");
    match service.name.as_str() {
        "" => errors.push(FieldError::required(&service_path.child("name"), "")),
        name => names::dns_label(errors, name, &service_path.child("name")),
    }
    let port = service.port.clone().unwrap_or_default();
    let port_path = service_path.child("port");
    match (text(&port.name), port.number.unwrap_or(0)) {
        ("", 0) => errors.push(FieldError::required(
            path,
            "port name or number is required",
        )),
        ("", number) => ports::number(errors, number, &port_path.child("number")),
        (name, 0) => ports::name(errors, name, &port_path.child("name")),
        _ => errors.push(FieldError::invalid(
            path,
            "",
            "cannot set both port name & port number",
        )),
    }
}

fn typed_reference(
    errors: &mut FieldErrors,
    reference: &TypedLocalObjectReference,
    path: &FieldPath,
) {
    if let Some(group) = &reference.api_group {
        names::dns_subdomain(errors, group, &path.child("apiGroup"));
    }
    path_segment(errors, &reference.kind, &path.child("kind"));
    path_segment(errors, &reference.name, &path.child("name"));
}

/// A name that must be there and can stand in a URL.
pub(super) fn path_segment(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if let Some(why) = NameRule::PathSegment.error(name) {
        errors.push(FieldError::invalid(path, name, why));
    }
}
