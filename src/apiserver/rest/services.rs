//! `ClusterIPs` and node ports of Services: chosen here, claimed in the transaction that writes the Service, released in the
//! one that gives them up. A claim of an address is an `IPAddress` object; a claim of a port is a key.

use std::collections::BTreeSet;
use std::net::IpAddr;

use apimachinery::{ApiError, FieldError, FieldErrors, FieldPath, Object, ObjectKey};
use ipnet::IpNet;
use kv::{Compare, KeyRange, Operation, RangeRequest};
use serde_json::{Value, json};
use storage::Alongside;

use crate::call::{Call, Run};
use crate::state::State;

/// Upstream's `--service-node-port-range`.
const NODE_PORT_FIRST: u16 = 30_000;
const NODE_PORT_LAST: u16 = 32_767;
/// What dry runs count from.
const NODE_PORT_IMAGINED: u16 = 32_769;
const NODE_PORT_PREFIX: &str = "/registry/ranges/servicenodeports/";
/// Addresses tried by chance before they are tried in order.
const CHANCES_MAX: usize = 64;
/// Addresses of one range that are tried in order, at most.
const ADDRESSES_TRIED_MAX: u128 = 1 << 16;

/// Is the call about Services?
fn concerns(call: &Call<'_>) -> bool {
    let kind = &call.served.description.kind;
    kind.kind == "Service" && kind.group.is_empty()
}

/// Completes a Service: what the client left out and was allocated before stays, what is missing is chosen, what its type
/// does not need goes.
pub(crate) async fn fill(
    call: &Call<'_>,
    service: &mut Object,
    old: Option<&Object>,
    run: Run,
) -> Result<(), ApiError> {
    if !concerns(call) {
        return Ok(());
    }
    if let Some(old) = old {
        carry_over(service, old);
        drop_what_the_type_does_not_need(service, old);
    } else if !text(service, "clusterIP").is_empty() && list(service, "clusterIPs").is_empty() {
        service.set_at(&["spec", "clusterIPs"], json!([text(service, "clusterIP")]));
    }
    families(call, service, old)?;
    addresses(call, service, old).await?;
    ports(call, service, old, run).await
}

/// The claims and releases that writing `new` (`None`: deleting) over `old` (`None`: creating) takes.
pub(crate) fn alongside(call: &Call<'_>, new: Option<&Object>, old: Option<&Object>) -> Alongside {
    let mut alongside = Alongside::default();
    if !concerns(call) {
        return alongside;
    }
    let of = |service: Option<&Object>| service.map(claims).unwrap_or_default();
    let (new_claims, old_claims) = (of(new), of(old));
    let owner = new.or(old).map(Object::key).unwrap_or_default();
    for claim in new_claims.difference(&old_claims) {
        let (key, value) = claim.written(call.state, &owner);
        alongside.compares.push(Compare::absent(key.clone()));
        alongside.operations.push(Operation::Put {
            key,
            value: value.into(),
            lease: 0,
        });
    }
    for claim in old_claims.difference(&new_claims) {
        alongside
            .operations
            .push(Operation::DeleteRange(KeyRange::key(claim.key())));
    }
    alongside
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Address(IpAddr),
    Port(u16),
}

impl Claim {
    fn key(self) -> Vec<u8> {
        match self {
            Self::Address(address) => format!("/registry/ipaddresses/{address}").into_bytes(),
            Self::Port(port) => format!("{NODE_PORT_PREFIX}{port}").into_bytes(),
        }
    }

    fn written(self, state: &State, owner: &ObjectKey) -> (Vec<u8>, Vec<u8>) {
        let value = match self {
            Self::Port(_) => owner.to_string().into_bytes(),
            Self::Address(address) => {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                codec::encode_stored(&json!({
                    "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
                    "metadata": {
                        "name": address.to_string(), "uid": state.rng().uuid(),
                        "creationTimestamp": state.now().to_seconds_string(),
                        "labels": {
                            "ipaddress.kubernetes.io/ip-family": family,
                            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                        },
                    },
                    "spec": {"parentRef": {"name": owner.name, "namespace": owner.namespace, "resource": "services"}},
                }))
            }
        };
        (self.key(), value)
    }
}

/// Everything a Service holds.
fn claims(service: &Object) -> BTreeSet<Claim> {
    let mut claims = BTreeSet::new();
    if needs_address(service) {
        let addresses = list(service, "clusterIPs");
        claims.extend(
            addresses
                .iter()
                .filter_map(Value::as_str)
                .filter_map(|text| text.parse().ok())
                .map(Claim::Address),
        );
    }
    if needs_ports(service) {
        claims.extend(node_ports(service).into_iter().map(Claim::Port));
    }
    if needs_health_port(service)
        && let Some(port) = number(service.at(&["spec", "healthCheckNodePort"]))
    {
        claims.insert(Claim::Port(port));
    }
    claims
}

fn text(service: &Object, field: &str) -> String {
    service.text_at(&["spec", field])
}

fn list<'a>(service: &'a Object, field: &str) -> &'a [Value] {
    service
        .at(&["spec", field])
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn number(value: Option<&Value>) -> Option<u16> {
    value
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
}

fn needs_address(service: &Object) -> bool {
    text(service, "type") != "ExternalName"
}

fn is_headless(service: &Object) -> bool {
    text(service, "clusterIP") == "None"
}

fn needs_ports(service: &Object) -> bool {
    matches!(text(service, "type").as_str(), "NodePort" | "LoadBalancer")
}

fn needs_health_port(service: &Object) -> bool {
    text(service, "type") == "LoadBalancer" && text(service, "externalTrafficPolicy") == "Local"
}

fn node_ports(service: &Object) -> Vec<u16> {
    list(service, "ports")
        .iter()
        .filter_map(|port| number(port.get("nodePort")))
        .collect()
}

/// Clients may send a Service again without what was allocated for it.
fn carry_over(service: &mut Object, old: &Object) {
    if needs_address(old) && needs_address(service) {
        if text(service, "clusterIP").is_empty() && !text(old, "clusterIP").is_empty() {
            service.set_at(&["spec", "clusterIP"], text(old, "clusterIP").into());
        }
        if list(service, "clusterIPs").is_empty() && !list(old, "clusterIPs").is_empty() {
            service.set_at(
                &["spec", "clusterIPs"],
                list(old, "clusterIPs").to_vec().into(),
            );
        }
    }
    if text(service, "clusterIP") != text(old, "clusterIP")
        && list(service, "clusterIPs") == list(old, "clusterIPs")
        && !text(service, "clusterIP").is_empty()
    {
        service.set_at(&["spec", "clusterIPs"], json!([text(service, "clusterIP")]));
    }
    if needs_ports(old) && needs_ports(service) {
        let used: BTreeSet<u16> = node_ports(old)
            .into_iter()
            .filter(|port| node_ports(service).contains(port))
            .collect();
        let known: Vec<(Value, u16)> = list(old, "ports")
            .iter()
            .filter_map(|port| {
                Some((
                    port.get("name").cloned().unwrap_or_default(),
                    number(port.get("nodePort"))?,
                ))
            })
            .collect();
        for port in ports_mut(service) {
            let name = port.get("name").cloned().unwrap_or_default();
            let before = known
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, number)| *number);
            if let (None, Some(before)) = (
                number(port.get("nodePort")),
                before.filter(|port| !used.contains(port)),
            ) {
                port["nodePort"] = before.into();
            }
        }
    }
    if needs_health_port(old)
        && needs_health_port(service)
        && number(service.at(&["spec", "healthCheckNodePort"])).is_none()
        && let Some(port) = number(old.at(&["spec", "healthCheckNodePort"]))
    {
        service.set_at(&["spec", "healthCheckNodePort"], port.into());
    }
}

fn ports_mut(service: &mut Object) -> impl Iterator<Item = &mut Value> {
    let spec = service.0.get_mut("spec");
    spec.and_then(|spec| spec.get_mut("ports"))
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// A change of type wipes what was set automatically and is not needed any more, unless the client changed it too.
fn drop_what_the_type_does_not_need(service: &mut Object, old: &Object) {
    let same =
        |service: &Object, field: &str| service.at(&["spec", field]) == old.at(&["spec", field]);
    if needs_address(old) && !needs_address(service) {
        if same(service, "clusterIPs") || list(service, "clusterIPs").is_empty() {
            service.remove_at(&["spec", "clusterIP"]);
            service.remove_at(&["spec", "clusterIPs"]);
        }
        for field in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if same(service, field) {
                service.remove_at(&["spec", field]);
            }
        }
    }
    if needs_ports(old) && !needs_ports(service) && node_ports(service) == node_ports(old) {
        for port in ports_mut(service).filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
    if needs_health_port(old) && !needs_health_port(service) && same(service, "healthCheckNodePort")
    {
        service.remove_at(&["spec", "healthCheckNodePort"]);
    }
    if text(old, "type") == "LoadBalancer" && text(service, "type") != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(service, field) {
                service.remove_at(&["spec", field]);
            }
        }
        service.set_at(&["status", "loadBalancer"], json!({}));
    }
    if needs_ports(old)
        && !needs_ports(service)
        && list(service, "externalIPs").is_empty()
        && same(service, "externalTrafficPolicy")
    {
        service.remove_at(&["spec", "externalTrafficPolicy"]);
    }
}

fn family_of(range: &IpNet) -> &'static str {
    if range.addr().is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    }
}

fn invalid(call: &Call<'_>, service: &Object, error: FieldError) -> ApiError {
    let mut errors = FieldErrors::none();
    errors.push(error);
    ApiError::invalid(&call.group_kind(), service.name(), &errors)
}

/// Which address families a Service has, by its policy and what the cluster has.
fn families(call: &Call<'_>, service: &mut Object, old: Option<&Object>) -> Result<(), ApiError> {
    if !needs_address(service) {
        return Ok(());
    }
    let ranges = &call.state.config.service_ranges;
    let has = |family: &str| ranges.iter().any(|range| family_of(range) == family);
    let bare = is_headless(service)
        && service
            .at(&["spec", "selector"])
            .and_then(Value::as_object)
            .is_none_or(serde_json::Map::is_empty);
    if text(service, "ipFamilyPolicy").is_empty() {
        let before = old
            .map(|old| text(old, "ipFamilyPolicy"))
            .filter(|policy| !policy.is_empty());
        let policy = before.unwrap_or_else(|| {
            if bare {
                "RequireDualStack"
            } else {
                "SingleStack"
            }
            .to_owned()
        });
        service.set_at(&["spec", "ipFamilyPolicy"], policy.into());
    }
    let policy = text(service, "ipFamilyPolicy");
    let mut families = named_families(call, service)?;
    let default = ranges.first().map_or("IPv4", family_of).to_owned();
    let other = |family: &str| if family == "IPv4" { "IPv6" } else { "IPv4" }.to_owned();
    if families.is_empty() {
        families.push(default);
    }
    if bare {
        if families.len() == 1 && policy != "SingleStack" {
            families.push(other(&families[0]));
        }
    } else {
        check_families(call, service, &policy, &families)?;
        if policy != "SingleStack" && families.len() == 1 && has(&other(&families[0])) {
            families.push(other(&families[0]));
        }
    }
    service.set_at(&["spec", "ipFamilies"], families.into());
    Ok(())
}

/// The families a Service names, and those of the addresses it asks for beyond them.
fn named_families(call: &Call<'_>, service: &Object) -> Result<Vec<String>, ApiError> {
    let ranges = &call.state.config.service_ranges;
    let mut families: Vec<String> = list(service, "ipFamilies")
        .iter()
        .filter_map(Value::as_str)
        .map(Into::into)
        .collect();
    for (at, address) in list(service, "clusterIPs")
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        let Ok(address) = address.parse::<IpAddr>() else {
            break;
        };
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        if at >= families.len() {
            if !ranges.iter().any(|range| family_of(range) == family) {
                let path = FieldPath::new("spec").child("clusterIPs").index(at);
                let value = list(service, "clusterIPs").to_vec();
                let why = format!("{family} is not configured on this cluster");
                return Err(invalid(
                    call,
                    service,
                    FieldError::invalid(&path, value, why),
                ));
            }
            families.push(family.to_owned());
        }
    }
    Ok(families)
}

fn check_families(
    call: &Call<'_>,
    service: &Object,
    policy: &str,
    families: &[String],
) -> Result<(), ApiError> {
    let ranges = &call.state.config.service_ranges;
    let spec = FieldPath::new("spec");
    if policy == "RequireDualStack" && ranges.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        return Err(invalid(
            call,
            service,
            FieldError::invalid(&spec.child("ipFamilyPolicy"), policy, why),
        ));
    }
    for (at, family) in families.iter().enumerate() {
        if !ranges.iter().any(|range| family_of(range) == family) {
            let path = spec.child("ipFamilies").index(at);
            let why = "not configured on this cluster";
            return Err(invalid(
                call,
                service,
                FieldError::invalid(&path, family.clone(), why),
            ));
        }
    }
    Ok(())
}

async fn addresses(
    call: &Call<'_>,
    service: &mut Object,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    if !needs_address(service) || is_headless(service) {
        return Ok(());
    }
    let held = old.map(claims).unwrap_or_default();
    let families: Vec<String> = list(service, "ipFamilies")
        .iter()
        .filter_map(Value::as_str)
        .map(Into::into)
        .collect();
    let held_addresses = held
        .iter()
        .filter(|claim| matches!(claim, Claim::Address(_)))
        .count();
    let mut chosen: Vec<Value> = Vec::new();
    for (at, family) in families.iter().enumerate() {
        let asked = list(service, "clusterIPs")
            .get(at)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty());
        match asked.map(str::parse::<IpAddr>) {
            // An address stays what it is; validation tells so.
            Some(Ok(address))
                if at < held_addresses && !held.contains(&Claim::Address(address)) =>
            {
                return Ok(());
            }
            Some(Ok(address)) => {
                check_address(call, service, address, &held).await?;
                chosen.push(address.to_string().into());
            }
            // Validation tells what is wrong with it.
            Some(Err(_)) => return Ok(()),
            None => {
                let range = call
                    .state
                    .config
                    .service_ranges
                    .iter()
                    .find(|range| family_of(range) == family);
                let range = range.ok_or_else(|| ApiError::internal("a family without a range"))?;
                let Some(free) = free_address(call.state, range).await? else {
                    let why = format!(
                        "failed to allocate a serviceIP for Service {:?}: range is full",
                        service.name()
                    );
                    return Err(ApiError::internal(why));
                };
                chosen.push(free.to_string().into());
            }
        }
    }
    if let Some(first) = chosen.first() {
        service.set_at(&["spec", "clusterIP"], first.clone());
    }
    service.set_at(&["spec", "clusterIPs"], chosen.into());
    Ok(())
}

async fn is_taken(state: &State, claim: Claim) -> Result<bool, ApiError> {
    let response = state
        .store
        .kv()
        .range(RangeRequest::newest(KeyRange::key(claim.key())))
        .await;
    Ok(response.map_err(ApiError::internal)?.count > 0)
}

async fn check_address(
    call: &Call<'_>,
    service: &Object,
    address: IpAddr,
    held: &BTreeSet<Claim>,
) -> Result<(), ApiError> {
    if held.contains(&Claim::Address(address)) {
        return Ok(());
    }
    let refuse = |why: String| {
        let path = FieldPath::new("spec").child("clusterIPs");
        let why = format!("failed to allocate IP {address}: {why}");
        Err(invalid(
            call,
            service,
            FieldError::invalid(&path, list(service, "clusterIPs").to_vec(), why),
        ))
    };
    let ranges = &call.state.config.service_ranges;
    let Some(range) = ranges.iter().find(|range| family_matches(range, address)) else {
        return refuse("no range is configured for its family".to_owned());
    };
    if !range.contains(&address) {
        return refuse("the provided network does not match the current range".to_owned());
    }
    if address == range.network() || address == range.broadcast() {
        return refuse(format!(
            "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
        ));
    }
    if is_taken(call.state, Claim::Address(address)).await? {
        return refuse("provided IP is already allocated".to_owned());
    }
    Ok(())
}

fn family_matches(range: &IpNet, address: IpAddr) -> bool {
    range.addr().is_ipv4() == address.is_ipv4()
}

/// Addresses at the beginning of a range are left to those who ask for one by number.
fn reserved(size: u128) -> u128 {
    (size / 16).clamp(16, 256)
}

fn nth(range: &IpNet, at: u128) -> Option<IpAddr> {
    match range.network() {
        IpAddr::V4(first) => Some(IpAddr::V4(
            (u32::from(first).checked_add(u32::try_from(at).ok()?)?).into(),
        )),
        IpAddr::V6(first) => Some(IpAddr::V6(u128::from(first).checked_add(at)?.into())),
    }
}

/// A free address: first by chance in the upper part of the range, then in order.
async fn free_address(state: &State, range: &IpNet) -> Result<Option<IpAddr>, ApiError> {
    let bits = u32::from(range.max_prefix_len() - range.prefix_len()).min(64);
    // Without the network's own address, and the last for IPv4.
    let size = (1_u128 << bits).saturating_sub(2);
    let low = reserved(size).min(size.saturating_sub(1));
    let span = size - low;
    for _ in 0..CHANCES_MAX {
        let offset = u128::from(state.rng().below(u64::try_from(span).unwrap_or(u64::MAX)));
        if let Some(address) = nth(range, 1 + low + offset)
            && !is_taken(state, Claim::Address(address)).await?
        {
            return Ok(Some(address));
        }
    }
    let upper = low..size.min(low + ADDRESSES_TRIED_MAX);
    for offset in upper.chain(0..low) {
        if let Some(address) = nth(range, 1 + offset)
            && !is_taken(state, Claim::Address(address)).await?
        {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

async fn taken_ports(state: &State) -> Result<BTreeSet<u16>, ApiError> {
    let response = state
        .store
        .kv()
        .range(RangeRequest::newest(KeyRange::prefix(NODE_PORT_PREFIX)))
        .await;
    let entries = response.map_err(ApiError::internal)?.entries;
    let port = |key: &[u8]| {
        std::str::from_utf8(&key[NODE_PORT_PREFIX.len()..])
            .ok()?
            .parse()
            .ok()
    };
    Ok(entries
        .iter()
        .filter_map(|entry| port(&entry.key))
        .collect())
}

async fn ports(
    call: &Call<'_>,
    service: &mut Object,
    old: Option<&Object>,
    run: Run,
) -> Result<(), ApiError> {
    if !needs_ports(service) && !needs_health_port(service) {
        return Ok(());
    }
    let held = old.map(claims).unwrap_or_default();
    let mut taken = taken_ports(call.state).await?;
    taken.retain(|port| !held.contains(&Claim::Port(*port)));
    let allocates = text(service, "type") != "LoadBalancer"
        || service.at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&false.into());
    // One number serves a port in all its protocols.
    let mut by_port: Vec<(Value, u16)> = Vec::new();
    for (at, port) in list(service, "ports").iter().enumerate() {
        if let Some(asked) = number(port.get("nodePort")) {
            check_port(call, service, at, asked, &taken)?;
            by_port.push((port["port"].clone(), asked));
        }
    }
    let mut used: BTreeSet<u16> = by_port.iter().map(|(_, port)| *port).chain(taken).collect();
    let state = call.state.clone();
    let choose = |used: &mut BTreeSet<u16>| -> Result<u16, ApiError> {
        let free = match run {
            Run::Real => free_port(&state, used),
            // A port that nobody can have: a dry run promises nothing.
            Run::Dry => (NODE_PORT_IMAGINED..=u16::MAX).find(|port| !used.contains(port)),
        };
        let free =
            free.ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))?;
        used.insert(free);
        Ok(free)
    };
    let mut mine: Vec<(Value, Value)> = Vec::new();
    for port in ports_mut(service) {
        if number(port.get("nodePort")).is_none() && allocates {
            let shared = by_port.iter().find(|(known, number)| {
                *known == port["port"]
                    && !mine.contains(&(Value::from(*number), port["protocol"].clone()))
            });
            let chosen = match shared {
                Some((_, number)) => *number,
                None => choose(&mut used)?,
            };
            by_port.push((port["port"].clone(), chosen));
            port["nodePort"] = chosen.into();
        }
        mine.push((port["nodePort"].clone(), port["protocol"].clone()));
    }
    if needs_health_port(service) && number(service.at(&["spec", "healthCheckNodePort"])).is_none()
    {
        service.set_at(&["spec", "healthCheckNodePort"], choose(&mut used)?.into());
    }
    Ok(())
}

fn check_port(
    call: &Call<'_>,
    service: &Object,
    at: usize,
    port: u16,
    taken: &BTreeSet<u16>,
) -> Result<(), ApiError> {
    let path = FieldPath::new("spec")
        .child("ports")
        .index(at)
        .child("nodePort");
    if !(NODE_PORT_FIRST..=NODE_PORT_LAST).contains(&port) {
        let why = format!(
            "provided port is not in the valid range. The range of valid ports is {NODE_PORT_FIRST}-{NODE_PORT_LAST}"
        );
        return Err(invalid(
            call,
            service,
            FieldError::invalid(&path, port, why),
        ));
    }
    if taken.contains(&port) {
        return Err(invalid(
            call,
            service,
            FieldError::invalid(&path, port, "provided port is already allocated"),
        ));
    }
    Ok(())
}

fn free_port(state: &State, used: &BTreeSet<u16>) -> Option<u16> {
    let count = NODE_PORT_LAST - NODE_PORT_FIRST + 1;
    let start = u16::try_from(state.rng().below(u64::from(count))).unwrap_or(0);
    (0..count)
        .map(|step| NODE_PORT_FIRST + (start + step) % count)
        .find(|port| !used.contains(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_holds_what_its_type_needs() {
        let service = |spec: Value| Object::from_value(json!({"spec": spec})).expect("an object");
        let node_port = service(
            json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"nodePort": 30001}, {"nodePort": 30001}]}),
        );
        let address = Claim::Address("10.0.0.1".parse().expect("an address"));
        assert_eq!(
            claims(&node_port),
            BTreeSet::from([address, Claim::Port(30001)])
        );
        let headless =
            service(json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}));
        assert!(claims(&headless).is_empty());
    }

    #[test]
    fn a_service_sent_again_keeps_its_address_and_ports() {
        let object = |spec: Value| Object::from_value(json!({"spec": spec})).expect("an object");
        let old = object(
            json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"name": "a", "port": 1, "nodePort": 30001}]}),
        );
        let mut new = object(json!({"type": "NodePort", "ports": [{"name": "a", "port": 1}]}));
        carry_over(&mut new, &old);
        assert_eq!(claims(&new), claims(&old));
        let mut plain = object(
            json!({"type": "ClusterIP", "ports": [{"name": "a", "port": 1, "nodePort": 30001}]}),
        );
        drop_what_the_type_does_not_need(&mut plain, &old);
        assert!(node_ports(&plain).is_empty());
    }
}
