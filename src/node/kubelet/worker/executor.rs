//! The only place that acts on a pod: it carries out a plan through the runtime and the volumes, and says what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cri::{ContainerId, ContainerState, LinuxResources, PodSandboxId};
use k8s_openapi::api::core::v1::Pod;
use volumes::MountedVolume;

use crate::container::dns::{parse_resolv_conf, pod_dns};
use crate::container::resources::Resize;
use crate::container::sandbox::sandbox_config;
use crate::container::unsupported;
use crate::events::Severity;
use crate::pods::Inputs;
use crate::pods::facts::{is_host_network, uid};
use crate::services::Services;
use crate::status::StartError;
use crate::worker::dead::surplus;
use crate::worker::plan::PodActions;
use crate::worker::start::spec_of;
use crate::worker::{BackOff, Observed};

/// How long an action that failed waits before it is tried again: 1 s, doubled up to 10 s.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// A sandbox that does not do is replaced no sooner than this after it was made.
const SANDBOX_AGE_MIN: Duration = Duration::from_secs(1);

/// What a worker remembers of its pod beyond what the runtime and the API know; losing it does no harm.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) back_off: BackOff,
    pub(crate) start_errors: BTreeMap<String, StartError>,
    /// Containers that were killed to be started anew, and are not yet.
    pub(crate) owed: BTreeSet<String>,
    /// Last words of ended containers.
    pub(crate) messages: BTreeMap<ContainerId, String>,
    /// Volumes as they were made ready, and for which version of the pod.
    pub(crate) volumes: Option<(VolumesVersion, BTreeMap<String, MountedVolume>)>,
    /// The last change of limits of each running container.
    pub(crate) resized: BTreeMap<ContainerId, LinuxResources>,
    failures: u32,
}

impl Memory {
    /// Something failed: how long to wait before the next attempt.
    pub(crate) fn failed(&mut self) -> Duration {
        let wait = RETRY_FIRST
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// What the contents of a pod's volumes depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumesVersion {
    generation: i64,
    /// Labels and annotations change without a new generation, and show in downward API volumes.
    metadata: u64,
    refreshes: u64,
    /// The tokens that were due by then are renewed.
    due: bool,
}

/// What a turn of acting came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The runtime has changed: look again at once.
    pub(crate) changed: bool,
    /// Look again after this time, whatever happens.
    pub(crate) again_after: Option<Duration>,
}

impl Outcome {
    pub(crate) fn again_in(&mut self, span: Duration) {
        self.again_after = Some(self.again_after.map_or(span, |known| known.min(span)));
    }
}

pub(crate) struct Executor {
    pub(crate) services: Arc<Services>,
    pub(crate) inputs: Arc<Inputs>,
}

impl Executor {
    /// Carries out a plan. Cancel safe in the sense of crash-only: what was begun is seen by the next observation.
    pub(crate) async fn run(
        &self,
        pod: &Pod,
        observed: &Observed,
        actions: &PodActions,
        memory: &mut Memory,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        match self.act(pod, observed, actions, memory, &mut outcome).await {
            Ok(()) if memory.start_errors.is_empty() => memory.succeeded(),
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(pod = crate::pods::facts::title(pod), %error, "a step failed");
                outcome.again_in(memory.failed());
            }
        }
        outcome
    }

    // tidy: allow(function-length): one arm an action
    async fn act(
        &self,
        pod: &Pod,
        observed: &Observed,
        actions: &PodActions,
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) -> cri::Result<()> {
        let runtime = &self.services.runtime;
        if actions.kill_pod {
            let any = observed.is_anything_running() || observed.ready_sandbox().is_some();
            if any {
                let grace = crate::pods::facts::spec(pod).termination_grace_period_seconds;
                self.stop_pod(
                    pod,
                    observed,
                    grace.unwrap_or(crate::worker_defaults::GRACE_SECONDS),
                )
                .await?;
                outcome.changed = true;
            }
        }
        let starts: Vec<String> = actions
            .start
            .iter()
            .filter_map(|start| Some(spec_of(pod, *start)?.name))
            .collect();
        for kill in &actions.kill {
            if starts.contains(&kill.name) {
                memory.owed.insert(kill.name.clone());
            }
            self.kill_container(pod, observed, kill).await?;
            outcome.changed = true;
        }
        for id in &actions.remove {
            runtime.remove_container(id).await?;
            outcome.changed = true;
        }
        if !actions.start.is_empty() || actions.create_sandbox.is_some() {
            if let Err(error) = unsupported::check(pod) {
                self.hold_all(pod, actions, memory, "UnsupportedFeature", &error.0);
                return Ok(());
            }
            if !self.volumes_ready(pod, memory).await {
                outcome.again_in(memory.failed());
                return Ok(());
            }
        }
        if let Some(attempt) = actions.create_sandbox {
            let now = self.services.clock.now();
            // One that was made later than now was made before the clock went back.
            let age = observed
                .sandboxes
                .first()
                .filter(|newest| newest.created_at <= now)
                .map(|newest| now.saturating_since(newest.created_at));
            if let Some(left) = age
                .and_then(|age| SANDBOX_AGE_MIN.checked_sub(age))
                .filter(|left| !left.is_zero())
            {
                outcome.again_in(left);
                return Ok(());
            }
            self.create_sandbox(pod, attempt, observed).await?;
            outcome.changed = true;
            return Ok(());
        }
        self.resize(pod, observed, &actions.resize, memory, outcome)
            .await?;
        if actions.start.is_empty() || actions.kill_pod {
            return Ok(());
        }
        if actions.kill.is_empty() && actions.remove.is_empty() {
            return self
                .start_all(pod, observed, &actions.start, memory, outcome)
                .await;
        }
        // What was killed in this plan is started in this plan: seen alone, its end could mean that it should not run again.
        let now = Observed::read(runtime.as_ref(), uid(pod)).await?;
        self.start_all(pod, &now, &actions.start, memory, outcome)
            .await
    }

    async fn resize(
        &self,
        pod: &Pod,
        observed: &Observed,
        resizes: &[Resize],
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) -> cri::Result<()> {
        // A kernel may round what it was told: the same change is not made twice.
        let due: Vec<&Resize> = resizes
            .iter()
            .filter(|resize| memory.resized.get(&resize.id) != Some(&resize.resources))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let quota_of = |id: &ContainerId| {
            observed
                .containers
                .iter()
                .find(|container| container.id == *id)
                .and_then(|container| container.resources.cpu_quota)
        };
        let grows = |resize: &&Resize| {
            resize.resources.cpu_quota.is_some_and(|quota| {
                quota < 0 || quota_of(&resize.id).is_some_and(|old| old > 0 && old < quota)
            })
        };
        let (growing, shrinking): (Vec<&Resize>, Vec<&Resize>) = due.into_iter().partition(grows);
        // A child's quota may never exceed its parent's: first what shrinks, then the pod, then what grows.
        for resize in shrinking {
            self.resize_container(resize, memory, outcome).await?;
        }
        self.resize_pod(pod, observed).await?;
        for resize in growing {
            self.resize_container(resize, memory, outcome).await?;
        }
        Ok(())
    }

    async fn resize_container(
        &self,
        resize: &Resize,
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) -> cri::Result<()> {
        self.services
            .runtime
            .update_container_resources(&resize.id, &resize.resources)
            .await?;
        memory
            .resized
            .insert(resize.id.clone(), resize.resources.clone());
        outcome.changed = true;
        Ok(())
    }

    async fn resize_pod(&self, pod: &Pod, observed: &Observed) -> cri::Result<()> {
        let Some(sandbox) = observed.ready_sandbox() else {
            return Ok(());
        };
        let resources =
            crate::container::resources::pod_resources(pod, self.services.config.pod_pids_max);
        self.services
            .runtime
            .update_pod_sandbox_resources(&sandbox.id, &resources)
            .await
    }

    fn hold_all(
        &self,
        pod: &Pod,
        actions: &PodActions,
        memory: &mut Memory,
        reason: &str,
        message: &str,
    ) {
        let names = actions
            .start
            .iter()
            .filter_map(|start| spec_of(pod, *start))
            .map(|container| container.name);
        let names: Vec<String> = names.collect();
        let is_known = names.iter().all(|name| {
            memory
                .start_errors
                .get(name)
                .is_some_and(|error| error.message == message)
        });
        if !is_known {
            self.services
                .events
                .pod(pod, Severity::Warning, reason, message);
        }
        for name in names {
            memory.start_errors.insert(
                name,
                StartError {
                    reason: reason.to_owned(),
                    message: message.to_owned(),
                },
            );
        }
    }

    /// Makes the pod's volumes ready and their contents current, once per version of them.
    pub(crate) async fn volumes_ready(&self, pod: &Pod, memory: &mut Memory) -> bool {
        let version = self.volumes_version(pod);
        if !version.due
            && memory
                .volumes
                .as_ref()
                .is_some_and(|(known, _)| *known == version)
        {
            return true;
        }
        self.services.objects.follow(pod);
        match self.services.volumes.set_up(pod).await {
            Ok(volumes) => {
                memory.volumes = Some((
                    VolumesVersion {
                        due: false,
                        ..version
                    },
                    volumes,
                ));
                true
            }
            Err(error) => {
                self.services
                    .events
                    .pod(pod, Severity::Warning, "FailedMount", error.to_string());
                false
            }
        }
    }

    fn volumes_version(&self, pod: &Pod) -> VolumesVersion {
        let metadata = &pod.metadata;
        let texts = metadata
            .labels
            .iter()
            .chain(&metadata.annotations)
            .flatten()
            .flat_map(|(key, value)| [key, value]);
        let bytes = texts.flat_map(|text| text.bytes().chain([0]));
        let now = self.services.clock.monotonic();
        VolumesVersion {
            generation: metadata.generation.unwrap_or(0),
            metadata: bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            }),
            refreshes: self.inputs.refreshes(),
            due: self
                .services
                .volumes
                .next_refresh(uid(pod))
                .is_some_and(|due| due <= now),
        }
    }

    /// Brings the volumes of a pod that runs up to date; says when to look again.
    pub(crate) async fn refresh_volumes(
        &self,
        pod: &Pod,
        observed: &Observed,
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) {
        if !observed.is_anything_running() {
            return;
        }
        if !self.volumes_ready(pod, memory).await {
            outcome.again_in(memory.failed());
        }
        if let Some(due) = self.services.volumes.next_refresh(uid(pod)) {
            outcome.again_in(
                due.saturating_sub(self.services.clock.monotonic())
                    .max(RETRY_FIRST),
            );
        }
    }

    async fn create_sandbox(
        &self,
        pod: &Pod,
        attempt: u32,
        observed: &Observed,
    ) -> cri::Result<PodSandboxId> {
        let events = &self.services.events;
        if !observed.sandboxes.is_empty() {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            events.pod(pod, Severity::Normal, "SandboxChanged", text);
        }
        let fail = |error: cri::Error| {
            if !self.inputs.must_end() {
                events.pod(
                    pod,
                    Severity::Warning,
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {error}"),
                );
            }
            error
        };
        let config = &self.services.config;
        let node_dns =
            parse_resolv_conf(&std::fs::read_to_string(&config.resolv_conf).unwrap_or_default());
        let dns = pod_dns(pod, &node_dns, &config.cluster_dns, &config.cluster_domain);
        for (reason, text) in dns.warnings {
            events.pod(pod, Severity::Warning, reason, text);
        }
        let mapping = self.services.user_namespace_of(pod).map_err(fail)?;
        let made = sandbox_config(pod, attempt, Some(dns.config), mapping, config);
        let made = made.map_err(|error| fail(cri::Error::CreatePodSandbox(error.0)))?;
        std::fs::create_dir_all(&made.log_directory).map_err(|error| {
            fail(cri::Error::CreatePodSandbox(format!(
                "make the log directory: {error}"
            )))
        })?;
        // Old sandboxes are kept until the pod goes, as long as their containers tell how they ended.
        self.services
            .runtime
            .run_pod_sandbox(made)
            .await
            .map_err(fail)
    }

    /// Removes records that nobody needs any more. What cannot be removed is tried again in a later turn.
    pub(crate) async fn remove_dead(&self, pod: &Pod, observed: &Observed) {
        let surplus = surplus(observed);
        let runtime = &self.services.runtime;
        for container in observed
            .containers
            .iter()
            .filter(|container| surplus.containers.contains(&container.id))
        {
            match runtime.remove_container(&container.id).await {
                Ok(()) => {
                    crate::cleanup::remove_container_logs(&self.services.config, pod, container);
                }
                Err(error) => tracing::debug!(%error, "an ended container is not removed yet"),
            }
        }
        for sandbox in &surplus.sandboxes {
            if let Err(error) = runtime.remove_pod_sandbox(sandbox).await {
                tracing::debug!(%error, "an old sandbox is not removed yet");
            }
        }
    }

    /// Addresses of the pod, primary first.
    pub(crate) fn pod_ips(&self, pod: &Pod, observed: &Observed) -> Vec<IpAddr> {
        if is_host_network(pod) {
            return self.services.config.addresses_now();
        }
        observed
            .sandboxes
            .first()
            .map(|sandbox| sandbox.addresses.clone())
            .unwrap_or_default()
    }

    pub(crate) fn pod_ip(&self, pod: &Pod, observed: &Observed) -> String {
        self.pod_ips(pod, observed)
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}

/// When an ended container ended.
pub(crate) fn ended_at(state: &ContainerState) -> Option<env::Timestamp> {
    match state {
        ContainerState::Exited { finished_at, .. } => Some(*finished_at),
        _ => None,
    }
}
