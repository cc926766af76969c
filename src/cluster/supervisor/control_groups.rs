//! Where in the control groups of this host a server's pods live.

use kubelet::MemoryLimits;
use linux::cgroup::Cgroups;

/// The server's own leaf below a delegated group: `DelegateSubgroup=` in systemd/combo.service.
const LEAF: &str = "server";
const ROOT: &str = "/";
/// A service is at most this deep: `/some.slice/other.slice/combo.service`.
const DEPTH_MAX: usize = 3;

/// The group that a server's pods are made below: beside its own leaf where systemd put it into one, else the root.
///
/// The server does not move itself into a leaf: systemd before 254 could not start it again then, because no process can
/// enter a group whose children have controllers (see src/decisions/0005).
pub(crate) fn for_pods() -> anyhow::Result<String> {
    Ok(Cgroups::detect()?
        .delegated(LEAF)?
        .unwrap_or_else(|| ROOT.to_owned()))
}

/// Whether pods can be held to their limits of memory here. Groups that cannot be read at all fail where they are needed.
pub(crate) fn memory_limits() -> MemoryLimits {
    let controllers = Cgroups::detect().and_then(|groups| groups.controllers());
    controllers.map_or_else(
        |_unreadable| MemoryLimits::default(),
        |names| MemoryLimits::of_controllers(&names),
    )
}

/// The group that the pods of an instance were made below.
pub(crate) fn of_instance(instance: &str) -> anyhow::Result<String> {
    let found = Cgroups::detect()?
        .parents_of(instance, DEPTH_MAX)
        .into_iter()
        .next();
    Ok(found.unwrap_or_else(|| ROOT.to_owned()))
}
