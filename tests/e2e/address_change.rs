//! Addresses of machines change while everything runs, and what depends on them follows without a restart.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Test;
use crate::nodes::{daemon_set, every_direction, served};
use crate::services::fetch_from_host;
use crate::support::kubectl::is_ready;
use crate::support::nodes::LINK;
use crate::support::objects::{script, service, with};
use crate::support::{Cluster, Kubectl, Node, Space, eventually, within};

pub(crate) const TESTS: &[Test] = &[
    ("a_node_and_a_server_follow_their_addresses", both_move),
    ("a_said_address_stays_and_is_told_missing", said_address),
];

const AGENT_NEXT: &str = "10.99.0.52";
const SERVER_NEXT: &str = "10.99.0.61";
const API_PORT: u16 = 6443;
const BALANCED_PORT: u16 = 8099;
/// An agent hears nothing from a server whose address is gone: it has to notice, by a ping every 20 s that must be taken within
/// 15 s, and then finds the other address, which takes 5 s at most.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const CONNECT_MAX: Duration = Duration::from_secs(3);

fn both_move() {
    let cluster = Cluster::start("moving", &[], &["one", "two"]);
    let space = Space::through(cluster.kubectl(), "moving");
    let kubectl = &space.kubectl;
    kubectl.create(&daemon_set());
    let balanced = json!({"spec": {"type": "LoadBalancer", "ports": [
        {"port": BALANCED_PORT, "targetPort": 8080},
    ]}});
    kubectl.create(&with(service("balanced", "net"), &balanced));
    let host = json!({"spec": {"nodeName": "one", "hostNetwork": true}});
    kubectl.start_pod(&with(script("host", "sleep 3600"), &host));
    kubectl.ok(&["rollout", "status", "daemonset/net", "--timeout=60s"]);
    let pods = served(kubectl);
    every_direction(kubectl, &pods);
    let before = incarnations(kubectl);

    the_agent_moves(&cluster, kubectl);
    every_direction(kubectl, &pods);
    the_server_moves(&cluster, kubectl);
    every_direction(kubectl, &pods);
    assert_eq!(incarnations(kubectl), before, "nothing began anew");
    drop(space);
    cluster.tear_down();
}

/// Another lease: the old address goes, then the next one comes.
fn the_agent_moves(cluster: &Cluster, kubectl: &Kubectl) {
    let one = cluster.agent("one");
    let old = &one.place.address;
    one.place.ok(&format!(
        "ip address delete {old}/24 dev {LINK}; ip address add {AGENT_NEXT}/24 dev {LINK}"
    ));
    reports(cluster, one, AGENT_NEXT);
    certified(&one.joined("serving-kubelet.crt"), AGENT_NEXT);
    for (pod, path) in [("host", "hostIP"), ("host", "podIP")] {
        eventually(&format!("{path} of {pod} follows"), || {
            (kubectl.get("pod", pod)["status"][path] == AGENT_NEXT).then_some(())
        });
    }
    answers(kubectl, "host");
    balances(cluster, kubectl, AGENT_NEXT);
}

/// A second network card, and then the first one is gone.
fn the_server_moves(cluster: &Cluster, kubectl: &Kubectl) {
    let server = &cluster.server;
    let old = server.place.address.as_str();
    server.place.ok(&format!(
        "echo 1 >/proc/sys/net/ipv4/conf/{LINK}/promote_secondaries
        ip address add {SERVER_NEXT}/24 dev {LINK}"
    ));
    for agent in &cluster.agents {
        eventually(
            &format!("{} knows the server's other address", agent.name),
            || {
                let known = std::fs::read_to_string(agent.joined("servers.json")).ok()?;
                known.contains(SERVER_NEXT).then_some(())
            },
        );
    }
    // The first address counts for as long as it is there.
    reports(cluster, server, old);
    server
        .place
        .ok(&format!("ip address delete {old}/24 dev {LINK}"));
    reports(cluster, server, SERVER_NEXT);
    let admin = cluster.kubectl().in_namespace("default");
    for (kind, list, field) in [
        ("endpoints", "subsets", "/addresses/0/ip"),
        ("endpointslice", "endpoints", "/addresses/0"),
    ] {
        eventually(&format!("the {kind} of the server follow"), || {
            let found = admin.get(kind, "kubernetes");
            let address = found[list][0].pointer(field).cloned();
            (address == Some(SERVER_NEXT.into())).then_some(())
        });
    }
    // Its name is looked at: the certificate is made out to the new address.
    let url = format!("--server=https://{SERVER_NEXT}:{API_PORT}");
    let outside = cluster.guest.kubectl(cluster.kubeconfig());
    eventually("the server proves that it has the address", || {
        let answer = outside.run(&[&url, "get", "--raw", "/readyz"]);
        answer.status.success().then_some(())
    });
    for agent in &cluster.agents {
        within(
            SILENCE_MAX,
            &format!("{} is heard again", agent.name),
            || {
                agent
                    .log()
                    .contains(&format!("server=\"{SERVER_NEXT}:{API_PORT}\""))
                    .then_some(())
            },
        );
        eventually(&format!("{} is Ready", agent.name), || {
            cluster.kubectl().find("node", &agent.name).filter(is_ready)
        });
        let service = kubectl.in_namespace("default").get("service", "kubernetes");
        let service = service["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        within(
            SILENCE_MAX,
            &format!("the Service leads there from {}", agent.name),
            || agent.place.inside(|| connects(service, 443)).then_some(()),
        );
    }
    answers(kubectl, "host");
    let late = with(
        script("late", "sleep 3600"),
        &json!({"spec": {"nodeName": "two"}}),
    );
    kubectl.start_pod(&late);
}

/// The node's Node says this address, and no other.
fn reports(cluster: &Cluster, node: &Node, address: &str) {
    let wanted = json!({"type": "InternalIP", "address": address});
    eventually(&format!("{} reports {address}", node.name), || {
        let found = cluster.kubectl().get("node", &node.name);
        let told = found["status"]["addresses"].as_array()?;
        let mut told = told.iter().filter(|one| one["type"] == "InternalIP");
        (told.next() == Some(&wanted) && told.next().is_none() && is_ready(&found)).then_some(())
    });
}

fn certified(file: &std::path::Path, address: &str) {
    let address: IpAddr = address.parse().unwrap();
    eventually(&format!("the certificate is made out to {address}"), || {
        let text = std::fs::read_to_string(file).ok()?;
        let chain = pki::decode_pem("CERTIFICATE", &text);
        let info = pki::CertificateInfo::from_der(chain.first()?).ok()?;
        info.addresses.contains(&address).then_some(())
    });
}

/// The node's kubelet is reached: commands run in a pod of it, and its log is read.
fn answers(kubectl: &Kubectl, pod: &str) {
    eventually("exec and logs work", || {
        let executed = kubectl.run(&["exec", pod, "--", "echo", "here"]);
        let read = kubectl.run(&["logs", pod]);
        (executed.stdout == b"here\n" && read.status.success()).then_some(())
    });
}

fn balances(cluster: &Cluster, kubectl: &Kubectl, address: &str) {
    eventually("the balancer tells the address", || {
        let found = kubectl.get("service", "balanced");
        let told = found["status"]["loadBalancer"]["ingress"]
            .as_array()?
            .clone();
        told.iter().any(|one| one["ip"] == address).then_some(())
    });
    eventually("the balancer is reached there", || {
        let ask = || fetch_from_host(address, BALANCED_PORT, "/hostname");
        cluster
            .guest
            .inside(ask)
            .filter(|answer| answer.starts_with("net-"))
    });
}

fn connects(address: IpAddr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT_MAX).is_ok()
}

/// Each pod's identity and how often its containers began.
fn incarnations(kubectl: &Kubectl) -> BTreeMap<String, Value> {
    let pods = kubectl.list("pods", "app=net");
    let pods = pods.iter().map(|pod| {
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        (name, json!([pod["metadata"]["uid"], restarts]))
    });
    pods.collect()
}

fn said_address() {
    let said = "10.99.0.1";
    let cluster = Cluster::start("said", &["--node-ip", said], &[]);
    let place = &cluster.server.place;
    let told = |reason: &str| {
        eventually(&format!("an Event says {reason}"), || {
            let field = format!("reason={reason},involvedObject.name=server");
            let events = cluster.kubectl().ok(&[
                "get",
                "events",
                "--field-selector",
                &field,
                "-o",
                "jsonpath={.items[*].message}",
            ]);
            events.contains(said).then_some(events)
        })
    };
    place.ok(&format!(
        "ip address delete {said}/24 dev {LINK}; ip address add {SERVER_NEXT}/24 dev {LINK}"
    ));
    let message = told("NodeAddressMissing");
    assert!(message.contains("--node-ip"), "{message}");
    reports(&cluster, &cluster.server, said);
    place.ok(&format!("ip address add {said}/24 dev {LINK}"));
    told("NodeAddressPresent");
    reports(&cluster, &cluster.server, said);
    cluster.tear_down();
}
