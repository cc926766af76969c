//! Services on the real kernel. Each test is a machine of its own, with pods and a neighbour outside of the cluster.
#![allow(clippy::unwrap_used)]

mod follow;
mod machine;

use linux::netlink::conntrack::{ConntrackSocket, FilterPlace, Flows};
use linux::netlink::nf_tables::Change;
use machine::{OTHER_NODE_POD, Outcome, VIP, on_a_machine, service, slice};
use serde_json::json;
use service_proxy::{HostPort, Protocol, ServiceProxy};
use std::collections::BTreeSet;
use std::net::IpAddr;

#[test]
fn a_cluster_ip_spreads_over_all_endpoints_and_keeps_the_pods_address() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.serve(1, 8080);
        machine.put_service("web", &json!({}));
        machine.put_slice("web", 8080, &[0, 1]);
        machine.apply();
        let client = machine.pod_ip(2);
        let answers: BTreeSet<Outcome> = (0..40).map(|_| machine.from_pod(2, VIP, 80)).collect();
        assert_eq!(
            answers,
            BTreeSet::from([
                Outcome::answered("pod0", &client),
                Outcome::answered("pod1", &client)
            ])
        );
        let node = machine.node_ip();
        assert_eq!(machine.from_node(VIP, 80).client(), Some(node));
        // The neighbour is masqueraded: the pod sees an address of the node.
        let seen = machine.from_outside(VIP, 80).client().unwrap();
        assert!(machine.is_own_address(&seen), "{seen}");
    });
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    on_a_machine(|machine| {
        machine.put_service("web", &json!({"type": "NodePort"}));
        machine.apply();
        for outcome in [
            machine.from_pod(0, VIP, 80),
            machine.from_node(VIP, 80),
            machine.from_outside(VIP, 80),
        ] {
            assert_eq!(outcome, Outcome::Refused);
        }
        let node = machine.outer_ip();
        assert_eq!(machine.from_outside(&node, 30080), Outcome::Refused);
        assert_eq!(machine.udp_from_pod(0, VIP, 53), Outcome::Refused);
    });
}

#[test]
fn a_port_that_the_service_does_not_have_is_refused() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.put_service("web", &json!({}));
        machine.put_slice("web", 8080, &[0]);
        machine.apply();
        assert_eq!(machine.from_pod(1, VIP, 81), Outcome::Refused);
        assert_eq!(machine.from_node(VIP, 81), Outcome::Refused);
        assert_eq!(machine.from_pod(1, VIP, 80).server(), Some("pod0"));
    });
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.put_service("web", &json!({}));
        machine.put_slice("web", 8080, &[0]);
        machine.apply();
        let outcome = machine.from_pod(0, VIP, 80);
        assert_eq!(outcome.server(), Some("pod0"));
        assert_ne!(outcome.client(), Some(machine.pod_ip(0)));
    });
}

#[test]
fn a_node_port_answers_on_the_nodes_addresses_but_not_on_lo() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.put_service("web", &json!({"type": "NodePort"}));
        machine.put_slice("web", 8080, &[0]);
        machine.apply();
        let (inner, outer) = (machine.node_ip(), machine.outer_ip());
        for node in [inner.as_str(), outer.as_str()] {
            assert_eq!(
                machine.from_pod(0, node, 30080).server(),
                Some("pod0"),
                "hairpin over {node}"
            );
            assert_eq!(machine.from_pod(1, node, 30080).server(), Some("pod0"));
            assert_eq!(machine.from_node(node, 30080).server(), Some("pod0"));
        }
        let seen = machine.from_outside(&outer, 30080);
        assert!(machine.is_own_address(&seen.client().unwrap()));
        assert_eq!(machine.from_node("127.0.0.1", 30080), Outcome::Refused);
    });
}

#[test]
fn external_traffic_policy_local_keeps_the_client_and_never_leaves_the_node() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.serve(1, 8080);
        let service = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "externalIPs": ["198.51.100.7"]});
        machine.put_service("web", &service);
        machine.put_slice_with_remote("web", 8080, &[0], &[1]);
        machine.apply();
        let outer = machine.outer_ip();
        for _ in 0..10 {
            for (address, port) in [(outer.as_str(), 30080), ("198.51.100.7", 80)] {
                assert_eq!(
                    machine.from_outside(address, port),
                    Outcome::answered("pod0", "192.0.2.9")
                );
            }
        }
        let inside: BTreeSet<_> = (0..40)
            .filter_map(|_| {
                machine
                    .from_pod(2, &outer, 30080)
                    .server()
                    .map(str::to_owned)
            })
            .collect();
        assert_eq!(inside.len(), 2, "the cluster's own traffic goes everywhere");

        machine.put_slice_with_remote("web", 8080, &[], &[1]);
        machine.apply();
        assert_eq!(machine.from_outside(&outer, 30080), Outcome::TimedOut);
        assert_eq!(machine.from_pod(2, &outer, 30080).server(), Some("pod1"));
        assert_eq!(machine.from_node(&outer, 30080).server(), Some("pod1"));
    });
}

#[test]
fn internal_traffic_policy_local_never_leaves_the_node() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.serve(1, 8080);
        machine.put_service("web", &json!({"internalTrafficPolicy": "Local"}));
        machine.put_slice_with_remote("web", 8080, &[0], &[1]);
        machine.apply();
        assert!((0..20).all(|_| machine.from_pod(2, VIP, 80).server() == Some("pod0")));
        machine.put_slice_with_remote("web", 8080, &[], &[1]);
        machine.apply();
        assert_eq!(machine.from_pod(2, VIP, 80), Outcome::TimedOut);
    });
}

#[test]
fn a_load_balancers_address_lets_only_the_allowed_sources_in() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.put_load_balancer("web", "198.51.100.8", &["192.0.2.0/24"]);
        machine.put_slice("web", 8080, &[0]);
        machine.apply();
        assert_eq!(
            machine.from_outside("198.51.100.8", 80).server(),
            Some("pod0")
        );
        machine.put_load_balancer("web", "198.51.100.8", &["203.0.113.0/24"]);
        machine.apply();
        assert_eq!(machine.from_outside("198.51.100.8", 80), Outcome::TimedOut);
    });
}

#[test]
fn affinity_holds_a_client_on_all_addresses_until_its_endpoint_is_gone() {
    on_a_machine(|machine| {
        for pod in 0..3 {
            machine.serve(pod, 8080);
        }
        machine.put_service(
            "web",
            &json!({"type": "NodePort", "sessionAffinity": "ClientIP"}),
        );
        machine.put_slice("web", 8080, &[0, 1, 2]);
        machine.apply();
        let (first, outer) = (machine.from_pod(0, VIP, 80), machine.outer_ip());
        for _ in 0..20 {
            assert_eq!(machine.from_pod(0, VIP, 80).server(), first.server());
            assert_eq!(machine.from_pod(0, &outer, 30080).server(), first.server());
        }
        // Another endpoint comes and goes: the client stays.
        let held: usize = first.server().unwrap()[3..].parse().unwrap();
        let others: Vec<usize> = (0..3).filter(|pod| *pod != held).collect();
        machine.put_slice("web", 8080, &[held, others[0]]);
        assert_eq!(machine.apply(), Change::Difference);
        assert!((0..10).all(|_| machine.from_pod(0, VIP, 80).server() == first.server()));
        machine.put_slice("web", 8080, &[others[0], others[1]]);
        assert_eq!(machine.apply(), Change::Difference);
        let second = machine.from_pod(0, VIP, 80);
        assert_ne!(second.server(), first.server());
        assert!((0..10).all(|_| machine.from_pod(0, VIP, 80).server() == second.server()));
        machine.put_service("web", &json!({"type": "NodePort"}));
        machine.apply();
        let all: BTreeSet<_> = (0..40)
            .filter_map(|_| machine.from_pod(0, VIP, 80).server().map(str::to_owned))
            .collect();
        assert_eq!(all.len(), 2, "without affinity both are used");
    });
}

#[test]
fn one_port_serves_two_protocols_and_a_udp_flow_follows_its_endpoints() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.serve_udp(0, 8080);
        machine.serve_udp(1, 8080);
        machine.put_service(
            "web",
            &json!({"ports": [
            {"name": "tcp", "port": 80, "protocol": "TCP"}, {"name": "udp", "port": 80, "protocol": "UDP"}]}),
        );
        machine.put_slices("web", &[("tcp", "TCP", 8080), ("udp", "UDP", 8080)], &[0]);
        machine.apply();
        assert_eq!(machine.from_pod(2, VIP, 80).server(), Some("pod0"));
        let flow = machine.udp_flow(2);
        assert_eq!(flow.ask(VIP, 80).server(), Some("pod0"));
        assert_eq!(flow.ask(VIP, 80).server(), Some("pod0"));
        machine.put_slices("web", &[("tcp", "TCP", 8080), ("udp", "UDP", 8080)], &[1]);
        machine.apply();
        assert_eq!(
            flow.ask(VIP, 80).server(),
            Some("pod1"),
            "the same socket goes to the new endpoint"
        );
    });
}

#[test]
fn flows_are_forgotten_one_by_one_where_the_kernel_cannot_pick_them_out() {
    on_a_machine(|machine| {
        machine.serve_udp(0, 8080);
        machine.serve_udp(1, 8080);
        machine.put_service(
            "web",
            &json!({"ports": [{"name": "udp", "port": 80, "protocol": "UDP"}]}),
        );
        machine.put_slices("web", &[("udp", "UDP", 8080)], &[0]);
        machine.apply();
        let (kept, forgotten) = (machine.udp_flow(1), machine.udp_flow(2));
        assert_eq!(kept.ask(&machine.pod_ip(0), 8080).server(), Some("pod0"));
        assert_eq!(forgotten.ask(VIP, 80).server(), Some("pod0"));
        let count = machine.flows();
        let mut socket = ConntrackSocket::open_with(FilterPlace::Here).unwrap();
        let (address, endpoint) = (VIP.parse().unwrap(), machine.pod_ip(0).parse().unwrap());
        let other = Flows::Translated {
            address,
            protocol: 17,
            port: 81,
            endpoint,
            endpoint_port: 8080,
        };
        socket.forget(other).unwrap();
        assert_eq!(machine.flows(), count);
        let meant = Flows::Translated {
            address,
            protocol: 17,
            port: 80,
            endpoint,
            endpoint_port: 8080,
        };
        socket.forget(meant).unwrap();
        socket.forget(meant).unwrap();
        assert_eq!(machine.flows(), count - 1);
        socket
            .forget(Flows::From {
                address: machine.pod_ip(1).parse().unwrap(),
            })
            .unwrap();
        assert_eq!(machine.flows(), count - 2);
    });
}

#[test]
fn a_udp_flow_that_began_before_the_service_is_translated_once_it_is_there() {
    on_a_machine(|machine| {
        machine.serve_udp(0, 8080);
        machine.apply();
        let flow = machine.udp_flow(2);
        // An address on the neighbour's network that nobody has.
        assert_eq!(flow.ask("192.0.2.77", 80), Outcome::TimedOut);
        let ports = json!([{"name": "udp", "port": 80, "protocol": "UDP"}]);
        machine.put_service(
            "web",
            &json!({"externalIPs": ["192.0.2.77"], "ports": ports}),
        );
        machine.put_slices("web", &[("udp", "UDP", 8080)], &[0]);
        machine.apply();
        assert_eq!(flow.ask("192.0.2.77", 80).server(), Some("pod0"));
    });
}

#[test]
fn host_ports_differ_by_address_and_protocol() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.serve(1, 8080);
        machine.serve_udp(2, 8080);
        let (inner, outer) = (machine.node_ip(), machine.outer_ip());
        machine.put_host_port(0, Some(&inner), Protocol::Tcp, 54321);
        machine.put_host_port(1, Some(&outer), Protocol::Tcp, 54321);
        machine.put_host_port(2, Some(&outer), Protocol::Udp, 54321);
        machine.put_host_port(0, None, Protocol::Tcp, 54322);
        machine.apply();
        assert_eq!(machine.from_node(&inner, 54321).server(), Some("pod0"));
        assert_eq!(machine.from_node(&outer, 54321).server(), Some("pod1"));
        assert_eq!(
            machine.from_outside(&outer, 54321),
            Outcome::answered("pod1", "192.0.2.9")
        );
        assert_eq!(
            machine.udp_from_pod(0, &outer, 54321).server(),
            Some("pod2")
        );
        assert_eq!(
            machine.from_pod(1, &outer, 54321).server(),
            Some("pod1"),
            "hairpin"
        );
        for node in [inner.as_str(), outer.as_str()] {
            assert_eq!(machine.from_pod(2, node, 54322).server(), Some("pod0"));
        }
        assert_eq!(machine.from_node("127.0.0.1", 54322), Outcome::Refused);
    });
}

#[test]
fn a_host_port_on_a_loopback_address_answers_a_client_with_another_source() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.serve(1, 8080);
        let outer = machine.outer_ip();
        machine.put_host_port(0, Some("127.0.0.1"), Protocol::Tcp, 54323);
        machine.put_host_port(1, Some(&outer), Protocol::Tcp, 54323);
        machine.apply();
        assert_eq!(
            machine.from_node_as(&outer, "127.0.0.1", 54323),
            Outcome::answered("pod0", &outer)
        );
        assert_eq!(machine.from_node(&outer, 54323).server(), Some("pod1"));
    });
}

#[test]
fn a_service_can_lead_to_the_node_itself() {
    on_a_machine(|machine| {
        machine.serve_on_node(5353);
        let ports = json!([{"name": "tcp", "port": 53, "protocol": "TCP"}, {"name": "udp", "port": 53, "protocol": "UDP"}]);
        machine.put_service(
            "kube-dns",
            &json!({"ports": ports, "internalTrafficPolicy": "Local"}),
        );
        machine.put_slice_of_node("kube-dns", 5353);
        machine.apply();
        let client = machine.pod_ip(0);
        assert_eq!(
            machine.from_pod(0, VIP, 53),
            Outcome::answered("node", &client)
        );
        assert_eq!(
            machine.udp_from_pod(0, VIP, 53),
            Outcome::answered("node", &client)
        );
        assert_eq!(machine.from_node(VIP, 53).server(), Some("node"));
        assert_eq!(machine.udp_from_node(VIP, 53).server(), Some("node"));
    });
}

#[test]
fn pods_speak_to_the_world_with_the_nodes_address() {
    on_a_machine(|machine| {
        machine.serve_outside(8080);
        machine.apply();
        let node = machine.outer_ip();
        assert_eq!(
            machine.from_pod(0, "192.0.2.9", 8080),
            Outcome::answered("outside", &node)
        );
    });
}

#[test]
fn between_nodes_pods_keep_their_address_and_clients_from_outside_do_not() {
    on_a_machine(|machine| {
        machine.serve_on_other_node(8080);
        machine.put_service(
            "web",
            &json!({"type": "NodePort", "externalIPs": ["198.51.100.7"]}),
        );
        machine.put_slice_of_other_node("web", 8080);
        machine.apply();
        let (pod, outer) = (machine.pod_ip(0), machine.outer_ip());
        let from_pod = Outcome::answered("other", &pod);
        assert_eq!(machine.from_pod(0, OTHER_NODE_POD, 8080), from_pod);
        assert_eq!(machine.from_pod(0, VIP, 80), from_pod);
        // The endpoint would answer the client past this node, which alone can translate back.
        let masqueraded = Outcome::answered("other", &outer);
        for (address, port) in [(outer.as_str(), 30080), ("198.51.100.7", 80), (VIP, 80)] {
            assert_eq!(
                machine.from_outside(address, port),
                masqueraded,
                "{address}"
            );
        }
        assert_eq!(machine.from_node(VIP, 80).server(), Some("other"));
    });
}

#[test]
fn ipv6_is_served_like_ipv4() {
    on_a_machine(|machine| {
        machine.serve_v6(0, 8080);
        machine.serve_v6(1, 8080);
        let service =
            json!({"type": "NodePort", "clusterIP": "fd43::10", "clusterIPs": ["fd43::10"]});
        machine.put_service("web", &service);
        machine.put_slice_v6("web", 8080, &[0, 1]);
        machine.apply();
        let client = machine.pod_ip_v6(2);
        let answers: BTreeSet<Outcome> = (0..40)
            .map(|_| machine.from_pod(2, "fd43::10", 80))
            .collect();
        assert_eq!(
            answers,
            BTreeSet::from([
                Outcome::answered("pod0", &client),
                Outcome::answered("pod1", &client)
            ])
        );
        assert!(machine.from_node("fd43::10", 80).server().is_some());
        let outer = "2001:db8::1";
        assert!(machine.from_outside(outer, 30080).server().is_some());
        machine.put_slice_v6("web", 8080, &[0]);
        machine.apply();
        assert!(
            (0..10).all(|_| machine.from_pod(0, "fd43::10", 80).server() == Some("pod0")),
            "hairpin"
        );
        assert_eq!(machine.from_pod(1, "fd43::10", 81), Outcome::Refused);
        machine.put_service(
            "web",
            &json!({"type": "NodePort", "clusterIP": "fd43::10", "clusterIPs": ["fd43::10"],
            "sessionAffinity": "ClientIP"}),
        );
        machine.put_slice_v6("web", 8080, &[0, 1]);
        machine.apply();
        let first = machine.from_pod(2, "fd43::10", 80);
        assert!((0..10).all(|_| machine.from_pod(2, "fd43::10", 80) == first));
        machine.put_slice_v6("web", 8080, &[]);
        machine.apply();
        assert_eq!(machine.from_pod(2, "fd43::10", 80), Outcome::Refused);
        assert_eq!(machine.from_outside(outer, 30080), Outcome::Refused);
    });
}

#[test]
fn a_change_of_one_endpoint_sends_only_what_changed() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.serve(1, 8080);
        machine.put_service("web", &json!({}));
        machine.put_slice("web", 8080, &[0]);
        for number in 0..2000_u16 {
            let [high, low] = number.to_be_bytes();
            let address = IpAddr::from([10, 43, 100 + high, low]).to_string();
            let name = format!("other-{number}");
            let spec = json!({"clusterIP": address, "clusterIPs": [address]});
            let key = service_proxy::ServiceName::new("default", &name);
            machine.desired.services.insert(key, service(&spec));
            let (owner, facts) = slice(
                &name,
                &[("http", "TCP", 8080)],
                &["10.42.0.2".to_owned()],
                &[],
            );
            machine.desired.slices.insert((owner, name), facts);
        }
        assert_eq!(machine.apply_and_count().change, Change::Everything);
        assert_eq!(machine.apply_and_count().change, Change::Nothing);
        for members in [&[0, 1][..], &[1], &[0, 1]] {
            machine.put_slice("web", 8080, members);
            let applied = machine.apply_and_count();
            assert_eq!(applied.change, Change::Difference);
            assert!(applied.bytes < 3000, "{} bytes", applied.bytes);
            let answers: BTreeSet<_> = (0..40)
                .filter_map(|_| machine.from_pod(2, VIP, 80).server().map(str::to_owned))
                .collect();
            assert_eq!(answers.len(), members.len());
        }
    });
}

#[test]
fn the_table_survives_a_flush_by_others_and_an_administrator_can_list_it() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.put_service(
            "web",
            &json!({"type": "NodePort", "sessionAffinity": "ClientIP"}),
        );
        machine.put_slice("web", 8080, &[0]);
        machine.put_host_port(0, None, Protocol::Tcp, 54322);
        machine.apply();
        let listing = machine.nft(&["list", "ruleset"]);
        assert!(
            listing.contains("table inet combo-one") && listing.contains("masquerade"),
            "{listing}"
        );
        // A header field that is read without naming its protocol is listed as raw bits.
        assert!(!listing.contains("@nh"), "{listing}");
        machine.nft(&["flush", "ruleset"]);
        assert_eq!(machine.from_pod(1, VIP, 80).server(), Some("pod0"));
        machine.put_slice("web", 8080, &[]);
        assert_eq!(machine.apply(), Change::Difference);
        assert_eq!(machine.from_pod(1, VIP, 80), Outcome::Refused);
        machine.proxy.table().distrust();
        assert_eq!(
            machine.apply(),
            Change::Everything,
            "the owner can make its table anew"
        );
        assert!(machine.proxy.table().is_intact().unwrap());
    });
}

#[test]
fn a_shared_table_that_somebody_flushed_is_made_anew() {
    on_a_machine(|machine| {
        machine.share_table();
        machine.serve(0, 8080);
        machine.put_service("web", &json!({}));
        machine.put_slice("web", 8080, &[0]);
        machine.apply();
        machine.nft(&["flush", "ruleset"]);
        assert!(!machine.proxy.table().is_intact().unwrap());
        machine.put_slice("web", 8080, &[]);
        assert_eq!(machine.apply(), Change::Everything);
        machine.put_slice("web", 8080, &[0]);
        assert_eq!(machine.apply(), Change::Difference);
        assert_eq!(machine.from_pod(1, VIP, 80).server(), Some("pod0"));
    });
}

#[test]
fn a_restarted_proxy_takes_its_table_over_and_clean_up_leaves_others_alone() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        machine.put_service("web", &json!({}));
        machine.put_slice("web", 8080, &[0]);
        machine.apply();
        machine.nft(&["add", "table", "inet", "somebody"]);
        let mut other = ServiceProxy::open("other").unwrap();
        other
            .apply(&service_proxy::Desired::default(), &machine.node)
            .unwrap();
        assert!(
            ServiceProxy::clean_up("one").is_err(),
            "the running proxy owns the table"
        );
        machine.proxy = ServiceProxy::open("one").unwrap();
        assert_eq!(
            machine.from_pod(1, VIP, 80).server(),
            Some("pod0"),
            "an orphaned table goes on working"
        );
        assert_eq!(machine.apply(), Change::Everything);
        assert_eq!(machine.from_pod(1, VIP, 80).server(), Some("pod0"));

        machine.proxy = ServiceProxy::open("unused").unwrap();
        ServiceProxy::clean_up("one").unwrap();
        ServiceProxy::clean_up("one").unwrap();
        let tables = machine.nft(&["list", "tables"]);
        assert_eq!(
            tables
                .split_whitespace()
                .filter(|word| *word == "table")
                .count(),
            2,
            "{tables}"
        );
        drop(other);
        ServiceProxy::clean_up("other").unwrap();
        assert_eq!(
            machine.nft(&["list", "tables"]).trim(),
            "table inet somebody"
        );
    });
}

#[test]
fn pods_of_a_finished_pod_hold_no_host_port() {
    let pod = |phase: &str| {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": "0.0.0.0"}]}]},
            "status": {"phase": phase, "podIPs": [{"ip": "10.42.0.2"}, {"ip": "fd42::2"}]},
        }))
        .unwrap()
    };
    assert_eq!(HostPort::of(&pod("Succeeded")), []);
    let found = HostPort::of(&pod("Running"));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].host_ip, None);
}
