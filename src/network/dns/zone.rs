//! Answers to questions about the cluster's zone, by the DNS specification of Kubernetes 1.1.0 and, where that is silent,
//! as the `CoreDNS` plugin answers. Pure.
//!
//! The difference between "no such name" and "the name has no such record" matters: resolvers go on along their search
//! path after the first and stop after the second.

use crate::error::Error;
use crate::records::{Port, Records, ServiceKind, ServiceName};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Seconds that an answer may be kept: short, since endpoints come and go.
const TTL_SECONDS: u32 = 5;
const VERSION_TTL_SECONDS: u32 = 28_800;
const SCHEMA_VERSION: &str = "1.1.0";
/// How many aliases in a row are followed.
const ALIASES_MAX: usize = 8;
/// The weights of all targets of a question add up to this.
const WEIGHT_TOTAL: usize = 100;

/// The zone of a cluster.
#[derive(Debug, Clone)]
pub struct Zone {
    name: Name,
    /// The zone's name as texts, its first label first.
    labels: Vec<String>,
    /// Where the cluster DNS is reached, for the zone's own name server record.
    server_addresses: Vec<IpAddr>,
}

/// What there is to say to a question.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Found(Found),
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// Not about this cluster: others have to be asked.
    Elsewhere,
    /// Not all objects have been read yet.
    NotYet,
}

/// The name exists; without answers it has no record of the wanted type.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Found {
    pub(crate) answers: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    /// The last alias leads out of the cluster, to a name that others know.
    pub(crate) continues_at: Option<Name>,
}

/// One place behind a name.
enum Hit {
    Address {
        address: IpAddr,
        port: Option<u16>,
        host: String,
    },
    Alias(String),
}

/// A name below the zone, taken apart.
struct Question<'a> {
    namespace: &'a str,
    service: &'a str,
    endpoint: Option<&'a str>,
    port: Option<(&'a str, &'a str)>,
}

impl Zone {
    /// The zone of a cluster domain such as `cluster.local`.
    pub fn new(domain: &str, server_addresses: Vec<IpAddr>) -> Result<Self, Error> {
        let bad = || Error::Domain(domain.to_owned());
        let mut name = Name::from_ascii(domain)
            .map_err(|_bad| bad())?
            .to_lowercase();
        name.set_fqdn(true);
        if name.is_root() {
            return Err(bad());
        }
        let labels = labels_of(&name);
        Ok(Self {
            name,
            labels,
            server_addresses,
        })
    }

    pub(crate) fn answer(
        &self,
        records: &Records,
        name: &Name,
        kind: RecordType,
        rotation: usize,
    ) -> Answer {
        self.follow(records, name, kind, rotation, 0)
    }

    fn follow(
        &self,
        records: &Records,
        name: &Name,
        kind: RecordType,
        rotation: usize,
        aliases: usize,
    ) -> Answer {
        let labels = labels_of(name);
        let Some(inner) = labels.strip_suffix(self.labels.as_slice()) else {
            return self.reverse(records, name, kind);
        };
        if !records.is_complete {
            return Answer::NotYet;
        }
        let inner: Vec<&str> = inner.iter().map(String::as_str).collect();
        if let Some(special) = self.special(records, name, kind, &inner) {
            return special;
        }
        let hits = match inner.as_slice() {
            [] | ["svc" | "pod"] => Ok(Vec::new()),
            [rest @ .., "svc"] => self.service_hits(records, rest),
            [rest @ .., "pod"] => pod_hits(records, rest),
            _ => Err(NoSuchName),
        };
        let Ok(hits) = hits else {
            return Answer::NoSuchName;
        };
        self.render(records, name, kind, &hits, rotation, aliases)
    }

    /// Names that are not those of objects.
    fn special(
        &self,
        records: &Records,
        name: &Name,
        kind: RecordType,
        inner: &[&str],
    ) -> Option<Answer> {
        let found = |answers| {
            Some(Answer::Found(Found {
                answers,
                ..Found::default()
            }))
        };
        match (inner, kind) {
            ([], RecordType::SOA) => found(vec![self.start_of_authority(records)]),
            ([], RecordType::NS) => {
                let server = RData::NS(NS(self.server_name()));
                found(vec![Record::from_rdata(name.clone(), TTL_SECONDS, server)])
            }
            (["ns", "dns"], _) => {
                let addresses = self
                    .server_addresses
                    .iter()
                    .map(|address| address_record(name, *address));
                found(
                    addresses
                        .filter(|record| record.record_type() == kind)
                        .collect(),
                )
            }
            (["dns-version"], RecordType::TXT) => {
                let version = RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]));
                found(vec![Record::from_rdata(
                    name.clone(),
                    VERSION_TTL_SECONDS,
                    version,
                )])
            }
            _ => None,
        }
    }

    /// What goes with "no such name" and "no such record".
    pub(crate) fn start_of_authority(&self, records: &Records) -> Record {
        let mailbox =
            Name::from_ascii("hostmaster").and_then(|name| name.append_domain(&self.name));
        let data = SOA::new(
            self.server_name(),
            mailbox.unwrap_or_else(|_too_long| self.name.clone()),
            records.serial,
            7200,
            1800,
            86_400,
            TTL_SECONDS,
        );
        Record::from_rdata(self.name.clone(), TTL_SECONDS, RData::SOA(data))
    }

    fn server_name(&self) -> Name {
        let server = Name::from_ascii("ns.dns").and_then(|name| name.append_domain(&self.name));
        server.unwrap_or_else(|_too_long| self.name.clone())
    }

    fn service_hits(&self, records: &Records, rest: &[&str]) -> Result<Vec<Hit>, NoSuchName> {
        let question = match rest {
            [namespace] => return namespace_only(records, namespace),
            [service, namespace] => Question {
                namespace,
                service,
                endpoint: None,
                port: None,
            },
            [endpoint, service, namespace] => Question {
                namespace,
                service,
                endpoint: Some(endpoint),
                port: None,
            },
            [port, protocol, service, namespace] => {
                let port = Some((without_underscore(port), without_underscore(protocol)));
                Question {
                    namespace,
                    service,
                    endpoint: None,
                    port,
                }
            }
            _ => return Err(NoSuchName),
        };
        let name = (question.namespace.to_owned(), question.service.to_owned());
        let hits = match records.service(&name).ok_or(NoSuchName)? {
            ServiceKind::External { name } => {
                if question.endpoint.is_some()
                    || question.port.is_some()
                    || name.parse::<IpAddr>().is_ok()
                {
                    return Err(NoSuchName);
                }
                vec![Hit::Alias(name.clone())]
            }
            ServiceKind::ClusterIp { addresses, ports } if question.endpoint.is_none() => {
                self.cluster_ip_hits(&name, addresses, ports, &question)
            }
            ServiceKind::ClusterIp { .. } | ServiceKind::Headless => {
                self.endpoint_hits(records, &name, &question)
            }
        };
        if hits.is_empty() {
            Err(NoSuchName)
        } else {
            Ok(hits)
        }
    }

    fn cluster_ip_hits(
        &self,
        name: &ServiceName,
        addresses: &[IpAddr],
        ports: &[Port],
        question: &Question<'_>,
    ) -> Vec<Hit> {
        let host = self.host(name);
        let wanted = ports.iter().filter(|port| question.wants(port));
        wanted
            .flat_map(|port| addresses.iter().map(|address| (*address, port.number)))
            .map(|(address, port)| Hit::Address {
                address,
                port: Some(port),
                host: host.clone(),
            })
            .collect()
    }

    fn endpoint_hits(
        &self,
        records: &Records,
        name: &ServiceName,
        question: &Question<'_>,
    ) -> Vec<Hit> {
        let mut hits = Vec::new();
        for slice in records.slices(name) {
            for endpoint in &slice.endpoints {
                let label = endpoint.label();
                if question
                    .endpoint
                    .is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&label))
                {
                    continue;
                }
                let host = format!("{label}.{}", self.host(name));
                let address = endpoint.address;
                if slice.ports.is_empty() && question.port.is_none() {
                    hits.push(Hit::Address {
                        address,
                        port: None,
                        host,
                    });
                    continue;
                }
                hits.extend(
                    slice
                        .ports
                        .iter()
                        .filter(|port| question.wants(port))
                        .map(|port| Hit::Address {
                            address,
                            port: Some(port.number),
                            host: host.clone(),
                        }),
                );
            }
        }
        hits
    }

    fn host(&self, (namespace, name): &ServiceName) -> String {
        format!("{name}.{namespace}.svc.{}", self.name)
    }

    fn render(
        &self,
        records: &Records,
        name: &Name,
        kind: RecordType,
        hits: &[Hit],
        rotation: usize,
        aliases: usize,
    ) -> Answer {
        if let Some(Hit::Alias(target)) = hits.first() {
            return self.render_alias(records, name, kind, target, rotation, aliases);
        }
        let mut found = Found::default();
        match kind {
            RecordType::A | RecordType::AAAA => {
                let addresses: BTreeSet<IpAddr> = hits.iter().filter_map(Hit::address).collect();
                let fitting = addresses
                    .into_iter()
                    .map(|address| address_record(name, address));
                found.answers = fitting
                    .filter(|record| record.record_type() == kind)
                    .collect();
                // Clients that take the first address spread over all of them.
                let count = found.answers.len().max(1);
                found.answers.rotate_left(rotation % count);
            }
            RecordType::SRV => render_targets(name, hits, &mut found),
            _ => {}
        }
        Answer::Found(found)
    }

    fn render_alias(
        &self,
        records: &Records,
        name: &Name,
        kind: RecordType,
        target: &str,
        rotation: usize,
        aliases: usize,
    ) -> Answer {
        // An alias holds for addresses; other types exist only at the target's own name.
        if !matches!(kind, RecordType::A | RecordType::AAAA | RecordType::CNAME) {
            return Answer::Found(Found::default());
        }
        let Ok(mut target) = Name::from_ascii(target) else {
            return Answer::NoSuchName;
        };
        target.set_fqdn(true);
        let alias = Record::from_rdata(
            name.clone(),
            TTL_SECONDS,
            RData::CNAME(CNAME(target.clone())),
        );
        let mut found = Found {
            answers: vec![alias],
            ..Found::default()
        };
        if kind == RecordType::CNAME || aliases >= ALIASES_MAX {
            return Answer::Found(found);
        }
        match self.follow(records, &target, kind, rotation, aliases + 1) {
            Answer::Found(rest) => {
                found.answers.extend(rest.answers);
                found.continues_at = rest.continues_at;
            }
            Answer::Elsewhere => found.continues_at = Some(target),
            Answer::NoSuchName | Answer::NotYet => {}
        }
        Answer::Found(found)
    }

    /// Names of addresses. Those that the cluster does not know are asked of others.
    fn reverse(&self, records: &Records, name: &Name, kind: RecordType) -> Answer {
        let Some(address) = address_of_reverse_name(name) else {
            return Answer::Elsewhere;
        };
        let targets: Vec<String> = match records.service_of_cluster_ip(address) {
            Some(service) => vec![self.host(service)],
            None => records
                .named_endpoints(address)
                .map(|(service, hostname)| format!("{hostname}.{}", self.host(service)))
                .collect(),
        };
        if targets.is_empty() {
            return Answer::Elsewhere;
        }
        let answers = targets
            .iter()
            .filter_map(|target| Name::from_ascii(target).ok());
        let answers = answers
            .map(|target| Record::from_rdata(name.clone(), TTL_SECONDS, RData::PTR(PTR(target))));
        let answers = answers
            .filter(|record| record.record_type() == kind)
            .collect();
        Answer::Found(Found {
            answers,
            ..Found::default()
        })
    }
}

struct NoSuchName;

impl Question<'_> {
    fn wants(&self, port: &Port) -> bool {
        self.port.is_none_or(|(name, protocol)| {
            (name.is_empty() || name == port.name)
                && (protocol.is_empty() || protocol == port.protocol)
        })
    }
}

impl Hit {
    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address { address, .. } => Some(*address),
            Self::Alias(_) => None,
        }
    }
}

/// `1-2-3-4.namespace.pod`: the name itself says the address; the pod need not exist.
fn pod_hits(records: &Records, rest: &[&str]) -> Result<Vec<Hit>, NoSuchName> {
    match rest {
        [namespace] => namespace_only(records, namespace),
        [pod, namespace] if records.namespaces.contains(*namespace) => {
            let is_v4 = pod.matches('-').count() == 3 && !pod.contains("--");
            let address = pod.replace('-', if is_v4 { "." } else { ":" });
            let address = address.parse().map_err(|_not_an_address| NoSuchName)?;
            Ok(vec![Hit::Address {
                address,
                port: None,
                host: String::new(),
            }])
        }
        _ => Err(NoSuchName),
    }
}

/// The name of a namespace has no records, but there are names below it.
fn namespace_only(records: &Records, namespace: &str) -> Result<Vec<Hit>, NoSuchName> {
    if records.namespaces.contains(namespace) {
        Ok(Vec::new())
    } else {
        Err(NoSuchName)
    }
}

fn render_targets(name: &Name, hits: &[Hit], found: &mut Found) {
    let mut targets = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for hit in hits {
        if let Hit::Address {
            address,
            port: Some(port),
            host,
        } = hit
        {
            targets.insert((host, *port));
            addresses.insert((host, *address));
        }
    }
    let weight =
        u16::try_from(WEIGHT_TOTAL / targets.len().max(1)).expect("it is at most the total");
    for (host, port) in targets {
        let Ok(target) = Name::from_ascii(host) else {
            continue;
        };
        let data = RData::SRV(SRV::new(0, weight, port, target));
        found
            .answers
            .push(Record::from_rdata(name.clone(), TTL_SECONDS, data));
    }
    for (host, address) in addresses {
        if let Ok(target) = Name::from_ascii(host) {
            found.additionals.push(address_record(&target, address));
        }
    }
}

fn address_record(name: &Name, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name.clone(), TTL_SECONDS, data)
}

fn address_of_reverse_name(name: &Name) -> Option<IpAddr> {
    let mut name = name.clone();
    name.set_fqdn(true);
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

fn without_underscore(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}

/// Labels in lower case, the first one first; what is not a text is nobody's name here.
fn labels_of(name: &Name) -> Vec<String> {
    name.iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
        .collect()
}
