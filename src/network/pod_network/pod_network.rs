//! Connecting pods and taking them off again. The truth about addresses is the kernel's routes, read at start.

use crate::address_pool::AddressPool;
use crate::error::Error;
use crate::executor::{self, Failure};
use crate::identity::{Instance, is_writable_pod_uid};
use crate::node_link::{self, NodeLink, NodeLinkConfig, node};
use crate::{overlay, plan, sysctl};
use ipnet::IpNet;
use linux::NetworkNamespace;
use linux::netlink::NetlinkError;
use linux::netlink::conntrack::{ConntrackSocket, Flows};
use linux::netlink::route::{Link, Route, RouteSocket};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a pod waits for the cluster to give the node its pod ranges; whoever wants the pod tries again after that.
const RANGES_PATIENCE: Duration = Duration::from_secs(20);
/// How many addresses that others claimed on this machine are stepped over for one pod.
const CLAIMED_ADDRESSES_MAX: usize = 512;

/// What the pod network of a node needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// A short hash that tells the Combo instances of a machine apart; it is part of all names in the kernel.
    pub instance: String,
    /// The node's pod ranges: one, or one per family. The first is the primary one. None while they are not known: pods
    /// wait until [`PodNetwork::set_pod_cidrs`] tells them.
    pub pod_cidrs: Vec<IpNet>,
    /// The cluster's Service ranges; a route to them is kept on the node's own link.
    pub service_cidrs: Vec<IpNet>,
    /// Bytes of a packet inside the pod network.
    pub mtu: u32,
}

/// A pod that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedPod {
    pub pod_uid: String,
    /// The primary address first.
    pub addresses: Vec<IpAddr>,
}

/// The pod network of this node. Clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct PodNetwork(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    instance: Instance,
    mtu: u32,
    service_cidrs: Vec<IpNet>,
    /// The node's pod ranges, which are those of the pools.
    pod_cidrs: watch::Sender<Vec<IpNet>>,
    node_link: Mutex<NodeLink>,
    host: NetworkNamespace,
    state: Mutex<State>,
    /// For everything quick.
    routes: Mutex<RouteSocket>,
    /// For removals, which block for long.
    removals: Mutex<Removals>,
}

#[derive(Debug)]
struct Removals {
    routes: RouteSocket,
    flows: ConntrackSocket,
}

#[derive(Debug)]
struct State {
    pools: Vec<AddressPool>,
    pods: BTreeMap<String, PodLink>,
    /// Addresses that are taken for pods to come, by their uids.
    promised: BTreeMap<String, Vec<IpAddr>>,
}

#[derive(Debug, Clone)]
struct PodLink {
    index: u32,
    addresses: Vec<IpAddr>,
}

impl PodNetwork {
    /// Takes over what the kernel has, removes what a crash left half made, and makes the node ready to route.
    ///
    /// Belongs to the network namespace of the calling thread; blocks for some milliseconds.
    pub fn open(config: &Config) -> Result<Self, Error> {
        if !config.pod_cidrs.is_empty() {
            check_ranges(&config.pod_cidrs)?;
        }
        let instance = Instance::new(&config.instance);
        let host =
            NetworkNamespace::current().map_err(system("open the node's network namespace"))?;
        let mut routes = RouteSocket::open().map_err(node("open a netlink socket"))?;
        let removals = Removals {
            routes: RouteSocket::open().map_err(node("open a netlink socket"))?,
            flows: ConntrackSocket::open().map_err(node("open a conntrack socket"))?,
        };
        let has_v6 = config
            .pod_cidrs
            .iter()
            .any(|range| range.network().is_ipv6());
        sysctl::enable_forwarding(&config.instance, has_v6)
            .map_err(settings("let the node route"))?;
        let node_link = node_link::ensure_on(&mut routes, &link_config(config))?;
        let state = recover(&mut routes, &instance, &config.pod_cidrs)?;
        Ok(Self(Arc::new(Shared {
            instance,
            mtu: config.mtu,
            service_cidrs: config.service_cidrs.clone(),
            pod_cidrs: watch::Sender::new(config.pod_cidrs.clone()),
            node_link: Mutex::new(node_link),
            host,
            state: Mutex::new(state),
            routes: Mutex::new(routes),
            removals: Mutex::new(removals),
        })))
    }

    /// The node's pod ranges as they are; none while they are not known.
    pub fn pod_cidrs(&self) -> watch::Receiver<Vec<IpNet>> {
        self.0.pod_cidrs.subscribe()
    }

    /// Gives the node its pod ranges, or others than it had; those that it has already change nothing.
    ///
    /// Refused while pods have addresses of other ranges: they keep them until they go.
    pub fn set_pod_cidrs(&self, pod_cidrs: &[IpNet]) -> Result<(), Error> {
        check_ranges(pod_cidrs)?;
        self.0.set_pod_cidrs(pod_cidrs)
    }

    /// The node's own link and addresses in the pod network.
    pub fn node_link(&self) -> NodeLink {
        self.0.node_link().clone()
    }

    /// Pods that are not connected, such as after a reboot, get these addresses again when they are: whoever knows them
    /// finds them. Others get them only when no more are left. What is not free or not of the node's ranges is left out.
    pub fn promise(&self, addresses: impl IntoIterator<Item = AttachedPod>) {
        let mut state = self.0.state();
        for pod in addresses {
            state.promise(pod);
        }
    }

    /// Connects a pod's network namespace and returns its addresses, the primary one first.
    ///
    /// A pod that is connected already to this namespace keeps its addresses; one whose namespace was made anew is
    /// connected again with the same addresses. A failure leaves nothing behind.
    pub async fn attach(
        &self,
        pod_uid: &str,
        namespace: BorrowedFd<'_>,
    ) -> Result<Vec<IpAddr>, Error> {
        if !is_writable_pod_uid(pod_uid) {
            return Err(Error::PodUid(pod_uid.to_owned()));
        }
        let mut ranges = self.pod_cidrs();
        let known = ranges.wait_for(|ranges| !ranges.is_empty());
        if env::timeout(RANGES_PATIENCE, known).await.is_err() {
            return Err(Error::NoPodCidrs);
        }
        let namespace =
            NetworkNamespace::of(namespace).map_err(system("keep the pod's network namespace"))?;
        let (shared, pod_uid) = (Arc::clone(&self.0), pod_uid.to_owned());
        blocking(move || shared.attach(&pod_uid, &namespace)).await?
    }

    /// Takes a pod off; quiet when it is not connected.
    ///
    /// Returns at once: the link is removed in the background, and the addresses are free only after that. Needs a
    /// runtime.
    pub fn detach(&self, pod_uid: &str) {
        let Some(pod) = self.0.state().pods.remove(pod_uid) else {
            self.0.state().break_promise(pod_uid);
            return;
        };
        let (shared, pod_uid) = (Arc::clone(&self.0), pod_uid.to_owned());
        // The handle is dropped: nobody waits for the removal.
        env::spawn_blocking(move || shared.remove(&pod_uid, &pod));
    }

    /// The pods that are connected.
    pub fn existing(&self) -> Vec<AttachedPod> {
        let state = self.0.state();
        let pods = state.pods.iter();
        pods.map(|(pod_uid, pod)| AttachedPod {
            pod_uid: pod_uid.clone(),
            addresses: pod.addresses.clone(),
        })
        .collect()
    }

    /// Removes all links of an instance and its routes, whether or not a pod network is open, and gives back the
    /// kernel settings that it borrowed.
    ///
    /// Works in the network namespace of the calling thread.
    pub fn clean_up(instance: &str) -> Result<(), Error> {
        overlay::clean_up(instance)?;
        let owner = Instance::new(instance);
        let mut routes = RouteSocket::open().map_err(node("open a netlink socket"))?;
        let own = owner.node_link();
        for link in routes.links().map_err(node("list links"))? {
            if owner.made(&link) || own == link.name {
                delete(&mut routes, link.index)?;
            }
        }
        sysctl::give_back(instance).map_err(settings("give back kernel settings"))
    }
}

impl Shared {
    fn set_pod_cidrs(&self, pod_cidrs: &[IpNet]) -> Result<(), Error> {
        // Both are held to the end, in the order of `attach`, so that no pod gets an address meanwhile.
        let mut routes = self.routes();
        let mut state = self.state();
        if *self.pod_cidrs.borrow() == pod_cidrs {
            return Ok(());
        }
        let is_inside = |address: &IpAddr| pod_cidrs.iter().any(|range| range.contains(address));
        let elsewhere = state.pods.values().flat_map(|pod| &pod.addresses);
        if let Some(address) = elsewhere.into_iter().find(|address| !is_inside(address)) {
            return Err(Error::PodsElsewhere(*address));
        }
        let config = Config {
            instance: self.instance.name().to_owned(),
            pod_cidrs: pod_cidrs.to_vec(),
            service_cidrs: self.service_cidrs.clone(),
            mtu: self.mtu,
        };
        let link = node_link::ensure_on(&mut routes, &link_config(&config))?;
        let links = routes.links().map_err(node("list links"))?;
        let found = routes.routes().map_err(node("list routes"))?;
        state.pools = sort_out(&self.instance, pod_cidrs, &links, &found).0.pools;
        state.promised.clear();
        *self.node_link() = link;
        self.pod_cidrs.send_replace(pod_cidrs.to_vec());
        Ok(())
    }

    fn attach(&self, pod_uid: &str, namespace: &NetworkNamespace) -> Result<Vec<IpAddr>, Error> {
        if let Some(pod) = self.still_connected(pod_uid, namespace)? {
            return Ok(pod.addresses);
        }
        let held = self
            .state()
            .pods
            .get(pod_uid)
            .map(|pod| pod.addresses.clone());
        let mut addresses = match held {
            Some(addresses) => addresses,
            None => self.state().allocate_for(pod_uid)?,
        };
        for _try in 0..CLAIMED_ADDRESSES_MAX {
            let plan = plan::attachment(
                &self.instance,
                pod_uid,
                &addresses,
                &self.node_link().addresses,
                self.mtu,
            );
            match executor::attach(&self.host, &mut self.routes(), namespace, &plan) {
                Ok(index) => {
                    let pod = PodLink {
                        index,
                        addresses: addresses.clone(),
                    };
                    self.state().pods.insert(pod_uid.to_owned(), pod);
                    return Ok(addresses);
                }
                // The address stays taken in our pool: another program or another instance has it.
                Err(Failure::Claimed(foreign)) => {
                    self.state().release(
                        addresses
                            .iter()
                            .copied()
                            .filter(|address| *address != foreign),
                    );
                    addresses = self.state().allocate()?;
                }
                Err(failure) => {
                    let mut state = self.state();
                    state.pods.remove(pod_uid);
                    state.release(addresses.iter().copied());
                    return Err(describe(pod_uid, failure));
                }
            }
        }
        self.state().release(addresses.iter().copied());
        Err(Error::PoolExhausted(self.state().pools[0].range()))
    }

    /// The pod's link, if the far end is in this namespace and all is as it was made.
    fn still_connected(
        &self,
        pod_uid: &str,
        namespace: &NetworkNamespace,
    ) -> Result<Option<PodLink>, Error> {
        let Some(pod) = self.state().pods.get(pod_uid).cloned() else {
            return Ok(None);
        };
        let name = self.instance.pod_link(pod_uid);
        let found = self
            .routes()
            .link_named(&name)
            .map_err(node("find the pod's link"))?;
        if found.is_none_or(|link| link.index != pod.index) {
            return Ok(None);
        }
        let inside = namespace
            .run(addresses_inside)
            .map_err(system("enter the pod's network namespace"))?;
        let inside = inside.map_err(node("list the pod's addresses"))?;
        Ok(pod
            .addresses
            .iter()
            .all(|address| inside.contains(address))
            .then_some(pod))
    }

    /// Runs in the background.
    fn remove(&self, pod_uid: &str, pod: &PodLink) {
        let mut removals = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = delete(&mut removals.routes, pod.index);
        for address in &pod.addresses {
            for flows in [
                Flows::From { address: *address },
                Flows::AnsweredByAddress { address: *address },
            ] {
                if let Err(error) = removals.flows.forget(flows) {
                    tracing::debug!(%error, %address, "flows of a removed pod stay until they time out");
                }
            }
        }
        drop(removals);
        match gone {
            Ok(()) => self.state().release(pod.addresses.iter().copied()),
            // The address is not given out while the kernel may still have a route to the old pod.
            Err(error) => {
                tracing::warn!(%error, pod_uid, "the link of a removed pod stays until the next start");
            }
        }
    }

    fn node_link(&self) -> MutexGuard<'_, NodeLink> {
        self.node_link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes(&self) -> MutexGuard<'_, RouteSocket> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn promise(&mut self, pod: AttachedPod) {
        let AttachedPod { pod_uid, addresses } = pod;
        let is_known = self.pods.contains_key(&pod_uid) || self.promised.contains_key(&pod_uid);
        let pools = self.pools.iter();
        // One of each family, in the order of the pools, as they are given out.
        let fits = addresses.len() == self.pools.len()
            && pools
                .zip(&addresses)
                .all(|(pool, address)| pool.is_free(*address));
        if is_known || !fits {
            return;
        }
        for (pool, address) in self.pools.iter_mut().zip(&addresses) {
            pool.reserve(*address);
        }
        self.promised.insert(pod_uid, addresses);
    }

    fn break_promise(&mut self, pod_uid: &str) {
        if let Some(addresses) = self.promised.remove(pod_uid) {
            self.release(addresses);
        }
    }

    /// What was promised to the pod, or what is free.
    fn allocate_for(&mut self, pod_uid: &str) -> Result<Vec<IpAddr>, Error> {
        match self.promised.remove(pod_uid) {
            Some(addresses) => Ok(addresses),
            None => self.allocate(),
        }
    }

    /// What is free, and if that is nothing, what was promised to pods that did not come.
    fn allocate(&mut self) -> Result<Vec<IpAddr>, Error> {
        let free = self.allocate_free();
        if free.is_ok() || self.promised.is_empty() {
            return free;
        }
        let promised = std::mem::take(&mut self.promised);
        self.release(promised.into_values().flatten());
        self.allocate_free()
    }

    /// One address of each family, or none at all.
    fn allocate_free(&mut self) -> Result<Vec<IpAddr>, Error> {
        let mut addresses = Vec::with_capacity(self.pools.len());
        for pool in &mut self.pools {
            let Some(address) = pool.allocate() else {
                let range = pool.range();
                self.release(addresses);
                return Err(Error::PoolExhausted(range));
            };
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn release(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            for pool in &mut self.pools {
                pool.release(address);
            }
        }
    }
}

fn link_config(config: &Config) -> NodeLinkConfig {
    NodeLinkConfig {
        instance: config.instance.clone(),
        pod_cidrs: config.pod_cidrs.clone(),
        service_cidrs: config.service_cidrs.clone(),
        mtu: config.mtu,
    }
}

fn check_ranges(ranges: &[IpNet]) -> Result<(), Error> {
    let v4 = ranges
        .iter()
        .filter(|range| range.network().is_ipv4())
        .count();
    if ranges.is_empty() || v4 > 1 || ranges.len() - v4 > 1 {
        return Err(Error::PodCidrs(ranges.to_vec()));
    }
    Ok(())
}

/// Reads from the kernel which pods are connected and which addresses are in use, and removes half-made links.
fn recover(
    socket: &mut RouteSocket,
    instance: &Instance,
    ranges: &[IpNet],
) -> Result<State, Error> {
    let links = socket.links().map_err(node("list links"))?;
    let routes = socket.routes().map_err(node("list routes"))?;
    let (state, half_made) = sort_out(instance, ranges, &links, &routes);
    for index in half_made {
        delete(socket, index)?;
    }
    Ok(state)
}

/// Pure: what belongs to which pod, and which links are of no use. Routes of others in our ranges count as taken. A pod
/// keeps the addresses that it has, also where the node has other ranges now or does not know them yet.
fn sort_out(
    instance: &Instance,
    ranges: &[IpNet],
    links: &[Link],
    routes: &[Route],
) -> (State, Vec<u32>) {
    let mut state = State {
        pools: ranges.iter().copied().map(AddressPool::new).collect(),
        pods: BTreeMap::new(),
        promised: BTreeMap::new(),
    };
    let families: Vec<bool> = if ranges.is_empty() {
        vec![true, false]
    } else {
        ranges
            .iter()
            .map(|range| range.network().is_ipv4())
            .collect()
    };
    let mut half_made = Vec::new();
    for link in links.iter().filter(|link| instance.made(link)) {
        let own = |v4: bool| {
            let mut on_link = routes.iter().filter(|route| {
                let is_host =
                    route.prefix_length == linux::netlink::route::host_prefix(route.destination);
                route.link == Some(link.index) && route.protocol == plan::ROUTE_PROTOCOL && is_host
            });
            on_link.find(|route| route.destination.is_ipv4() == v4)
        };
        let addresses: Vec<IpAddr> = families
            .iter()
            .filter_map(|v4| own(*v4).map(|route| route.destination))
            .collect();
        let is_complete = !addresses.is_empty() && addresses.len() >= ranges.len();
        match instance.pod_of(link) {
            Some(pod_uid) if is_complete => {
                state.pods.insert(
                    pod_uid.to_owned(),
                    PodLink {
                        index: link.index,
                        addresses,
                    },
                );
            }
            _ => half_made.push(link.index),
        }
    }
    let kept = routes
        .iter()
        .filter(|route| !route.link.is_some_and(|link| half_made.contains(&link)));
    for route in kept.filter(|route| {
        route.prefix_length == linux::netlink::route::host_prefix(route.destination)
    }) {
        for pool in &mut state.pools {
            pool.reserve(route.destination);
        }
    }
    (state, half_made)
}

fn addresses_inside() -> Result<Vec<IpAddr>, NetlinkError> {
    Ok(RouteSocket::open()?
        .addresses()?
        .into_iter()
        .map(|found| found.address)
        .collect())
}

/// A link that is gone already is as good as one that we removed: it dies with the pod's namespace.
fn delete(socket: &mut RouteSocket, index: u32) -> Result<(), Error> {
    match socket.delete_link(index) {
        Err(error) if error.is_refusal(libc::ENODEV) => Ok(()),
        other => other.map_err(node("remove a pod's link")),
    }
}

fn describe(pod_uid: &str, failure: Failure) -> Error {
    let pod_uid = pod_uid.to_owned();
    match failure {
        Failure::Netlink(doing, source) => Error::Pod {
            pod_uid,
            doing,
            source,
        },
        Failure::System(doing, source) => Error::System { doing, source },
        Failure::Claimed(_) => unreachable!("claimed addresses are handled where they occur"),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    env::spawn_blocking(work)
        .await
        .map_err(|_stopped| Error::Interrupted)
}

fn settings(doing: &'static str) -> impl Fn(linux::Error) -> Error {
    move |source| Error::Settings { doing, source }
}

fn system(doing: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::System { doing, source }
}
