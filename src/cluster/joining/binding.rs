//! A node's name belongs to a key. The Secret `kube-system/<node>.node-key` says to which; only the signer writes it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::digest::{SHA256, digest};

pub const NAMESPACE: &str = "kube-system";
pub const SECRET_TYPE: &str = "combo.io/node-key";
const SUFFIX: &str = ".node-key";
const KEY_FIELD: &str = "public-key-sha256";

/// The name of the Secret that binds `node`.
pub fn secret_name(node: &str) -> String {
    format!("{node}{SUFFIX}")
}

/// The node that a Secret of this name binds.
pub fn node_of(secret: &str) -> Option<&str> {
    secret.strip_suffix(SUFFIX)
}

/// A digest of a public key (`SubjectPublicKeyInfo` in DER), in hexadecimal.
pub fn fingerprint(public_key_info: &[u8]) -> String {
    let hash = digest(&SHA256, public_key_info);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The Secret that binds `node` to a key.
pub fn secret(node: &str, fingerprint: &str) -> Secret {
    let data = BTreeMap::from([(
        KEY_FIELD.to_owned(),
        ByteString(fingerprint.as_bytes().to_vec()),
    )]);
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(node)),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

/// The key that a Secret binds to; `None` if somebody damaged it.
pub fn bound_fingerprint(secret: &Secret) -> Option<String> {
    let data = secret.data.as_ref()?.get(KEY_FIELD)?;
    String::from_utf8(data.0.clone()).ok()
}

/// How the asker proved that it may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A token that is valid now.
    Token,
    /// Nothing but the signature of the request: enough for a key that is bound already.
    KeyOnly,
}

/// Whether somebody still lives under the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no such Node.
    Absent,
    /// Its kubelet has not been heard of for a while.
    NotReady,
    Ready,
}

impl Standing {
    pub fn of(node: Option<&Node>) -> Self {
        let Some(node) = node else {
            return Self::Absent;
        };
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let ready = conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if ready { Self::Ready } else { Self::NotReady }
    }
}

/// What is to be done about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Bind the name to the key: it is free.
    Bind,
    /// The name is bound to this key.
    Keep,
    /// Bind the name to the key in place of the one before.
    Replace,
    Refuse(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a token is needed: no node {node:?} with this key is known here")]
    TokenNeeded { node: String },
    #[error(
        "the name {node:?} belongs to a node with another key. If this machine is that node with a new disk, run the agent with --replace once the old node is NotReady, or remove it: kubectl delete node {node} && kubectl -n kube-system delete secret {node}.node-key"
    )]
    NameTaken { node: String },
    #[error(
        "the node {node:?} is Ready with another key and cannot be replaced while it lives; stop it, wait until it is NotReady, and join again, or choose another --node-name"
    )]
    StillAlive { node: String },
}

/// Decides about `node` for a key with this fingerprint; `bound` is the fingerprint that the name belongs to now.
pub fn decide(
    node: &str,
    fingerprint: &str,
    bound: Option<&str>,
    proof: Proof,
    replace: bool,
    standing: Standing,
) -> Decision {
    let node = || node.to_owned();
    match (bound, proof) {
        (Some(bound), _) if bound == fingerprint => Decision::Keep,
        (_, Proof::KeyOnly) => Decision::Refuse(Refusal::TokenNeeded { node: node() }),
        (None, Proof::Token) => Decision::Bind,
        (Some(_), Proof::Token) if !replace => {
            Decision::Refuse(Refusal::NameTaken { node: node() })
        }
        (Some(_), Proof::Token) if standing == Standing::Ready => {
            Decision::Refuse(Refusal::StillAlive { node: node() })
        }
        (Some(_), Proof::Token) => Decision::Replace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(bound: Option<&str>, proof: Proof, replace: bool, standing: Standing) -> Decision {
        decide("a", "mine", bound, proof, replace, standing)
    }

    #[test]
    fn a_name_is_bound_once_and_kept_by_its_key() {
        let bind = decided(None, Proof::Token, false, Standing::Absent);
        assert_eq!(bind, Decision::Bind);
        for proof in [Proof::Token, Proof::KeyOnly] {
            let keep = decided(Some("mine"), proof, false, Standing::Ready);
            assert_eq!(keep, Decision::Keep);
        }
        let unknown = decided(None, Proof::KeyOnly, true, Standing::Absent);
        assert!(matches!(
            unknown,
            Decision::Refuse(Refusal::TokenNeeded { .. })
        ));
    }

    #[test]
    fn another_key_takes_a_name_only_when_told_to_and_nobody_lives_there() {
        let taken = decided(Some("theirs"), Proof::Token, false, Standing::NotReady);
        assert!(matches!(taken, Decision::Refuse(Refusal::NameTaken { .. })));
        let alive = decided(Some("theirs"), Proof::Token, true, Standing::Ready);
        assert!(matches!(
            alive,
            Decision::Refuse(Refusal::StillAlive { .. })
        ));
        for standing in [Standing::NotReady, Standing::Absent] {
            let replaced = decided(Some("theirs"), Proof::Token, true, standing);
            assert_eq!(replaced, Decision::Replace);
        }
        let thief = decided(Some("theirs"), Proof::KeyOnly, true, Standing::NotReady);
        assert!(matches!(
            thief,
            Decision::Refuse(Refusal::TokenNeeded { .. })
        ));
    }
}
