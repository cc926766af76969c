use super::*;
use crate::facts::{
    Desired, EndpointFacts, EndpointState, Hint, Locality, NodeFacts, PortFacts, Protocol,
    ServiceFacts, ServiceName, SliceFacts, SlicePort, TrafficPolicy,
};
use crate::plan::plan;

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 43, 0, 10));

fn pod(last: u8) -> IpAddr {
    IpAddr::from([10, 42, 0, last])
}

/// A cluster with one Service on UDP port 53 and node port 30053 that leads to port 5353 of these pods.
fn cluster(pods: &[u8]) -> Desired {
    let name = ServiceName::new("default", "dns");
    let port = PortFacts {
        name: String::new(),
        protocol: Protocol::Udp,
        port: 53,
        node_port: Some(30053),
    };
    let service = ServiceFacts {
        cluster_ips: vec![VIP],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        load_balancer_source_ranges: Vec::new(),
        affinity_seconds: None,
        internal_traffic: TrafficPolicy::Cluster,
        external_traffic: TrafficPolicy::Cluster,
        ports: vec![port],
    };
    let endpoint = |last: &u8| EndpointFacts {
        address: pod(*last),
        locality: Locality::Here,
        state: EndpointState::Ready,
        node_hint: Hint::Absent,
        zone_hint: Hint::Absent,
    };
    let slice = SliceFacts {
        ports: vec![SlicePort {
            name: String::new(),
            protocol: Protocol::Udp,
            port: 5353,
        }],
        endpoints: pods.iter().map(endpoint).collect(),
    };
    let mut desired = Desired::default();
    desired.services.insert(name.clone(), service);
    desired.slices.insert((name, "dns-1".to_owned()), slice);
    desired
}

fn ruleset(desired: &Desired) -> Ruleset {
    let cluster_cidrs = vec!["10.42.0.0/16".parse().unwrap()];
    plan(
        desired,
        &NodeFacts {
            name: "node".to_owned(),
            zone: None,
            cluster_cidrs,
        },
    )
}

#[test]
fn equal_rulesets_have_no_difference() {
    let ruleset = ruleset(&cluster(&[1, 2]));
    let mut batch = linux::netlink::nf_tables::Batch::new("t");
    batch.change(&ruleset, &ruleset);
    assert!(batch.is_empty());
    assert!(stale_flows(&ruleset, &ruleset).is_empty());
}

#[test]
fn only_flows_to_the_endpoint_that_is_gone_are_forgotten_though_the_others_change_their_slots() {
    let stale = stale_flows(&ruleset(&cluster(&[1, 2, 3])), &ruleset(&cluster(&[2, 3])));
    let (endpoint, endpoint_port) = (pod(1), 5353);
    let expected = [
        Flows::Translated {
            address: VIP,
            protocol: 17,
            port: 53,
            endpoint,
            endpoint_port,
        },
        Flows::TranslatedPort {
            protocol: 17,
            port: 30053,
            endpoint,
            endpoint_port,
        },
    ];
    assert_eq!(stale, BTreeSet::from(expected));
}

#[test]
fn flows_to_an_address_that_becomes_served_are_forgotten() {
    let stale = stale_flows(&ruleset(&cluster(&[])), &ruleset(&cluster(&[1])));
    let family = conntrack::Family::V4;
    let expected = [
        Flows::Towards {
            address: VIP,
            protocol: 17,
            port: 53,
        },
        Flows::TowardsPort {
            family,
            protocol: 17,
            port: 30053,
        },
    ];
    assert_eq!(stale, BTreeSet::from(expected));
}

#[test]
fn connections_of_tcp_are_never_forgotten() {
    let over_tcp = |pods: &[u8]| {
        let mut desired = cluster(pods);
        desired
            .services
            .values_mut()
            .for_each(|service| service.ports[0].protocol = Protocol::Tcp);
        desired
            .slices
            .values_mut()
            .for_each(|slice| slice.ports[0].protocol = Protocol::Tcp);
        ruleset(&desired)
    };
    assert!(stale_flows(&over_tcp(&[1, 2]), &over_tcp(&[2])).is_empty());
}
