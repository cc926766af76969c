//! Security contexts of pods and containers, and what each operating system has.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
    WindowsSecurityContextOptions,
};

use super::containers::visit_containers;
use super::volume_sources::local_descending_path;
use crate::validation::numbers::unix_id;
use crate::validation::patterns::Expression;
use crate::validation::{changes, names, one_of, text};

const SYSCTL_CHARACTERS_MAX: usize = 253;
const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const APP_ARMOR_BYTES_MAX: usize = 4095;
const GMSA_SPEC_BYTES_MAX: usize = 64 * 1024;
const WINDOWS_DOMAIN_CHARACTERS_MAX: usize = 256;
const WINDOWS_USER_CHARACTERS_MAX: usize = 104;

pub(super) fn pod_context(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    let Some(context) = &spec.security_context else {
        return;
    };
    unix_id(errors, context.fs_group, &path.child("fsGroup"));
    unix_id(errors, context.run_as_user, &path.child("runAsUser"));
    unix_id(errors, context.run_as_group, &path.child("runAsGroup"));
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        unix_id(
            errors,
            Some(*group),
            &path.child("supplementalGroups").index(index),
        );
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(
            &path.child("shareProcessNamespace"),
            true,
            why,
        ));
    }
    sysctls(errors, context, spec, &path.child("sysctls"));
    if let Some(policy) = &context.fs_group_change_policy {
        one_of(
            errors,
            policy,
            &["Always", "OnRootMismatch"],
            &path.child("fsGroupChangePolicy"),
        );
    }
    seccomp(
        errors,
        context.seccomp_profile.as_ref(),
        &path.child("seccompProfile"),
    );
    windows_options(
        errors,
        context.windows_options.as_ref(),
        &path.child("windowsOptions"),
    );
    app_armor(
        errors,
        context.app_armor_profile.as_ref(),
        &path.child("appArmorProfile"),
    );
    if let Some(policy) = &context.supplemental_groups_policy {
        one_of(
            errors,
            policy,
            &["Merge", "Strict"],
            &path.child("supplementalGroupsPolicy"),
        );
    }
    if let Some(policy) = &context.se_linux_change_policy {
        one_of(
            errors,
            policy,
            &["MountOption", "Recursive"],
            &path.child("seLinuxChangePolicy"),
        );
    }
}

fn sysctls(
    errors: &mut FieldErrors,
    context: &PodSecurityContext,
    spec: &PodSpec,
    path: &FieldPath,
) {
    static EXPRESSION: Expression = Expression::new(SYSCTL);
    let mut seen = BTreeSet::new();
    for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let path = path.index(index).child("name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if name.len() > SYSCTL_CHARACTERS_MAX || !EXPRESSION.matches(name) {
            let why = format!(
                "must have at most {SYSCTL_CHARACTERS_MAX} characters and match regex {SYSCTL}"
            );
            errors.push(FieldError::invalid(&path, name, why));
        } else if seen.contains(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        let dotted = dotted(name);
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            errors.push(FieldError::invalid(
                &path,
                name,
                "may not be specified when 'hostNetwork' is true",
            ));
        } else if spec.host_ipc == Some(true) && is_of_ipc(&dotted) {
            errors.push(FieldError::invalid(
                &path,
                name,
                "may not be specified when 'hostIPC' is true",
            ));
        }
        seen.insert(name);
    }
}

/// Sysctls may be written with slashes; then dots and slashes change places.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|character| match character {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn is_of_ipc(name: &str) -> bool {
    name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

pub(super) fn container_context(
    errors: &mut FieldErrors,
    context: &SecurityContext,
    spec: &PodSpec,
    path: &FieldPath,
) {
    unix_id(errors, context.run_as_user, &path.child("runAsUser"));
    unix_id(errors, context.run_as_group, &path.child("runAsGroup"));
    if let Some(mount) = &context.proc_mount {
        let path = path.child("procMount");
        one_of(errors, mount, &["Default", "Unmasked"], &path);
        if mount == "Unmasked" && spec.host_users != Some(false) {
            errors.push(FieldError::invalid(
                &path,
                mount.as_str(),
                "`hostUsers` must be false to use `Unmasked`",
            ));
        }
    }
    seccomp(
        errors,
        context.seccomp_profile.as_ref(),
        &path.child("seccompProfile"),
    );
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, as_in_go(context), why));
        }
        let added = context
            .capabilities
            .as_ref()
            .and_then(|capabilities| capabilities.add.as_ref());
        for _capability in added
            .into_iter()
            .flatten()
            .filter(|capability| *capability == "CAP_SYS_ADMIN")
        {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, as_in_go(context), why));
        }
    }
    windows_options(
        errors,
        context.windows_options.as_ref(),
        &path.child("windowsOptions"),
    );
    app_armor(
        errors,
        context.app_armor_profile.as_ref(),
        &path.child("appArmorProfile"),
    );
}

/// A context as Go prints it in an error: every field, by its Go name.
fn as_in_go(context: &SecurityContext) -> serde_json::Value {
    let capabilities = context.capabilities.as_ref().map(
        |capabilities| serde_json::json!({"Add": capabilities.add, "Drop": capabilities.drop}),
    );
    serde_json::json!({
        "Capabilities": capabilities,
        "Privileged": context.privileged,
        "SELinuxOptions": changes::json(&context.se_linux_options),
        "WindowsOptions": changes::json(&context.windows_options),
        "RunAsUser": context.run_as_user,
        "RunAsGroup": context.run_as_group,
        "RunAsNonRoot": context.run_as_non_root,
        "ReadOnlyRootFilesystem": context.read_only_root_filesystem,
        "AllowPrivilegeEscalation": context.allow_privilege_escalation,
        "ProcMount": context.proc_mount,
        "SeccompProfile": changes::json(&context.seccomp_profile),
        "AppArmorProfile": changes::json(&context.app_armor_profile),
    })
}

fn seccomp(errors: &mut FieldErrors, profile: Option<&SeccompProfile>, path: &FieldPath) {
    let Some(profile) = profile else { return };
    let kinds = ["Localhost", "RuntimeDefault", "Unconfined"];
    if profile.type_.is_empty() {
        errors.push(FieldError::required(
            &path.child("type"),
            "type is required when seccompProfile is set",
        ));
    } else {
        one_of(errors, &profile.type_, &kinds, &path.child("type"));
    }
    let path = path.child("localhostProfile");
    match (&profile.localhost_profile, profile.type_ == "Localhost") {
        (None, true) => errors.push(FieldError::required(
            &path,
            "must be set when seccomp type is Localhost",
        )),
        (Some(file), true) => local_descending_path(errors, file, &path),
        (Some(file), false) => {
            let shown = serde_json::json!({"Type": profile.type_, "LocalhostProfile": file});
            errors.push(FieldError::invalid(
                &path,
                shown,
                "can only be set when seccomp type is Localhost",
            ));
        }
        (None, false) => {}
    }
}

fn app_armor(errors: &mut FieldErrors, profile: Option<&AppArmorProfile>, path: &FieldPath) {
    let Some(profile) = profile else { return };
    let own = path.child("localhostProfile");
    match profile.type_.as_str() {
        "Localhost" => {
            let told = text(&profile.localhost_profile);
            if told.trim() != told {
                errors.push(FieldError::invalid(
                    &own,
                    told,
                    "must not be padded with whitespace",
                ));
            } else if told.is_empty() {
                errors.push(FieldError::required(
                    &own,
                    "must be set when AppArmor type is Localhost",
                ));
            }
            if told.len() > APP_ARMOR_BYTES_MAX {
                errors.push(FieldError::too_long(
                    &own,
                    i64::try_from(APP_ARMOR_BYTES_MAX).unwrap_or(i64::MAX),
                ));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if let Some(told) = &profile.localhost_profile {
                let why = "can only be set when AppArmor type is Localhost";
                errors.push(FieldError::invalid(&own, told.as_str(), why));
            }
        }
        "" => errors.push(FieldError::required(
            &path.child("type"),
            "type is required when appArmorProfile is set",
        )),
        other => {
            let kinds = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.push(FieldError::not_supported(
                &path.child("type"),
                other,
                &kinds,
            ));
        }
    }
}

fn windows_options(
    errors: &mut FieldErrors,
    options: Option<&WindowsSecurityContextOptions>,
    path: &FieldPath,
) {
    let Some(options) = options else { return };
    if let Some(name) = &options.gmsa_credential_spec_name {
        names::dns_subdomain(errors, name, &path.child("gmsaCredentialSpecName"));
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let path = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.push(FieldError::invalid(
                &path,
                "",
                "gmsaCredentialSpec cannot be an empty string",
            ));
        } else if spec.len() > GMSA_SPEC_BYTES_MAX {
            let why = format!(
                "gmsaCredentialSpec size must be under {} KiB",
                GMSA_SPEC_BYTES_MAX / 1024
            );
            errors.push(FieldError::invalid(&path, spec.as_str(), why));
        }
    }
    if let Some(user) = &options.run_as_user_name {
        windows_user(errors, user, &path.child("runAsUserName"));
    }
}

/// `DOMAIN\user`, by the rules of Active Directory.
fn windows_user(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    static NET_BIOS: Expression =
        Expression::new("^[^\\\\/:\\*\\?\"<>|\\.][^\\\\/:\\*\\?\"<>|]{0,14}$");
    static DNS: Expression = Expression::new(
        "^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$",
    );
    let mut refuse = |why: String| errors.push(FieldError::invalid(path, name, why));
    if name.is_empty() {
        refuse("runAsUserName cannot be an empty string".to_owned());
        return;
    }
    if name.chars().any(char::is_control) {
        refuse("runAsUserName cannot contain control characters".to_owned());
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => {
            refuse("runAsUserName cannot contain more than one backslash".to_owned());
            return;
        }
    };
    if let Some(domain) = domain {
        if domain.len() > WINDOWS_DOMAIN_CHARACTERS_MAX - 1 {
            refuse(format!(
                "runAsUserName's Domain length must be under {WINDOWS_DOMAIN_CHARACTERS_MAX} characters"
            ));
        }
        if !NET_BIOS.matches(domain) && !DNS.matches(domain) {
            refuse(
                "runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned(),
            );
        }
    }
    if user.is_empty() {
        refuse("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > WINDOWS_USER_CHARACTERS_MAX {
        refuse(format!(
            "runAsUserName's User length must not be longer than {WINDOWS_USER_CHARACTERS_MAX} characters"
        ));
    }
    if !user.is_empty() && user.chars().all(|character| matches!(character, '.' | ' ')) {
        refuse("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains([
        '"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']',
    ]) {
        refuse(
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"
                .to_owned(),
        );
    }
}

pub(super) fn windows_host_processes(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    let of_pod = spec
        .security_context
        .as_ref()
        .and_then(|context| context.windows_options.as_ref()?.host_process);
    let (mut all, mut host) = (0, 0);
    visit_containers(spec, path, |container, path| {
        all += 1;
        let own = container
            .security_context
            .as_ref()
            .and_then(|context| context.windows_options.as_ref()?.host_process);
        if let (Some(of_pod), Some(own)) = (of_pod, own)
            && of_pod != own
        {
            let path = path
                .child("securityContext")
                .child("windowsOptions")
                .child("hostProcess");
            let why = format!(
                "pod hostProcess value must be identical if both are specified, was {of_pod}"
            );
            errors.push(FieldError::invalid(&path, own, why));
        }
        if own.or(of_pod) == Some(true) {
            host += 1;
        }
    });
    if host == 0 {
        return;
    }
    if host != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(path, "", why));
    }
    if spec.host_network != Some(true) {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(&path.child("hostNetwork"), false, why));
    }
}

/// A user namespace of its own goes with no other namespace of the host (KEP-127).
pub(super) fn user_namespace(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    if spec.host_users != Some(false) {
        return;
    }
    let why = "when `hostUsers` is false";
    for (is_set, field) in [
        (spec.host_network, "hostNetwork"),
        (spec.host_pid, "HostPID"),
        (spec.host_ipc, "HostIPC"),
    ] {
        if is_set == Some(true) {
            errors.push(FieldError::forbidden(&path.child(field), why));
        }
    }
    visit_containers(spec, path, |container, path| {
        if container
            .volume_devices
            .as_ref()
            .is_some_and(|devices| !devices.is_empty())
        {
            errors.push(FieldError::forbidden(&path.child("volumeDevices"), why));
        }
    });
}

pub(super) fn operating_system(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    let Some(os) = &spec.os else { return };
    match os.name.as_str() {
        "linux" => for_linux(errors, spec, path),
        "windows" => for_windows(errors, spec, path),
        "" => errors.push(FieldError::required(&path.child("os").child("name"), "")),
        other => errors.push(FieldError::not_supported(
            &path.child("os"),
            other,
            &["linux", "windows"],
        )),
    }
}

fn for_linux(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    let why = "windows options cannot be set for a linux pod";
    if spec
        .security_context
        .as_ref()
        .is_some_and(|context| context.windows_options.is_some())
    {
        errors.push(FieldError::forbidden(
            &path.child("securityContext").child("windowsOptions"),
            why,
        ));
    }
    visit_containers(spec, path, |container, path| {
        if container
            .security_context
            .as_ref()
            .is_some_and(|context| context.windows_options.is_some())
        {
            errors.push(FieldError::forbidden(
                &path.child("securityContext").child("windowsOptions"),
                why,
            ));
        }
    });
}

fn for_windows(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    let why = "cannot be set for a windows pod";
    let empty = PodSecurityContext::default();
    let context = spec.security_context.as_ref().unwrap_or(&empty);
    let own = path.child("securityContext");
    for (is_set, path) in [
        (
            context.app_armor_profile.is_some(),
            own.child("appArmorProfile"),
        ),
        (
            context.se_linux_options.is_some(),
            own.child("seLinuxOptions"),
        ),
        (spec.host_users.is_some(), path.child("hostUsers")),
        (spec.host_pid == Some(true), path.child("hostPID")),
        (spec.host_ipc == Some(true), path.child("hostIPC")),
        (
            context.seccomp_profile.is_some(),
            own.child("seccompProfile"),
        ),
        (context.fs_group.is_some(), own.child("fsGroup")),
        (
            context.fs_group_change_policy.is_some(),
            own.child("fsGroupChangePolicy"),
        ),
        (
            context
                .sysctls
                .as_ref()
                .is_some_and(|sysctls| !sysctls.is_empty()),
            own.child("sysctls"),
        ),
        (
            spec.share_process_namespace.is_some(),
            path.child("shareProcessNamespace"),
        ),
        (context.run_as_user.is_some(), own.child("runAsUser")),
        (context.run_as_group.is_some(), own.child("runAsGroup")),
        (
            context.supplemental_groups.is_some(),
            own.child("supplementalGroups"),
        ),
        (
            context.supplemental_groups_policy.is_some(),
            own.child("supplementalGroupsPolicy"),
        ),
        (
            context.se_linux_change_policy.is_some(),
            own.child("seLinuxChangePolicy"),
        ),
    ] {
        if is_set {
            errors.push(FieldError::forbidden(&path, why));
        }
    }
    visit_containers(spec, path, |container, path| {
        container_for_windows(errors, container, path);
    });
}

fn container_for_windows(errors: &mut FieldErrors, container: &Container, path: &FieldPath) {
    let Some(context) = &container.security_context else {
        return;
    };
    let path = path.child("securityContext");
    for (is_set, field) in [
        (context.app_armor_profile.is_some(), "appArmorProfile"),
        (context.se_linux_options.is_some(), "seLinuxOptions"),
        (context.seccomp_profile.is_some(), "seccompProfile"),
        (context.capabilities.is_some(), "capabilities"),
        (
            context.read_only_root_filesystem.is_some(),
            "readOnlyRootFilesystem",
        ),
        (context.privileged.is_some(), "privileged"),
        (
            context.allow_privilege_escalation.is_some(),
            "allowPrivilegeEscalation",
        ),
        (context.proc_mount.is_some(), "procMount"),
        (context.run_as_user.is_some(), "runAsUser"),
        (context.run_as_group.is_some(), "runAsGroup"),
    ] {
        if is_set {
            errors.push(FieldError::forbidden(
                &path.child(field),
                "cannot be set for a windows pod",
            ));
        }
    }
}
