//! A machine with pods of two namespaces and a neighbour outside of the cluster, and ways to knock from each of them.
// The machine is also the thread's namespace, which a method without `self` would hide; `from_pod` is where a client is.
#![allow(clippy::unused_self, clippy::wrong_self_convention)]

use apimachinery::ObjectKey;
use linux::NetworkNamespace;
use linux::netlink::nf_tables::{Applied, Ownership};
use linux::netlink::route::{Address, NewLink, NewLinkKind, Route, RouteSocket};
use network_policy::{ConnectedPod, Desired, PodFacts, PolicyFacts, PolicyTable};
use pod_network::{Config, PodNetwork};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must come for "dropped".
const SILENCE: Duration = Duration::from_millis(500);

/// Namespace and name of each pod, which also has the label `pod` with its name.
pub(crate) const PODS: [(&str, &str); 4] = [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")];
pub(crate) const XA: usize = 0;
pub(crate) const XB: usize = 1;
pub(crate) const YA: usize = 2;
pub(crate) const YB: usize = 3;

pub(crate) struct Machine {
    pub(crate) table: PolicyTable,
    pub(crate) desired: Desired,
    pub(crate) network: PodNetwork,
    pods: Vec<(NetworkNamespace, Vec<IpAddr>)>,
    outside: NetworkNamespace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Reached,
    Dropped,
}
pub(crate) use Outcome::{Dropped, Reached};

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
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            mtu: 1450,
        })
        .unwrap();
        let mut machine = Self {
            table: PolicyTable::open("one").unwrap(),
            desired: Desired::default(),
            network,
            pods: Vec::new(),
            outside,
        };
        for (position, (namespace, name)) in PODS.iter().enumerate() {
            let netns = NetworkNamespace::create().unwrap();
            let uid = format!("uid-{namespace}{name}");
            let addresses = machine.network.attach(&uid, netns.as_fd()).await.unwrap();
            machine.pods.push((netns, addresses));
            machine.serve(position);
            let pod = machine.connected_pod(position);
            machine.desired.connected.insert(uid, pod);
        }
        for namespace in ["x", "y"] {
            let labels = [("ns".to_owned(), namespace.to_owned())];
            let namespaces = &mut machine.desired.namespaces;
            namespaces.insert(namespace.to_owned(), labels.into());
        }
        machine
    }

    /// With a table that is everybody's, as on older kernels.
    pub(crate) fn share_table(&mut self) {
        self.table = PolicyTable::open_with("one", Ownership::Shared).unwrap();
    }

    pub(crate) fn connected_pod(&self, pod: usize) -> ConnectedPod {
        let (namespace, name) = PODS[pod];
        ConnectedPod {
            uid: format!("uid-{namespace}{name}"),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: [("pod".to_owned(), name.to_owned())].into(),
            addresses: self.pods[pod].1.clone(),
        }
    }

    /// A pod as the API has it: on TCP 80 (`serve-80`) and 81 (`serve-81`), and on UDP 80 (`serve-80-udp`).
    pub(crate) fn pod_object(&self, pod: usize) -> Value {
        let (namespace, name) = PODS[pod];
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{namespace}{name}"),
                "labels": {"pod": name}},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i", "ports": [
                {"name": "serve-80", "containerPort": 80},
                {"name": "serve-80-udp", "containerPort": 80, "protocol": "UDP"},
                {"name": "serve-81", "containerPort": 81}]}]},
            "status": {"phase": "Running", "podIPs": self.pods[pod].1.iter()
                .map(|address| json!({"ip": address})).collect::<Vec<_>>()},
        })
    }

    pub(crate) fn show_pods(&mut self) {
        for (position, (namespace, name)) in PODS.iter().enumerate() {
            let facts = self.pod_facts(position, &json!({}));
            let pods = &mut self.desired.pods;
            pods.insert(ObjectKey::namespaced(*namespace, *name), facts);
        }
    }

    pub(crate) fn pod_facts(&self, pod: usize, labels: &Value) -> PodFacts {
        let mut object = self.pod_object(pod);
        for (key, value) in labels.as_object().unwrap() {
            object["metadata"]["labels"][key] = value.clone();
        }
        PodFacts::of(&serde_json::from_value(object).unwrap()).unwrap()
    }

    pub(crate) fn put_policy(&mut self, namespace: &str, name: &str, spec: &Value) {
        let object = policy(namespace, name, spec);
        let facts = PolicyFacts::of(&serde_json::from_value(object).unwrap());
        let key = ObjectKey::namespaced(namespace, name);
        self.desired.policies.insert(key, facts);
    }

    pub(crate) fn apply(&mut self) -> Applied {
        self.table.apply(&self.desired).unwrap()
    }

    /// Puts a policy into namespace `x` and the kernel.
    pub(crate) fn enforce(&mut self, name: &str, spec: &Value) {
        self.put_policy("x", name, spec);
        self.apply();
    }

    pub(crate) fn ip(&self, pod: usize) -> IpAddr {
        self.pods[pod].1[0]
    }

    pub(crate) fn ip_v6(&self, pod: usize) -> IpAddr {
        self.pods[pod].1[1]
    }

    pub(crate) fn node_ip(&self) -> IpAddr {
        self.network.node_link().addresses[0]
    }

    pub(crate) fn node_ip_v6(&self) -> IpAddr {
        self.network.node_link().addresses[1]
    }

    pub(crate) fn outside_ip(&self) -> IpAddr {
        "192.0.2.9".parse().unwrap()
    }

    /// On both addresses: TCP 80 and 81, UDP 80.
    fn serve(&self, pod: usize) {
        let (namespace, addresses) = &self.pods[pod];
        for address in addresses.clone() {
            namespace.run(move || serve_at(address)).unwrap();
        }
    }

    pub(crate) fn serve_on_node(&self) {
        serve_at(self.node_ip());
        serve_at(self.node_ip_v6());
    }

    pub(crate) fn serve_outside(&self) {
        let address = self.outside_ip();
        self.outside.run(move || serve_at(address)).unwrap();
    }

    pub(crate) fn from_pod(&self, pod: usize, address: IpAddr, port: u16) -> Outcome {
        self.pods[pod].0.run(|| knock(address, port)).unwrap()
    }

    pub(crate) fn udp_from_pod(&self, pod: usize, address: IpAddr, port: u16) -> Outcome {
        self.pods[pod].0.run(|| ask(address, port)).unwrap()
    }

    pub(crate) fn from_node(&self, address: IpAddr, port: u16) -> Outcome {
        knock(address, port)
    }

    pub(crate) fn from_outside(&self, address: IpAddr, port: u16) -> Outcome {
        self.outside.run(|| knock(address, port)).unwrap()
    }

    /// A connection that stays open.
    pub(crate) fn connection(&self, from: usize, to: usize) -> TcpStream {
        let address = SocketAddr::new(self.ip(to), 80);
        let connect = || TcpStream::connect_timeout(&address, SILENCE).unwrap();
        let stream = self.pods[from].0.run(connect).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The kernel notes the flows of a network namespace only when somebody's rules ask.
    pub(crate) fn track_flows(&self) {
        self.nft(&["add", "table", "inet", "other"]);
        let hook = "{ type filter hook forward priority 5; }";
        self.nft(&["add", "chain", "inet", "other", "forward", hook]);
        self.nft(&[
            "add", "rule", "inet", "other", "forward", "ct", "state", "new", "accept",
        ]);
    }

    /// From each pod of `PODS` to TCP port 80 of this one.
    pub(crate) fn who_reaches(&self, pod: usize) -> Vec<usize> {
        let address = self.ip(pod);
        std::thread::scope(|scope| {
            let knock = |from| scope.spawn(move || self.from_pod(from, address, 80));
            let clients: Vec<_> = (0..PODS.len()).map(knock).collect();
            let outcomes = clients.into_iter().map(|client| client.join().unwrap());
            let reached = outcomes
                .enumerate()
                .filter(|(_, outcome)| *outcome == Reached);
            reached.map(|(from, _)| from).collect()
        })
    }

    pub(crate) fn nft(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new("nft")
            .args(arguments)
            .output()
            .unwrap();
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{problem}");
        String::from_utf8(output.stdout).unwrap()
    }
}

pub(crate) fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    })
}

fn serve_at(address: IpAddr) {
    for port in [80, 81] {
        let listener = TcpListener::bind((address, port)).unwrap();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                let mut echo = stream.try_clone().unwrap();
                let mut back = stream.try_clone().unwrap();
                std::thread::spawn(move || std::io::copy(&mut echo, &mut back));
                kept.push(stream);
            }
        });
    }
    let socket = UdpSocket::bind((address, 80)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let _sent = socket.send_to(&buffer[..length], client);
        }
    });
}

fn knock(address: IpAddr, port: u16) -> Outcome {
    match TcpStream::connect_timeout(&SocketAddr::new(address, port), SILENCE) {
        Ok(_) => Reached,
        Err(error) if error.kind() == ErrorKind::TimedOut => Dropped,
        Err(error) => panic!("{address}:{port}: {error}"),
    }
}

fn ask(address: IpAddr, port: u16) -> Outcome {
    let own = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(own).unwrap();
    socket.connect((address, port)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    match socket.send(b"who").and_then(|_| socket.recv(&mut [0; 8])) {
        Ok(_) => Reached,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Dropped
        }
        Err(error) => panic!("{address}:{port}: {error}"),
    }
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
    let link = NewLink {
        name: "uplink".to_owned(),
        kind,
        mac: None,
        mtu: 1500,
        group: 0,
    };
    socket.add_link(&link).unwrap();
    set_up(&mut socket, "uplink", "192.0.2.1");
    let inside = || {
        let mut socket = RouteSocket::open().unwrap();
        let link = set_up(&mut socket, "eth0", "192.0.2.9");
        let route = Route {
            destination: "10.42.0.0".parse().unwrap(),
            prefix_length: 16,
            link: Some(link),
            gateway: Some("192.0.2.1".parse().unwrap()),
            on_link: false,
            source: None,
            metric: None,
            protocol: 4,
        };
        socket.add_route(&route).unwrap();
    };
    outside.run(inside).unwrap();
    let uplink = socket.link_named("uplink").unwrap().unwrap().index;
    socket.wait_until_running(uplink).unwrap();
}

fn set_up(socket: &mut RouteSocket, name: &str, address: &str) -> u32 {
    let link = socket.link_named(name).unwrap().unwrap().index;
    socket.set_link_up(link).unwrap();
    let address = Address {
        link,
        address: address.parse().unwrap(),
        prefix_length: 24,
        scope: 0,
    };
    socket.add_address(address).unwrap();
    link
}
