//! Which endpoints a port of a Service uses; pure. A terminating endpoint that still serves is used when no other is left
//! (KEP-1669); hints decide only when they leave somebody (KEP-2433, KEP-3015).

use crate::facts::{Desired, EndpointState, Hint, Locality, PortFacts, ServiceName};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where a connection may go, in a stable order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Endpoints {
    /// For policy `Cluster`.
    pub(crate) everywhere: Vec<Endpoint>,
    /// For policy `Local`.
    pub(crate) here: Vec<Endpoint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) locality: Locality,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    endpoint: Endpoint,
    state: EndpointState,
    node_hint: Hint,
    zone_hint: Hint,
}

/// The endpoints of one family for one port.
pub(crate) fn choose(
    desired: &Desired,
    service: &ServiceName,
    port: &PortFacts,
    v4: bool,
) -> Endpoints {
    let candidates = candidates(desired, service, port, v4);
    let ready: Vec<Candidate> = in_state(&candidates, EndpointState::Ready);
    let hinted = follow_hints(&ready);
    let everywhere = if hinted.is_empty() {
        in_state(&candidates, EndpointState::ServingTerminating)
    } else {
        hinted
    };
    let local: Vec<Candidate> = candidates
        .iter()
        .filter(|found| found.endpoint.locality == Locality::Here)
        .copied()
        .collect();
    let mut here = in_state(&local, EndpointState::Ready);
    if here.is_empty() {
        here = in_state(&local, EndpointState::ServingTerminating);
    }
    Endpoints {
        everywhere: places(&everywhere),
        here: places(&here),
    }
}

/// One candidate for each place, in its best state where slices overlap.
fn candidates(
    desired: &Desired,
    service: &ServiceName,
    port: &PortFacts,
    v4: bool,
) -> Vec<Candidate> {
    let mut found: BTreeMap<(IpAddr, u16), Candidate> = BTreeMap::new();
    let first = (service.clone(), String::new());
    for (_, slice) in desired
        .slices
        .range(first..)
        .take_while(|((owner, _), _)| owner == service)
    {
        let matching = |offered: &&crate::facts::SlicePort| {
            offered.name == port.name && offered.protocol == port.protocol
        };
        let Some(target) = slice.ports.iter().find(matching) else {
            continue;
        };
        for endpoint in slice
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.address.is_ipv4() == v4)
        {
            let candidate = Candidate {
                endpoint: Endpoint {
                    address: endpoint.address,
                    port: target.port,
                    locality: endpoint.locality,
                },
                state: endpoint.state,
                node_hint: endpoint.node_hint,
                zone_hint: endpoint.zone_hint,
            };
            found
                .entry((endpoint.address, target.port))
                .and_modify(|known| {
                    if candidate.state > known.state {
                        *known = candidate;
                    }
                })
                .or_insert(candidate);
        }
    }
    found.into_values().collect()
}

fn in_state(candidates: &[Candidate], state: EndpointState) -> Vec<Candidate> {
    candidates
        .iter()
        .filter(|candidate| candidate.state == state)
        .copied()
        .collect()
}

/// The nearest group that the hints give us: this node, this zone, everybody. One endpoint without a hint voids them.
fn follow_hints(ready: &[Candidate]) -> Vec<Candidate> {
    for hint_of in [
        (|found: &Candidate| found.node_hint) as fn(&Candidate) -> Hint,
        |found| found.zone_hint,
    ] {
        let complete = ready
            .iter()
            .all(|candidate| hint_of(candidate) != Hint::Absent);
        let ours: Vec<Candidate> = ready
            .iter()
            .filter(|candidate| hint_of(candidate) == Hint::Us)
            .copied()
            .collect();
        if complete && !ours.is_empty() {
            return ours;
        }
    }
    ready.to_vec()
}

fn places(candidates: &[Candidate]) -> Vec<Endpoint> {
    candidates
        .iter()
        .map(|candidate| candidate.endpoint)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{EndpointFacts, Protocol, SliceFacts, SlicePort};
    use EndpointState::{Ready, ServingTerminating, Unusable};
    use Locality::{Elsewhere, Here};

    fn endpoint(last: u8, locality: Locality, state: EndpointState) -> EndpointFacts {
        let address = IpAddr::from([10, 42, 0, last]);
        EndpointFacts {
            address,
            locality,
            state,
            node_hint: Hint::Absent,
            zone_hint: Hint::Absent,
        }
    }

    fn chosen(endpoints: Vec<EndpointFacts>) -> (Vec<u8>, Vec<u8>) {
        let service = ServiceName::new("default", "web");
        let port = PortFacts {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        };
        let ports = vec![SlicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: 8080,
        }];
        let mut desired = Desired::default();
        desired.slices.insert(
            (service.clone(), "web-1".to_owned()),
            SliceFacts { ports, endpoints },
        );
        let endpoints = choose(&desired, &service, &port, true);
        let last = |list: &[Endpoint]| {
            list.iter()
                .map(|found| {
                    found
                        .address
                        .to_string()
                        .rsplit('.')
                        .next()
                        .unwrap()
                        .parse()
                        .unwrap()
                })
                .collect()
        };
        (last(&endpoints.everywhere), last(&endpoints.here))
    }

    #[test]
    fn a_terminating_endpoint_serves_only_when_no_ready_one_is_left() {
        let mixed = vec![
            endpoint(1, Here, ServingTerminating),
            endpoint(2, Elsewhere, Ready),
            endpoint(3, Here, Unusable),
        ];
        assert_eq!(chosen(mixed), (vec![2], vec![1]));
        let leaving = vec![
            endpoint(1, Here, ServingTerminating),
            endpoint(2, Elsewhere, ServingTerminating),
        ];
        assert_eq!(chosen(leaving), (vec![1, 2], vec![1]));
    }

    #[test]
    fn hints_count_only_when_all_have_them_and_somebody_is_meant() {
        let hinted = |last, hint| EndpointFacts {
            zone_hint: hint,
            ..endpoint(last, Elsewhere, Ready)
        };
        assert_eq!(
            chosen(vec![hinted(1, Hint::Us), hinted(2, Hint::Others)]).0,
            [1]
        );
        assert_eq!(
            chosen(vec![hinted(1, Hint::Us), hinted(2, Hint::Absent)]).0,
            [1, 2]
        );
        assert_eq!(
            chosen(vec![hinted(1, Hint::Others), hinted(2, Hint::Others)]).0,
            [1, 2]
        );
    }
}
