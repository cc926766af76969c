//! The overlay on the real kernel: three nodes in network namespaces, and pods that talk.
#![allow(clippy::unwrap_used)]

mod cluster;

use cluster::{Cluster, until};
use pod_network::{Backend, Checksums, PodNetwork};
use serde_json::json;
use std::net::IpAddr;

#[test]
fn pods_of_three_nodes_reach_each_other_through_vxlan_in_whole_packets() {
    let cluster = Cluster::start(Backend::Vxlan, &["v4", "v6"]);
    cluster.everybody_talks();
    for node in &cluster.nodes {
        assert_eq!(node.fragments(), "0", "{}", node.name);
        let tunnel = node.tunnel().unwrap();
        let vxlan = tunnel.vxlan.unwrap();
        assert_eq!((vxlan.network, vxlan.port, vxlan.learns), (1, 8472, false));
        assert_eq!(tunnel.mtu, 1450);
    }
}

#[test]
fn pods_of_three_nodes_reach_each_other_by_plain_routes_without_any_device() {
    let cluster = Cluster::start(Backend::HostGw, &["v4"]);
    cluster.everybody_talks();
    assert!(cluster.nodes.iter().all(|node| node.tunnel().is_none()));
}

#[test]
fn plain_routes_give_way_to_vxlan_for_a_node_behind_a_router_and_people_are_told() {
    let cluster = Cluster::start(Backend::HostGw, &["v4"]);
    cluster.everybody_talks();
    let [first, middle, last] = &cluster.nodes[..] else {
        panic!("there are three nodes");
    };
    first.route_by(last.address(), middle.address());
    last.route_by(first.address(), middle.address());
    until("the tunnel is there", || first.tunnel().is_some());
    cluster.everybody_talks();
    assert!(middle.tunnel().is_none());
    until("people are told", || {
        cluster.event("OverlayFallback").is_some()
    });
}

#[test]
fn wireguard_joins_nodes_where_the_kernel_has_it_and_is_refused_with_the_reason_elsewhere() {
    if let Err(error) = cluster::try_wireguard() {
        let message = error.to_string();
        assert!(
            message.contains("this kernel has no WireGuard"),
            "{message}"
        );
        assert!(
            message.contains("choose another --flannel-backend"),
            "{message}"
        );
        return;
    }
    let mut cluster = Cluster::with(Backend::WireGuard, Checksums::Offloaded, &["v4", "v6"], 3);
    cluster.everybody_talks();
    assert!(
        cluster
            .nodes
            .iter()
            .all(|node| node.tunnel().unwrap().mtu == 1420)
    );
    let address = IpAddr::from([192, 0, 2, 77]);
    cluster.move_node(1, address);
    cluster.everybody_talks();
    let index = cluster.nodes[0].tunnel().unwrap().index;
    cluster.stop_overlay(0);
    cluster.delete_node(2);
    cluster.run_overlay(0);
    until("the routes to the node that went are gone", || {
        cluster.nodes[0].overlay_routes().len() == 2
    });
    assert_eq!(cluster.nodes[0].tunnel().unwrap().index, index);
    assert!(cluster.nodes[0].reaches(&cluster.nodes[1]));
}

#[test]
fn a_single_node_has_no_tunnel_and_gets_one_when_another_comes() {
    let mut cluster = Cluster::with(Backend::Vxlan, Checksums::Offloaded, &["v4"], 2);
    cluster.everybody_talks();
    cluster.stop_overlay(1);
    let annotations = json!({"metadata": {"annotations": {"combo.io/overlay-backend": null}}});
    cluster.patch_node(1, "", annotations);
    until("the tunnel is gone", || cluster.nodes[0].tunnel().is_none());
    assert_eq!(cluster.nodes[0].overlay_routes(), []);
    cluster.run_overlay(1);
    cluster.everybody_talks();
}

#[test]
fn peers_follow_a_node_to_its_next_address() {
    for backend in [Backend::Vxlan, Backend::HostGw] {
        let cluster = Cluster::start(backend, &["v4"]);
        cluster.everybody_talks();
        let address = IpAddr::from([192, 0, 2, 77]);
        cluster.move_node(1, address);
        cluster.everybody_talks();
        if backend == Backend::Vxlan {
            let local = || {
                cluster.nodes[1]
                    .tunnel()
                    .map(|link| link.vxlan.unwrap().local)
            };
            until("the tunnel has the next address", || {
                local() == Some(address)
            });
        }
    }
}

#[test]
fn what_somebody_takes_away_comes_back() {
    let cluster = Cluster::start(Backend::Vxlan, &["v4"]);
    cluster.everybody_talks();
    let node = &cluster.nodes[0];
    node.delete_tunnel();
    until("the tunnel and its routes are there", || {
        node.tunnel().is_some() && node.overlay_routes().len() == 2
    });
    cluster.everybody_talks();
    let routes = node.overlay_routes();
    node.delete_route(&routes[0]);
    until("the route is as before", || node.overlay_routes() == routes);
}

#[test]
fn an_overlay_that_starts_again_changes_nothing_that_is_right() {
    let mut cluster = Cluster::start(Backend::Vxlan, &["v4"]);
    cluster.everybody_talks();
    let index = cluster.nodes[0].tunnel().unwrap().index;
    cluster.stop_overlay(0);
    cluster.delete_node(2);
    cluster.run_overlay(0);
    until("the route to the node that went is gone", || {
        cluster.nodes[0].overlay_routes().len() == 1
    });
    assert_eq!(cluster.nodes[0].tunnel().unwrap().index, index);
    assert!(cluster.nodes[0].reaches(&cluster.nodes[1]));
}

#[test]
fn clean_up_leaves_the_machine_without_tunnel_and_routes() {
    for backend in [Backend::Vxlan, Backend::HostGw] {
        let mut cluster = Cluster::start(backend, &["v4"]);
        cluster.everybody_talks();
        cluster.stop_overlay(0);
        let node = &cluster.nodes[0];
        node.host
            .run(|| PodNetwork::clean_up("test").unwrap())
            .unwrap();
        until("nothing is left", || {
            let snapshot = node.snapshot();
            !snapshot.contains("cmb") && !snapshot.contains("protocol: 67")
        });
    }
}

#[test]
fn checksums_can_be_computed_before_the_tunnel() {
    let cluster = Cluster::with(Backend::Vxlan, Checksums::Computed, &["v4"], 2);
    cluster.everybody_talks();
}

#[test]
fn a_node_with_another_backend_is_not_reached_and_people_are_told_what_to_do() {
    let mut cluster = Cluster::with(Backend::Vxlan, Checksums::Offloaded, &["v4"], 2);
    cluster.everybody_talks();
    cluster.stop_overlay(1);
    let annotations = json!({"metadata": {"annotations": {"combo.io/overlay-backend": "host-gw"}}});
    cluster.patch_node(1, "", annotations);
    until("people are told", || {
        cluster
            .event("OverlayPeerUnreachable")
            .is_some_and(|message| message.contains("--flannel-backend=host-gw"))
    });
    assert!(cluster.annotation(0, "combo.io/overlay-mac").is_some());
    until("the routes are gone", || {
        cluster.nodes[0].overlay_routes().is_empty()
    });
}

#[test]
fn without_a_backend_nothing_is_done() {
    let cluster = Cluster::with(Backend::None, Checksums::Offloaded, &["v4"], 2);
    until("others are told", || {
        cluster.annotation(0, "combo.io/overlay-backend").as_deref() == Some("none")
    });
    assert_eq!(cluster.nodes[0].overlay_routes(), []);
}
