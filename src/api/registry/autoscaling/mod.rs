//! Kinds of the group `autoscaling`, one file each.

mod autoscalers;
pub mod horizontal_pod_autoscaler;
pub mod horizontal_pod_autoscaler_v1;
mod validation;
