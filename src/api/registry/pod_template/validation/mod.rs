//! Validation of pod specs, alone and in templates of workloads.

mod affinity;
mod annotations;
mod claims;
mod containers;
mod environment;
mod mounts;
mod probes;
mod projected;
mod scheduling;
mod security;
mod spec;
mod volume_sources;
mod volumes;

pub(crate) use affinity::taint_effect;
pub(crate) use annotations::{matching_annotations, pod_annotations};
pub(crate) use claims::{ACCESS_MODES, VOLUME_MODES, access_modes, claim_spec};
pub(crate) use containers::{untrimmed_image, visit_containers};
pub(crate) use scheduling::tolerations;
pub(crate) use spec::{Holder, pod_spec, template_spec};
pub(crate) use volume_sources::{
    Sources, aws_disk, azure_disk, azure_file, ceph_monitors, fibre_channel, flex, flocker,
    gce_disk, host_path, image_of_rbd, iscsi_initiator, nfs, no_backsteps, photon, portworx,
    quobyte, scale_io, storage_os, vsphere,
};
