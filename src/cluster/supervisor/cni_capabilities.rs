//! What CNI plugins may be told about a pod, by the names of the conventions: each gets what its configuration asks for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use apimachinery::Quantity;
use cri::{NetworkAttachment, PortMapping, Protocol};
use serde_json::{Map, Value, json};

/// Annotations of pods, each with the words of the convention for its rate and its burst.
const BANDWIDTHS: [(&str, &str, &str); 2] = [
    (
        "kubernetes.io/ingress-bandwidth",
        "ingressRate",
        "ingressBurst",
    ),
    (
        "kubernetes.io/egress-bandwidth",
        "egressRate",
        "egressBurst",
    ),
];
/// Upstream's limits, in bits each second.
const RATES: RangeInclusive<i64> = 1_000..=1_000_000_000_000_000;
/// Upstream's way to say that bursts have no limit of their own.
const BURST: u32 = u32::MAX;

/// `portMappings`, `bandwidth` and the pod's annotations; what the pod does not say is left out.
pub(crate) fn capabilities(
    attachment: &NetworkAttachment<'_>,
) -> Result<Map<String, Value>, String> {
    let mut known = Map::new();
    let ports = attachment.port_mappings.iter().map(port_mapping);
    let ports: Vec<Value> = ports.collect();
    if !ports.is_empty() {
        known.insert("portMappings".to_owned(), ports.into());
    }
    let bandwidth = bandwidth(attachment.annotations)?;
    if !bandwidth.is_empty() {
        known.insert("bandwidth".to_owned(), bandwidth.into());
    }
    if !attachment.annotations.is_empty() {
        let annotations = json!(attachment.annotations);
        known.insert("io.kubernetes.cri.pod-annotations".to_owned(), annotations);
    }
    Ok(known)
}

fn port_mapping(port: &PortMapping) -> Value {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let address = port.host_ip.map(|address| address.to_string());
    json!({
        "hostPort": port.host_port,
        "containerPort": port.container_port,
        "protocol": protocol,
        "hostIP": address.unwrap_or_default(),
    })
}

fn bandwidth(annotations: &BTreeMap<String, String>) -> Result<Map<String, Value>, String> {
    let mut bandwidth = Map::new();
    for (annotation, rate, burst) in BANDWIDTHS {
        let Some(text) = annotations.get(annotation) else {
            continue;
        };
        let wrong = |why: String| format!("annotation {annotation} {text:?}: {why}");
        let bits = Quantity::parse(text).map_err(|error| wrong(error.to_string()))?;
        let bits = bits.units();
        if !RATES.contains(&bits) {
            let (least, most) = (RATES.start(), RATES.end());
            return Err(wrong(format!("it must be {least} to {most} bits a second")));
        }
        bandwidth.insert(rate.to_owned(), bits.into());
        bandwidth.insert(burst.to_owned(), BURST.into());
    }
    Ok(bandwidth)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn known(annotations: &[(&str, &str)], ports: &[PortMapping]) -> Result<Value, String> {
        let annotations = annotations.iter();
        let annotations = annotations.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let file = std::fs::File::open("/proc/self/ns/net").expect("a namespace");
        let pod = cri::PodIdentity {
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            uid: "u".to_owned(),
        };
        capabilities(&NetworkAttachment {
            pod: &pod,
            labels: &BTreeMap::new(),
            annotations: &annotations.collect(),
            netns: file.as_fd(),
            port_mappings: ports,
        })
        .map(Value::Object)
    }

    #[test]
    fn a_pod_without_anything_special_has_nothing_to_tell() {
        assert_eq!(known(&[], &[]), Ok(json!({})));
    }

    #[test]
    fn ports_and_bandwidths_are_told_in_the_words_of_the_conventions() {
        let port = |host_ip: Option<&str>| PortMapping {
            protocol: Protocol::Udp,
            container_port: 53,
            host_port: 5353,
            host_ip: host_ip.map(|text| text.parse().expect("an address")),
        };
        let annotations = [
            ("kubernetes.io/ingress-bandwidth", "10M"),
            ("kubernetes.io/egress-bandwidth", "1Ki"),
        ];
        let told = known(&annotations, &[port(None), port(Some("10.0.0.1"))]).expect("told");
        let mapping = |address: &str| json!({"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": address});
        assert_eq!(
            told["portMappings"],
            json!([mapping(""), mapping("10.0.0.1")])
        );
        let wanted = json!({"ingressRate": 10_000_000, "ingressBurst": u32::MAX,
            "egressRate": 1024, "egressBurst": u32::MAX});
        assert_eq!(told["bandwidth"], wanted);
        let passed_on = &told["io.kubernetes.cri.pod-annotations"];
        assert_eq!(passed_on["kubernetes.io/ingress-bandwidth"], "10M");
    }

    #[test]
    fn a_bandwidth_that_makes_no_sense_is_refused() {
        for (text, why) in [
            ("fast", "quantit"),
            ("999", "1000 to 1000000000000000 bits"),
            ("2P", "1000 to"),
            ("-1M", "1000 to"),
        ] {
            let error = known(&[("kubernetes.io/egress-bandwidth", text)], &[]);
            let error = error.expect_err("refused");
            let place = format!("annotation kubernetes.io/egress-bandwidth {text:?}: ");
            assert!(error.starts_with(&place) && error.contains(why), "{error}");
        }
    }
}
