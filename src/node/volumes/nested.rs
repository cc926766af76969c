//! Volumes that are mounted inside a volume of objects need a directory there, which the read-only volume cannot get later: pure.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

/// Paths in the volume `name` where containers of the pod mount other volumes; none below another.
pub(crate) fn mount_points(pod: &Pod, name: &str) -> BTreeSet<PathBuf> {
    let mut nested = BTreeSet::new();
    let Some(spec) = &pod.spec else { return nested };
    for container in spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
    {
        let mounts: Vec<(&str, PathBuf)> = container
            .volume_mounts
            .iter()
            .flatten()
            .map(|mount| (mount.name.as_str(), clean(Path::new(&mount.mount_path))))
            .collect();
        let all: BTreeSet<&PathBuf> = mounts.iter().map(|(_, path)| path).collect();
        for (_, own) in mounts.iter().filter(|(volume, _)| *volume == name) {
            let mut previous: Option<&Path> = None;
            for path in all
                .iter()
                .filter(|path| path.starts_with(own) && **path != own)
            {
                if previous.is_some_and(|previous| path.starts_with(previous)) {
                    continue;
                }
                previous = Some(path);
                nested.extend(path.strip_prefix(own).map(Path::to_path_buf));
            }
        }
    }
    nested
}

/// The path with `..` resolved by name, as the container's root has no links yet.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_outermost_places_inside_the_volume_are_made() {
        let mounts = |list: &[(&str, &str)]| {
            let mounts: Vec<_> = list
                .iter()
                .map(|(name, path)| serde_json::json!({"name": name, "mountPath": path}))
                .collect();
            serde_json::json!({"spec": {"containers": [{"name": "c", "volumeMounts": mounts}]}})
        };
        let pod: Pod = serde_json::from_value(mounts(&[
            ("mine", "/a"),
            ("x", "/a/b/"),
            ("y", "/a/b/c"),
            ("z", "/ab"),
            ("w", "/a/../a/d"),
        ]))
        .unwrap();
        let found: Vec<PathBuf> = mount_points(&pod, "mine").into_iter().collect();
        assert_eq!(found, [PathBuf::from("b"), PathBuf::from("d")]);
        assert!(mount_points(&pod, "x").contains(Path::new("c")));
    }
}
