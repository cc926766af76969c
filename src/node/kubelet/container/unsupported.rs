//! Everything the API admits that this node does not run: such a pod is held with the reason, never run without it.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::container::{Result, refuse};
use crate::pods::facts::{containers, init_containers, spec};

/// Refuses what this node cannot do, with the field's name.
pub(crate) fn check(pod: &Pod) -> Result<()> {
    let spec = spec(pod);
    let unsupported = |what: &str| refuse(format!("{what} is not supported by this node"));
    if spec
        .resource_claims
        .as_ref()
        .is_some_and(|claims| !claims.is_empty())
    {
        return unsupported("spec.resourceClaims (dynamic resource allocation)");
    }
    if let Some(profile) = spec
        .security_context
        .as_ref()
        .and_then(|context| context.app_armor_profile.as_ref())
        && profile.type_ == "Localhost"
    {
        return unsupported("an AppArmor profile of type Localhost");
    }
    if spec
        .security_context
        .as_ref()
        .is_some_and(|context| context.windows_options.is_some())
    {
        return unsupported("spec.securityContext.windowsOptions");
    }
    containers(pod)
        .iter()
        .chain(init_containers(pod))
        .try_for_each(check_container)
}

fn check_container(container: &Container) -> Result<()> {
    let unsupported = |what: &str| {
        refuse(format!(
            "container {}: {what} is not supported by this node",
            container.name
        ))
    };
    if container
        .volume_devices
        .as_ref()
        .is_some_and(|devices| !devices.is_empty())
    {
        return unsupported("volumeDevices (raw block volumes)");
    }
    let Some(context) = &container.security_context else {
        return Ok(());
    };
    if context
        .app_armor_profile
        .as_ref()
        .is_some_and(|profile| profile.type_ == "Localhost")
    {
        return unsupported("an AppArmor profile of type Localhost");
    }
    if context.windows_options.is_some() {
        return unsupported("securityContext.windowsOptions");
    }
    Ok(())
}
