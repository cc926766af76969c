//! From the Nodes of the API to the kernel, for as long as the node lives. Whatever somebody else takes away comes back.

use super::difference::{Found, difference};
use super::facts::{NodeFacts, Offer};
use super::kernel::{Kernel, Refused, uplink_mtu};
use super::plan::{Complaint, Desired, Own, View, addresses_of_peers, desired};
use super::{Backend, OverlayConfig, private_key};
use crate::error::Error;
use crate::identity::{Instance, tunnel_mac};
use apimachinery::ObjectKey;
use controller::{Event, EventRecorder, EventType, regarding};
use env::{Rng, Shutdown};
use informer::{Cache, Change, Subscription};
use k8s_openapi::api::core::v1::Node;
use kube_client::{Client, Patch, resource_of};
use linux::netlink::NetlinkError;
use linux::netlink::route::{RouteWatch, Seen};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Changes come in groups: one look serves those of this time.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// After a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the overlay works with; wiring gives it.
pub struct OverlayParts {
    /// All Nodes of the cluster.
    pub nodes: Arc<Cache>,
    /// Writes annotations of this node's own Node.
    pub client: Client,
    /// Tells of peers that are not reached.
    pub events: Arc<EventRecorder>,
    /// The node's addresses as they are, primary first.
    pub addresses: watch::Receiver<Vec<IpAddr>>,
    pub shutdown: Shutdown,
}

/// The overlay of one node, ready to run.
#[derive(Debug)]
pub struct Overlay {
    config: OverlayConfig,
    kernel: Kernel,
    offer: Offer,
}

impl Overlay {
    /// Opens what is needed of the kernel, in the network namespace of the calling thread; refuses a backend that this
    /// kernel does not have.
    pub fn open(config: OverlayConfig, rng: &dyn Rng) -> Result<Self, Error> {
        let mut kernel = Kernel::open(Instance::new(&config.instance))?;
        let wireguard_key = match config.backend {
            Backend::WireGuard => {
                let private = private_key::load_or_make(&config.private_key, rng)?;
                Some(kernel.use_wireguard(private)?)
            }
            Backend::Vxlan | Backend::HostGw | Backend::None => None,
        };
        let uses_vxlan = matches!(config.backend, Backend::Vxlan | Backend::HostGw);
        let offer = Offer {
            backend: config.backend,
            mac: uses_vxlan.then(|| tunnel_mac(&config.node_name)),
            wireguard_key,
        };
        Ok(Self {
            config,
            kernel,
            offer,
        })
    }

    /// Keeps the way to all other nodes until the end is asked for. Links and routes stay when this returns.
    ///
    /// Nothing is changed before all Nodes have been read once: until then what an earlier process left goes on working.
    pub async fn run(self, parts: OverlayParts) {
        let nodes = parts.nodes.subscribe();
        let events = RouteWatch::open()
            .inspect_err(|error| tracing::warn!(%error, "changes of links by others go unnoticed"))
            .ok();
        tokio::select! {
            biased;
            () = parts.shutdown.requested() => return,
            () = parts.nodes.wait_for_sync() => {}
        }
        let mut keeper = Keeper::new(self, parts);
        keeper.run(&nodes, events).await;
    }
}

struct Keeper {
    parts: OverlayParts,
    own: Own,
    /// Away while it works on another thread.
    kernel: Option<Kernel>,
    nodes: BTreeMap<String, NodeFacts>,
    /// What was seen at the last look, and what should be there.
    found: Found,
    desired: Desired,
    /// What people were told already, by the node it is about.
    told: BTreeMap<String, String>,
}

/// How a look at the kernel ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    AsDesired,
    Failed,
}

impl Keeper {
    fn new(overlay: Overlay, parts: OverlayParts) -> Self {
        let config = overlay.config;
        let own = Own {
            name: config.node_name,
            instance: Instance::new(&config.instance),
            ranges: config.pod_cidrs,
            cluster_ranges: config.cluster_cidrs,
            checksums: config.checksums,
            offer: overlay.offer,
            underlay: IpAddr::from([127, 0, 0, 1]),
            uplink_mtu: 0,
        };
        Self {
            parts,
            own,
            kernel: Some(overlay.kernel),
            nodes: BTreeMap::new(),
            found: Found::default(),
            desired: Desired::default(),
            told: BTreeMap::new(),
        }
    }

    async fn run(&mut self, nodes: &Subscription, mut events: Option<RouteWatch>) {
        let shutdown = self.parts.shutdown.clone();
        let mut retry = RETRY_FIRST;
        loop {
            while let Some(change) = nodes.try_next() {
                self.take(&change);
            }
            let outcome = match self.publish().await {
                Outcome::Failed => Outcome::Failed,
                Outcome::AsDesired => self.look().await,
            };
            let wait = match outcome {
                Outcome::AsDesired => {
                    retry = RETRY_FIRST;
                    None
                }
                Outcome::Failed => {
                    let now = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    Some(now)
                }
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = self.disturbed(nodes, &mut events) => {}
                () = maybe_sleep(wait) => {}
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = env::sleep(DEBOUNCE) => {}
            }
        }
    }

    /// Returns once something happened that may change what is desired or what is there.
    async fn disturbed(&mut self, nodes: &Subscription, events: &mut Option<RouteWatch>) {
        let mut addresses = self.parts.addresses.clone();
        addresses.mark_unchanged();
        if self.underlay() != Some(self.own.underlay) {
            return;
        }
        loop {
            tokio::select! {
                biased;
                change = nodes.next() => {
                    if self.take(&change) {
                        return;
                    }
                }
                Ok(()) = addresses.changed() => return,
                () = heard(events, |seen| self.matters(seen)) => return,
            }
        }
    }

    /// Tells whether the change is of interest: a Node is written every few minutes without one.
    fn take(&mut self, change: &Change) -> bool {
        let name = change.key().name.clone();
        let facts = change.new.as_ref().and_then(NodeFacts::of);
        let before = match facts.clone() {
            Some(facts) => self.nodes.insert(name, facts),
            None => self.nodes.remove(&name),
        };
        before != facts
    }

    /// Lets others know how this node is reached.
    async fn publish(&mut self) -> Outcome {
        let name = self.own.name.clone();
        let is_told = self
            .nodes
            .get(&name)
            // Before the kubelet registered the node there is nothing to write to.
            .is_none_or(|facts| facts.offer.as_ref() == Some(&self.own.offer));
        if is_told {
            return Outcome::AsDesired;
        }
        let api = self.parts.client.dynamic(resource_of::<Node>(), "");
        match api
            .patch(&name, &Patch::Merge(self.own.offer.patch()))
            .await
        {
            Ok(_) => Outcome::AsDesired,
            Err(error) if error.is_not_found() => Outcome::AsDesired,
            Err(error) => {
                tracing::warn!(%error, "other nodes are not told how to reach this one");
                Outcome::Failed
            }
        }
    }

    fn underlay(&self) -> Option<IpAddr> {
        self.parts.addresses.borrow().first().copied()
    }

    async fn look(&mut self) -> Outcome {
        let Some(underlay) = self.underlay() else {
            return Outcome::AsDesired;
        };
        self.own.underlay = underlay;
        let mut kernel = self.kernel.take().expect("it is put back after each look");
        let (mut own, nodes) = (self.own.clone(), self.nodes.clone());
        let work = env::spawn_blocking(move || {
            let result = bring_about(&mut kernel, &mut own, &nodes);
            (kernel, own, result)
        });
        let (kernel, own, result) = match work.await {
            Ok(done) => done,
            // The one who runs this task starts it again.
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending, and this task with it.
                Err(_cancelled) => std::future::pending().await,
            },
        };
        self.kernel = Some(kernel);
        self.own = own;
        match result {
            Ok(look) => self.judge(look),
            Err(error) => {
                tracing::warn!(%error, "the kernel does not tell its links and routes");
                Outcome::Failed
            }
        }
    }

    fn judge(&mut self, look: Look) -> Outcome {
        self.found = look.found;
        self.desired = look.desired;
        let mut complaints: BTreeMap<String, (&'static str, String)> = BTreeMap::new();
        for (name, complaint) in &self.desired.complaints {
            complaints.insert(name.clone(), describe(&self.own.name, name, complaint));
        }
        if let Some(Refused { step, error }) = look.refused.first() {
            tracing::warn!(%error, ?step, "the way to other nodes is not complete");
            let message = format!("The way to the pods of other nodes is not complete: {error}");
            complaints.insert(self.own.name.clone(), ("OverlayFailed", message));
        }
        self.tell(complaints);
        if look.refused.iter().any(Refused::is_no_vxlan) && self.own.offer.mac.take().is_some() {
            tracing::warn!("this kernel has no VXLAN: only nodes on the same link are reached");
        }
        if look.refused.is_empty() {
            Outcome::AsDesired
        } else {
            Outcome::Failed
        }
    }

    fn tell(&mut self, complaints: BTreeMap<String, (&'static str, String)>) {
        let key = ObjectKey::cluster(self.own.name.clone());
        let own = self.parts.nodes.get(&key);
        self.told.retain(|about, _| complaints.contains_key(about));
        for (about, (reason, message)) in complaints {
            if self.told.get(&about) == Some(&message) {
                continue;
            }
            tracing::warn!("{message}");
            if let Some(own) = &own {
                self.parts.events.emit(Event {
                    regarding: regarding::<Node>(own),
                    event_type: EventType::Warning,
                    reason: reason.to_owned(),
                    message: message.clone(),
                });
                self.told.insert(about, message);
            }
        }
    }

    /// Whether something that happened in the kernel can be of interest: not what is as it should be, and not what happens
    /// all the time, as pods come and go.
    fn matters(&self, seen: &Seen) -> bool {
        let instance = &self.own.instance;
        let tunnels = self.found.links.iter();
        let mut tunnels = tunnels.filter(|link| instance.is_tunnel(link));
        let mut is_in_tunnel = |link: u32| tunnels.any(|tunnel| tunnel.index == link);
        let is_ours = |metric: Option<u32>| metric == Some(instance.metric());
        match seen {
            Seen::LinkGone(link) => instance.is_tunnel(link) || self.is_used(link.index),
            Seen::Link(link) => {
                (instance.is_tunnel(link) || self.is_used(link.index))
                    && !self.found.links.contains(link)
            }
            Seen::AddressGone(address) => is_in_tunnel(address.link),
            Seen::Address(_) => false,
            Seen::RouteGone(route) if is_ours(route.metric) => true,
            Seen::Route(route) if is_ours(route.metric) => false,
            // The way to a peer may be another now.
            Seen::Route(route) | Seen::RouteGone(route) => {
                route.protocol != crate::plan::ROUTE_PROTOCOL && self.nodes.len() > 1
            }
            Seen::NeighbourGone(one) => is_in_tunnel(one.link),
            Seen::Neighbour(one) => {
                is_in_tunnel(one.link)
                    && self.desired.neighbours.get(&one.address) != Some(&one.mac)
                    && self.desired.forwardings.get(&one.mac) != Some(&one.address)
            }
        }
    }

    /// Whether packets to others leave by this link.
    fn is_used(&self, link: u32) -> bool {
        let mut addresses = self.found.addresses.iter();
        addresses.any(|one| one.link == link && one.address == self.own.underlay)
    }
}

/// What a look at the kernel brought.
struct Look {
    found: Found,
    desired: Desired,
    refused: Vec<Refused>,
}

fn bring_about(
    kernel: &mut Kernel,
    own: &mut Own,
    nodes: &BTreeMap<String, NodeFacts>,
) -> Result<Look, NetlinkError> {
    let found = kernel.find()?;
    own.uplink_mtu = uplink_mtu(&found, own.underlay);
    let ways = kernel.ways(addresses_of_peers(own, nodes))?;
    let desired = desired(&View {
        own,
        nodes,
        ways: &ways,
    });
    let steps = difference(&own.instance, &desired, &found);
    if steps.is_empty() {
        return Ok(Look {
            found,
            desired,
            refused: Vec::new(),
        });
    }
    tracing::debug!(?steps, "the way to other nodes changes");
    let refused = kernel.run(steps);
    Ok(Look {
        found: kernel.find()?,
        desired,
        refused,
    })
}

fn describe(own: &str, other: &str, complaint: &Complaint) -> (&'static str, String) {
    if complaint.is_only_slower() {
        let message =
            format!("The pods of node {other} are reached from node {own} by VXLAN: {complaint}");
        return ("OverlayFallback", message);
    }
    let message = format!("The pods of node {other} are not reached from node {own}: {complaint}");
    ("OverlayPeerUnreachable", message)
}

async fn heard(events: &mut Option<RouteWatch>, matters: impl Fn(&Seen) -> bool) {
    match events {
        Some(watch) => match watch.changed(matters).await {
            Ok(()) => {}
            // The runtime is ending.
            Err(_closed) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn maybe_sleep(span: Option<Duration>) {
    match span {
        Some(span) => env::sleep(span).await,
        None => std::future::pending().await,
    }
}
