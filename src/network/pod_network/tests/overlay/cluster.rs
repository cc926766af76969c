//! Nodes on one machine: each is a network namespace with a link to every other, and one pod.

use apimachinery::{Object, ObjectKey};
use controller::EventRecorder;
use env::{SeededRng, Shutdown, ShutdownTrigger, SystemClock};
use informer::Factory;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Event, Node};
use kube_client::fake::FakeApi;
use kube_client::{DeleteOptions, Patch, resource_of};
use linux::NetworkNamespace;
use linux::netlink::route::{Address, Link, NewLink, NewLinkKind, Route, RouteSocket, host_prefix};
use pod_network::{
    Backend, Checksums, Config, Error, Overlay, OverlayConfig, OverlayParts, PodNetwork,
};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(20);
/// One try of many.
const TRY: Duration = Duration::from_millis(300);

pub(crate) struct Cluster {
    pub(crate) api: Arc<FakeApi>,
    pub(crate) nodes: Vec<Machine>,
    runtime: tokio::runtime::Runtime,
    backend: Backend,
    checksums: Checksums,
}

/// One node.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) host: NetworkNamespace,
    pub(crate) pod: NetworkNamespace,
    pub(crate) pod_addresses: Vec<IpAddr>,
    folder: tempfile::TempDir,
    addresses: watch::Sender<Vec<IpAddr>>,
    running: Option<(ShutdownTrigger, JoinHandle<()>)>,
}

pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited for: {what}");
        std::thread::yield_now();
    }
}

/// Whether this kernel has the backend, and what people are told otherwise.
pub(crate) fn try_wireguard() -> Result<(), Error> {
    let folder = tempfile::tempdir().unwrap();
    let config = OverlayConfig {
        node_name: "alone".to_owned(),
        instance: "test".to_owned(),
        backend: Backend::WireGuard,
        pod_cidrs: Vec::new(),
        cluster_cidrs: Vec::new(),
        checksums: Checksums::Offloaded,
        private_key: folder.path().join("wireguard.key"),
    };
    let host = NetworkNamespace::create().unwrap();
    let opened = host.run(|| Overlay::open(config, &*SeededRng::shared(1)).map(drop));
    opened.unwrap()
}

impl Cluster {
    /// Three nodes whose pods have these families.
    pub(crate) fn start(backend: Backend, families: &[&str]) -> Self {
        Self::with(backend, Checksums::Offloaded, families, 3)
    }

    pub(crate) fn with(
        backend: Backend,
        checksums: Checksums,
        families: &[&str],
        count: u8,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut cluster = Self {
            api: FakeApi::new(SystemClock::shared()),
            nodes: Vec::new(),
            runtime,
            backend,
            checksums,
        };
        for number in 1..=count {
            cluster.nodes.push(Machine::new(number, families));
        }
        for one in 0..cluster.nodes.len() {
            for other in one + 1..cluster.nodes.len() {
                cluster.connect(one, other);
            }
        }
        for node in 0..cluster.nodes.len() {
            cluster.register(node, families);
            cluster.run_overlay(node);
        }
        cluster
    }

    /// A cable between two nodes.
    fn connect(&self, one: usize, other: usize) {
        let (left, right) = (&self.nodes[one], &self.nodes[other]);
        left.host
            .run(|| {
                let link = NewLink {
                    name: format!("to-{}", right.name),
                    kind: NewLinkKind::Veth {
                        peer_name: format!("to-{}", left.name),
                        peer_namespace: right.host.as_raw_fd(),
                    },
                    mac: None,
                    mtu: 1500,
                    group: 0,
                };
                RouteSocket::open().unwrap().add_link(&link).unwrap();
            })
            .unwrap();
        for (here, there) in [(left, right), (right, left)] {
            here.see(&there.name, here.address(), there.address());
        }
    }

    fn register(&self, node: usize, families: &[&str]) {
        let machine = &self.nodes[node];
        let ranges: Vec<String> = ranges(node, families)
            .iter()
            .map(IpNet::to_string)
            .collect();
        let object = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": machine.name},
            "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
            "status": {"addresses": [{"type": "InternalIP", "address": machine.address().to_string()}]},
        });
        let nodes = self.api.client().dynamic(resource_of::<Node>(), "");
        let object = Object::from_value(object).unwrap();
        self.runtime.block_on(nodes.create(&object)).unwrap();
    }

    pub(crate) fn run_overlay(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        let (trigger, shutdown) = Shutdown::new();
        let host = NetworkNamespace::of(machine.host.as_fd()).unwrap();
        let config = OverlayConfig {
            node_name: machine.name.clone(),
            instance: "test".to_owned(),
            backend: self.backend,
            pod_cidrs: machine.ranges(),
            cluster_cidrs: vec![
                "10.42.0.0/16".parse().unwrap(),
                "fd42::/48".parse().unwrap(),
            ],
            checksums: self.checksums,
            private_key: machine.folder.path().join("wireguard.key"),
        };
        // Each node has a key of its own.
        let keys = SeededRng::shared(u64::try_from(node).unwrap());
        let (client, addresses) = (self.api.client(), machine.addresses.subscribe());
        let thread = std::thread::spawn(move || {
            host.run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let overlay = Overlay::open(config, &*keys).unwrap();
                    let factory = Factory::new(client.clone(), SeededRng::shared(2));
                    let clock = SystemClock::shared();
                    overlay
                        .run(OverlayParts {
                            nodes: factory.all::<Node>(),
                            client: client.clone(),
                            events: EventRecorder::new(client.clone(), "combo", "", clock),
                            addresses,
                            shutdown,
                        })
                        .await;
                });
            })
            .unwrap();
        });
        machine.running = Some((trigger, thread));
    }

    pub(crate) fn stop_overlay(&mut self, node: usize) {
        if let Some((trigger, thread)) = self.nodes[node].running.take() {
            trigger.trigger();
            thread.join().unwrap();
        }
    }

    pub(crate) fn patch_node(&self, node: usize, subresource: &str, patch: serde_json::Value) {
        let nodes = self.api.client().dynamic(resource_of::<Node>(), "");
        let (name, patch) = (&self.nodes[node].name, Patch::Merge(patch));
        self.runtime.block_on(async {
            match subresource {
                "status" => nodes.patch_status(name, &patch).await.unwrap(),
                _ => nodes.patch(name, &patch).await.unwrap(),
            }
        });
    }

    pub(crate) fn delete_node(&self, node: usize) {
        let nodes = self.api.client().dynamic(resource_of::<Node>(), "");
        let options = DeleteOptions::default();
        let deleted = nodes.delete(&self.nodes[node].name, &options);
        self.runtime.block_on(deleted).unwrap();
    }

    /// A node gets another address, as from a new lease: cables, Node status and the node itself follow.
    pub(crate) fn move_node(&self, node: usize, address: IpAddr) {
        let machine = &self.nodes[node];
        let old = machine.address();
        for (number, peer) in self.nodes.iter().enumerate() {
            if number != node {
                machine.see(&peer.name, address, peer.address());
                machine.forget_address(&format!("to-{}", peer.name), old);
                peer.see(&machine.name, peer.address(), address);
            }
        }
        machine.addresses.send_replace(vec![address]);
        let told = json!({"status": {"addresses": [{"type": "InternalIP", "address": address.to_string()}]}});
        self.patch_node(node, "status", told);
    }

    pub(crate) fn event(&self, reason: &str) -> Option<String> {
        let events = self.api.objects(&resource_of::<Event>());
        let event = events
            .iter()
            .find(|event| event.text_at(&["reason"]) == reason)?;
        Some(event.text_at(&["message"]).clone())
    }

    pub(crate) fn annotation(&self, node: usize, name: &str) -> Option<String> {
        let key = ObjectKey::cluster(self.nodes[node].name.clone());
        let object = self.api.object(&resource_of::<Node>(), &key)?;
        object.annotation(name).map(str::to_owned)
    }

    /// Every pod reaches every other, by TCP and by UDP with packets as large as fit, and is seen with its own address.
    pub(crate) fn everybody_talks(&self) {
        for (one, client) in self.nodes.iter().enumerate() {
            for (other, server) in self.nodes.iter().enumerate() {
                if one == other {
                    continue;
                }
                let what = format!("{} reaches {}", client.name, server.name);
                until(&what, || client.reaches(server));
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            self.stop_overlay(node);
        }
    }
}

fn ranges(node: usize, families: &[&str]) -> Vec<IpNet> {
    let number = node + 1;
    families
        .iter()
        .map(|family| match *family {
            "v4" => format!("10.42.{number}.0/24").parse().unwrap(),
            _ => format!("fd42:0:0:{number}::/64").parse().unwrap(),
        })
        .collect()
}

impl Machine {
    fn new(number: u8, families: &[&str]) -> Self {
        let host = NetworkNamespace::create().unwrap();
        let pod = NetworkNamespace::create().unwrap();
        let ranges = ranges(usize::from(number) - 1, families);
        let (sender, receiver) = mpsc::channel();
        host.run(|| {
            switch_on("lo");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let config = Config {
                instance: "test".to_owned(),
                pod_cidrs: ranges,
                service_cidrs: Vec::new(),
                mtu: 1450,
            };
            let network = PodNetwork::open(&config).unwrap();
            let addresses = runtime
                .block_on(network.attach("pod", pod.as_fd()))
                .unwrap();
            sender.send(addresses).unwrap();
        })
        .unwrap();
        let address = IpAddr::from([192, 0, 2, number]);
        Self {
            name: format!("node-{number}"),
            host,
            pod,
            pod_addresses: receiver.recv().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            addresses: watch::Sender::new(vec![address]),
            running: None,
        }
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.addresses.borrow()[0]
    }

    fn ranges(&self) -> Vec<IpNet> {
        self.pod_addresses
            .iter()
            .map(|address| {
                let length = if address.is_ipv4() { 24 } else { 64 };
                IpNet::new(*address, length).unwrap().trunc()
            })
            .collect()
    }

    /// The cable to `peer` is on, with an address of this node, and leads to that address.
    pub(crate) fn see(&self, peer: &str, own: IpAddr, address: IpAddr) {
        let name = format!("to-{peer}");
        self.host
            .run(|| {
                let mut socket = RouteSocket::open().unwrap();
                let link = switch_on(&name);
                let prefix_length = host_prefix(own);
                let address_here = Address {
                    link,
                    address: own,
                    prefix_length,
                    scope: 0,
                };
                socket.add_address(address_here).unwrap();
                socket
                    .replace_route(&way(address, Some(link), None))
                    .unwrap();
            })
            .unwrap();
    }

    fn forget_address(&self, link: &str, address: IpAddr) {
        self.host
            .run(|| {
                let mut socket = RouteSocket::open().unwrap();
                let link = socket.link_named(link).unwrap().unwrap().index;
                socket.delete_address(link, address).unwrap();
            })
            .unwrap();
    }

    /// From now on packets to that address leave by a router.
    pub(crate) fn route_by(&self, address: IpAddr, router: IpAddr) {
        self.host
            .run(|| {
                let mut socket = RouteSocket::open().unwrap();
                let old = way(address, None, None);
                socket.delete_route(&old).unwrap();
                socket.add_route(&way(address, None, Some(router))).unwrap();
            })
            .unwrap();
    }

    pub(crate) fn reaches(&self, server: &Self) -> bool {
        let pairs = self.pod_addresses.iter().zip(&server.pod_addresses);
        pairs.into_iter().all(|(own, there)| {
            self.asks_by_tcp(server, *there) == Some(*own)
                && self.asks_by_udp(server, *there) == Some(*own)
        })
    }

    fn asks_by_tcp(&self, server: &Self, address: IpAddr) -> Option<IpAddr> {
        let listener = server
            .pod
            .run(|| TcpListener::bind((address, 0)).unwrap())
            .unwrap();
        let target = listener.local_addr().unwrap();
        let answer = self
            .pod
            .run(|| {
                let mut stream = TcpStream::connect_timeout(&target, TRY).ok()?;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let (mut accepted, client) = listener.accept().unwrap();
                accepted
                    .write_all(client.ip().to_string().as_bytes())
                    .unwrap();
                drop(accepted);
                let mut text = String::new();
                stream.read_to_string(&mut text).ok()?;
                text.parse().ok()
            })
            .unwrap();
        drop(listener);
        answer
    }

    fn asks_by_udp(&self, server: &Self, address: IpAddr) -> Option<IpAddr> {
        let bind = |machine: &Self, address: IpAddr| -> UdpSocket {
            machine
                .pod
                .run(|| UdpSocket::bind((address, 0)).unwrap())
                .unwrap()
        };
        let own = self.pod_addresses.iter();
        let own = *own.clone().find(|one| one.is_ipv4() == address.is_ipv4())?;
        let (there, here) = (bind(server, address), bind(self, own));
        there.set_read_timeout(Some(TRY)).unwrap();
        // The largest that is not cut into pieces: 8 bytes are UDP's.
        let header = if address.is_ipv4() { 20 } else { 40 };
        let payload = vec![7; self.pod_mtu() as usize - header - 8];
        here.send_to(&payload, there.local_addr().unwrap()).ok()?;
        let mut buffer = vec![0; 65_536];
        let (length, client): (usize, SocketAddr) = there.recv_from(&mut buffer).ok()?;
        (buffer[..length] == payload).then_some(client.ip())
    }

    fn pod_mtu(&self) -> u32 {
        self.pod
            .run(|| {
                let mut socket = RouteSocket::open().unwrap();
                socket.link_named("eth0").unwrap().unwrap().mtu
            })
            .unwrap()
    }

    /// Packets that the node cut into pieces since it was made.
    pub(crate) fn fragments(&self) -> String {
        let snmp = self
            .host
            .run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        let snmp = snmp.unwrap();
        let rows: Vec<Vec<&str>> = snmp
            .lines()
            .filter(|line| line.starts_with("Ip:"))
            .map(|line| line.split(' ').collect())
            .collect();
        let column = rows[0]
            .iter()
            .position(|name| *name == "FragCreates")
            .unwrap();
        rows[1][column].to_owned()
    }

    pub(crate) fn tunnel(&self) -> Option<Link> {
        let links = self
            .host
            .run(|| RouteSocket::open().unwrap().links().unwrap());
        let is_tunnel =
            |link: &Link| link.vxlan.is_some() || link.kind.as_deref() == Some("wireguard");
        links.unwrap().into_iter().find(is_tunnel)
    }

    pub(crate) fn delete_tunnel(&self) {
        let index = self.tunnel().unwrap().index;
        self.host
            .run(|| RouteSocket::open().unwrap().delete_link(index).unwrap())
            .unwrap();
    }

    /// Links and routes, without what the kernel adds by itself when it likes.
    pub(crate) fn snapshot(&self) -> String {
        self.host
            .run(|| {
                let mut socket = RouteSocket::open().unwrap();
                let links = socket.links().unwrap();
                let names: Vec<_> = links.into_iter().map(|link| link.name).collect();
                let mut routes = socket.routes().unwrap();
                routes.retain(|route| !route.destination.to_string().starts_with("fe80"));
                format!("{names:?} {routes:?} {:?}", socket.forwardings().unwrap())
            })
            .unwrap()
    }

    pub(crate) fn overlay_routes(&self) -> Vec<Route> {
        let routes = self
            .host
            .run(|| RouteSocket::open().unwrap().routes().unwrap());
        let mut routes = routes.unwrap();
        let tunnel = self.tunnel().map(|link| link.index);
        let leads_out =
            |route: &Route| route.gateway.is_some() || tunnel.is_some_and(|_| route.link == tunnel);
        routes.retain(|route| leads_out(route) && route.protocol == 67);
        routes
    }

    pub(crate) fn delete_route(&self, route: &Route) {
        self.host
            .run(|| RouteSocket::open().unwrap().delete_route(route).unwrap())
            .unwrap();
    }
}

fn way(address: IpAddr, link: Option<u32>, gateway: Option<IpAddr>) -> Route {
    Route {
        destination: address,
        prefix_length: host_prefix(address),
        link,
        gateway,
        on_link: false,
        source: None,
        metric: None,
        protocol: 4,
    }
}

fn switch_on(name: &str) -> u32 {
    let mut socket = RouteSocket::open().unwrap();
    let index = socket.link_named(name).unwrap().unwrap().index;
    socket.set_link_up(index).unwrap();
    index
}
