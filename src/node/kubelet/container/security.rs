//! What a container's process may do: its own security context over the pod's, with Kubernetes' defaults.

use std::path::Path;

use cri::{
    Capabilities, Image, LinuxContainerSecurityContext, Privilege, ProcMount, RunAsUser,
    SeccompProfile, SupplementalGroupsPolicy,
};
use k8s_openapi::api::core::v1::{
    self as core, Container, Pod, PodSecurityContext, SecurityContext,
};

use crate::container::{Result, refuse};
use crate::pods::facts::{spec, title};

/// The security context of a container, or why it must not run.
pub(crate) fn security_context(
    pod: &Pod,
    container: &Container,
    image: &Image,
    seccomp_profiles: &Path,
) -> Result<LinuxContainerSecurityContext> {
    let pod_context = spec(pod).security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let user = id(own.run_as_user.or(pod_context.run_as_user), "runAsUser")?;
    verify_non_root(pod, container, &pod_context, &own, image)?;
    let privileged = own.privileged == Some(true);
    let group = id(own.run_as_group.or(pod_context.run_as_group), "runAsGroup")?;
    if own.proc_mount.as_deref() == Some("Unmasked") && spec(pod).host_users != Some(false) {
        return refuse("procMount Unmasked needs hostUsers: false");
    }
    Ok(LinuxContainerSecurityContext {
        privilege: if privileged {
            Privilege::Privileged
        } else {
            Privilege::Confined(capabilities(own.capabilities.as_ref()))
        },
        user: user.map_or(RunAsUser::Image, RunAsUser::Uid),
        run_as_group: group,
        supplemental_groups: supplemental_groups(&pod_context)?,
        supplemental_groups_policy: match pod_context.supplemental_groups_policy.as_deref() {
            Some("Strict") => SupplementalGroupsPolicy::Strict,
            _ => SupplementalGroupsPolicy::Merge,
        },
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        read_only_root_filesystem: own.read_only_root_filesystem == Some(true),
        seccomp: if privileged {
            SeccompProfile::Unconfined
        } else {
            seccomp(&pod_context, &own, seccomp_profiles)?
        },
        proc_mount: match own.proc_mount.as_deref() {
            Some("Unmasked") => ProcMount::Unmasked,
            _ => ProcMount::Default,
        },
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
    })
}

fn id(value: Option<i64>, field: &str) -> Result<Option<u32>> {
    match value.map(u32::try_from) {
        None => Ok(None),
        Some(Ok(id)) => Ok(Some(id)),
        Some(Err(_)) => refuse(format!("{field} is no user or group id")),
    }
}

fn supplemental_groups(context: &PodSecurityContext) -> Result<Vec<u32>> {
    let all = context
        .fs_group
        .into_iter()
        .chain(context.supplemental_groups.iter().flatten().copied());
    all.filter_map(|group| id(Some(group), "supplementalGroups").transpose())
        .collect()
}

fn capabilities(own: Option<&core::Capabilities>) -> Capabilities {
    let list = |names: Option<&Vec<String>>| names.cloned().unwrap_or_default();
    Capabilities {
        add: list(own.and_then(|own| own.add.as_ref())),
        drop: list(own.and_then(|own| own.drop.as_ref())),
        add_ambient: Vec::new(),
    }
}

/// The runtime's default filter, unless the container or else the pod says otherwise.
fn seccomp(
    pod: &PodSecurityContext,
    own: &SecurityContext,
    profiles: &Path,
) -> Result<SeccompProfile> {
    let Some(profile) = own
        .seccomp_profile
        .as_ref()
        .or(pod.seccomp_profile.as_ref())
    else {
        return Ok(SeccompProfile::RuntimeDefault);
    };
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("RuntimeDefault", _) => Ok(SeccompProfile::RuntimeDefault),
        ("Unconfined", _) => Ok(SeccompProfile::Unconfined),
        ("Localhost", Some(name)) if !name.is_empty() && is_inside(name) => {
            Ok(SeccompProfile::Localhost(profiles.join(name)))
        }
        ("Localhost", _) => {
            refuse("localhostProfile must be set if seccompProfile type is Localhost.")
        }
        (other, _) => refuse(format!("seccompProfile type {other} is not supported")),
    }
}

fn is_inside(name: &str) -> bool {
    Path::new(name)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)))
}

fn verify_non_root(
    pod: &Pod,
    container: &Container,
    pod_context: &PodSecurityContext,
    own: &SecurityContext,
    image: &Image,
) -> Result<()> {
    if own.run_as_non_root.or(pod_context.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let whose = format!("(pod: {:?}, container: {})", title(pod), container.name);
    if let Some(user) = own.run_as_user.or(pod_context.run_as_user) {
        return match user {
            0 => refuse(format!(
                "container's runAsUser breaks non-root policy {whose}"
            )),
            _ => Ok(()),
        };
    }
    let user = image.config.user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(0) => refuse(format!(
            "container has runAsNonRoot and image will run as root {whose}"
        )),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => refuse(format!(
            "container has runAsNonRoot and image will run as root {whose}"
        )),
        Err(_) => refuse(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {whose}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn make(
        pod: serde_json::Value,
        own: serde_json::Value,
        user: &str,
    ) -> Result<LinuxContainerSecurityContext> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "securityContext": pod}}),
        )
        .unwrap();
        let container: Container =
            serde_json::from_value(json!({"name": "c", "securityContext": own})).unwrap();
        let image = Image {
            id: cri::ImageId::default(),
            repo_tags: vec![],
            repo_digests: vec![],
            size_bytes: 0,
            config: cri::ImageConfig {
                user: user.to_owned(),
                ..Default::default()
            },
            pinned: false,
        };
        security_context(&pod, &container, &image, Path::new("/profiles"))
    }

    #[test]
    fn the_containers_word_counts_before_the_pods() {
        let made = make(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]}),
            json!({"runAsUser": 5}),
            "",
        )
        .unwrap();
        assert_eq!(
            (made.user, made.run_as_group, made.supplemental_groups),
            (RunAsUser::Uid(5), Some(2), vec![3, 4])
        );
        assert_eq!(made.seccomp, SeccompProfile::RuntimeDefault);
    }

    #[test]
    fn run_as_non_root_is_verified_against_spec_and_image() {
        let non_root = json!({"runAsNonRoot": true});
        let text = |user| make(non_root.clone(), json!({}), user).unwrap_err().0;
        assert_eq!(
            text(""),
            "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"
        );
        assert!(
            text("nginx")
                .contains("image has non-numeric user (nginx), cannot verify user is non-root")
        );
        assert!(make(non_root.clone(), json!({}), "1000:0").is_ok());
        assert!(
            make(non_root, json!({"runAsUser": 0}), "1000")
                .unwrap_err()
                .0
                .starts_with("container's runAsUser breaks non-root policy")
        );
    }
}
