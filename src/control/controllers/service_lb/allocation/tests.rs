use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn service(name: &str, second: u8, ports: &[i32]) -> BalancedService {
    let created = format!("\"2026-01-01T00:00:{second:02}Z\"");
    let created: Time = serde_json::from_str(&created).unwrap();
    BalancedService {
        key: ObjectKey::namespaced("default", name),
        created: Some(created),
        has_address: false,
        ports: ports
            .iter()
            .map(|number| Port {
                protocol: "TCP".to_owned(),
                number: *number,
            })
            .collect(),
        pool: None,
        families: vec![true],
        only_where_endpoints_are: false,
        nodes_with_endpoints: BTreeSet::new(),
    }
}

fn node(number: u8) -> BalancingNode {
    BalancingNode {
        name: format!("node{number}"),
        is_ready: true,
        internal: vec![
            IpAddr::from([10, 0, 0, number]),
            format!("fd00::{number}").parse().unwrap(),
        ],
        ..BalancingNode::default()
    }
}

fn allocated(services: &[BalancedService], nodes: &[BalancingNode]) -> Vec<Vec<String>> {
    let found = allocate(services, nodes, &Reserved::default());
    let of = |service: &BalancedService| {
        let addresses = found[&service.key].addresses.iter();
        addresses.map(ToString::to_string).collect()
    };
    services.iter().map(of).collect()
}

#[test]
fn ready_nodes_serve_with_their_external_address_if_they_have_one() {
    let mut outside = node(2);
    outside.external = vec![IpAddr::from([203, 0, 113, 2])];
    let mut lost = node(3);
    lost.is_ready = false;
    let nodes = [node(1), outside, lost];
    let mut dual = service("dual", 2, &[443]);
    dual.families = vec![false, true];
    assert_eq!(
        allocated(&[service("web", 1, &[80]), dual], &nodes),
        [
            vec!["10.0.0.1", "203.0.113.2"],
            vec!["fd00::1", "fd00::2", "10.0.0.1", "203.0.113.2"]
        ]
    );
}

#[test]
fn enabled_nodes_are_the_only_ones_and_pools_choose_among_them() {
    let mut nodes = [node(1), node(2), node(3)];
    let mut pooled = service("pooled", 2, &[81]);
    pooled.pool = Some("a".to_owned());
    let services = [service("web", 1, &[80]), pooled];
    let all = vec!["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    assert_eq!(allocated(&services, &nodes), [all.clone(), all]);
    nodes[0].is_enabled = true;
    nodes[1].is_enabled = true;
    nodes[1].pools.insert("a".to_owned());
    nodes[2].pools.insert("a".to_owned());
    assert_eq!(
        allocated(&services, &nodes),
        [vec!["10.0.0.1", "10.0.0.2"], vec!["10.0.0.2"]]
    );
}

#[test]
fn with_policy_local_only_nodes_with_endpoints_serve() {
    let mut local = service("web", 1, &[80]);
    local.only_where_endpoints_are = true;
    local.nodes_with_endpoints.insert("node2".to_owned());
    assert_eq!(allocated(&[local], &[node(1), node(2)]), [["10.0.0.2"]]);
}

#[test]
fn the_older_service_keeps_a_port_and_the_other_takes_over() {
    let nodes = [node(1)];
    let (first, second) = (service("z", 1, &[80]), service("a", 2, &[443, 80]));
    let both = [first, second];
    assert_eq!(allocated(&both, &nodes), [vec!["10.0.0.1"], vec![]]);
    let found = allocate(&both, &nodes, &Reserved::default());
    let conflict = found[&both[1].key].conflict.as_ref().unwrap().to_string();
    assert!(
        conflict.contains("80/TCP") && conflict.contains("default/z"),
        "{conflict}"
    );
    assert_eq!(allocated(&both[1..], &nodes), [["10.0.0.1"]]);
    let mut udp = service("udp", 3, &[80]);
    "UDP".clone_into(&mut udp.ports[0].protocol);
    assert_eq!(
        allocated(&[both[0].clone(), udp], &nodes),
        [["10.0.0.1"], ["10.0.0.1"]]
    );
}

#[test]
fn of_one_second_the_one_that_has_the_address_keeps_it() {
    let nodes = [node(1)];
    let mut holder = service("z", 1, &[80]);
    holder.has_address = true;
    let services = [service("a", 1, &[80]), holder];
    assert_eq!(allocated(&services, &nodes), [vec![], vec!["10.0.0.1"]]);
}

#[test]
fn no_service_takes_the_clusters_own_ports() {
    let mut nodes = [node(1), node(2)];
    nodes[0].kubelet_port = Some(10250);
    let reserved = Reserved::of(&nodes, &[]);
    let services = [service("web", 1, &[10250])];
    let found = &allocate(&services, &nodes, &reserved)[&services[0].key];
    assert_eq!(found.addresses, [IpAddr::from([10, 0, 0, 2])]);
    let conflict = found.conflict.as_ref().unwrap().to_string();
    assert!(conflict.contains("the kubelet"), "{conflict}");
}
