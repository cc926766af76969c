//! What a NetworkPolicy must be: peers, ports and ranges of addresses.

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::validation::changes::json;
use crate::validation::{addresses, found, one_of, ports, selectors};

const TYPES: [&str; 2] = ["Ingress", "Egress"];

/// Ranges that stood in the old policy may stay, even where today's rules refuse them.
pub(super) fn validate(policy: &NetworkPolicy, old: Option<&NetworkPolicy>) -> FieldErrors {
    let none = NetworkPolicySpec::default();
    let spec = policy.spec.as_ref().unwrap_or(&none);
    let known: Vec<String> = old
        .and_then(|old| old.spec.as_ref())
        .map(ranges)
        .unwrap_or_default();
    let path = FieldPath::new("spec");
    found(|errors| {
        selectors::label_selector(
            errors,
            spec.pod_selector.as_ref(),
            &path.child("podSelector"),
        );
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            let path = path.child("ingress").index(index);
            all_ports(errors, rule.ports.as_deref(), &path);
            peers(errors, rule.from.as_deref(), &known, &path.child("from"));
        }
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            let path = path.child("egress").index(index);
            all_ports(errors, rule.ports.as_deref(), &path);
            peers(errors, rule.to.as_deref(), &known, &path.child("to"));
        }
        let types = spec.policy_types.as_deref().unwrap_or_default();
        let path = path.child("policyTypes");
        if types.len() > TYPES.len() {
            errors.push(FieldError::invalid(
                &path,
                json(types),
                "may not specify more than two policyTypes",
            ));
            return;
        }
        for (index, kind) in types.iter().enumerate() {
            one_of(errors, kind, &TYPES, &path.index(index));
        }
    })
}

fn ranges(spec: &NetworkPolicySpec) -> Vec<String> {
    let sources = spec
        .ingress
        .iter()
        .flatten()
        .flat_map(|rule| rule.from.iter().flatten());
    let targets = spec
        .egress
        .iter()
        .flatten()
        .flat_map(|rule| rule.to.iter().flatten());
    let blocks = sources
        .chain(targets)
        .filter_map(|peer| peer.ip_block.as_ref());
    blocks
        .flat_map(|block| std::iter::once(&block.cidr).chain(block.except.iter().flatten()))
        .cloned()
        .collect()
}

fn all_ports(errors: &mut FieldErrors, ports: Option<&[NetworkPolicyPort]>, path: &FieldPath) {
    for (index, port) in ports.into_iter().flatten().enumerate() {
        one_port(errors, port, &path.child("ports").index(index));
    }
}

fn one_port(errors: &mut FieldErrors, port: &NetworkPolicyPort, path: &FieldPath) {
    if let Some(protocol) = &port.protocol {
        one_of(
            errors,
            protocol,
            &["TCP", "UDP", "SCTP"],
            &path.child("protocol"),
        );
    }
    let (number_path, end_path) = (path.child("port"), path.child("endPort"));
    match (&port.port, port.end_port) {
        (Some(IntOrString::Int(number)), end) => {
            ports::number(errors, *number, &number_path);
            if let Some(end) = end {
                if end < *number {
                    errors.push(FieldError::invalid(
                        &end_path,
                        *number,
                        "must be greater than or equal to `port`",
                    ));
                }
                ports::number(errors, end, &end_path);
            }
        }
        (Some(IntOrString::String(name)), end) => {
            if let Some(end) = end {
                errors.push(FieldError::invalid(
                    &end_path,
                    end,
                    "may not be specified when `port` is non-numeric",
                ));
            }
            ports::name(errors, name, &number_path);
        }
        (None, Some(end)) => {
            errors.push(FieldError::invalid(
                &end_path,
                end,
                "may not be specified when `port` is not specified",
            ));
        }
        (None, None) => (),
    }
}

fn peers(
    errors: &mut FieldErrors,
    peers: Option<&[NetworkPolicyPeer]>,
    known: &[String],
    path: &FieldPath,
) {
    for (index, peer) in peers.into_iter().flatten().enumerate() {
        let path = path.index(index);
        selectors::label_selector(
            errors,
            peer.pod_selector.as_ref(),
            &path.child("podSelector"),
        );
        selectors::label_selector(
            errors,
            peer.namespace_selector.as_ref(),
            &path.child("namespaceSelector"),
        );
        if let Some(block) = &peer.ip_block {
            ip_block(errors, block, known, &path.child("ipBlock"));
        }
        let has_selector = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match (has_selector, peer.ip_block.is_some()) {
            (false, false) => errors.push(FieldError::required(&path, "must specify a peer")),
            (true, true) => errors.push(FieldError::forbidden(
                &path,
                "may not specify both ipBlock and another peer",
            )),
            _ => (),
        }
    }
}

fn ip_block(errors: &mut FieldErrors, block: &IPBlock, known: &[String], path: &FieldPath) {
    if block.cidr.is_empty() {
        errors.push(FieldError::required(&path.child("cidr"), ""));
        return;
    }
    addresses::legacy_cidr(errors, &block.cidr, &path.child("cidr"), known);
    let Some(outer) = addresses::range(&block.cidr) else {
        return;
    };
    for (index, except) in block.except.iter().flatten().enumerate() {
        let path = path.child("except").index(index);
        addresses::legacy_cidr(errors, except, &path, known);
        let Some(inner) = addresses::range(except) else {
            continue;
        };
        if !addresses::is_strictly_inside(inner, outer) {
            errors.push(FieldError::invalid(
                &path,
                except.as_str(),
                "must be a strict subset of `cidr`",
            ));
        }
    }
}
