use super::*;
use crate::facts::{ConnectedPod, PodFacts, PolicyFacts};
use serde_json::json;

/// Pods `a` and `b` of namespace `x` on this node, at 10.42.0.1 and 10.42.0.2.
fn node() -> Desired {
    let mut desired = Desired::default();
    for (number, name) in [(1, "a"), (2, "b")] {
        let pod = ConnectedPod {
            uid: name.to_owned(),
            namespace: "x".to_owned(),
            name: name.to_owned(),
            labels: [("pod".to_owned(), name.to_owned())].into(),
            addresses: vec![IpAddr::from([10, 42, 0, number])],
        };
        desired.connected.insert(name.to_owned(), pod);
    }
    desired
}

fn put_policy(desired: &mut Desired, namespace: &str, name: &str, spec: &serde_json::Value) {
    let policy = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
    let key = ObjectKey::namespaced(namespace, name);
    desired.policies.insert(key, PolicyFacts::of(&policy));
}

/// The isolated addresses of a direction, each with its chain.
fn isolated(ruleset: &Ruleset, direction: Direction) -> Vec<(Vec<u8>, String)> {
    let Some(set) = ruleset.sets.get(&direction.isolated(Family::V4)) else {
        return Vec::new();
    };
    let elements = set.elements.iter().map(|(key, value)| match value {
        Value::Goto(chain) => (key.as_slice().to_vec(), chain.to_string()),
        other => panic!("{other:?}"),
    });
    elements.collect()
}

#[test]
fn a_node_has_no_rules_while_none_of_its_pods_is_selected() {
    let mut desired = node();
    assert_eq!(plan(&desired), Ruleset::default());
    put_policy(&mut desired, "y", "deny", &json!({"podSelector": {}}));
    let of_nobody = json!({"podSelector": {"matchLabels": {"pod": "c"}}});
    put_policy(&mut desired, "x", "nobody", &of_nobody);
    assert_eq!(plan(&desired), Ruleset::default());
}

#[test]
fn pods_with_the_same_policies_share_a_chain() {
    let mut desired = node();
    put_policy(&mut desired, "x", "deny", &json!({"podSelector": {}}));
    let both = isolated(&plan(&desired), Direction::Ingress);
    assert_eq!(both.len(), 2);
    assert_eq!(both[0].1, both[1].1);
    let more = json!({"podSelector": {"matchLabels": {"pod": "b"}}, "ingress": [{}]});
    put_policy(&mut desired, "x", "more", &more);
    let ruleset = plan(&desired);
    let apart = isolated(&ruleset, Direction::Ingress);
    assert_ne!(apart[0].1, apart[1].1);
    assert_eq!(isolated(&ruleset, Direction::Egress), []);
    let jumps = &ruleset.chains[&apart[1].1].rules;
    assert_eq!(
        jumps[..2],
        [vec![jump("ingress-x/deny")], vec![jump("ingress-x/more")]]
    );
}

#[test]
fn directions_are_those_that_a_policy_names_or_has_rules_for() {
    let directions = |spec: serde_json::Value| {
        let mut desired = node();
        put_policy(&mut desired, "x", "policy", &spec);
        let ruleset = plan(&desired);
        [Direction::Ingress, Direction::Egress]
            .map(|direction| !isolated(&ruleset, direction).is_empty())
    };
    assert_eq!(directions(json!({})), [true, false]);
    assert_eq!(directions(json!({"egress": [{}]})), [true, true]);
    assert_eq!(
        directions(json!({"policyTypes": ["Egress"]})),
        [false, true]
    );
    assert_eq!(
        directions(json!({"policyTypes": ["Ingress"], "egress": [{}]})),
        [true, false]
    );
}

#[test]
fn a_rule_that_cannot_be_understood_does_not_become_one_for_everybody() {
    let rules = |rule: serde_json::Value| {
        let mut desired = node();
        let spec = json!({"podSelector": {}, "ingress": [rule]});
        put_policy(&mut desired, "x", "policy", &spec);
        plan(&desired).chains["ingress-x/policy"].rules.len()
    };
    assert_eq!(rules(json!({})), 2, "one for each family");
    assert_eq!(
        rules(json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]})),
        0
    );
    let bad_hole = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}});
    assert_eq!(rules(json!({"from": [bad_hole]})), 0);
    assert_eq!(rules(json!({"ports": [{"port": 0}]})), 0);
    assert_eq!(
        rules(json!({"ports": [{"port": 80, "protocol": "DCCP"}]})),
        0
    );
}

#[test]
fn a_pods_labels_are_the_apis_once_it_shows_that_pod_and_no_other_of_its_name() {
    let mut desired = node();
    let selected = json!({"podSelector": {"matchLabels": {"pod": "new"}}});
    put_policy(&mut desired, "x", "policy", &selected);
    let labels = [("pod".to_owned(), "new".to_owned())];
    let mut shown = PodFacts {
        uid: "another".to_owned(),
        labels: labels.into(),
        ..PodFacts::default()
    };
    let key = ObjectKey::namespaced("x", "a");
    desired.pods.insert(key.clone(), shown.clone());
    assert_eq!(isolated(&plan(&desired), Direction::Ingress), []);
    shown.mirrored_uid = Some("a".to_owned());
    desired.pods.insert(key, shown);
    assert_eq!(isolated(&plan(&desired), Direction::Ingress).len(), 1);
}
