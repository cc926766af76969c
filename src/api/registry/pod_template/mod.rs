//! What every kind that holds a pod's spec shares: its defaults and its validation.

mod defaults;
pub(crate) mod validation;
mod volume_defaults;
pub(crate) mod warnings;

pub(crate) use defaults::{
    default_pod_spec, default_requests_from_limits, default_template, default_text,
};
pub(crate) use volume_defaults::default_claim_spec;
