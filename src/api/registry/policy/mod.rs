//! Kinds of the group `policy`, one file each.

pub mod pod_disruption_budget;
