//! Services that are in this binary, under the names that k3s has for what it packages.

use std::collections::BTreeSet;

use crate::ConfigError;
use crate::error::invalid;

/// A built-in service that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuiltIn {
    /// The cluster's DNS.
    Dns,
    /// Addresses of nodes for Services of type `LoadBalancer`.
    ServiceLoadBalancer,
}

const NAMES: &[(&str, BuiltIn)] = &[
    ("coredns", BuiltIn::Dns),
    ("servicelb", BuiltIn::ServiceLoadBalancer),
];
/// What k3s packages and this binary has not.
const NOT_BUILT: &[&str] = &[
    "ccm",
    "local-storage",
    "metrics-server",
    "runtimes",
    "traefik",
];

pub(crate) fn disabled(said: &[String]) -> Result<BTreeSet<BuiltIn>, ConfigError> {
    said.iter()
        .map(|name| {
            let name = name.trim();
            let known = NAMES.iter().find(|(known, _)| *known == name);
            known.map(|(_, service)| *service).ok_or_else(|| {
                if NOT_BUILT.contains(&name) {
                    let why = "it is not built, so there is nothing to leave out";
                    return invalid("disable", name, why);
                }
                let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
                let why = format!(
                    "no built-in service has this name; there is {}",
                    names.join(", ")
                );
                invalid("disable", name, &why)
            })
        })
        .collect()
}
