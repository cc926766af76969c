//! The task of one pod: turn after turn until nothing is left of it.

use std::sync::Arc;
use std::time::Duration;

use env::Shutdown;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;

use crate::last_known::{Course, has_run_before, newest_status};
use crate::pods::facts::{is_terminal, spec, title, uid};
use crate::pods::{Eviction, Inputs, Origin, Snapshot, Wanted};
use crate::services::Services;
use crate::status::{Computed, Report, ResizeState, StatusInputs, StatusWriter, compute};
use crate::worker::Observed;
use crate::worker::executor::{Executor, Memory, Outcome};
use crate::worker::phase::{Phase, PhaseInputs, next_phase};
use crate::worker::plan::{PlanInputs, plan};

/// An observation that failed is repeated after this time.
const OBSERVE_RETRY: Duration = Duration::from_secs(1);
/// A grace period counts at least this much: seconds.
const GRACE_SECONDS_MIN: i64 = 1;

/// What the rest of the kubelet may know of a pod: a copy of the last turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerView {
    pub(crate) phase: Option<Phase>,
    /// As JSON bytes, empty before the first turn: a typed status takes ten times the memory.
    pub(crate) status: Arc<[u8]>,
}

pub(crate) struct PodWorker {
    services: Arc<Services>,
    inputs: Arc<Inputs>,
    executor: Arc<Executor>,
    writer: StatusWriter,
    view: Arc<Mutex<WorkerView>>,
    probes: crate::probes::PodProbes,
    uid: String,
    phase: Phase,
    memory: Memory,
    stop: Option<Stop>,
    cleaned: bool,
    /// How far the pod had come in the kubelet's earlier lives.
    course: Option<Course>,
}

/// The stopping of the pod's containers, under way or done.
struct Stop {
    /// On the monotonic clock.
    deadline: Duration,
    task: env::JoinHandle<()>,
    result: Arc<Mutex<Option<cri::Result<()>>>>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the worker does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Turn,
    /// The status has changed by what was done: tell it, then wait.
    Tell(Option<Duration>),
    Wait(Option<Duration>),
    End,
}

impl PodWorker {
    pub(crate) fn new(
        services: Arc<Services>,
        inputs: Arc<Inputs>,
        view: Arc<Mutex<WorkerView>>,
    ) -> Self {
        let executor = Arc::new(Executor {
            services: Arc::clone(&services),
            inputs: Arc::clone(&inputs),
        });
        let writer =
            StatusWriter::spawn(services.client.clone(), Arc::clone(&services.status_writes));
        let probes = crate::probes::PodProbes::new(Arc::clone(&services), Arc::clone(&inputs));
        let uid = inputs.wanted().object.index.uid.clone();
        Self {
            services,
            inputs,
            executor,
            writer,
            view,
            probes,
            uid,
            phase: Phase::Syncing,
            memory: Memory::default(),
            stop: None,
            cleaned: false,
            course: None,
        }
    }

    /// Runs until the pod is gone from its source and from the node, or until the kubelet ends; containers outlive that.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        self.course = self.services.last_known.course(&self.uid).await;
        loop {
            // Boxed: between two turns the worker should hold little.
            let next = tokio::select! {
                biased;
                () = shutdown.requested() => return,
                next = Box::pin(self.turn()) => next,
            };
            match next {
                Next::Turn => {}
                Next::End => return,
                Next::Tell(again_after) | Next::Wait(again_after) => {
                    let timer = async {
                        match again_after {
                            Some(span) => env::sleep(span).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        () = shutdown.requested() => return,
                        () = self.inputs.rung() => {}
                        () = timer => {}
                    }
                }
            }
        }
    }

    async fn turn(&mut self) -> Next {
        let snapshot = self.inputs.snapshot();
        let Some(mut pod) = decode(&snapshot.wanted) else {
            return Next::End;
        };
        pod.status = newest_status(pod.status.take(), self.course.as_ref());
        let mut observed = match Observed::read(self.services.runtime.as_ref(), &self.uid).await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(pod = title(&pod), %error, "the runtime does not tell how a pod is");
                return Next::Wait(Some(OBSERVE_RETRY));
            }
        };
        self.read_last_words(&mut observed).await;
        let resize = crate::resize::judge(&pod, &observed, &self.services);
        let old = self.old_status(&pod);
        let computed = self.compute(&pod, &snapshot, &observed, old.as_ref(), &resize);
        let again_after = self.enforce_deadline(&pod, old.as_ref());
        let must_end = computed.has_ended
            || self.inputs.must_end()
            || snapshot.rejection.is_some()
            || ended_in_api(&pod)
            || has_run_before(&pod, &observed, self.course.as_ref(), self.boot_id());
        let stopped = self.is_stopped(&observed);
        let inputs = PhaseInputs {
            must_end,
            observed: &observed,
            stopped,
            cleaned: self.cleaned,
        };
        let next = next_phase(self.phase, inputs);
        let moved = next != self.phase;
        self.phase = next;
        let computed = if moved {
            self.compute(&pod, &snapshot, &observed, old.as_ref(), &resize)
        } else {
            computed
        };
        self.tell(&snapshot, &computed).await;
        self.probes
            .reconcile(&pod, &observed, self.phase, old.as_ref());
        let next = match self.act(&pod, &snapshot, &observed, &resize).await {
            Next::Tell(after) => {
                let old = self.old_status(&pod);
                let computed = self.compute(&pod, &snapshot, &observed, old.as_ref(), &resize);
                self.tell(&snapshot, &computed).await;
                Next::Wait(after)
            }
            next => next,
        };
        earlier(next, again_after)
    }

    /// The last status of this kubelet; before there is one, the API's.
    fn old_status(&self, pod: &Pod) -> Option<PodStatus> {
        let own = Arc::clone(&self.view.lock().status);
        apimachinery::from_json(&own)
            .ok()
            .or_else(|| pod.status.clone())
    }

    fn compute(
        &self,
        pod: &Pod,
        snapshot: &Snapshot,
        observed: &Observed,
        old: Option<&PodStatus>,
        resize: &ResizeState,
    ) -> Computed {
        compute(&StatusInputs {
            pod,
            old,
            observed,
            worker_phase: self.phase,
            start_errors: &self.memory.start_errors,
            owed: &self.memory.owed,
            probe: &|id, kind| snapshot.probes.get(&(id.clone(), kind)).copied(),
            eviction: snapshot.eviction.as_ref(),
            rejection: snapshot.rejection.as_ref(),
            resize,
            host_ips: &self.services.config.addresses_now(),
            runtime_name: &self.services.runtime_name,
            now: self.services.clock.now(),
        })
    }

    fn boot_id(&self) -> &str {
        &self.services.config.boot_id
    }

    async fn tell(&self, snapshot: &Snapshot, computed: &Computed) {
        let report = Report::new(&computed.status, self.phase == Phase::Finished);
        let is_news = {
            let mut view = self.view.lock();
            view.phase = Some(self.phase);
            let before = std::mem::replace(&mut view.status, Arc::clone(&report.status));
            before != report.status
        };
        if snapshot.gone {
            return;
        }
        if is_news {
            self.remember(&computed.status, &report.status).await;
        }
        match snapshot.wanted.origin {
            Origin::Api => self.writer.saw(&snapshot.wanted.object),
            Origin::Manifest => {
                let Some(mirror) = &snapshot.wanted.mirror else {
                    return;
                };
                self.writer.saw(mirror);
            }
        }
        self.writer.report(report);
    }

    /// That a pod has ended is durable before the API hears of it: it must not run again, whoever forgets what.
    async fn remember(&self, status: &PodStatus, as_bytes: &[u8]) {
        let last_known = &self.services.last_known;
        if is_terminal(status.phase.as_deref()) {
            last_known
                .keep_course(&self.uid, self.boot_id(), as_bytes)
                .await;
        } else {
            last_known.keep_course_later(&self.uid, self.boot_id(), as_bytes);
        }
    }

    async fn act(
        &mut self,
        pod: &Pod,
        snapshot: &Snapshot,
        observed: &Observed,
        resize: &ResizeState,
    ) -> Next {
        match self.phase {
            Phase::Syncing => self.sync(pod, observed, resize).await,
            Phase::Terminating => self.terminate(pod, snapshot, observed),
            Phase::Terminated => self.clean_up().await,
            Phase::Finished if snapshot.gone => self.remove_everything(pod, observed).await,
            Phase::Finished => Next::Wait(None),
        }
    }

    async fn sync(&mut self, pod: &Pod, observed: &Observed, resize: &ResizeState) -> Next {
        let inputs = Arc::clone(&self.inputs);
        let probe = |id: &cri::ContainerId, kind| inputs.probe(id, kind);
        let owed = self.memory.owed.clone();
        let actions = plan(&PlanInputs {
            pod,
            observed,
            probe: &probe,
            owed: &owed,
            resize,
        });
        let runs_once = spec(pod).restart_policy.as_deref() == Some("Never");
        if runs_once && actions.create_sandbox.is_some() {
            // Should the power fail once its containers run, it must be known that they did.
            let status = Arc::clone(&self.view.lock().status);
            let last_known = &self.services.last_known;
            last_known
                .keep_course(&self.uid, self.boot_id(), &status)
                .await;
        }
        let errors_before = self.memory.start_errors.clone();
        let executor = Arc::clone(&self.executor);
        let run = executor.run(pod, observed, &actions, &mut self.memory);
        let outcome = tokio::select! {
            biased;
            outcome = run => outcome,
            () = inputs.ending() => Outcome { changed: true, again_after: None },
        };
        // A new reason why a container waits is part of the status.
        if outcome.changed {
            return Next::Turn;
        }
        if self.memory.start_errors != errors_before {
            return Next::Tell(outcome.again_after);
        }
        let mut outcome = outcome;
        executor
            .refresh_volumes(pod, observed, &mut self.memory, &mut outcome)
            .await;
        executor.remove_dead(pod, observed).await;
        Next::Wait(outcome.again_after)
    }

    fn terminate(&mut self, pod: &Pod, snapshot: &Snapshot, observed: &Observed) -> Next {
        let grace = grace_seconds(pod, snapshot);
        let now = self.services.clock.monotonic();
        let deadline = now + Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let mut again_after = None;
        if let Some(stop) = &self.stop {
            let result = stop.result.lock().take();
            match result {
                // It runs still; a later, shorter grace period overrules it.
                None if !stop.task.is_finished() && stop.deadline <= deadline => {
                    return Next::Wait(None);
                }
                None => {}
                // It ended and something runs still: whatever came late is stopped as well, but not in a tight loop.
                Some(Ok(())) => again_after = Some(self.memory.failed()),
                Some(Err(error)) => {
                    let text = format!("error killing pod: {error}");
                    self.services.events.pod(
                        pod,
                        crate::events::Severity::Warning,
                        "FailedKillPod",
                        text,
                    );
                    again_after = Some(self.memory.failed());
                }
            }
            self.stop = None;
        }
        if let Some(wait) = again_after {
            return Next::Wait(Some(wait));
        }
        let result = Arc::new(Mutex::new(None));
        let task = {
            let (executor, inputs, result) = (
                Arc::clone(&self.executor),
                Arc::clone(&self.inputs),
                Arc::clone(&result),
            );
            let (pod, observed) = (pod.clone(), observed.clone());
            env::spawn(async move {
                let done = executor.stop_pod(&pod, &observed, grace).await;
                *result.lock() = Some(done);
                inputs.poke();
            })
        };
        self.stop = Some(Stop {
            deadline,
            task,
            result,
        });
        Next::Wait(None)
    }

    /// Whether a stop of the whole pod ran to its end, or there is nothing to stop.
    fn is_stopped(&self, observed: &Observed) -> bool {
        let nothing = !observed.is_anything_running() && observed.ready_sandbox().is_none();
        nothing
            || self
                .stop
                .as_ref()
                .is_some_and(|stop| matches!(*stop.result.lock(), Some(Ok(()))))
    }

    async fn clean_up(&mut self) -> Next {
        self.stop = None;
        self.services.puller.forget(&self.uid);
        self.services.objects.forget(&self.uid);
        match self.services.volumes.tear_down(&self.uid).await {
            Ok(()) => {
                self.cleaned = true;
                Next::Turn
            }
            Err(error) => {
                tracing::warn!(uid = self.uid, %error, "volumes of a pod are not taken down yet");
                Next::Wait(Some(self.memory.failed()))
            }
        }
    }

    /// The pod is gone from its source: nothing of it stays on the node.
    async fn remove_everything(&mut self, pod: &Pod, observed: &Observed) -> Next {
        for sandbox in &observed.sandboxes {
            if let Err(error) = self.services.runtime.remove_pod_sandbox(&sandbox.id).await {
                tracing::warn!(pod = title(pod), %error, "a sandbox is not removed yet");
                return Next::Wait(Some(self.memory.failed()));
            }
        }
        crate::cleanup::remove_pod_files(&self.services.config, pod, observed);
        self.services.release_user_namespace(uid(pod));
        self.services.last_known.forget_pod(&self.uid);
        Next::End
    }

    /// A pod has only so long to run, counted from its start.
    fn enforce_deadline(&self, pod: &Pod, old: Option<&PodStatus>) -> Option<Duration> {
        let seconds = u64::try_from(spec(pod).active_deadline_seconds?).ok()?;
        if self.phase != Phase::Syncing {
            return None;
        }
        let started = crate::time::from_api(old?.start_time.as_ref()?);
        let passed = self.services.clock.now().saturating_since(started);
        let left = Duration::from_secs(seconds).saturating_sub(passed);
        if left.is_zero() {
            let message =
                "Pod was active on the node longer than the specified deadline".to_owned();
            self.services.events.pod(
                pod,
                crate::events::Severity::Normal,
                "DeadlineExceeded",
                message.clone(),
            );
            self.inputs.evict(Eviction {
                reason: "DeadlineExceeded".to_owned(),
                message,
                grace_seconds: None,
                disruption: None,
            });
            return Some(Duration::ZERO);
        }
        Some(left)
    }

    async fn read_last_words(&mut self, observed: &mut Observed) {
        self.memory.messages.retain(|id, _| {
            observed
                .containers
                .iter()
                .any(|container| container.id == *id)
        });
        for container in &observed.containers {
            let has_ended = matches!(container.state, cri::ContainerState::Exited { .. });
            if has_ended && !self.memory.messages.contains_key(&container.id) {
                let words = crate::logs::last_words(container).await;
                self.memory.messages.insert(container.id.clone(), words);
            }
        }
        observed.messages.clone_from(&self.memory.messages);
    }
}

fn ended_in_api(pod: &Pod) -> bool {
    is_terminal(
        pod.status
            .as_ref()
            .and_then(|status| status.phase.as_deref()),
    )
}

/// Seconds from signal to kill.
fn grace_seconds(pod: &Pod, snapshot: &Snapshot) -> i64 {
    let own = spec(pod)
        .termination_grace_period_seconds
        .unwrap_or(crate::worker_defaults::GRACE_SECONDS);
    let deleted = pod
        .metadata
        .deletion_timestamp
        .as_ref()
        .and(pod.metadata.deletion_grace_period_seconds);
    let evicted = snapshot
        .eviction
        .as_ref()
        .and_then(|eviction| eviction.grace_seconds);
    let wanted = [deleted, evicted]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(own);
    // An object that was removed by force leaves no time.
    let wanted = if snapshot.gone && deleted.is_none() {
        wanted.min(own)
    } else {
        wanted
    };
    wanted.max(GRACE_SECONDS_MIN)
}

fn earlier(next: Next, again_after: Option<Duration>) -> Next {
    match (next, again_after) {
        (Next::Wait(None), Some(span)) => Next::Wait(Some(span)),
        (Next::Wait(Some(known)), Some(span)) => Next::Wait(Some(known.min(span))),
        (next, _) => next,
    }
}

fn decode(wanted: &Wanted) -> Option<Pod> {
    match wanted.object.decode::<Pod>() {
        Ok(mut pod) => {
            if wanted.origin == Origin::Manifest {
                // What the API knows of a static pod is the status of its mirror.
                let mirror = wanted
                    .mirror
                    .as_ref()
                    .and_then(|mirror| mirror.decode::<Pod>().ok());
                pod.status = mirror.and_then(|mirror| mirror.status);
            }
            Some(pod)
        }
        Err(error) => {
            tracing::error!(pod = %wanted.object.key(), %error, "a pod cannot be read");
            None
        }
    }
}
