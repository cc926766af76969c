//! What becomes of an object, given what has become of its owners.

use apimachinery::{Object, OwnerReference};
use kube_client::Propagation;

use super::graph::Node;
use super::{FOREGROUND, ORPHAN};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    /// It exists.
    Solid,
    /// It is being deleted in the foreground and waits for this object, if that blocks it.
    WaitingForDependents,
    Absent,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Keep,
    /// It keeps these owners and loses the others.
    KeepWith(Vec<OwnerReference>),
    Delete(Propagation),
    /// It is deleted in the foreground, and stops blocking its owners: one of its own dependents may wait for them in a circle.
    UnblockAndDelete(Vec<OwnerReference>),
}

pub(super) fn decide(
    live: &Object,
    owners: &[(OwnerReference, OwnerState)],
    dependents: &[Node],
) -> Decision {
    if owners.is_empty() {
        return Decision::Keep;
    }
    let solid: Vec<OwnerReference> = owners
        .iter()
        .filter(|(_, state)| *state == OwnerState::Solid)
        .map(|(owner, _)| owner.clone())
        .collect();
    if !solid.is_empty() {
        return if solid.len() == owners.len() {
            Decision::Keep
        } else {
            Decision::KeepWith(solid)
        };
    }
    let is_awaited = owners
        .iter()
        .any(|(_, state)| *state == OwnerState::WaitingForDependents);
    if is_awaited && !dependents.is_empty() {
        if dependents.iter().any(Node::is_deleting_dependents) {
            let unblocking = owners.iter().map(|(owner, _)| OwnerReference {
                block_owner_deletion: Some(false),
                ..owner.clone()
            });
            return Decision::UnblockAndDelete(unblocking.collect());
        }
        return Decision::Delete(Propagation::Foreground);
    }
    // An object that already carries a finalizer for its dependents keeps to it.
    let finalizers = live.finalizers();
    Decision::Delete(if finalizers.contains(&ORPHAN) {
        Propagation::Orphan
    } else if finalizers.contains(&FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owner(uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: uid.into(),
            uid: uid.into(),
            controller: None,
            block_owner_deletion: Some(true),
        }
    }

    fn object(finalizers: &[&str]) -> Object {
        Object::from_value(json!({"metadata": {"finalizers": finalizers}})).expect("an object")
    }

    #[test]
    fn one_living_owner_is_enough() {
        let owners = [
            (owner("a"), OwnerState::Absent),
            (owner("b"), OwnerState::Solid),
        ];
        assert_eq!(
            decide(&object(&[]), &owners, &[]),
            Decision::KeepWith(vec![owner("b")])
        );
        assert_eq!(decide(&object(&[]), &owners[1..], &[]), Decision::Keep);
    }

    #[test]
    fn without_a_living_owner_it_goes_the_way_its_finalizers_say() {
        let owners = [(owner("a"), OwnerState::Absent)];
        assert_eq!(
            decide(&object(&[]), &owners, &[]),
            Decision::Delete(Propagation::Background)
        );
        assert_eq!(
            decide(&object(&[ORPHAN]), &owners, &[]),
            Decision::Delete(Propagation::Orphan)
        );
        let waiting = [(owner("a"), OwnerState::WaitingForDependents)];
        assert_eq!(
            decide(&object(&[]), &waiting, &[]),
            Decision::Delete(Propagation::Background)
        );
    }
}
