//! Network policies on the real kernel. Each test is a machine of its own, with pods and a neighbour outside.
#![allow(clippy::unwrap_used)]

mod follow;
mod machine;

use apimachinery::ObjectKey;
use linux::netlink::nf_tables::Change;
use machine::{Dropped, Outcome, Reached, XA, XB, YA, YB, on_a_machine};
use network_policy::{Desired, DnsPlace, PolicyTable, Protocol};
use serde_json::{Value, json};
use std::io::{Read, Write};

/// Selects pod `a` of its namespace.
fn pod_a() -> Value {
    json!({"matchLabels": {"pod": "a"}})
}

#[test]
fn only_a_selected_pod_is_isolated_and_only_from_others() {
    on_a_machine(|machine| {
        machine.serve_on_node();
        machine.apply();
        assert_eq!(machine.who_reaches(XA), [XA, XB, YA, YB]);
        let listing = machine.nft(&["list", "table", "inet", "combo-policy-one"]);
        assert!(
            !listing.contains("chain"),
            "a node without policies does no work: {listing}"
        );
        machine.enforce("deny", &json!({"podSelector": pod_a()}));
        assert_eq!(
            machine.who_reaches(XA),
            [XA],
            "nothing keeps a pod from itself"
        );
        assert_eq!(machine.who_reaches(XB), [XA, XB, YA, YB]);
        assert_eq!(machine.who_reaches(YA), [XA, XB, YA, YB]);
        assert_eq!(
            machine.from_node(machine.ip(XA), 80),
            Reached,
            "probes come from the node"
        );
        assert_eq!(machine.from_outside(machine.ip(XA), 80), Dropped);
        assert_eq!(machine.udp_from_pod(XB, machine.ip(XA), 80), Dropped);
        assert_eq!(machine.from_pod(XB, machine.ip_v6(XA), 80), Dropped);
        assert_eq!(machine.from_pod(XB, machine.ip_v6(YA), 80), Reached);

        machine.desired.policies.clear();
        machine.apply();
        assert_eq!(machine.who_reaches(XA), [XA, XB, YA, YB]);
    });
}

#[test]
fn egress_is_isolated_towards_pods_the_world_and_the_node() {
    on_a_machine(|machine| {
        machine.serve_on_node();
        machine.serve_outside();
        let (node, node_v6, outside) = (
            machine.node_ip(),
            machine.node_ip_v6(),
            machine.outside_ip(),
        );
        assert_eq!(machine.from_pod(XA, node_v6, 80), Reached);
        machine.enforce(
            "deny",
            &json!({"podSelector": pod_a(), "policyTypes": ["Egress"]}),
        );
        for (from, outcome) in [(XA, Dropped), (XB, Reached)] {
            for address in [machine.ip(YA), machine.ip_v6(YA), node, node_v6, outside] {
                assert_eq!(machine.from_pod(from, address, 80), outcome, "{address}");
            }
            assert_eq!(machine.udp_from_pod(from, node, 80), outcome);
        }
        assert_eq!(
            machine.who_reaches(XA),
            [XA, XB, YA, YB],
            "answers are let out"
        );
        assert_eq!(machine.from_pod(YA, machine.ip_v6(XA), 80), Reached);

        machine.enforce(
            "to the node",
            &json!({"podSelector": pod_a(), "policyTypes": ["Egress"], "egress": [
                {"to": [{"ipBlock": {"cidr": format!("{node}/32")}}, {"ipBlock": {"cidr": "fd42::/64"}}],
                 "ports": [{"port": 80}]}]}),
        );
        assert_eq!(machine.from_pod(XA, node, 80), Reached);
        assert_eq!(machine.from_pod(XA, node_v6, 80), Reached);
        assert_eq!(machine.from_pod(XA, node, 81), Dropped);
        assert_eq!(machine.udp_from_pod(XA, node, 80), Dropped);
        assert_eq!(machine.from_pod(XA, machine.ip(YA), 80), Dropped);
    });
}

#[test]
fn peers_are_pods_of_selected_namespaces_and_policies_add_up() {
    on_a_machine(|machine| {
        let from = |peer: Value| json!({"podSelector": pod_a(), "ingress": [{"from": [peer]}]});
        let cases: [(Value, &[usize]); 6] = [
            (json!({"podSelector": {}}), &[XA, XB]),
            (json!({"podSelector": {"matchLabels": {"pod": "c"}}}), &[XA]),
            (json!({"namespaceSelector": {}}), &[XA, XB, YA, YB]),
            (
                json!({"namespaceSelector": {"matchLabels": {"ns": "y"}}}),
                &[XA, YA, YB],
            ),
            (
                json!({"namespaceSelector": {"matchLabels": {"ns": "y"}},
                    "podSelector": {"matchExpressions": [{"key": "pod", "operator": "In", "values": ["b"]}]}}),
                &[XA, YB],
            ),
            (
                json!({"namespaceSelector": {"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["y"]}]}}),
                &[XA, XB],
            ),
        ];
        for (peer, expected) in cases {
            machine.enforce("allow", &from(peer.clone()));
            assert_eq!(machine.who_reaches(XA), expected, "{peer}");
        }
        machine.enforce(
            "more",
            &from(json!({"ipBlock": {"cidr": format!("{}/32", machine.ip(YA))}})),
        );
        assert_eq!(machine.who_reaches(XA), [XA, XB, YA]);
        machine.enforce("all", &json!({"podSelector": {}, "ingress": [{}]}));
        assert_eq!(machine.who_reaches(XA), [XA, XB, YA, YB]);
        machine.enforce("all", &json!({"podSelector": {}, "ingress": []}));
        assert_eq!(machine.who_reaches(XA), [XA, XB, YA]);
        assert_eq!(machine.who_reaches(XB), [XB]);

        // Labels of namespaces and pods change.
        let labels = [("ns".to_owned(), "y".to_owned())];
        machine
            .desired
            .namespaces
            .insert("x".to_owned(), labels.into());
        machine.show_pods();
        let facts = machine.pod_facts(YB, &json!({"pod": "renamed"}));
        machine
            .desired
            .pods
            .insert(ObjectKey::namespaced("y", "b"), facts);
        machine.enforce(
            "all",
            &from(json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"pod": "renamed"}}})),
        );
        assert_eq!(machine.who_reaches(XA), [XA, YA, YB]);
    });
}

#[test]
fn both_ends_must_agree() {
    on_a_machine(|machine| {
        let to_b = json!({"podSelector": pod_a(), "policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]});
        machine.enforce("out", &to_b);
        assert_eq!(machine.from_pod(XA, machine.ip(XB), 80), Reached);
        assert_eq!(machine.from_pod(XA, machine.ip(YB), 80), Dropped);
        let only_port_81 = json!({"podSelector": {"matchLabels": {"pod": "b"}},
            "ingress": [{"ports": [{"port": 81}]}]});
        machine.enforce("in", &only_port_81);
        assert_eq!(machine.from_pod(XA, machine.ip(XB), 80), Dropped);
        assert_eq!(machine.from_pod(XA, machine.ip(XB), 81), Reached);
        assert_eq!(machine.from_pod(YA, machine.ip(XB), 80), Dropped);
        assert_eq!(machine.from_pod(YA, machine.ip(XB), 81), Reached);
    });
}

/// What reaches ports TCP 80, TCP 81 and UDP 80 of `x/a` from `x/b`.
fn through(machine: &machine::Machine) -> [Outcome; 3] {
    let address = machine.ip(XA);
    std::thread::scope(|scope| {
        let clients = [
            scope.spawn(|| machine.from_pod(XB, address, 80)),
            scope.spawn(|| machine.from_pod(XB, address, 81)),
            scope.spawn(|| machine.udp_from_pod(XB, address, 80)),
        ];
        clients.map(|client| client.join().unwrap())
    })
}

#[test]
fn ports_are_numbers_ranges_and_names_of_one_protocol() {
    on_a_machine(|machine| {
        machine.show_pods();
        let cases = [
            (json!([{"port": 80}]), [Reached, Dropped, Dropped]),
            (json!([{"protocol": "TCP"}]), [Reached, Reached, Dropped]),
            (json!([{"protocol": "UDP"}]), [Dropped, Dropped, Reached]),
            (
                json!([{"port": 80, "protocol": "UDP"}, {"port": 81}]),
                [Dropped, Reached, Reached],
            ),
            (
                json!([{"port": 70, "endPort": 80}, {"port": 75, "endPort": 78}]),
                [Reached, Dropped, Dropped],
            ),
            (
                json!([{"port": 81, "endPort": 65535}]),
                [Dropped, Reached, Dropped],
            ),
            (json!([{"port": "serve-81"}]), [Dropped, Reached, Dropped]),
            (
                json!([{"port": "serve-80-udp", "protocol": "UDP"}, {"port": 80}]),
                [Reached, Dropped, Reached],
            ),
            (
                json!([{"port": "serve-80", "protocol": "UDP"}]),
                [Dropped, Dropped, Dropped],
            ),
            (
                json!([{"port": 80, "protocol": "SCTP"}]),
                [Dropped, Dropped, Dropped],
            ),
        ];
        for (ports, expected) in cases {
            let all = json!({"podSelector": pod_a(), "ingress": [{"ports": ports}]});
            machine.enforce("ports", &all);
            assert_eq!(through(machine), expected, "ingress {ports}");
            let peers = json!({"podSelector": pod_a(), "ingress": [{"ports": ports,
                "from": [{"podSelector": {}}, {"ipBlock": {"cidr": "203.0.113.0/24"}}]}]});
            machine.enforce("ports", &peers);
            assert_eq!(through(machine), expected, "ingress from pods {ports}");
            assert_eq!(machine.from_pod(YB, machine.ip(XA), 80), Dropped);
            machine.desired.policies.clear();

            for to in [
                json!([]),
                json!([{"podSelector": pod_a()}]),
                json!([{"ipBlock": {"cidr": "10.42.0.0/24"}}]),
            ] {
                let egress = json!({"podSelector": {"matchLabels": {"pod": "b"}}, "policyTypes": ["Egress"],
                    "egress": [{"ports": ports, "to": to}]});
                machine.enforce("ports", &egress);
                assert_eq!(through(machine), expected, "egress {ports} to {to}");
            }
            machine.desired.policies.clear();
        }
    });
}

#[test]
fn a_block_has_holes_and_blocks_may_overlap() {
    on_a_machine(|machine| {
        let (xb, ya) = (machine.ip(XB), machine.ip(YA));
        let block = |blocks: Value| json!({"podSelector": pod_a(), "ingress": [{"from": blocks}]});
        let holes = json!([{"ipBlock": {"cidr": "10.42.0.0/24", "except": [format!("{xb}/32"), format!("{ya}/32")]}}]);
        machine.enforce("block", &block(holes));
        assert_eq!(machine.who_reaches(XA), [XA, YB]);
        assert_eq!(
            machine.from_pod(YB, machine.ip_v6(XA), 80),
            Dropped,
            "the block is of IPv4"
        );
        let overlapping = json!([
            {"ipBlock": {"cidr": "10.42.0.0/24", "except": [format!("{xb}/32"), format!("{ya}/32")]}},
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.42.0.0/16"]}},
            {"ipBlock": {"cidr": format!("{ya}/32")}},
            {"ipBlock": {"cidr": "192.0.2.0/24"}},
            {"ipBlock": {"cidr": "::/0", "except": [format!("{}/128", machine.ip_v6(YA))]}}]);
        machine.enforce("block", &block(overlapping));
        assert_eq!(machine.who_reaches(XA), [XA, YA, YB]);
        assert_eq!(machine.from_outside(machine.ip(XA), 80), Reached);
        assert_eq!(machine.from_pod(XB, machine.ip_v6(XA), 80), Reached);
        assert_eq!(machine.from_pod(YA, machine.ip_v6(XA), 80), Dropped);
    });
}

#[test]
fn a_connection_that_stands_outlives_the_policy_that_would_forbid_it() {
    on_a_machine(|machine| {
        // Flows are known from the start where there are Services.
        machine.track_flows();
        let mut connection = machine.connection(XB, XA);
        machine.enforce(
            "deny",
            &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        );
        assert_eq!(machine.from_pod(XB, machine.ip(XA), 80), Dropped);
        connection.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        connection.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    });
}

#[test]
fn the_dns_in_the_node_counts_as_a_pod_with_port_53() {
    on_a_machine(|machine| {
        machine.serve_on_node();
        let node = machine.node_ip();
        let place = |name: &str, protocol, port| DnsPlace {
            address: node,
            name: name.to_owned(),
            protocol,
            port,
        };
        let places = vec![
            place("dns", Protocol::Udp, 80),
            place("dns-tcp", Protocol::Tcp, 80),
        ];
        let slice = ObjectKey::namespaced("kube-system", "kube-dns-1");
        machine.desired.dns.insert(slice, places);
        let labels = [("ns".to_owned(), "system".to_owned())];
        let namespaces = &mut machine.desired.namespaces;
        namespaces.insert("kube-system".to_owned(), labels.into());
        let dns_pods = json!({"namespaceSelector": {"matchLabels": {"ns": "system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}});
        let cases = [
            (json!([]), [Dropped, Dropped]),
            (
                json!([{"ports": [{"port": 53, "protocol": "UDP"}]}]),
                [Reached, Dropped],
            ),
            (
                json!([{"ports": [{"port": 53, "protocol": "UDP"}, {"port": "dns-tcp"}]}]),
                [Reached, Reached],
            ),
            (json!([{"to": [dns_pods]}]), [Reached, Reached]),
            (
                json!([{"to": [dns_pods], "ports": [{"port": 54, "protocol": "UDP"}]}]),
                [Dropped, Dropped],
            ),
            (json!([{"to": [{"podSelector": {}}]}]), [Dropped, Dropped]),
            (
                json!([{"to": [{"ipBlock": {"cidr": "10.42.0.0/24"}}], "ports": [{"port": 53}]}]),
                [Dropped, Reached],
            ),
        ];
        for (egress, expected) in cases {
            machine.enforce(
                "egress",
                &json!({"podSelector": pod_a(), "policyTypes": ["Egress"], "egress": egress}),
            );
            let found = [
                machine.udp_from_pod(XA, node, 80),
                machine.from_pod(XA, node, 80),
            ];
            assert_eq!(found, expected, "{egress}");
            assert_eq!(machine.from_pod(XA, node, 81), Dropped, "{egress}");
        }
    });
}

#[test]
fn a_pod_more_or_less_sends_only_elements() {
    on_a_machine(|machine| {
        machine.show_pods();
        let yb = machine.desired.connected.remove("uid-yb").unwrap();
        let key = ObjectKey::namespaced("y", "b");
        let shown = machine.desired.pods.remove(&key).unwrap();
        for number in 0..50 {
            let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 1000 + number}]}],
                "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}}]}]});
            machine.put_policy("x", &format!("noise-{number}"), &spec);
        }
        machine.put_policy("x", "b", &json!({"podSelector": pod_a(),
            "ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"pod": "b"}}}]}]}));
        machine.put_policy(
            "y",
            "deny",
            &json!({"podSelector": {"matchLabels": {"pod": "b"}}, "ingress": []}),
        );
        assert_eq!(machine.apply().change, Change::Everything);
        assert_eq!(machine.apply().change, Change::Nothing);
        assert_eq!(machine.who_reaches(XA), [XA, XB]);

        machine.desired.connected.insert(yb.uid.clone(), yb.clone());
        machine.desired.pods.insert(key.clone(), shown.clone());
        let applied = machine.apply();
        assert_eq!(applied.change, Change::Difference);
        assert!(applied.bytes < 5000, "{} bytes", applied.bytes);
        assert_eq!(machine.who_reaches(XA), [XA, XB, YB]);
        assert_eq!(machine.who_reaches(YB), [YB]);

        machine.desired.connected.remove(&yb.uid);
        machine.desired.pods.remove(&key);
        assert_eq!(machine.apply().change, Change::Difference);
        assert_eq!(machine.who_reaches(XA), [XA, XB]);
    });
}

#[test]
fn an_address_belongs_to_the_pod_that_is_connected_with_it() {
    on_a_machine(|machine| {
        machine.show_pods();
        // The API still shows an earlier pod with the address that `y/a` has now.
        let mut earlier = machine.pod_facts(YA, &json!({"pod": "b"}));
        "uid-earlier".clone_into(&mut earlier.uid);
        let pods = &mut machine.desired.pods;
        pods.insert(ObjectKey::namespaced("y", "earlier"), earlier);
        let spec = json!({"podSelector": pod_a(), "ingress": [{"from": [
            {"namespaceSelector": {}, "podSelector": {"matchLabels": {"pod": "b"}}}]}]});
        machine.enforce("from b", &spec);
        assert_eq!(machine.who_reaches(XA), [XA, XB, YB]);
    });
}

#[test]
fn the_rules_survive_a_flush_and_a_restart_and_an_administrator_can_list_them() {
    on_a_machine(|machine| {
        machine.show_pods();
        let spec = json!({"podSelector": pod_a(), "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "2001:db8::/32"}}],
                "ports": [{"port": 80, "endPort": 90}, {"port": "serve-81"}]}]});
        machine.enforce("web", &spec);
        let listing = machine.nft(&["list", "ruleset"]);
        for part in [
            "table inet combo-policy-one",
            "chain ingress-x/web",
            "80-90",
            "2001:db8::",
        ] {
            assert!(listing.contains(part), "{part}: {listing}");
        }
        assert!(!listing.contains("@nh"), "{listing}");
        machine.nft(&["flush", "ruleset"]);
        assert_eq!(machine.who_reaches(XA), [XA, XB]);

        machine.table = PolicyTable::open("one").unwrap();
        assert_eq!(machine.who_reaches(XA), [XA, XB]);
        assert_eq!(machine.apply().change, Change::Everything);
        assert_eq!(machine.who_reaches(XA), [XA, XB]);
        machine.table = PolicyTable::open("unused").unwrap();
        PolicyTable::clean_up("one").unwrap();
        PolicyTable::clean_up("one").unwrap();
        assert_eq!(machine.nft(&["list", "ruleset"]).trim(), "");
    });
}

#[test]
fn a_hostile_policy_is_only_large() {
    on_a_machine(|machine| {
        let ports: Vec<Value> = (0..400)
            .map(|port| json!({"port": 10_000 + 2 * port}))
            .collect();
        let holes: Vec<Value> = (0..=255)
            .map(|net| json!(format!("10.{net}.7.0/24")))
            .collect();
        let long = "n".repeat(253);
        let spec = json!({"podSelector": {}, "ingress": [
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": holes}}], "ports": ports}, {"ports": [{"port": 80}]}]});
        machine.enforce(&long, &spec);
        assert_eq!(machine.who_reaches(XA), [XA, XB, YA, YB]);
        assert_eq!(machine.from_pod(YB, machine.ip(XA), 81), Dropped);
        machine.desired = Desired::default();
        machine.apply();
        assert_eq!(machine.from_pod(YB, machine.ip(XA), 81), Reached);
    });
}
