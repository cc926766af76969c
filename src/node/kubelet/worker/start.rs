//! Starting one container: back-off, image, configuration, creation, start, postStart hook.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::{ContainerId, Image, Mount, MountPropagation, MountReadOnly};
use k8s_openapi::api::core::v1::{Container, Pod};
use semantics::containers::as_container;

use crate::container::ConfigError;
use crate::container::env::{Reference, Sources, environment, references};
use crate::container::hosts_file::{host_network_hosts_file, pod_hosts_file, pod_names};
use crate::container::labels::container_hash;
use crate::container::make::{Made, container_config};
use crate::container::mounts::{ETC_HOSTS, manages_hosts_file, plan_mounts};
use crate::container::service_env::service_variables;
use crate::events::Severity;
use crate::images::{ImageNeed, ImageState};
use crate::objects::SYNC_MAX;
use crate::pods::facts::{
    ContainerKind, containers, ephemeral_containers, init_containers, is_host_network, name,
    namespace, spec, title, uid,
};
use crate::status::StartError;
use crate::worker::Observed;
use crate::worker::backoff::go_duration;
use crate::worker::executor::{Executor, Memory, Outcome, ended_at};
use crate::worker::plan::{Kill, Start, current_sandbox};
use volumes::MountedVolume;

/// A container that could not be started is tried again after this time at the latest.
const RETRY: Duration = Duration::from_secs(10);
const TERMINATION_LOG_MODE: u32 = 0o666;
const HOSTS_FILE_MODE: u32 = 0o644;

/// Why a container is not running after an attempt.
enum Held {
    /// Something is under way that rings the bell.
    Waiting,
    Failed(StartError, Option<Duration>),
}

fn failed(reason: &str, message: impl Into<String>) -> Held {
    Held::Failed(
        StartError {
            reason: reason.to_owned(),
            message: message.into(),
        },
        Some(RETRY),
    )
}

impl Executor {
    pub(crate) async fn start_all(
        &self,
        pod: &Pod,
        observed: &Observed,
        starts: &[Start],
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) -> cri::Result<()> {
        for start in starts {
            let Some(container) = spec_of(pod, *start) else {
                continue;
            };
            match self.start(pod, observed, *start, &container, memory).await {
                Ok(()) => {
                    memory.start_errors.remove(&container.name);
                    memory.owed.remove(&container.name);
                    outcome.changed = true;
                }
                Err(Held::Waiting) => {
                    memory.start_errors.remove(&container.name);
                }
                Err(Held::Failed(error, again)) => {
                    memory.start_errors.insert(container.name.clone(), error);
                    if let Some(again) = again {
                        outcome.again_in(again.max(Duration::from_millis(1)));
                    }
                }
            }
        }
        Ok(())
    }

    async fn start(
        &self,
        pod: &Pod,
        observed: &Observed,
        start: Start,
        container: &Container,
        memory: &mut Memory,
    ) -> Result<(), Held> {
        self.check_back_off(pod, observed, start.kind, container, memory)?;
        let image = self.image(pod, start.kind, container, memory).await?;
        let newest = observed.newest(&container.name);
        let attempt = newest.map_or_else(
            || self.attempt_without_record(pod, container),
            |newest| newest.attempt + 1,
        );
        let whose = (start.kind, container.name.as_str());
        let events = &self.services.events;
        let refuse = |reason: &str, why: String| {
            let text = format!("Error: {why}");
            events.container(pod, whose, Severity::Warning, "Failed", text);
            failed(reason, why)
        };
        let made = self
            .config(pod, observed, start, container, &image, attempt, memory)
            .await;
        let config =
            made.map_err(|ConfigError(text)| refuse("CreateContainerConfigError", text))?;
        let sandbox = current_sandbox(observed).ok_or(Held::Waiting)?;
        let id = self
            .services
            .runtime
            .create_container(sandbox, config)
            .await
            .map_err(|error| match error.reason() {
                reason @ "CreateContainerConfigError" => refuse(reason, error.to_string()),
                _ => refuse("CreateContainerError", error.to_string()),
            })?;
        events.container(pod, whose, Severity::Normal, "Created", "Container created");
        if newest.is_some_and(|newest| ended_at(&newest.state).is_some()) {
            let now = self.services.clock.monotonic();
            memory.back_off.started_again(&back_off_key(container), now);
        }
        self.services
            .runtime
            .start_container(&id)
            .await
            .map_err(|error| refuse("RunContainerError", error.to_string()))?;
        events.container(pod, whose, Severity::Normal, "Started", "Container started");
        self.link_log(pod, container, &id, attempt);
        self.post_start(pod, observed, start.kind, container, &id)
            .await
    }

    fn check_back_off(
        &self,
        pod: &Pod,
        observed: &Observed,
        kind: ContainerKind,
        container: &Container,
        memory: &mut Memory,
    ) -> Result<(), Held> {
        let Some(ended) = observed
            .newest(&container.name)
            .and_then(|newest| ended_at(&newest.state))
        else {
            return Ok(());
        };
        let now = self.services.clock.monotonic();
        let Some((wait, left)) = memory.back_off.wait(&back_off_key(container), ended, now) else {
            return Ok(());
        };
        let text = format!(
            "Back-off restarting failed container {} in pod {}",
            container.name,
            title(pod)
        );
        self.services.events.container(
            pod,
            (kind, &container.name),
            Severity::Warning,
            "BackOff",
            text,
        );
        let message = format!(
            "back-off {} restarting failed container={} pod={}",
            go_duration(wait),
            container.name,
            title(pod)
        );
        let error = StartError {
            reason: "CrashLoopBackOff".to_owned(),
            message,
        };
        Err(Held::Failed(error, Some(left)))
    }

    async fn image(
        &self,
        pod: &Pod,
        kind: ContainerKind,
        container: &Container,
        memory: &Memory,
    ) -> Result<Image, Held> {
        let keyring = self.services.objects.keyring(pod).await;
        let need = ImageNeed {
            pod,
            kind,
            container,
            keyring,
            inputs: &self.inputs,
        };
        match self.services.puller.ensure(need).await {
            ImageState::Ready(image) => Ok(*image),
            ImageState::Pulling => Err(Held::Waiting),
            ImageState::Failed {
                reason,
                message,
                again_after,
            } => {
                let is_told = memory
                    .start_errors
                    .get(&container.name)
                    .is_some_and(|error| error.reason == reason);
                if !is_told {
                    let text = format!("Error: {reason}");
                    self.services.events.container(
                        pod,
                        (kind, &container.name),
                        Severity::Warning,
                        "Failed",
                        text,
                    );
                }
                Err(Held::Failed(
                    StartError {
                        reason: reason.to_owned(),
                        message,
                    },
                    again_after,
                ))
            }
        }
    }

    /// Without a record of the container, its logs and the last status tell how often it ran.
    fn attempt_without_record(&self, pod: &Pod, container: &Container) -> u32 {
        let directory = self
            .services
            .config
            .pod_log_directory(namespace(pod), name(pod), uid(pod))
            .join(&container.name);
        let next = |file: io::Result<std::fs::DirEntry>| -> Option<u32> {
            let file = file.ok()?.file_name();
            let (number, _) = file.to_str()?.split_once(".log")?;
            number.parse::<u32>().ok().map(|number| number + 1)
        };
        let logged = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(next)
            .max()
            .unwrap_or(0);
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        let known = statuses
            .into_iter()
            .flatten()
            .find(|status| status.name == container.name);
        let told = known
            .filter(|status| status.container_id.is_some())
            .map_or(0, |status| status.restart_count + 1);
        logged.max(u32::try_from(told).unwrap_or(0))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one configuration")]
    async fn config(
        &self,
        pod: &Pod,
        observed: &Observed,
        start: Start,
        container: &Container,
        image: &Image,
        attempt: u32,
        memory: &Memory,
    ) -> Result<cri::ContainerConfig, ConfigError> {
        let sources = self.sources(pod, container, observed).await?;
        let environment = environment(pod, container, &sources)?;
        let volumes = memory
            .volumes
            .as_ref()
            .map(|(_, volumes)| volumes.clone())
            .unwrap_or_default();
        let mounts = self
            .mounts(pod, container, observed, &volumes, &environment)
            .await?;
        let target = target(pod, observed, start)?;
        let memory_capacity = self.services.node.memory_capacity();
        let directory = self
            .services
            .config
            .pod_log_directory(namespace(pod), name(pod), uid(pod))
            .join(&container.name);
        std::fs::create_dir_all(&directory).map_err(|error| {
            ConfigError(format!(
                "create container log directory for container {} failed: {error}",
                container.name
            ))
        })?;
        let made = Made {
            attempt,
            image,
            environment,
            mounts,
            target,
            memory_capacity,
        };
        container_config(pod, container, made, &self.services.config)
    }

    async fn sources(
        &self,
        pod: &Pod,
        container: &Container,
        observed: &Observed,
    ) -> Result<Sources, ConfigError> {
        let mut sources = Sources {
            facts: self.services.node_facts(self.pod_ips(pod, observed)),
            ..Sources::default()
        };
        for reference in references(container) {
            match reference {
                Reference::ConfigMap(wanted) => {
                    let found = self
                        .services
                        .objects
                        .config_map(namespace(pod), &wanted)
                        .await
                        .map_err(ConfigError)?;
                    sources
                        .config_maps
                        .extend(found.map(|found| (wanted, found)));
                }
                Reference::Secret(wanted) => {
                    let found = self
                        .services
                        .objects
                        .secret(namespace(pod), &wanted)
                        .await
                        .map_err(ConfigError)?;
                    sources.secrets.extend(found.map(|found| (wanted, found)));
                }
            }
        }
        let links = spec(pod).enable_service_links != Some(false);
        let is_static = crate::pods::facts::is_static(pod);
        // A static pod waits for nobody: it may be what the API server needs.
        let patience = if is_static { Duration::ZERO } else { SYNC_MAX };
        match self
            .services
            .objects
            .services(namespace(pod), patience)
            .await
        {
            Some(services) => {
                sources.services = service_variables(&services, namespace(pod), links);
            }
            None if is_static => {}
            None => {
                return Err(ConfigError(
                    "services have not yet been read at least once, cannot construct envvars"
                        .to_owned(),
                ));
            }
        }
        Ok(sources)
    }

    async fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        observed: &Observed,
        volumes: &BTreeMap<String, MountedVolume>,
        environment: &[(String, String)],
    ) -> Result<Vec<Mount>, ConfigError> {
        let mut mounts = Vec::new();
        for planned in plan_mounts(container, volumes, environment)? {
            let host_path = match &planned.sub_path {
                None => planned.volume.host_path.clone(),
                Some(sub_path) => {
                    let volumes = &self.services.volumes;
                    let found = volumes
                        .sub_path(
                            uid(pod),
                            &container.name,
                            planned.index,
                            &planned.volume,
                            sub_path,
                        )
                        .await;
                    found.map_err(|error| {
                        tracing::debug!(%error, "a sub-path is not ready");
                        // The cause may tell about the node's files, so the user does not see it.
                        let volume = container
                            .volume_mounts
                            .iter()
                            .flatten()
                            .nth(planned.index)
                            .map_or("", |mount| &mount.name);
                        ConfigError(format!(
                            "failed to prepare subPath for volumeMount {volume:?} of container {:?}",
                            container.name
                        ))
                    })?
                }
            };
            mounts.push(planned.at(host_path));
        }
        let addresses = self.pod_ips(pod, observed);
        if manages_hosts_file(pod, container, !addresses.is_empty()) {
            mounts.push(plain_mount(
                self.write_hosts_file(pod, &addresses)?,
                ETC_HOSTS,
            ));
        }
        if let Some(path) = container
            .termination_message_path
            .as_deref()
            .filter(|path| !path.is_empty())
        {
            mounts.push(plain_mount(
                self.make_termination_log(pod, container)?,
                path,
            ));
        }
        Ok(mounts)
    }

    fn write_hosts_file(
        &self,
        pod: &Pod,
        addresses: &[std::net::IpAddr],
    ) -> Result<PathBuf, ConfigError> {
        let names = pod_names(pod, &self.services.config.cluster_domain)?;
        let aliases = spec(pod).host_aliases.as_deref().unwrap_or_default();
        let text = if is_host_network(pod) {
            host_network_hosts_file(
                &std::fs::read_to_string(ETC_HOSTS).unwrap_or_default(),
                aliases,
            )
        } else {
            pod_hosts_file(addresses, &names, aliases)
        };
        let path = self
            .services
            .config
            .pod_directory(uid(pod))
            .join("etc-hosts");
        let is_same = std::fs::read_to_string(&path).is_ok_and(|known| known == text);
        // The file is bind-mounted into containers: it is written in place, so that they all see the change.
        if !is_same {
            write_with_mode(&path, text.as_bytes(), HOSTS_FILE_MODE)
                .map_err(|error| ConfigError(format!("write the hosts file: {error}")))?;
        }
        Ok(path)
    }

    fn make_termination_log(
        &self,
        pod: &Pod,
        container: &Container,
    ) -> Result<PathBuf, ConfigError> {
        let directory = self
            .services
            .config
            .pod_directory(uid(pod))
            .join("containers")
            .join(&container.name);
        let path = directory.join(format!("{:08x}", self.services.rng.below(1 << 32)));
        write_with_mode(&path, b"", TERMINATION_LOG_MODE).map_err(|error| {
            ConfigError(format!(
                "error on creating termination-log file {:?}: {error}",
                path.display().to_string()
            ))
        })?;
        Ok(path)
    }

    /// The link that log collectors look for.
    fn link_log(&self, pod: &Pod, container: &Container, id: &ContainerId, attempt: u32) {
        let config = &self.services.config;
        let Some(directory) = &config.container_logs_directory else {
            return;
        };
        let log = config
            .pod_log_directory(namespace(pod), name(pod), uid(pod))
            .join(&container.name)
            .join(format!("{attempt}.log"));
        let link = directory.join(crate::logs::container_link_name(
            name(pod),
            namespace(pod),
            &container.name,
            id,
        ));
        let made = std::fs::create_dir_all(directory)
            .and_then(|()| std::os::unix::fs::symlink(&log, &link));
        if let Err(error) = made {
            tracing::debug!(%error, link = %link.display(), "the link to a log cannot be made");
        }
    }

    async fn post_start(
        &self,
        pod: &Pod,
        observed: &Observed,
        kind: ContainerKind,
        container: &Container,
        id: &ContainerId,
    ) -> Result<(), Held> {
        let hook = container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let ip = self.pod_ip(pod, observed);
        let run = crate::worker::hooks::run(
            self.services.runtime.as_ref(),
            pod,
            container,
            id,
            &ip,
            hook,
        );
        let Err(message) = run.await else {
            return Ok(());
        };
        self.services.events.container(
            pod,
            (kind, &container.name),
            Severity::Warning,
            "FailedPostStartHook",
            "PostStartHook failed",
        );
        let text = "FailedPostStartHook".to_owned();
        let kill = Kill {
            id: id.clone(),
            name: container.name.clone(),
            message: text,
            because_of: None,
        };
        if let Err(error) = self.kill_container(pod, observed, &kill).await {
            tracing::debug!(%error, "a container whose postStart hook failed is not stopped yet");
        }
        Err(failed("PostStartHookError", message))
    }
}

/// The container's spec, wherever it stands.
pub(crate) fn spec_of(pod: &Pod, start: Start) -> Option<Container> {
    match start.kind {
        ContainerKind::Init => init_containers(pod).get(start.index).cloned(),
        ContainerKind::Regular => containers(pod).get(start.index).cloned(),
        ContainerKind::Ephemeral => ephemeral_containers(pod).get(start.index).map(as_container),
    }
}

fn back_off_key(container: &Container) -> String {
    format!("{}/{}", container.name, container_hash(container))
}

/// The container whose processes an ephemeral container sees.
fn target(
    pod: &Pod,
    observed: &Observed,
    start: Start,
) -> Result<Option<ContainerId>, ConfigError> {
    if start.kind != ContainerKind::Ephemeral {
        return Ok(None);
    }
    let ephemeral = ephemeral_containers(pod).get(start.index);
    let Some(wanted) = ephemeral
        .and_then(|found| found.target_container_name.as_deref())
        .filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    match observed.newest(wanted) {
        Some(found) => Ok(Some(found.id.clone())),
        None => Err(ConfigError(format!(
            "unable to find target container {wanted}"
        ))),
    }
}

fn plain_mount(host_path: PathBuf, container_path: &str) -> Mount {
    Mount {
        host_path,
        container_path: Path::new("/").join(container_path),
        read_only: MountReadOnly::No,
        propagation: MountPropagation::Private,
        idmap: true,
    }
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, bytes)?;
    // The mode of creation is cut by the umask.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
