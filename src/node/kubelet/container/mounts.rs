//! Which host paths a container sees where: volumes with sub-paths, `/etc/hosts`, the termination log.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use cri::{Mount, MountPropagation, MountReadOnly};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use crate::container::expand::expand;
use crate::container::{Result, refuse};
use volumes::MountedVolume;

pub(crate) const ETC_HOSTS: &str = "/etc/hosts";

/// A volume mount, decided as far as it can be without looking at the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedMount {
    /// Index in `volumeMounts`.
    pub(crate) index: usize,
    pub(crate) volume: MountedVolume,
    /// Relative, without `..`; `None`: the volume's root.
    pub(crate) sub_path: Option<PathBuf>,
    pub(crate) container_path: PathBuf,
    pub(crate) read_only: MountReadOnly,
    pub(crate) propagation: MountPropagation,
}

impl PlannedMount {
    /// With the host path that the volumes found for it.
    pub(crate) fn at(self, host_path: PathBuf) -> Mount {
        Mount {
            host_path,
            container_path: self.container_path,
            read_only: self.read_only,
            propagation: self.propagation,
            idmap: self.volume.idmap,
        }
    }
}

pub(crate) fn plan_mounts(
    container: &Container,
    volumes: &BTreeMap<String, MountedVolume>,
    environment: &[(String, String)],
) -> Result<Vec<PlannedMount>> {
    container
        .volume_mounts
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, mount)| plan_mount(container, index, mount, volumes, environment))
        .collect()
}

fn plan_mount(
    container: &Container,
    index: usize,
    mount: &VolumeMount,
    volumes: &BTreeMap<String, MountedVolume>,
    environment: &[(String, String)],
) -> Result<PlannedMount> {
    let Some(volume) = volumes.get(&mount.name) else {
        return refuse(format!(
            "cannot find volume {:?} to mount into container {:?}",
            mount.name, container.name
        ));
    };
    let container_path = Path::new("/").join(&mount.mount_path);
    let read_only = mount.read_only == Some(true) || volume.read_only;
    Ok(PlannedMount {
        index,
        volume: volume.clone(),
        sub_path: sub_path(mount, environment)?,
        container_path,
        read_only: match (read_only, mount.recursive_read_only.as_deref()) {
            (false, _) => MountReadOnly::No,
            (true, Some("Enabled" | "IfPossible")) => MountReadOnly::Recursive,
            (true, _) => MountReadOnly::Yes,
        },
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => MountPropagation::HostToContainer,
            Some("Bidirectional") => MountPropagation::Bidirectional,
            _ => MountPropagation::Private,
        },
    })
}

fn sub_path(mount: &VolumeMount, environment: &[(String, String)]) -> Result<Option<PathBuf>> {
    let text = match mount
        .sub_path_expr
        .as_deref()
        .filter(|text| !text.is_empty())
    {
        Some(expression) => expand_all(expression, environment)?,
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    if text.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(&text);
    if path.is_absolute() {
        return refuse(format!(
            "error SubPath `{text}` must not be an absolute path"
        ));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return refuse(format!(
            "unable to provision SubPath `{text}`: must not contain '..'"
        ));
    }
    Ok(Some(path))
}

/// Unlike elsewhere, a reference that is not known is an error here.
fn expand_all(expression: &str, environment: &[(String, String)]) -> Result<String> {
    let missing = std::cell::RefCell::new(Vec::new());
    let expanded = expand(expression, |name| {
        let found = environment
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone());
        if found.as_deref().is_none_or(str::is_empty) {
            missing.borrow_mut().push(name.to_owned());
        }
        found
    });
    if missing.borrow().is_empty() {
        Ok(expanded)
    } else {
        refuse(format!(
            "missing value for {:?}",
            missing.borrow().join(", ")
        ))
    }
}

/// A pod manages `/etc/hosts` unless the container mounts something of its own there.
pub(crate) fn manages_hosts_file(pod: &Pod, container: &Container, has_addresses: bool) -> bool {
    let own = container
        .volume_mounts
        .iter()
        .flatten()
        .any(|mount| Path::new(&mount.mount_path) == Path::new(ETC_HOSTS));
    !own && (has_addresses || crate::pods::facts::is_host_network(pod))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(mount: serde_json::Value) -> Result<Option<PathBuf>> {
        let mount: VolumeMount = serde_json::from_value(mount).unwrap();
        sub_path(
            &mount,
            &[
                ("A".to_owned(), "x".to_owned()),
                ("B".to_owned(), "/y".to_owned()),
            ],
        )
    }

    #[test]
    fn a_sub_path_is_expanded_and_stays_inside_its_volume() {
        let expression = |text| plan(json!({"name": "v", "mountPath": "/m", "subPathExpr": text}));
        assert_eq!(expression("$(A)/z").unwrap(), Some(PathBuf::from("x/z")));
        assert_eq!(
            expression("$(B)").unwrap_err().0,
            "error SubPath `/y` must not be an absolute path"
        );
        assert!(
            expression("$(C)")
                .unwrap_err()
                .0
                .starts_with("missing value for")
        );
        assert!(plan(json!({"name": "v", "mountPath": "/m", "subPath": "../x"})).is_err());
    }
}
