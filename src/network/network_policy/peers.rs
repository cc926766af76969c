//! Which pods a policy means; pure.

use crate::facts::{Desired, DnsPlace, Labels, NamedPort, Peer};
use apimachinery::{LabelSelector, ObjectKey};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// As what the cluster's DNS counts: where real DNS pods would be, and what they would be labelled.
pub(crate) const DNS_NAMESPACE: &str = "kube-system";
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
pub(crate) const DNS_PORT: u16 = 53;

/// A pod that has addresses, as policies see it.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    namespace: &'a str,
    labels: &'a Labels,
    pub(crate) addresses: Cow<'a, [IpAddr]>,
    pub(crate) ports: &'a [NamedPort],
    /// On this node.
    is_here: bool,
}

/// All that policies can speak of.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) pods: Vec<Pod<'a>>,
    namespaces: &'a BTreeMap<String, Labels>,
    pub(crate) dns: Vec<&'a DnsPlace>,
    dns_labels: Labels,
}

impl<'a> World<'a> {
    pub(crate) fn new(desired: &'a Desired) -> Self {
        let (label, value) = DNS_LABEL;
        Self {
            pods: pods(desired),
            namespaces: &desired.namespaces,
            dns: desired.dns.values().flatten().collect(),
            dns_labels: Labels::from([(label.to_owned(), value.to_owned())]),
        }
    }

    /// The pods of this node that a policy of this namespace selects, by their position.
    pub(crate) fn selected(&self, namespace: &str, selector: &LabelSelector) -> Vec<usize> {
        let pods = self.pods.iter().enumerate();
        pods.filter(|(_, pod)| {
            pod.is_here && pod.namespace == namespace && selector.matches(pod.labels)
        })
        .map(|(position, _)| position)
        .collect()
    }

    /// Whether a peer in a policy of this namespace means a pod.
    pub(crate) fn means(&self, peer: &Peer, namespace: &str, pod: &Pod<'_>) -> bool {
        self.means_labelled(peer, namespace, pod.namespace, pod.labels)
    }

    /// Whether a peer in a policy of this namespace means the cluster's DNS by its labels.
    pub(crate) fn means_dns(&self, peer: &Peer, namespace: &str) -> bool {
        self.means_labelled(peer, namespace, DNS_NAMESPACE, &self.dns_labels)
    }

    fn means_labelled(&self, peer: &Peer, own: &str, namespace: &str, labels: &Labels) -> bool {
        let Peer::Pods { namespaces, pods } = peer else {
            return false;
        };
        let is_there = match namespaces {
            None => namespace == own,
            Some(selector) => self
                .namespaces
                .get(namespace)
                .is_some_and(|labels| selector.matches(labels)),
        };
        is_there && pods.matches(labels)
    }
}

/// An address that a pod of this node holds is that pod's, whatever the API still says of an earlier one.
fn pods(desired: &Desired) -> Vec<Pod<'_>> {
    let mut pods = Vec::with_capacity(desired.pods.len());
    let mut taken_addresses: BTreeSet<IpAddr> = BTreeSet::new();
    let mut taken_pods = BTreeSet::new();
    for connected in desired.connected.values() {
        let key = ObjectKey::namespaced(&connected.namespace, &connected.name);
        let shown = desired
            .pods
            .get_key_value(&key)
            .filter(|(_, facts)| facts.is_called(&connected.uid));
        taken_addresses.extend(&connected.addresses);
        taken_pods.extend(shown.map(|(key, _)| key));
        pods.push(Pod {
            namespace: &connected.namespace,
            labels: shown.map_or(&connected.labels, |(_, facts)| &facts.labels),
            addresses: Cow::Borrowed(&connected.addresses),
            ports: shown.map_or(&[], |(_, facts)| &facts.ports),
            is_here: true,
        });
    }
    for (key, facts) in &desired.pods {
        let addresses = facts.addresses.iter().copied();
        let addresses: Vec<IpAddr> = addresses
            .filter(|address| !taken_addresses.contains(address))
            .collect();
        if !taken_pods.contains(key) && !addresses.is_empty() {
            pods.push(Pod {
                namespace: &key.namespace,
                labels: &facts.labels,
                addresses: Cow::Owned(addresses),
                ports: &facts.ports,
                is_here: false,
            });
        }
    }
    pods
}
