//! The network of a node, the same on servers and agents: its addresses, its share of the cluster's pod addresses, and the
//! way to the pods of other nodes.
//!
//! What the node was given is kept on disk, so that it starts its pods without a server.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use apimachinery::ObjectKey;
use controller::{Event, EventRecorder, EventType, regarding};
use controllers::POD_CIDRS_ANNOTATION;
use informer::{Cache, Factory};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube_client::Client;
use linux::AtomicFile;
use pod_network::{
    AddressRule, Backend, Checksums, FollowedAddresses, NodeLink, NodeLinkConfig, Overlay,
    OverlayConfig, OverlayParts, PodNetwork, node_address_in, pod_cidrs_of,
};
use std::sync::Arc;
use tokio::sync::watch;

use crate::control_plane::Basics;
use crate::keep_running::keep_running;
use crate::missing_address;

const KEPT_FILE: &str = "pod-cidrs";
const KEY_FILE: &str = "wireguard.key";
/// As whom Events of the network are told.
const EVENT_SOURCE: &str = "combo-network";

/// What a node's network is made from.
#[derive(Clone, Debug)]
pub(crate) struct NodeNetworkSettings {
    pub(crate) node_name: String,
    pub(crate) instance: String,
    /// Where the node keeps what it was given: `<data-dir>/agent`.
    pub(crate) folder: PathBuf,
    /// `--node-ip`
    pub(crate) said_address: Option<IpAddr>,
    /// `--flannel-iface`
    pub(crate) interface: Option<String>,
    pub(crate) cluster_cidrs: Vec<IpNet>,
    pub(crate) service_cidrs: Vec<IpNet>,
    pub(crate) backend: Backend,
    pub(crate) checksums: Checksums,
    pub(crate) share: Share,
}

/// Where a node that was never given pod addresses gets them from.
#[derive(Clone, Debug)]
pub(crate) enum Share {
    /// The cluster gives one; this one is asked for, if any.
    Given { asked_for: Vec<IpNet> },
    /// Nobody gives any: the node takes this one.
    Taken(Vec<IpNet>),
}

/// The node's own network, which stands before anything else: it gives the node its address.
pub(crate) struct NodeNetwork {
    settings: NodeNetworkSettings,
    pub(crate) pods: PodNetwork,
    addresses: Arc<FollowedAddresses>,
}

/// What the network works with once there is an API.
#[derive(Clone)]
pub(crate) struct NodeNetworkParts {
    /// Calls as the node: it writes annotations of its own Node, and Events.
    pub(crate) node: Client,
    /// Its caches may list and watch all Nodes.
    pub(crate) factory: Factory,
    pub(crate) basics: Basics,
}

impl NodeNetwork {
    pub(crate) fn open(settings: NodeNetworkSettings, rng: &dyn env::Rng) -> anyhow::Result<Self> {
        if settings.backend == Backend::WireGuard {
            // Refused now and here, and not later and in a log alone.
            drop(Overlay::open(overlay_config(&settings, Vec::new()), rng)?);
        }
        let pod_cidrs = known_share(&settings)?;
        let rule = address_rule(&settings);
        let mut addresses = rule.addresses(&[]).context("find the node's addresses")?;
        let uplink = pod_network::uplink_mtu(addresses.first().copied())
            .context("read the size of packets that the uplink carries")?;
        let underlay = addresses.first().copied();
        let underlay = underlay.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let mtu = settings.backend.pod_mtu(uplink, underlay);
        if addresses.is_empty() {
            // On a machine with nothing but loopback, the node's address in its own pod network is the one that others can use.
            let share = pod_cidrs.clone().or_else(|| settings.share.wanted());
            addresses = inner_link(&settings, share.unwrap_or_default(), mtu)?;
        }
        anyhow::ensure!(
            !addresses.is_empty(),
            "the node has no address; give one with --node-ip"
        );
        let pods = pod_network::Config {
            instance: settings.instance.clone(),
            pod_cidrs: pod_cidrs.unwrap_or_default(),
            service_cidrs: settings.service_cidrs.clone(),
            mtu,
        };
        let pods = PodNetwork::open(&pods).context("open the pod network")?;
        Ok(Self {
            settings,
            pods,
            addresses: Arc::new(FollowedAddresses::new(addresses)),
        })
    }

    pub(crate) fn backend(&self) -> Backend {
        self.settings.backend
    }

    /// The node's addresses as they change, primary first; never none.
    pub(crate) fn addresses(&self) -> watch::Receiver<Vec<IpAddr>> {
        self.addresses.node.subscribe()
    }

    /// All addresses of the machine as they change.
    pub(crate) fn machine_addresses(&self) -> watch::Receiver<Vec<IpAddr>> {
        self.addresses.machine.subscribe()
    }

    /// What the node's Node says from its first moment: a node that comes back asks for the share that its pods have
    /// addresses of.
    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        let held = self.pods.pod_cidrs().borrow().clone();
        let held = Some(held).filter(|held| !held.is_empty());
        let asked_for = held.or_else(|| self.settings.share.wanted());
        let asked_for = asked_for.map(|ranges| (POD_CIDRS_ANNOTATION.to_owned(), text(&ranges)));
        asked_for.into_iter().collect()
    }

    /// Follows the machine's addresses, the node's share and the other nodes until the end is asked for.
    pub(crate) fn run(&self, parts: &NodeNetworkParts) {
        let shutdown = parts.basics.shutdown.clone();
        let (rule, addresses) = (address_rule(&self.settings), Arc::clone(&self.addresses));
        env::spawn({
            let shutdown = shutdown.clone();
            async move { rule.follow(&addresses, &shutdown).await }
        });
        let nodes = parts.factory.all::<Node>();
        let clock = parts.basics.clock.clone();
        let events = EventRecorder::new(
            parts.node.clone(),
            EVENT_SOURCE,
            &self.settings.node_name,
            clock,
        );
        env::spawn(missing_address::tell(
            self.addresses.missing.subscribe(),
            Arc::clone(&nodes),
            Arc::clone(&events),
            self.settings.node_name.clone(),
        ));
        let (settings, pods) = (self.settings.clone(), self.pods.clone());
        let told = (Arc::clone(&nodes), Arc::clone(&events));
        keep_running("pod addresses of the node", shutdown.clone(), move || {
            let (settings, pods, (nodes, events)) = (settings.clone(), pods.clone(), told.clone());
            async move {
                follow_share(&settings, &pods, &nodes, &events).await;
                Ok(())
            }
        });
        let (settings, pods, parts) = (self.settings.clone(), self.pods.clone(), parts.clone());
        let addresses = self.addresses.node.subscribe();
        keep_running("way to other nodes", shutdown.clone(), move || {
            let (settings, pods, parts) = (settings.clone(), pods.clone(), parts.clone());
            let overlay = OverlayParts {
                nodes: Arc::clone(&nodes),
                client: parts.node.clone(),
                events: Arc::clone(&events),
                addresses: addresses.clone(),
                shutdown: shutdown.clone(),
            };
            async move { run_overlay(&settings, &pods, overlay, &parts.basics).await }
        });
    }
}

/// The node's address in its own pod network, where only pods and this node come, once the node has a share.
pub(crate) async fn inner_address(pods: &PodNetwork) -> IpAddr {
    let mut ranges = pods.pod_cidrs();
    let known = ranges.wait_for(|ranges| !ranges.is_empty()).await;
    let first = known.ok().and_then(|ranges| ranges.first().copied());
    // The pod network, which is held here, holds the other end.
    node_address_in(first.expect("there is a range, and the sender lives"))
}

impl Share {
    fn wanted(&self) -> Option<Vec<IpNet>> {
        let (Self::Given { asked_for: wanted } | Self::Taken(wanted)) = self;
        Some(wanted.clone()).filter(|wanted| !wanted.is_empty())
    }
}

fn address_rule(settings: &NodeNetworkSettings) -> AddressRule {
    AddressRule {
        said: settings.said_address,
        interface: settings.interface.clone(),
        cluster_cidrs: settings.cluster_cidrs.clone(),
    }
}

/// The share that the node has for sure: from an earlier start, or because nobody else gives one.
fn known_share(settings: &NodeNetworkSettings) -> anyhow::Result<Option<Vec<IpNet>>> {
    if let Some(kept) = kept_share(settings) {
        return Ok(Some(kept));
    }
    match &settings.share {
        Share::Given { .. } => Ok(None),
        Share::Taken(share) => {
            keep_share(settings, share)?;
            Ok(Some(share.clone()))
        }
    }
}

fn kept_share(settings: &NodeNetworkSettings) -> Option<Vec<IpNet>> {
    let path = settings.folder.join(KEPT_FILE);
    let kept = std::fs::read_to_string(&path).ok()?;
    let ranges = kept.trim().split(',').map(str::parse::<IpNet>);
    match ranges.collect::<Result<Vec<_>, _>>() {
        Ok(ranges) => Some(ranges),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the kept pod addresses make no sense: the cluster is asked again");
            None
        }
    }
}

fn keep_share(settings: &NodeNetworkSettings, share: &[IpNet]) -> anyhow::Result<()> {
    let path = settings.folder.join(KEPT_FILE);
    AtomicFile::private(&path)
        .write(format!("{}\n", text(share)).as_bytes())
        .with_context(|| format!("keep the node's pod addresses in {}", path.display()))
}

fn text(ranges: &[IpNet]) -> String {
    let texts: Vec<String> = ranges.iter().map(IpNet::to_string).collect();
    texts.join(",")
}

fn inner_link(
    settings: &NodeNetworkSettings,
    pod_cidrs: Vec<IpNet>,
    mtu: u32,
) -> anyhow::Result<Vec<IpAddr>> {
    let link = NodeLinkConfig {
        instance: settings.instance.clone(),
        pod_cidrs,
        service_cidrs: settings.service_cidrs.clone(),
        mtu,
    };
    let link = NodeLink::ensure(&link).context("make the node's network link")?;
    Ok(link.addresses)
}

/// Takes the share that the cluster gives, as soon as the node's Node says it.
async fn follow_share(
    settings: &NodeNetworkSettings,
    pods: &PodNetwork,
    nodes: &Arc<Cache>,
    events: &Arc<EventRecorder>,
) {
    let changes = nodes.subscribe();
    let own = ObjectKey::cluster(settings.node_name.clone());
    let mut refused = Vec::new();
    loop {
        let change = changes.next().await;
        let Some(node) = change.new.as_ref().filter(|node| *node.key() == own) else {
            continue;
        };
        let share = pod_cidrs_of(node);
        if share.is_empty() || share == refused || *pods.pod_cidrs().borrow() == share {
            continue;
        }
        let taken = pods
            .set_pod_cidrs(&share)
            .map_err(anyhow::Error::from)
            .and_then(|()| keep_share(settings, &share));
        match taken {
            Ok(()) => tracing::info!(
                share = text(&share),
                "the cluster gave the node pod addresses"
            ),
            Err(error) => {
                let share_text = text(&share);
                let message = format!(
                    "The cluster gave this node the pod addresses {share_text}, which it cannot use yet: {error:#}"
                );
                tracing::warn!("{message}");
                events.emit(Event {
                    regarding: regarding::<Node>(node),
                    event_type: EventType::Warning,
                    reason: "PodCIDRNotUsed".to_owned(),
                    message,
                });
                refused = share;
            }
        }
    }
}

fn overlay_config(settings: &NodeNetworkSettings, pod_cidrs: Vec<IpNet>) -> OverlayConfig {
    OverlayConfig {
        node_name: settings.node_name.clone(),
        instance: settings.instance.clone(),
        backend: settings.backend,
        pod_cidrs,
        cluster_cidrs: settings.cluster_cidrs.clone(),
        checksums: settings.checksums,
        private_key: settings.folder.join(KEY_FILE),
    }
}

/// Runs the overlay as soon as the node has a share, and anew when it has another. Returns at the end of the process.
async fn run_overlay(
    settings: &NodeNetworkSettings,
    pods: &PodNetwork,
    parts: OverlayParts,
    basics: &Basics,
) -> anyhow::Result<()> {
    let mut ranges = pods.pod_cidrs();
    inner_address(pods).await;
    let share = ranges.borrow_and_update().clone();
    let overlay = Overlay::open(overlay_config(settings, share), &*basics.rng)
        .context("open the way to other nodes")?;
    tokio::select! {
        biased;
        () = overlay.run(parts) => Ok(()),
        // The one who runs this starts it again.
        _changed = ranges.changed() => Ok(()),
    }
}
