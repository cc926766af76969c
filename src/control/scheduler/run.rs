//! The scheduling task: takes changes in, decides about one pod after the other, hands writes to tasks of their own.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::StoredObject;
use controller::{EventRecorder, EventType};
use env::{Clock, Rng, Shutdown};
use informer::{Cache, Change, Factory};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube_client::{Client, ClientError};
use tokio::sync::{Notify, mpsc};

use crate::bind::Writer;
use crate::cluster::Cluster;
use crate::decision::{Decision, Waiting, decide};
use crate::happening::{Happening, of_node};
use crate::node::NodeFacts;
use crate::plugins::{ClaimPlan, Snapshot};
use crate::pod::{PendingPod, PodInfo, Scheduling, classify};
use crate::preemption::Preemption;
use crate::queue::Queue;
use crate::workloads::Workloads;

/// As whom the scheduler calls the API.
pub const USER: &str = "system:kube-scheduler";
const FIELD_MANAGER: &str = "kube-scheduler";
const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// Bindings whose outcome was not taken in yet.
const OUTCOMES_WAITING_MAX: usize = 1024;

/// The scheduler, as it is given to the one who runs it.
#[derive(Debug)]
pub struct Scheduler {
    writer: Arc<Writer>,
    pods: Arc<Cache>,
    nodes: Arc<Cache>,
    workloads: Workloads,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

struct Outcome {
    pod: Arc<PodInfo>,
    result: Result<(), ClientError>,
}

/// What the scheduling task owns.
struct State {
    cluster: Cluster,
    queue: Queue,
    outcomes: mpsc::Sender<Outcome>,
}

impl Scheduler {
    /// `client` calls as `USER`; caches are shared through `factory`. Must be called within a runtime.
    pub fn new(
        client: &Client,
        factory: &Factory,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let client = client.with_field_manager(FIELD_MANAGER);
        let workloads = Workloads::new(factory);
        let events = EventRecorder::new(client.clone(), DEFAULT_SCHEDULER, "", Arc::clone(&clock));
        let writer = Writer {
            client,
            events,
            claims: Arc::clone(&workloads.claims),
            clock: Arc::clone(&clock),
            scheduler_name: DEFAULT_SCHEDULER.to_owned(),
        };
        Self {
            writer: Arc::new(writer),
            pods: factory.all::<Pod>(),
            nodes: factory.all::<Node>(),
            workloads,
            clock,
            rng,
        }
    }

    /// Schedules until the end is asked for.
    pub async fn run(self, shutdown: Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = self.schedule() => {}
        }
    }

    async fn schedule(self) {
        let volumes = Arc::new(Notify::new());
        for cache in [
            &self.workloads.claims,
            &self.workloads.volumes,
            &self.workloads.classes,
        ] {
            let volumes = Arc::clone(&volumes);
            cache.observe(move |_change| volumes.notify_one());
        }
        for cache in self
            .workloads
            .caches()
            .into_iter()
            .chain([&self.pods, &self.nodes])
        {
            cache.wait_for_sync().await;
        }
        let node_changes = self.nodes.subscribe();
        let pod_changes = self.pods.subscribe();
        let (outcomes, mut done) = mpsc::channel(OUTCOMES_WAITING_MAX);
        let mut state = State {
            cluster: Cluster::default(),
            queue: Queue::default(),
            outcomes,
        };
        loop {
            let release = self.until_release(&state.queue);
            tokio::select! {
                biased;
                change = node_changes.next() => self.take_node(&mut state, &change),
                change = pod_changes.next() => self.take_pod(&mut state, &change),
                Some(outcome) = done.recv() => self.take_outcome(&mut state, &outcome),
                () = volumes.notified() => state.queue.happened(Happening::Volume, self.clock.monotonic()),
                () = std::future::ready(()), if state.queue.has_active() => self.decide_next(&mut state),
                () = sleep_for(release) => state.queue.release(self.clock.monotonic()),
            }
        }
    }

    fn until_release(&self, queue: &Queue) -> Option<Duration> {
        queue
            .next_release()
            .map(|at| at.saturating_sub(self.clock.monotonic()))
    }

    fn take_node(&self, state: &mut State, change: &Change) {
        let now = self.clock.monotonic();
        let name = &change.key().name;
        let Some(facts) = change.new.as_ref().and_then(NodeFacts::of) else {
            state.cluster.remove_node(name);
            return;
        };
        let old = state.cluster.node(name).and_then(|node| node.facts.clone());
        let happenings = of_node(old.as_deref(), &facts);
        state.cluster.set_node(facts);
        for happening in happenings {
            state.queue.happened(happening, now);
        }
    }

    fn take_pod(&self, state: &mut State, change: &Change) {
        let now = self.clock.monotonic();
        let key = change.key();
        let scheduling = change
            .new
            .as_ref()
            .map_or(Scheduling::Nothing, |pod| classify(pod, DEFAULT_SCHEDULER));
        match scheduling {
            Scheduling::Assigned(pod) => {
                let old = state
                    .cluster
                    .node(&pod.node_name)
                    .and_then(|node| node.pods.get(key))
                    .cloned();
                let is_smaller = old.as_ref().is_some_and(|old| old.requests != pod.requests);
                let is_news = old.is_none_or(|old| old.index.labels != pod.index.labels);
                state.queue.remove(key);
                state.cluster.set_assigned(pod);
                if is_news {
                    state.queue.happened(Happening::PodPlaced, now);
                }
                if is_smaller {
                    state.queue.happened(Happening::PodGone, now);
                }
            }
            Scheduling::Pending(_) if state.cluster.is_assumed(key) => {}
            Scheduling::Pending(pod) => {
                state.queue.add(key, &pod.info.index.uid, pod.info.priority);
                if is_changed_by_people(change) {
                    state.queue.changed(key, now);
                }
                // A version from before a nomination of this process must not take it back.
                let known = change
                    .old
                    .as_ref()
                    .and_then(pending)
                    .map(|old| old.nominated_node);
                if known.as_ref() != Some(&pod.nominated_node) {
                    let node = pod.nominated_node.clone();
                    state.cluster.nominate(Arc::clone(&pod.info), node);
                }
            }
            Scheduling::Nothing => {
                state.queue.remove(key);
                if state.cluster.remove_pod(key) {
                    state.queue.happened(Happening::PodGone, now);
                }
            }
        }
    }

    fn take_outcome(&self, state: &mut State, outcome: &Outcome) {
        let key = outcome.pod.key();
        let Err(error) = &outcome.result else { return };
        // The pod may have been bound after all, or replaced: then the cache has said so or will.
        if !state.cluster.is_assumed(key) {
            return;
        }
        state.cluster.remove_pod(key);
        state.queue.retry(key, self.clock.monotonic());
        state
            .queue
            .happened(Happening::PodGone, self.clock.monotonic());
        if !error.is_not_found() {
            let message = format!("binding rejected: {error}");
            self.writer.emit(
                &outcome.pod,
                EventType::Warning,
                "FailedScheduling",
                message,
            );
        }
    }

    fn decide_next(&self, state: &mut State) {
        let Some(key) = state.queue.pop() else { return };
        let Some(pod) = self.pods.get(&key).and_then(|stored| pending(&stored)) else {
            // Its change is on its way here.
            state.queue.remove(&key);
            return;
        };
        let snapshot = Snapshot {
            cluster: &state.cluster,
            workloads: &self.workloads,
        };
        match decide(&pod, &snapshot, self.rng.next_u64()) {
            Decision::Place { node, claims } => self.place(state, &pod, node, claims),
            Decision::Wait(waiting) => self.wait(state, pod, waiting),
        }
    }

    fn place(&self, state: &mut State, pod: &PendingPod, node: String, claims: Vec<ClaimPlan>) {
        state.cluster.assume(&pod.info, &node);
        let writer = Arc::clone(&self.writer);
        let outcomes = state.outcomes.clone();
        let pod = Arc::clone(&pod.info);
        env::spawn(async move {
            let result = writer.bind(&pod, &node, claims).await;
            // Without a receiver the scheduler has ended, and with it what the outcome is for.
            let _ended = outcomes.send(Outcome { pod, result }).await;
        });
    }

    fn wait(&self, state: &mut State, pod: PendingPod, waiting: Waiting) {
        state
            .queue
            .wait(pod.info.key(), waiting.plugins, self.clock.monotonic());
        let mut nomination = None;
        let mut clearing = None;
        match waiting.preemption {
            Preemption::Remove { node, victims } => {
                state.cluster.nominate(Arc::clone(&pod.info), node.clone());
                let losing = state.cluster.nominated_below(&node, pod.info.priority);
                for other in &losing {
                    state.cluster.nominate(Arc::clone(other), String::new());
                }
                nomination = Some(node.clone());
                clearing = Some((node, victims, losing));
            }
            Preemption::Impossible {
                clears_nomination: true,
            } => {
                state.cluster.nominate(Arc::clone(&pod.info), String::new());
                nomination = Some(String::new());
            }
            Preemption::Impossible {
                clears_nomination: false,
            } => {}
        }
        let writer = Arc::clone(&self.writer);
        env::spawn(async move {
            // The nomination first: what the victims leave behind is for this pod.
            writer
                .report(
                    &pod,
                    "Unschedulable",
                    &waiting.message,
                    nomination.as_deref(),
                )
                .await;
            if let Some((node, victims, losing)) = clearing {
                writer.preempt(&pod.info, &node, &victims, &losing).await;
            }
        });
    }
}

fn pending(stored: &StoredObject) -> Option<PendingPod> {
    match classify(stored, DEFAULT_SCHEDULER) {
        Scheduling::Pending(pod) => Some(*pod),
        Scheduling::Assigned(_) | Scheduling::Nothing => None,
    }
}

/// Did more change than what the scheduler itself writes?
fn is_changed_by_people(change: &Change) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            old.index.generation != new.index.generation || old.index.labels != new.index.labels
        }
        _ => false,
    }
}

async fn sleep_for(span: Option<Duration>) {
    match span {
        Some(span) => env::sleep(span).await,
        None => std::future::pending::<()>().await,
    }
}
