//! Kinds of the group `networking`, one file each.

pub mod ingress;
pub mod ingress_class;
mod ingress_validation;
pub mod ip_address;
pub mod network_policy;
mod network_policy_validation;
pub mod service_cidr;
