//! The pod network on the real kernel. Each test is a machine of its own: a network namespace made for it.
#![allow(clippy::unwrap_used)]

use env::Shutdown;
use linux::NetworkNamespace;
use linux::netlink::route::{Address, NewLink, NewLinkKind, RouteSocket};
use pod_network::{
    AddressRule, AttachedPod, Config, FollowedAddresses, NodeLink, NodeLinkConfig, PodNetwork,
    node_addresses, uplink_mtu,
};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test on a machine that has nothing but `lo`.
fn on_a_machine<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    let machine = NetworkNamespace::create().unwrap();
    machine
        .run(|| {
            switch_on_loopback();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(test());
        })
        .unwrap();
}

fn switch_on_loopback() {
    let mut socket = RouteSocket::open().unwrap();
    let index = socket.link_named("lo").unwrap().unwrap().index;
    socket.set_link_up(index).unwrap();
}

fn config(instance: &str, ranges: &[&str]) -> Config {
    Config {
        instance: instance.to_owned(),
        pod_cidrs: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        mtu: 1450,
    }
}

/// All that the kernel has of links, addresses and routes, for comparison; without what it adds by itself when it likes.
fn snapshot() -> String {
    let mut socket = RouteSocket::open().unwrap();
    let names: Vec<_> = socket
        .links()
        .unwrap()
        .into_iter()
        .map(|link| link.name)
        .collect();
    let by_itself = |address: IpAddr| address.to_string().starts_with("fe80");
    let mut addresses = socket.addresses().unwrap();
    addresses.retain(|found| !by_itself(found.address));
    let mut routes = socket.routes().unwrap();
    routes.retain(|route| !by_itself(route.destination));
    format!(
        "{names:?} {addresses:?} {routes:?} {:?}",
        socket.neighbours().unwrap()
    )
}

async fn pod(network: &PodNetwork, uid: &str) -> (NetworkNamespace, Vec<IpAddr>) {
    let namespace = NetworkNamespace::create().unwrap();
    let addresses = network.attach(uid, namespace.as_fd()).await.unwrap();
    (namespace, addresses)
}

/// Answers one connection with what it sees as the client's address.
fn answer_once(listener: TcpListener) {
    std::thread::spawn(move || {
        let (mut stream, client) = listener.accept().unwrap();
        stream
            .write_all(client.ip().to_string().as_bytes())
            .unwrap();
    });
}

/// Connects and returns what the server answers.
fn ask(server: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn serve(namespace: &NetworkNamespace, address: IpAddr) -> SocketAddr {
    let listener = namespace
        .run(|| TcpListener::bind((address, 0)).unwrap())
        .unwrap();
    let server = listener.local_addr().unwrap();
    answer_once(listener);
    server
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited for: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn pods_and_node_reach_each_other_in_both_families() {
    on_a_machine(|| async {
        let network = PodNetwork::open(&config("one", &["10.42.0.0/24", "fd42::/64"])).unwrap();
        let (a, a_addresses) = pod(&network, "a").await;
        let (b, b_addresses) = pod(&network, "b").await;
        assert_eq!(
            a_addresses,
            [
                "10.42.0.2".parse::<IpAddr>().unwrap(),
                "fd42::2".parse().unwrap()
            ]
        );
        for family in 0..2 {
            let node = network.node_link().addresses[family];
            let server = serve(&b, b_addresses[family]);
            assert_eq!(
                a.run(|| ask(server)).unwrap(),
                a_addresses[family].to_string()
            );
            let server = serve(&b, b_addresses[family]);
            assert_eq!(ask(server), node.to_string());
            let listener = TcpListener::bind((node, 0)).unwrap();
            let server = listener.local_addr().unwrap();
            answer_once(listener);
            assert_eq!(
                a.run(|| ask(server)).unwrap(),
                a_addresses[family].to_string()
            );
        }
    });
}

#[test]
fn clean_up_leaves_the_machine_as_it_was() {
    on_a_machine(|| async {
        let before = snapshot();
        let network = PodNetwork::open(&config("one", &["10.42.0.0/24", "fd42::/64"])).unwrap();
        let (_a, _) = pod(&network, "a").await;
        let (_b, _) = pod(&network, "b").await;
        PodNetwork::clean_up("one").unwrap();
        until("the routes of the links are gone", || snapshot() == before);
    });
}

#[test]
fn a_restarted_node_finds_its_pods_in_the_kernel_and_removes_half_made_links() {
    on_a_machine(|| async {
        let config = config("one", &["10.42.0.0/24", "fd42::/64"]);
        let network = PodNetwork::open(&config).unwrap();
        let (a, a_addresses) = pod(&network, "a").await;
        let (_b, b_addresses) = pod(&network, "b").await;
        let known = network.existing();
        drop(network);
        let mut socket = RouteSocket::open().unwrap();
        let index_of_b = socket
            .routes()
            .unwrap()
            .iter()
            .find(|route| route.destination == b_addresses[0])
            .unwrap()
            .link;
        socket
            .set_link_alias(index_of_b.unwrap(), "somebody wrote here")
            .unwrap();

        let network = PodNetwork::open(&config).unwrap();
        assert_eq!(network.existing(), known[..1]);
        assert_eq!(network.attach("a", a.as_fd()).await.unwrap(), a_addresses);
        let links = socket.links().unwrap();
        assert!(!links.iter().any(|link| Some(link.index) == index_of_b));
        let (_c, c_addresses) = pod(&network, "c").await;
        assert!(!a_addresses.contains(&c_addresses[0]));
    });
}

#[test]
fn attach_again_keeps_the_addresses_also_in_a_new_namespace() {
    on_a_machine(|| async {
        let network = PodNetwork::open(&config("one", &["10.42.0.0/24"])).unwrap();
        let (a, addresses) = pod(&network, "a").await;
        let before = snapshot();
        assert_eq!(network.attach("a", a.as_fd()).await.unwrap(), addresses);
        assert_eq!(snapshot(), before);
        let anew = NetworkNamespace::create().unwrap();
        assert_eq!(network.attach("a", anew.as_fd()).await.unwrap(), addresses);
        let server = serve(&anew, addresses[0]);
        ask(server);
    });
}

#[test]
fn what_is_promised_to_a_pod_is_its_own_and_others_get_it_last() {
    on_a_machine(|| async {
        let network = PodNetwork::open(&config("one", &["10.42.0.0/29"])).unwrap();
        let promise = |uid: &str, address: &str| AttachedPod {
            pod_uid: uid.to_owned(),
            addresses: vec![address.parse().unwrap()],
        };
        network.promise([
            promise("web", "10.42.0.2"),
            promise("gone", "10.42.0.3"),
            promise("greedy", "10.42.0.2"),
            promise("node", "10.42.0.1"),
            promise("elsewhere", "192.168.0.4"),
        ]);
        let mut got = Vec::new();
        for uid in ["greedy", "node", "elsewhere", "web", "last"] {
            got.push((uid, pod(&network, uid).await.1[0].to_string()));
        }
        let expected = [
            ("greedy", "10.42.0.4"),
            ("node", "10.42.0.5"),
            ("elsewhere", "10.42.0.6"),
            ("web", "10.42.0.2"),
            ("last", "10.42.0.3"),
        ];
        assert_eq!(
            got,
            expected.map(|(uid, address)| (uid, address.to_owned()))
        );
    });
}

#[test]
fn a_detached_pods_address_is_free_again_but_not_at_once() {
    on_a_machine(|| async {
        let network = PodNetwork::open(&config("one", &["10.42.0.0/29"])).unwrap();
        let (_a, first) = pod(&network, "a").await;
        network.detach("a");
        network.detach("a");
        let (_b, second) = pod(&network, "b").await;
        assert_ne!(first, second);
        let mut socket = RouteSocket::open().unwrap();
        until("the route is gone", || {
            !socket
                .routes()
                .unwrap()
                .iter()
                .any(|route| route.destination == first[0])
        });
        assert_eq!(network.existing().len(), 1);
        for uid in ["c", "d", "e"] {
            pod(&network, uid).await;
        }
        let start = Instant::now();
        loop {
            let namespace = NetworkNamespace::create().unwrap();
            match network.attach("f", namespace.as_fd()).await {
                Ok(addresses) => break assert_eq!(addresses, first),
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
        }
        let namespace = NetworkNamespace::create().unwrap();
        let error = network.attach("g", namespace.as_fd()).await.unwrap_err();
        assert_eq!(error.to_string(), "no address is left in 10.42.0.0/29");
    });
}

#[test]
fn two_instances_with_the_same_range_leave_each_other_alone() {
    on_a_machine(|| async {
        let one = PodNetwork::open(&config("one", &["10.42.0.0/24"])).unwrap();
        let (a, a_addresses) = pod(&one, "same-uid").await;
        let other = PodNetwork::open(&config("other", &["10.42.0.0/24"])).unwrap();
        let (b, b_addresses) = pod(&other, "same-uid").await;
        let (_c, c_addresses) = pod(&one, "c").await;
        assert_ne!(a_addresses, b_addresses);
        assert_ne!(b_addresses, c_addresses);
        assert_eq!(one.existing().len(), 2);
        let server = serve(&b, b_addresses[0]);
        assert_eq!(a.run(|| ask(server)).unwrap(), a_addresses[0].to_string());
        PodNetwork::clean_up("other").unwrap();
        let server = serve(&a, a_addresses[0]);
        ask(server);
        assert_eq!(
            PodNetwork::open(&config("one", &["10.42.0.0/24"]))
                .unwrap()
                .existing(),
            one.existing()
        );
    });
}

#[test]
fn a_pod_cannot_send_with_another_address_than_its_own() {
    on_a_machine(|| async {
        let network = PodNetwork::open(&config("one", &["10.42.0.0/24"])).unwrap();
        let (a, _) = pod(&network, "a").await;
        let (b, b_addresses) = pod(&network, "b").await;
        let receiver = b
            .run(|| std::net::UdpSocket::bind((b_addresses[0], 0)).unwrap())
            .unwrap();
        let target = receiver.local_addr().unwrap();
        a.run(|| {
            let mut socket = RouteSocket::open().unwrap();
            let link = socket.link_named("eth0").unwrap().unwrap().index;
            let address = "10.42.0.77".parse().unwrap();
            let own = Address {
                link,
                address,
                prefix_length: 32,
                scope: 0,
            };
            socket.add_address(own).unwrap();
            let spoofer = std::net::UdpSocket::bind((address, 0)).unwrap();
            spoofer.send_to(b"spoofed", target).unwrap();
            let honest = std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap();
            honest.send_to(b"honest", target).unwrap();
        })
        .unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 16];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"honest");
    });
}

#[test]
fn a_machine_with_only_lo_reports_its_pod_network_address() {
    on_a_machine(|| async {
        assert_eq!(node_addresses().unwrap(), [] as [IpAddr; 0]);
        let config = NodeLinkConfig {
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
        };
        let link = NodeLink::ensure(&config).unwrap();
        let before = snapshot();
        assert_eq!(NodeLink::ensure(&config).unwrap(), link);
        assert_eq!(snapshot(), before);
        assert_eq!(node_addresses().unwrap(), [] as [IpAddr; 0]);
        // A connect to a Service address finds a way, and leaves with the node's address.
        let mut socket = RouteSocket::open().unwrap();
        for (service, node) in [
            ("10.43.0.1", link.addresses[0]),
            ("fd43::1", link.addresses[1]),
        ] {
            assert_eq!(
                socket.source_towards(service.parse().unwrap()).unwrap(),
                Some(node)
            );
        }
        let listener = TcpListener::bind((link.addresses[1], 0)).unwrap();
        let server = listener.local_addr().unwrap();
        answer_once(listener);
        assert_eq!(ask(server), link.addresses[1].to_string());
    });
}

#[test]
fn a_node_follows_its_machine_to_another_address() {
    on_a_machine(|| async {
        let mut socket = RouteSocket::open().unwrap();
        let mut give = |name: &str, address: &str| {
            let link = NewLink {
                name: name.to_owned(),
                kind: NewLinkKind::Bridge,
                mac: None,
                mtu: 1500,
                group: 0,
            };
            if socket.link_named(name).unwrap().is_none() {
                socket.add_link(&link).unwrap();
            }
            let link = socket.link_named(name).unwrap().unwrap().index;
            socket.set_link_up(link).unwrap();
            let address: IpAddr = address.parse().unwrap();
            let found = Address {
                link,
                address,
                prefix_length: 24,
                scope: 0,
            };
            socket.add_address(found).unwrap();
            (link, address)
        };
        let (link, first) = give("lan0", "192.0.2.1");
        let rule = AddressRule {
            said: None,
            interface: None,
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        };
        let followed = FollowedAddresses::new(rule.addresses(&[]).unwrap());
        assert_eq!(*followed.node.borrow(), [first]);
        let mut addresses = followed.node.subscribe();
        let (trigger, shutdown) = Shutdown::new();
        let following = env::spawn(async move { rule.follow(&followed, &shutdown).await });
        // One that is added changes nothing; one that goes is followed by another that is there.
        let (_, second) = give("lan0", "198.51.100.2");
        let mut socket = RouteSocket::open().unwrap();
        socket.delete_address(link, first).unwrap();
        let next = env::timeout(PATIENCE, addresses.wait_for(|now| *now == [second])).await;
        next.unwrap().unwrap();
        trigger.trigger();
        following.await.unwrap();
    });
}

#[test]
fn a_pod_waits_for_the_nodes_range_and_keeps_the_node_from_another() {
    on_a_machine(|| async {
        let network = PodNetwork::open(&config("one", &[])).unwrap();
        let namespace = NetworkNamespace::create().unwrap();
        let waiting = network.clone();
        let attached = env::spawn(async move { waiting.attach("a", namespace.as_fd()).await });
        tokio::task::yield_now().await;
        assert!(!attached.is_finished());
        let range = ["10.42.7.0/24".parse().unwrap()];
        network.set_pod_cidrs(&range).unwrap();
        let addresses = attached.await.unwrap().unwrap();
        assert_eq!(addresses, ["10.42.7.2".parse::<IpAddr>().unwrap()]);
        network.set_pod_cidrs(&range).unwrap();
        let other = ["10.42.8.0/24".parse().unwrap()];
        let error = network.set_pod_cidrs(&other).unwrap_err();
        assert!(error.to_string().contains("drain the node"), "{error}");
        network.detach("a");
        network.set_pod_cidrs(&other).unwrap();
        assert_eq!(
            network.node_link().addresses,
            ["10.42.8.1".parse::<IpAddr>().unwrap()]
        );
    });
}

#[test]
fn a_node_that_does_not_know_its_range_yet_knows_its_pods() {
    on_a_machine(|| async {
        let network = PodNetwork::open(&config("one", &["10.42.0.0/24", "fd42::/64"])).unwrap();
        let (_a, _) = pod(&network, "a").await;
        let known = network.existing();
        drop(network);
        let network = PodNetwork::open(&config("one", &[])).unwrap();
        assert_eq!(network.existing(), known);
        let ranges = [
            "10.42.0.0/24".parse().unwrap(),
            "fd42::/64".parse().unwrap(),
        ];
        network.set_pod_cidrs(&ranges).unwrap();
        assert_eq!(network.existing(), known);
        let (_b, addresses) = pod(&network, "b").await;
        assert_eq!(addresses[0], "10.42.0.3".parse::<IpAddr>().unwrap());
    });
}

#[test]
fn the_pod_network_address_gives_way_to_the_first_uplink() {
    on_a_machine(|| async {
        let network = PodNetwork::open(&config("one", &["10.42.0.0/24"])).unwrap();
        let own = network.node_link().addresses;
        let rule = AddressRule {
            said: None,
            interface: None,
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        };
        assert_eq!(rule.addresses(&own).unwrap(), [] as [IpAddr; 0]);
        let mut socket = RouteSocket::open().unwrap();
        let link = NewLink {
            name: "lan0".to_owned(),
            kind: NewLinkKind::Bridge,
            mac: None,
            mtu: 1500,
            group: 0,
        };
        socket.add_link(&link).unwrap();
        let link = socket.link_named("lan0").unwrap().unwrap().index;
        socket.set_link_up(link).unwrap();
        let address = "192.0.2.1".parse().unwrap();
        let found = Address {
            link,
            address,
            prefix_length: 24,
            scope: 0,
        };
        socket.add_address(found).unwrap();
        assert_eq!(rule.addresses(&own).unwrap(), [address]);
    });
}

#[test]
fn only_the_addresses_of_the_interface_that_somebody_named_are_the_nodes() {
    on_a_machine(|| async {
        let mut socket = RouteSocket::open().unwrap();
        for (name, address) in [("lan0", "192.0.2.1"), ("lan1", "198.51.100.1")] {
            let link = NewLink {
                name: name.to_owned(),
                kind: NewLinkKind::Bridge,
                mac: None,
                mtu: 1500,
                group: 0,
            };
            socket.add_link(&link).unwrap();
            let link = socket.link_named(name).unwrap().unwrap().index;
            socket.set_link_up(link).unwrap();
            let address = address.parse().unwrap();
            let found = Address {
                link,
                address,
                prefix_length: 24,
                scope: 0,
            };
            socket.add_address(found).unwrap();
        }
        let rule = |interface: &str| AddressRule {
            said: None,
            interface: Some(interface.to_owned()),
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        };
        let other = "198.51.100.1".parse::<IpAddr>().unwrap();
        assert_eq!(rule("lan1").addresses(&[]).unwrap(), [other]);
        let error = rule("lan9").addresses(&[]).unwrap_err();
        assert!(error.to_string().contains("lan9"), "{error}");
    });
}

#[test]
fn a_node_with_another_share_gives_up_its_old_address() {
    on_a_machine(|| async {
        drop(PodNetwork::open(&config("one", &["10.42.0.0/24"])).unwrap());
        let network = PodNetwork::open(&config("one", &["10.42.7.0/24"])).unwrap();
        let mut socket = RouteSocket::open().unwrap();
        let mut own: Vec<_> = socket
            .addresses()
            .unwrap()
            .into_iter()
            .map(|one| one.address)
            .collect();
        own.retain(|address| address.is_ipv4() && !address.is_loopback());
        assert_eq!(own, network.node_link().addresses);
    });
}

#[test]
fn a_node_reports_the_address_of_its_uplink_and_never_that_of_a_container_network() {
    on_a_machine(|| async {
        assert_eq!(uplink_mtu(None).unwrap(), 1500);
        let network = PodNetwork::open(&config("one", &["10.42.0.0/24"])).unwrap();
        let mut socket = RouteSocket::open().unwrap();
        for (name, address, mtu) in [("docker0", "172.17.0.1", 1500), ("lan0", "192.0.2.1", 1400)] {
            socket
                .add_link(&NewLink {
                    name: name.to_owned(),
                    kind: NewLinkKind::Bridge,
                    mac: None,
                    mtu,
                    group: 0,
                })
                .unwrap();
            let link = socket.link_named(name).unwrap().unwrap().index;
            socket.set_link_up(link).unwrap();
            let address = address.parse().unwrap();
            socket
                .add_address(Address {
                    link,
                    address,
                    prefix_length: 24,
                    scope: 0,
                })
                .unwrap();
        }
        assert_eq!(
            node_addresses().unwrap(),
            ["192.0.2.1".parse::<IpAddr>().unwrap()]
        );
        let own = node_addresses().unwrap();
        assert_eq!(uplink_mtu(own.first().copied()).unwrap(), 1400);
        // Whatever addresses the machine has, its pods know it by the one in their own network.
        let (a, addresses) = pod(&network, "a").await;
        let server = serve(&a, addresses[0]);
        assert_eq!(ask(server), "10.42.0.1");
    });
}
