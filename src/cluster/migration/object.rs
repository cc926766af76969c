//! From what k3s' API server stores to what ours does: protobuf becomes JSON, and keys follow our table of kinds.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::{GroupVersionKind, Object};
use codec::{Body, Encoding, encode_stored};
use registry::RESOURCES;
use serde_json::{Value, json};

use crate::error::{Error, Result};

const PROTOBUF: &[u8] = b"k8s\0";
const ENCRYPTED: &[u8] = b"k8s:enc:";
/// Where our table of kinds has them.
const SERVICES: &str = "/registry/services/";
const NODE_PORTS: &str = "/registry/ranges/servicenodeports/";
const ADDRESSES: &str = "/registry/ipaddresses/";
/// What k3s' own components keep there, and what is made anew.
const LEFT_OUT: &[&str] = &[
    "/bootstrap",
    "/registry/combo-servers/",
    "/registry/health",
    "/registry/masterleases/",
    "/registry/peerserverleases/",
    "/registry/ranges/",
    "compact_rev_key",
];

/// What becomes of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored {
        key: String,
        value: Vec<u8>,
    },
    /// For a reason.
    LeftOut(&'static str),
}

/// The kinds that there are.
pub(crate) struct Kinds(BTreeMap<GroupVersionKind, &'static dyn registry::Resource>);

impl Kinds {
    pub(crate) fn new() -> Self {
        let named = RESOURCES
            .iter()
            .map(|resource| (resource.description().kind, *resource));
        Self(named.collect())
    }

    pub(crate) fn convert(&self, key: &str, value: &[u8]) -> Result<Outcome> {
        if LEFT_OUT.iter().any(|prefix| key.starts_with(prefix)) {
            return Ok(Outcome::LeftOut("a component's own"));
        }
        if !key.starts_with("/registry/") {
            return Ok(Outcome::LeftOut("no object"));
        }
        if value.starts_with(ENCRYPTED) {
            return Err(Error::Encrypted {
                key: key.to_owned(),
            });
        }
        let failed = |why: String| Error::Object {
            key: key.to_owned(),
            why,
        };
        let encoding = if value.starts_with(PROTOBUF) {
            Encoding::Protobuf
        } else {
            Encoding::Json
        };
        let body = Body::read(encoding, value).map_err(|error| failed(error.to_string()))?;
        let kind = kind_of(body.api_version(), body.kind());
        let Some(resource) = self.0.get(&kind) else {
            return custom(key, value, encoding, &kind).map_err(failed);
        };
        let decoded = body
            .decode(resource.schema())
            .map_err(|error| failed(error.to_string()))?;
        let mut object =
            Object::from_value(decoded.tree).ok_or_else(|| failed("it is no object".to_owned()))?;
        resource
            .default(&mut object)
            .map_err(|error| failed(format!("{error:?}")))?;
        resource.to_stored(&mut object);
        let description = resource.description();
        object.set_group_version_kind(&description.stored_kind);
        let name = match object.namespace() {
            "" => object.name().to_owned(),
            namespace => format!("{namespace}/{}", object.name()),
        };
        Ok(Outcome::Stored {
            key: format!("{}{name}", description.prefix),
            value: encode_stored(&object.into_value()),
        })
    }
}

fn kind_of(api_version: &str, kind: &str) -> GroupVersionKind {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    GroupVersionKind {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        kind: kind.to_owned().into(),
    }
}

/// An object of a custom kind: its key has the same form here.
fn custom(
    key: &str,
    value: &[u8],
    encoding: Encoding,
    kind: &GroupVersionKind,
) -> std::result::Result<Outcome, String> {
    let below = key.strip_prefix("/registry/").unwrap_or_default();
    let is_custom = below.split('/').next() == Some(&kind.group) && kind.group.contains('.');
    if encoding == Encoding::Protobuf || !is_custom {
        return Ok(Outcome::LeftOut("a kind that is not served here"));
    }
    let tree: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    Ok(Outcome::Stored {
        key: key.to_owned(),
        value: encode_stored(&tree),
    })
}

/// What Services hold and nothing stored says yet: ports of nodes, and addresses where k3s kept a map of bits.
pub(crate) fn claims(
    stored: &BTreeMap<String, Vec<u8>>,
    (uid, now): (&dyn Fn() -> String, &str),
) -> BTreeMap<String, Vec<u8>> {
    let mut claims = BTreeMap::new();
    let first = SERVICES.to_owned();
    for (key, value) in stored.range(first.clone()..) {
        if !key.starts_with(&first) {
            break;
        }
        let Ok(service) = Object::from_slice(value) else {
            continue;
        };
        let owner = service.key().to_string();
        for port in node_ports(&service) {
            claims.insert(format!("{NODE_PORTS}{port}"), owner.clone().into_bytes());
        }
        for address in addresses(&service) {
            let family = if address.contains(':') {
                "IPv6"
            } else {
                "IPv4"
            };
            let object = json!({
                "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
                "metadata": {
                    "name": address, "uid": uid(), "creationTimestamp": now,
                    "labels": {
                        "ipaddress.kubernetes.io/ip-family": family,
                        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                    },
                },
                "spec": {"parentRef": {
                    "name": service.name(), "namespace": service.namespace(), "resource": "services",
                }},
            });
            claims.insert(format!("{ADDRESSES}{address}"), encode_stored(&object));
        }
    }
    claims.retain(|key, _| !stored.contains_key(key));
    claims
}

fn node_ports(service: &Object) -> BTreeSet<u64> {
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array);
    let ports = ports.into_iter().flatten();
    ports
        .filter_map(|port| port["nodePort"].as_u64())
        .chain(
            service
                .at(&["spec", "healthCheckNodePort"])
                .and_then(Value::as_u64),
        )
        .filter(|port| *port > 0)
        .collect()
}

fn addresses(service: &Object) -> Vec<String> {
    let said = service
        .at(&["spec", "clusterIPs"])
        .and_then(Value::as_array);
    let said = said.into_iter().flatten().filter_map(Value::as_str);
    said.filter(|address| *address != "None" && !address.is_empty())
        .map(str::to_owned)
        .collect()
}
