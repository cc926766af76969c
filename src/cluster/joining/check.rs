//! What a server makes of a join request: which name and which addresses it will sign. Pure.

use std::net::IpAddr;

use apimachinery::dns1123_subdomain_error;
use pki::{CertificateRequest, Subject, SubjectNames};

use crate::protocol::JoinRequest;

const NODE_USER_PREFIX: &str = "system:node:";
const NODES_GROUP: &str = "system:nodes";
/// As whom nodes look at what their network needs: Services, endpoints, policies, and the addresses and labels of pods.
pub const NETWORK_USER: &str = "system:kube-proxy";

/// What is wrong with a request itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the node name {0:?} is not a lower case DNS name (RFC 1123) of at most 253 letters")]
    Name(String),
    #[error("the node name {0:?} is a name of the server itself; choose another --node-name")]
    ReservedName(String),
    #[error("the {which} request cannot be used: {why}")]
    Request { which: &'static str, why: String },
    #[error("the {which} request is for {asked:?}; a node called {node:?} may ask for {wanted:?}")]
    Subject {
        which: &'static str,
        asked: String,
        node: String,
        wanted: String,
    },
    #[error("the {which} request asks for the name {name:?}, which is not the node's own")]
    ForeignName { which: &'static str, name: String },
    #[error("the requests are made with different keys; a node has one")]
    TwoKeys,
}

/// A request that may be signed once the name is found to belong to the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedRequest {
    pub node: String,
    pub subject: Subject,
    pub public_key_info: Vec<u8>,
    /// What the kubelet's certificate is made out to: the node's name, and those of its addresses that were seen to be its own.
    pub serving_names: SubjectNames,
}

/// Whom the node of this name is to the API.
pub fn node_subject(node: &str) -> Subject {
    Subject::new(&format!("{NODE_USER_PREFIX}{node}"), &[NODES_GROUP])
}

/// Who looks after a node's network is to the API.
pub fn network_subject() -> Subject {
    Subject::new(NETWORK_USER, &[])
}

/// Checks everything in `request` that needs no look at the cluster.
///
/// `peer` is where the request came from: the only address that is known to be the asker's. `reserved` are the names in the
/// server's own certificate, which no node may have, because nodes' certificates are signed by the same authority.
pub fn check(
    request: &JoinRequest,
    peer: IpAddr,
    reserved: &[String],
) -> Result<CheckedRequest, RequestError> {
    let node = &request.node;
    if dns1123_subdomain_error(node).is_some() {
        return Err(RequestError::Name(node.clone()));
    }
    if reserved.iter().any(|name| name.eq_ignore_ascii_case(node)) {
        return Err(RequestError::ReservedName(node.clone()));
    }
    let node_user = node_subject(node);
    let client = read("client", &request.client_request, node, &node_user)?;
    let serving = read("serving", &request.serving_request, node, &node_user)?;
    let network = read(
        "network",
        &request.network_request,
        node,
        &network_subject(),
    )?;
    let others = [&serving, &network];
    if others
        .iter()
        .any(|other| other.public_key_info != client.public_key_info)
    {
        return Err(RequestError::TwoKeys);
    }
    for (which, request) in [("client", &client), ("network", &network)] {
        if let Some(name) = request.dns_names.first() {
            return Err(foreign(which, name));
        }
    }
    if let Some(name) = serving.dns_names.iter().find(|name| *name != node) {
        return Err(foreign("serving", name));
    }
    let addresses = serving.addresses.iter().copied();
    Ok(CheckedRequest {
        node: node.clone(),
        subject: client.subject,
        public_key_info: client.public_key_info,
        serving_names: SubjectNames {
            dns_names: vec![node.clone()],
            addresses: addresses.filter(|address| *address == peer).collect(),
        },
    })
}

fn read(
    which: &'static str,
    pem: &str,
    node: &str,
    wanted: &Subject,
) -> Result<CertificateRequest, RequestError> {
    let request = CertificateRequest::from_pem(pem).map_err(|error| RequestError::Request {
        which,
        why: error.to_string(),
    })?;
    if request.subject != *wanted {
        return Err(RequestError::Subject {
            which,
            asked: request.subject.common_name,
            node: node.to_owned(),
            wanted: wanted.common_name.clone(),
        });
    }
    if request.other_names > 0 {
        return Err(foreign(which, "an e-mail address, a URI or the like"));
    }
    Ok(request)
}

fn foreign(which: &'static str, name: &str) -> RequestError {
    RequestError::ForeignName {
        which,
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pki::KeyPair;

    use super::*;

    const NODE: &str = "edge-1";

    fn peer() -> IpAddr {
        IpAddr::from([10, 0, 0, 7])
    }

    fn names(dns_names: &[&str], addresses: &[IpAddr]) -> SubjectNames {
        SubjectNames {
            dns_names: dns_names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.to_vec(),
        }
    }

    fn request(subject: &Subject, serving: &SubjectNames, keys: [&KeyPair; 2]) -> JoinRequest {
        let create = |names: &SubjectNames, key| {
            CertificateRequest::create(subject, names, key).expect("a request")
        };
        JoinRequest {
            node: NODE.to_owned(),
            addresses: serving.addresses.clone(),
            client_request: create(&SubjectNames::default(), keys[0]),
            serving_request: create(serving, keys[1]),
            network_request: CertificateRequest::create(
                &network_subject(),
                &SubjectNames::default(),
                keys[0],
            )
            .expect("a request"),
            replace: false,
        }
    }

    fn checked(subject: &Subject, serving: &SubjectNames) -> Result<CheckedRequest, RequestError> {
        let key = KeyPair::generate().expect("a key");
        check(&request(subject, serving, [&key, &key]), peer(), &[])
    }

    #[test]
    fn only_the_address_that_was_seen_is_signed() {
        let asked = names(&[NODE], &[peer(), IpAddr::from([10, 0, 0, 1])]);
        let checked = checked(&node_subject(NODE), &asked).expect("a good request");
        assert_eq!(checked.serving_names, names(&[NODE], &[peer()]));
    }

    #[test]
    fn foreign_names_are_refused() {
        let other = checked(&node_subject("other"), &names(&[NODE], &[]));
        assert!(
            matches!(other, Err(RequestError::Subject { .. })),
            "{other:?}"
        );
        let masters = Subject::new("system:node:edge-1", &["system:nodes", "system:masters"]);
        let masters = checked(&masters, &names(&[NODE], &[]));
        assert!(
            matches!(masters, Err(RequestError::Subject { .. })),
            "{masters:?}"
        );
        let api = checked(&node_subject(NODE), &names(&[NODE, "kubernetes"], &[]));
        assert!(
            matches!(api, Err(RequestError::ForeignName { .. })),
            "{api:?}"
        );
    }

    #[test]
    fn both_requests_are_by_one_key_and_the_name_is_no_servers() {
        let (one, two) = (
            KeyPair::generate().expect("a key"),
            KeyPair::generate().expect("a key"),
        );
        let asked = request(&node_subject(NODE), &names(&[NODE], &[]), [&one, &two]);
        assert_eq!(check(&asked, peer(), &[]), Err(RequestError::TwoKeys));
        let asked = request(&node_subject(NODE), &names(&[NODE], &[]), [&one, &one]);
        let reserved = [NODE.to_uppercase()];
        assert!(matches!(
            check(&asked, peer(), &reserved),
            Err(RequestError::ReservedName(_))
        ));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let key = KeyPair::generate().expect("a key");
        let mut asked = request(&node_subject(NODE), &names(&[NODE], &[]), [&key, &key]);
        asked.client_request = asked.client_request.replace('A', "B");
        let refused = check(&asked, peer(), &[]);
        assert!(
            matches!(refused, Err(RequestError::Request { .. })),
            "{refused:?}"
        );
        for name in ["", "Edge", "a/b", "a..b"] {
            asked.node = name.to_owned();
            let refused = check(&asked, peer(), &[]);
            assert!(matches!(refused, Err(RequestError::Name(_))), "{name}");
        }
    }
}
