//! A machine with three pods and a neighbour, and ways to ask servers from each of them.
// The machine is also the thread's namespace, which a method without `self` would hide; `from_pod` is where a client is.
#![allow(clippy::unused_self, clippy::wrong_self_convention)]

use k8s_openapi::api::core::v1::Service;
use linux::NetworkNamespace;
use linux::netlink::nf_tables::{Applied, Change};
use linux::netlink::route::{Address, NewLink, NewLinkKind, Route, RouteSocket};
use pod_network::{Config, PodNetwork};
use serde_json::{Value, json};
use service_proxy::{
    Desired, HostPort, NodeFacts, Protocol, ServiceFacts, ServiceName, ServiceProxy, SliceFacts,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

pub(crate) const VIP: &str = "10.43.0.10";
/// What another node has of the cluster's pod addresses, and a pod there.
const OTHER_NODE_PODS: &str = "10.42.7.0";
pub(crate) const OTHER_NODE_POD: &str = "10.42.7.5";

const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must come for "dropped".
const SILENCE: Duration = Duration::from_millis(700);

pub(crate) struct Machine {
    pub(crate) proxy: ServiceProxy,
    pub(crate) desired: Desired,
    pub(crate) node: NodeFacts,
    network: PodNetwork,
    pods: Vec<(NetworkNamespace, Vec<IpAddr>)>,
    outside: NetworkNamespace,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Answered {
        server: String,
        client: String,
    },
    Refused,
    TimedOut,
    /// The machine found no way.
    Unreachable,
}

impl Outcome {
    pub(crate) fn answered(server: &str, client: &str) -> Self {
        Self::Answered {
            server: server.to_owned(),
            client: client.to_owned(),
        }
    }

    pub(crate) fn server(&self) -> Option<&str> {
        match self {
            Self::Answered { server, .. } => Some(server),
            _ => None,
        }
    }

    pub(crate) fn client(&self) -> Option<String> {
        match self {
            Self::Answered { client, .. } => Some(client.clone()),
            _ => None,
        }
    }
}

pub(crate) fn on_a_machine(test: impl FnOnce(&mut Machine) + Send) {
    let namespace = NetworkNamespace::create().unwrap();
    namespace
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let mut machine = runtime.block_on(Machine::new());
            test(&mut machine);
        })
        .unwrap();
}

impl Machine {
    async fn new() -> Self {
        let outside = NetworkNamespace::create().unwrap();
        connect(&outside);
        let network = PodNetwork::open(&Config {
            instance: "one".to_owned(),
            pod_cidrs: vec![
                "10.42.0.0/24".parse().unwrap(),
                "fd42::/64".parse().unwrap(),
            ],
            service_cidrs: vec![
                "10.43.0.0/16".parse().unwrap(),
                "fd43::/112".parse().unwrap(),
            ],
            mtu: 1450,
        })
        .unwrap();
        let mut pods = Vec::new();
        for uid in ["pod0", "pod1", "pod2"] {
            let namespace = NetworkNamespace::create().unwrap();
            let addresses = network.attach(uid, namespace.as_fd()).await.unwrap();
            pods.push((namespace, addresses));
        }
        let node = NodeFacts {
            name: "node".to_owned(),
            zone: None,
            cluster_cidrs: vec![
                "10.42.0.0/16".parse().unwrap(),
                "fd42::/56".parse().unwrap(),
            ],
        };
        let proxy = ServiceProxy::open("one").unwrap();
        Self {
            proxy,
            desired: Desired::default(),
            node,
            network,
            pods,
            outside,
        }
    }

    pub(crate) fn share_table(&mut self) {
        let shared = linux::netlink::nf_tables::Ownership::Shared;
        self.proxy = ServiceProxy::open_with("one", shared).unwrap();
    }

    pub(crate) fn pod_ip(&self, pod: usize) -> String {
        self.pods[pod].1[0].to_string()
    }

    pub(crate) fn pod_ip_v6(&self, pod: usize) -> String {
        self.pods[pod].1[1].to_string()
    }

    /// The node's address in the pod network.
    pub(crate) fn node_ip(&self) -> String {
        self.network.node_link().addresses[0].to_string()
    }

    /// The node's address that the neighbour knows.
    pub(crate) fn outer_ip(&self) -> String {
        "192.0.2.1".to_owned()
    }

    pub(crate) fn is_own_address(&self, address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap();
        let mut socket = RouteSocket::open().unwrap();
        socket
            .addresses()
            .unwrap()
            .iter()
            .any(|found| found.address == address)
    }

    pub(crate) fn apply(&mut self) -> Change {
        self.apply_and_count().change
    }

    pub(crate) fn apply_and_count(&mut self) -> Applied {
        self.proxy.apply(&self.desired, &self.node).unwrap()
    }

    /// A Service with port 80 (node port 30080) unless the spec says otherwise.
    pub(crate) fn put_service(&mut self, name: &str, spec: &Value) {
        self.desired
            .services
            .insert(ServiceName::new("default", name), service(spec));
    }

    pub(crate) fn put_load_balancer(&mut self, name: &str, address: &str, ranges: &[&str]) {
        let mut object =
            object(&json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ranges}));
        object["status"] = json!({"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}});
        self.desired
            .services
            .insert(ServiceName::new("default", name), facts(object));
    }

    pub(crate) fn put_slice(&mut self, name: &str, port: u16, pods: &[usize]) {
        self.put_slices(name, &[("http", "TCP", port)], pods);
    }

    pub(crate) fn put_slices(&mut self, name: &str, ports: &[(&str, &str, u16)], pods: &[usize]) {
        let addresses: Vec<String> = pods.iter().map(|pod| self.pod_ip(*pod)).collect();
        self.insert_slice(name, slice(name, ports, &addresses, &[]));
    }

    pub(crate) fn put_slice_v6(&mut self, name: &str, port: u16, pods: &[usize]) {
        let addresses: Vec<String> = pods.iter().map(|pod| self.pod_ip_v6(*pod)).collect();
        self.insert_slice(name, slice(name, &[("http", "TCP", port)], &addresses, &[]));
    }

    /// Some of the endpoints are said to be on another node.
    pub(crate) fn put_slice_with_remote(
        &mut self,
        name: &str,
        port: u16,
        pods: &[usize],
        remote: &[usize],
    ) {
        let addresses: Vec<String> = pods.iter().map(|pod| self.pod_ip(*pod)).collect();
        let remote: Vec<String> = remote.iter().map(|pod| self.pod_ip(*pod)).collect();
        self.insert_slice(
            name,
            slice(name, &[("http", "TCP", port)], &addresses, &remote),
        );
    }

    fn insert_slice(&mut self, name: &str, (owner, facts): (ServiceName, SliceFacts)) {
        self.desired.slices.insert((owner, name.to_owned()), facts);
    }

    pub(crate) fn put_host_port(
        &mut self,
        pod: usize,
        host_ip: Option<&str>,
        protocol: Protocol,
        host_port: u16,
    ) {
        let port = HostPort {
            host_ip: host_ip.map(|address| address.parse().unwrap()),
            protocol,
            host_port,
            pod_ip: self.pods[pod].1[0],
            container_port: 8080,
        };
        self.desired
            .host_ports
            .entry(format!("pod{pod}"))
            .or_default()
            .push(port);
    }

    pub(crate) fn serve(&self, pod: usize, port: u16) {
        serve_tcp(
            &self.pods[pod].0,
            (self.pods[pod].1[0], port).into(),
            &format!("pod{pod}"),
        );
    }

    pub(crate) fn serve_v6(&self, pod: usize, port: u16) {
        serve_tcp(
            &self.pods[pod].0,
            (self.pods[pod].1[1], port).into(),
            &format!("pod{pod}"),
        );
    }

    pub(crate) fn serve_outside(&self, port: u16) {
        serve_tcp(&self.outside, ([192, 0, 2, 9], port).into(), "outside");
    }

    /// The neighbour becomes another node of the cluster, and one of its pods serves this port.
    pub(crate) fn serve_on_other_node(&self, port: u16) {
        let range = |gateway: &str, network: &str, link: u32| Route {
            destination: network.parse().unwrap(),
            prefix_length: 24,
            link: Some(link),
            gateway: Some(gateway.parse().unwrap()),
            on_link: false,
            source: None,
            metric: None,
            protocol: 4,
        };
        let mut socket = RouteSocket::open().unwrap();
        let uplink = socket.link_named("uplink").unwrap().unwrap().index;
        socket
            .add_route(&range("192.0.2.9", OTHER_NODE_PODS, uplink))
            .unwrap();
        let there = || {
            let mut socket = RouteSocket::open().unwrap();
            let link = socket.link_named("eth0").unwrap().unwrap().index;
            let pod = Address {
                link,
                address: OTHER_NODE_POD.parse().unwrap(),
                prefix_length: 32,
                scope: 0,
            };
            socket.add_address(pod).unwrap();
            socket
                .add_route(&range("192.0.2.1", "10.42.0.0", link))
                .unwrap();
        };
        self.outside.run(there).unwrap();
        let address = SocketAddr::new(OTHER_NODE_POD.parse().unwrap(), port);
        serve_tcp(&self.outside, address, "other");
    }

    pub(crate) fn put_slice_of_other_node(&mut self, name: &str, port: u16) {
        let ports = [("http", "TCP", port)];
        let elsewhere = [OTHER_NODE_POD.to_owned()];
        self.insert_slice(name, slice(name, &ports, &[], &elsewhere));
    }

    /// Servers of the node itself, on its address in the pod network, for TCP and UDP.
    pub(crate) fn serve_on_node(&self, port: u16) {
        let address = SocketAddr::new(self.network.node_link().addresses[0], port);
        let listener = TcpListener::bind(address).unwrap();
        answer_tcp(listener, "node");
        answer_udp(UdpSocket::bind(address).unwrap(), "node");
    }

    /// An endpoint on the node itself, for TCP and UDP.
    pub(crate) fn put_slice_of_node(&mut self, name: &str, port: u16) {
        let addresses = [self.node_ip()];
        let ports = [("tcp", "TCP", port), ("udp", "UDP", port)];
        self.insert_slice(name, slice(name, &ports, &addresses, &[]));
    }

    pub(crate) fn udp_from_node(&self, address: &str, port: u16) -> Outcome {
        UdpFlow(UdpSocket::bind("0.0.0.0:0").unwrap()).ask(address, port)
    }

    /// As `from_node`, with a source address that is not the one that the kernel would choose.
    pub(crate) fn from_node_as(&self, source: &str, address: &str, port: u16) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket
                .bind(SocketAddr::new(source.parse().unwrap(), 0))
                .unwrap();
            let server = SocketAddr::new(address.parse().unwrap(), port);
            env::timeout(SILENCE, socket.connect(server))
                .await
                .unwrap()
                .unwrap()
                .into_std()
                .unwrap()
        });
        stream.set_nonblocking(false).unwrap();
        read_from(stream)
    }

    pub(crate) fn serve_udp(&self, pod: usize, port: u16) {
        let address = SocketAddr::from((self.pods[pod].1[0], port));
        let socket = self.pods[pod]
            .0
            .run(|| UdpSocket::bind(address).unwrap())
            .unwrap();
        answer_udp(socket, &format!("pod{pod}"));
    }

    pub(crate) fn from_pod(&self, pod: usize, address: &str, port: u16) -> Outcome {
        self.pods[pod].0.run(|| ask(address, port)).unwrap()
    }

    pub(crate) fn from_node(&self, address: &str, port: u16) -> Outcome {
        ask(address, port)
    }

    pub(crate) fn from_outside(&self, address: &str, port: u16) -> Outcome {
        self.outside.run(|| ask(address, port)).unwrap()
    }

    pub(crate) fn udp_from_pod(&self, pod: usize, address: &str, port: u16) -> Outcome {
        self.udp_flow(pod).ask(address, port)
    }

    pub(crate) fn udp_flow(&self, pod: usize) -> UdpFlow {
        UdpFlow(
            self.pods[pod]
                .0
                .run(|| UdpSocket::bind("0.0.0.0:0").unwrap())
                .unwrap(),
        )
    }

    /// How many UDP flows the machine knows.
    pub(crate) fn flows(&self) -> usize {
        let list = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap();
        list.lines().filter(|line| line.contains(" udp ")).count()
    }

    /// Runs `nft` on the machine and returns what it prints.
    pub(crate) fn nft(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new("nft")
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

/// One client socket, so that all its packets are one flow.
pub(crate) struct UdpFlow(UdpSocket);

impl UdpFlow {
    pub(crate) fn ask(&self, address: &str, port: u16) -> Outcome {
        let server = SocketAddr::new(address.parse().unwrap(), port);
        self.0.connect(server).unwrap();
        self.0.set_read_timeout(Some(SILENCE)).unwrap();
        let mut buffer = [0; 64];
        match self.0.send(b"who").and_then(|_| self.0.recv(&mut buffer)) {
            Ok(length) => read_answer(std::str::from_utf8(&buffer[..length]).unwrap()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Outcome::TimedOut
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn serve_tcp(namespace: &NetworkNamespace, address: SocketAddr, name: &str) {
    let listener = namespace
        .run(|| TcpListener::bind(address).unwrap())
        .unwrap();
    answer_tcp(listener, name);
}

fn answer_tcp(listener: TcpListener, name: &str) {
    let name = name.to_owned();
    std::thread::spawn(move || {
        loop {
            // An error here is that of one connection.
            if let Ok((mut stream, client)) = listener.accept() {
                let _sent = stream.write_all(format!("{name} {}", client.ip()).as_bytes());
            }
        }
    });
}

fn answer_udp(socket: UdpSocket, name: &str) {
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _sent = socket.send_to(format!("{name} {}", client.ip()).as_bytes(), client);
        }
    });
}

fn ask(address: &str, port: u16) -> Outcome {
    let server = SocketAddr::new(address.parse().unwrap(), port);
    let stream = match TcpStream::connect_timeout(&server, SILENCE) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Outcome::Refused,
        Err(error) if error.kind() == ErrorKind::TimedOut => return Outcome::TimedOut,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
            ) =>
        {
            return Outcome::Unreachable;
        }
        Err(error) => panic!("{server}: {error}"),
    };
    read_from(stream)
}

fn read_from(mut stream: TcpStream) -> Outcome {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    if let Err(error) = stream.read_to_string(&mut answer) {
        panic!(
            "{:?} to {:?}: {error}",
            stream.local_addr(),
            stream.peer_addr()
        );
    }
    read_answer(&answer)
}

fn read_answer(answer: &str) -> Outcome {
    let (server, client) = answer.split_once(' ').unwrap();
    Outcome::answered(server, client)
}

/// The neighbour: a namespace with a cable to this machine, which is its router.
fn connect(outside: &NetworkNamespace) {
    let mut socket = RouteSocket::open().unwrap();
    let loopback = socket.link_named("lo").unwrap().unwrap().index;
    socket.set_link_up(loopback).unwrap();
    let kind = NewLinkKind::Veth {
        peer_name: "eth0".to_owned(),
        peer_namespace: outside.as_raw_fd(),
    };
    socket
        .add_link(&NewLink {
            name: "uplink".to_owned(),
            kind,
            mac: None,
            mtu: 1500,
            group: 0,
        })
        .unwrap();
    set_up(&mut socket, "uplink", &["192.0.2.1", "2001:db8::1"], None);
    outside
        .run(|| {
            let mut socket = RouteSocket::open().unwrap();
            set_up(
                &mut socket,
                "eth0",
                &["192.0.2.9", "2001:db8::9"],
                Some("192.0.2.1"),
            );
        })
        .unwrap();
    let uplink = socket.link_named("uplink").unwrap().unwrap().index;
    socket.wait_until_running(uplink).unwrap();
}

fn set_up(socket: &mut RouteSocket, name: &str, addresses: &[&str], gateway: Option<&str>) {
    let link = socket.link_named(name).unwrap().unwrap().index;
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
    socket.set_link_up(link).unwrap();
    for address in addresses {
        let address: IpAddr = address.parse().unwrap();
        let prefix_length = if address.is_ipv4() { 24 } else { 64 };
        socket
            .add_address(Address {
                link,
                address,
                prefix_length,
                scope: 0,
            })
            .unwrap();
    }
    if let Some(gateway) = gateway {
        let route = Route {
            destination: "0.0.0.0".parse().unwrap(),
            prefix_length: 0,
            link: Some(link),
            gateway: Some(gateway.parse().unwrap()),
            on_link: false,
            source: None,
            metric: None,
            protocol: 4,
        };
        socket.add_route(&route).unwrap();
    }
}

pub(crate) fn service(spec: &Value) -> ServiceFacts {
    facts(object(spec))
}

fn facts(object: Value) -> ServiceFacts {
    let service: Service = serde_json::from_value(object).unwrap();
    ServiceFacts::of(&service).unwrap()
}

pub(crate) fn object(spec: &Value) -> Value {
    let mut full = json!({"clusterIP": "10.43.0.10", "clusterIPs": ["10.43.0.10"], "ports": [
        {"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"},
        {"name": "dns", "port": 53, "protocol": "UDP"}]});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    json!({"metadata": {"namespace": "default", "name": "web"}, "spec": full})
}

pub(crate) fn slice(
    service: &str,
    ports: &[(&str, &str, u16)],
    here: &[String],
    elsewhere: &[String],
) -> (ServiceName, SliceFacts) {
    let slice = slice_object(service, ports, here, elsewhere);
    let node = NodeFacts {
        name: "node".to_owned(),
        zone: None,
        cluster_cidrs: Vec::new(),
    };
    SliceFacts::of(&serde_json::from_value(slice).unwrap(), &node).unwrap()
}

pub(crate) fn slice_object(
    service: &str,
    ports: &[(&str, &str, u16)],
    here: &[String],
    elsewhere: &[String],
) -> Value {
    let endpoint = |address: &String, node: &str| json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}});
    let endpoints: Vec<Value> = here
        .iter()
        .map(|address| endpoint(address, "node"))
        .chain(elsewhere.iter().map(|address| endpoint(address, "another")))
        .collect();
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}))
        .collect();
    json!({
        "addressType": "IPv4",
        "metadata": {"namespace": "default", "name": service, "labels": {"kubernetes.io/service-name": service}},
        "ports": ports,
        "endpoints": endpoints,
    })
}
