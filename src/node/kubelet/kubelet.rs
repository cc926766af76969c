//! The kubelet of one node: its sources of pods, its workers, and the tasks beside them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::StoredObject;
use cri::{ImageService, RuntimeService};
use env::{Clock, Rng, Shutdown};
use informer::{Cache, Factory, Subscription};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube_client::{Client, resource_of};
use parking_lot::Mutex;
use semantics::downward_api::NodeFacts as NodeFactsOfPods;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;

use crate::admission::{AdmissionInputs, active_others, judge, node_key};
use crate::config::Config;
use crate::events::{EventWriter, Severity, event_channel};
use crate::eviction::EvictionManager;
use crate::images::ImagePuller;
use crate::kept::{pods_of, selected};
use crate::last_known::{LastKnown, strangers};
use crate::node::memory_limits::{self, MemoryLimits};
use crate::node::{Capacity, NodeFacts, NodeRegistrar, PressureState};
use crate::objects::ApiObjects;
use crate::pods::facts::{CONFIG_MIRROR, is_terminal};
use crate::pods::{Inputs, Origin, PodHandle, PodTable, Rejection, Wanted};
use crate::services::Services;
use crate::static_pods::{Mirrors, StaticPods};
use crate::status::WRITES_MAX;
use crate::worker::PodWorker;
use volumes::NodeVolumes;

/// A worker that failed (a mistake in it) begins again after this time.
const WORKER_RESTART: Duration = Duration::from_secs(1);

/// What a kubelet is made of; wiring gives it.
pub struct Parts {
    pub config: Config,
    pub capacity: Capacity,
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
    /// Calls as `system:node:<name>`.
    pub client: Client,
    pub factory: Factory,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
}

/// Runs the pods of one node. Cloning it shares everything.
#[derive(Clone)]
pub struct Kubelet {
    pub(crate) services: Arc<Services>,
    pods: Arc<Cache>,
    pub(crate) node: Arc<Cache>,
    pressure: Arc<PressureState>,
    mirrors: Arc<Mirrors>,
    events: Arc<Mutex<Option<EventWriter>>>,
}

impl Kubelet {
    /// Must be made within a runtime: its caches start at once. Fails if the root directory cannot be made.
    pub fn new(parts: Parts) -> Result<Self, volumes::Error> {
        let Parts {
            config,
            capacity,
            runtime,
            images,
            client,
            factory,
            clock,
            rng,
        } = parts;
        let pods_table = Arc::new(PodTable::default());
        let last_known = LastKnown::new(factory.memory().map(|memory| memory.records().clone()));
        let objects = Arc::new(ApiObjects::new(
            client.clone(),
            factory.clone(),
            Arc::clone(&images),
            Arc::clone(&pods_table),
            NodeFactsOfPods {
                host_ips: config.addresses_now(),
                pod_ips: Vec::new(),
                allocatable: capacity.allocatable.clone(),
            },
            last_known.clone(),
        ));
        let volumes = NodeVolumes::open(
            &config.root_directory,
            Arc::clone(&objects) as _,
            Arc::clone(&images),
            Arc::clone(&clock),
            Arc::clone(&rng),
        )?;
        let (events, writer) = event_channel(
            client.clone(),
            Arc::clone(&clock),
            Arc::clone(&rng),
            &config.node_name,
        );
        let (pods, node) = caches_of_node(&factory, &config.node_name);
        let services = Services {
            puller: ImagePuller::new(Arc::clone(&images), events.clone(), Arc::clone(&clock)),
            runtime_name: runtime.version().name,
            started_at: clock.now(),
            status_writes: Arc::new(Semaphore::new(WRITES_MAX)),
            user_namespaces: Mutex::new(BTreeMap::new()),
            pods_table,
            objects,
            last_known,
            node: capacity,
            config,
            runtime,
            images,
            volumes,
            client,
            events,
            clock,
            rng,
        };
        Ok(Self {
            services: Arc::new(services),
            pods,
            node,
            pressure: Arc::default(),
            mirrors: Arc::default(),
            events: Arc::new(Mutex::new(Some(writer))),
        })
    }

    /// Tells people of the node, in an Event that waits until a server takes it.
    pub fn warn_of_node(&self, reason: &str, message: &str) {
        let services = &self.services;
        let name = &services.config.node_name;
        services
            .events
            .node(name, Severity::Warning, reason, message);
    }

    /// The clock was set, here or on the server: tokens of pods, which go by dates, are renewed.
    pub fn dates_changed(&self) {
        self.services.volumes.outdate_tokens();
        self.poke_all();
    }

    /// Runs until asked to end. Containers keep running: a later kubelet adopts them.
    pub async fn run(self, shutdown: Shutdown) {
        if let Some(writer) = self.events.lock().take() {
            env::spawn(writer.run());
        }
        if self.services.config.memory_limits == MemoryLimits::NotEnforced {
            self.warn_of_node(memory_limits::REASON, memory_limits::MESSAGE);
        }
        let events = self.services.runtime.events();
        let sources = async {
            let subscription = self.pods.subscribe();
            self.pods.wait_for_sync().await;
            self.follow_api(&subscription, &shutdown).await;
        };
        let registrar = NodeRegistrar {
            services: Arc::clone(&self.services),
            node: Arc::clone(&self.node),
            facts: NodeFacts::read(&self.services.config, &self.services.runtime.version()),
            pressure: Arc::clone(&self.pressure),
            port: self.services.config.listen.port(),
        };
        let statics = async {
            match &self.services.config.manifests_directory {
                Some(folder) => {
                    let source = StaticPods {
                        kubelet: self.clone(),
                        mirrors: Arc::clone(&self.mirrors),
                        shutdown: shutdown.clone(),
                    };
                    source.run(folder).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = statics => {}
            () = self.follow_runtime(events) => {}
            () = self.follow_addresses() => {}
            () = sources => {}
            () = registrar.run() => {}
            () = EvictionManager::new(Arc::clone(&self.services), Arc::clone(&self.pressure)).run() => {}
        }
    }

    async fn follow_runtime(&self, mut events: cri::ContainerEvents) {
        loop {
            match events.recv().await {
                Ok(event) => {
                    if let Some(pod) = self.services.pods_table.get(&event.pod_uid) {
                        pod.inputs.poke();
                    }
                }
                Err(RecvError::Lagged(_)) => self.poke_all(),
                // The runtime is gone: nothing more is told.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Pods tell the addresses of their node, and those on its network have no others.
    async fn follow_addresses(&self) {
        let mut addresses = self.services.config.node_addresses.clone();
        while addresses.changed().await.is_ok() {
            self.poke_all();
        }
        // Nobody is left who could tell of others.
        std::future::pending::<()>().await;
    }

    fn poke_all(&self) {
        let pods = self.services.pods_table.all();
        pods.iter().for_each(|pod| pod.inputs.poke());
    }

    async fn follow_api(&self, subscription: &Subscription, shutdown: &Shutdown) {
        self.adopt_user_namespaces().await;
        self.take_changes(subscription, shutdown);
        // What is remembered may lack pods that run here: only a server knows that nobody wants a pod.
        let told = async {
            self.pods.wait_until_told().await;
            self.take_changes(subscription, shutdown);
            self.clean_up_orphans(shutdown).await;
            self.forget_strangers();
            std::future::pending::<()>().await;
        };
        let changes = async {
            loop {
                let change = subscription.next().await;
                self.apply(&change, shutdown);
            }
        };
        tokio::join!(told, changes);
    }

    fn take_changes(&self, subscription: &Subscription, shutdown: &Shutdown) {
        while let Some(change) = subscription.try_next() {
            self.apply(&change, shutdown);
        }
    }

    /// Pods that are not of this node any more need not be remembered.
    fn forget_strangers(&self) {
        let pods: Vec<Pod> = self
            .services
            .pods_table
            .all()
            .iter()
            .filter_map(PodHandle::pod)
            .collect();
        self.services.objects.forget_all_but(&pods);
        for uid in strangers(self.services.last_known.pods(), &pods) {
            self.services.last_known.forget_pod(&uid);
        }
    }

    fn apply(&self, change: &informer::Change, shutdown: &Shutdown) {
        let uid =
            |side: &Option<StoredObject>| side.as_ref().map(|object| object.index.uid.clone());
        if let Some(old) = change
            .old
            .as_ref()
            .filter(|_| uid(&change.old) != uid(&change.new))
            && let Some(handle) = self.services.pods_table.get(&old.index.uid)
        {
            // The last state tells how much time a forced deletion leaves.
            handle.inputs.set_wanted(Wanted {
                object: old.clone(),
                origin: Origin::Api,
                mirror: None,
            });
            handle.inputs.set_gone();
        }
        if let Some(old) = change
            .old
            .as_ref()
            .filter(|_| uid(&change.old) != uid(&change.new))
        {
            self.mirrors.remove(old);
        }
        if let Some(new) = &change.new {
            if is_mirror(new) {
                self.mirrors.put(new.clone());
                return;
            }
            self.want(
                Wanted {
                    object: new.clone(),
                    origin: Origin::Api,
                    mirror: None,
                },
                shutdown,
            );
        }
    }

    /// Whether the API told its pods at least once.
    pub(crate) fn is_told(&self) -> bool {
        self.pods.is_told()
    }

    /// The pod should run here, in this form.
    pub(crate) fn want(&self, wanted: Wanted, shutdown: &Shutdown) {
        let uid = wanted.object.index.uid.clone();
        if let Some(handle) = self.services.pods_table.get(&uid) {
            handle.inputs.set_wanted(wanted);
            return;
        }
        let Ok(pod) = wanted.object.decode::<Pod>() else {
            tracing::error!(pod = %wanted.object.key(), "a pod cannot be read");
            return;
        };
        let rejection = self.admit(&pod);
        if let Some(rejection) = &rejection {
            self.services.events.pod(
                &pod,
                Severity::Warning,
                &rejection.reason,
                rejection.message.clone(),
            );
        }
        self.start_worker(&uid, Inputs::new(wanted, rejection), shutdown);
    }

    /// A pod that has begun here was admitted once; it is not judged again.
    fn admit(&self, pod: &Pod) -> Option<Rejection> {
        let status = pod.status.clone().unwrap_or_default();
        let has_begun = status.start_time.is_some() || is_terminal(status.phase.as_deref());
        if has_begun || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let uid = crate::pods::facts::uid(pod);
        let table = &self.services.pods_table;
        let node = self
            .node
            .get(&node_key(&self.services.config.node_name))
            .and_then(|node| node.decode::<Node>().ok());
        let allocatable = &self.services.node.allocatable;
        judge(&AdmissionInputs {
            pod,
            node: node.as_ref(),
            free: &table.free_for(uid, allocatable),
            allocatable,
            others: &active_others(table, uid),
            allowed_unsafe_sysctls: &self.services.config.allowed_unsafe_sysctls,
            pressure: &self.pressure.get(),
        })
    }

    fn start_worker(&self, uid: &str, inputs: Inputs, shutdown: &Shutdown) {
        let handle = PodHandle {
            inputs: Arc::new(inputs),
            view: Arc::default(),
        };
        self.services.pods_table.insert(uid, handle.clone());
        let (services, shutdown, uid) =
            (Arc::clone(&self.services), shutdown.clone(), uid.to_owned());
        env::spawn(async move {
            loop {
                let worker = PodWorker::new(
                    Arc::clone(&services),
                    Arc::clone(&handle.inputs),
                    Arc::clone(&handle.view),
                );
                match env::spawn(worker.run(shutdown.clone())).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::error!(uid, %error, "the worker of a pod failed and begins again");
                        env::sleep(WORKER_RESTART).await;
                    }
                }
            }
            if !shutdown.is_requested() {
                services.pods_table.remove(&uid);
            }
        });
    }

    /// Pods that run keep the ids they have.
    async fn adopt_user_namespaces(&self) {
        match self.services.runtime.list_pod_sandboxes().await {
            Ok(sandboxes) => {
                for sandbox in &sandboxes {
                    self.services
                        .adopt_user_namespace(&sandbox.pod.uid, &sandbox.namespaces.user);
                }
            }
            Err(error) => tracing::warn!(%error, "the runtime does not tell which pods it has"),
        }
    }

    /// What is in the runtime and on the disk of pods that nobody wants any more.
    async fn clean_up_orphans(&self, shutdown: &Shutdown) {
        let sandboxes = match self.services.runtime.list_pod_sandboxes().await {
            Ok(sandboxes) => sandboxes,
            Err(error) => {
                tracing::warn!(%error, "the runtime does not tell which pods it has");
                return;
            }
        };
        for sandbox in &sandboxes {
            if self.services.pods_table.get(&sandbox.pod.uid).is_some() {
                continue;
            }
            match crate::orphans::as_wanted(sandbox) {
                Ok(wanted) => {
                    let inputs = Inputs::new(wanted, None);
                    inputs.set_gone();
                    self.start_worker(&sandbox.pod.uid, inputs, shutdown);
                }
                Err(error) => tracing::error!(%error, "an orphan cannot be described"),
            }
        }
        crate::orphans::remove_files(&self.services).await;
    }
}

/// The pods of this node, and the node itself.
fn caches_of_node(factory: &Factory, node_name: &str) -> (Arc<Cache>, Arc<Cache>) {
    let node = selected(resource_of::<Node>(), "metadata.name", node_name);
    (factory.cache(pods_of(node_name)), factory.cache(node))
}

fn is_mirror(object: &StoredObject) -> bool {
    object
        .to_object()
        .is_ok_and(|object| object.annotation(CONFIG_MIRROR).is_some())
}
