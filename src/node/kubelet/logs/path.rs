//! Where logs lie.

use cri::ContainerId;

/// The link name that log collectors take apart: `<pod>_<namespace>_<container>-<id>.log`.
pub(crate) fn container_link_name(
    pod: &str,
    namespace: &str,
    container: &str,
    id: &ContainerId,
) -> String {
    format!("{pod}_{namespace}_{container}-{id}.log")
}
