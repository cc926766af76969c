//! Who gets which share; pure.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::shares::{NodeCidrs, Shares};

/// What a node holds or asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) name: String,
    /// When the Node was made: the older of two that hold the same is right.
    pub(crate) since: String,
    pub(crate) held: Vec<IpNet>,
    pub(crate) asked_for: Vec<IpNet>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// New shares by the node's name.
    pub(crate) given: BTreeMap<String, Vec<IpNet>>,
    pub(crate) complaints: Vec<(String, Complaint)>,
}

/// What people should know of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Complaint {
    #[error(
        "no share of the pod addresses {0} is free: remove nodes that are gone, or begin anew with a larger --cluster-cidr or longer --node-cidr-mask-size"
    )]
    Full(IpNet),
    #[error(
        "its pod addresses {0} are not of this cluster: delete the Node, and it is given others when it comes back"
    )]
    Foreign(IpNet),
    #[error(
        "its pod addresses {range} overlap those of node {other}: delete the Node, and it is given others when it comes back"
    )]
    Overlap { range: IpNet, other: String },
}

impl Complaint {
    /// Upstream's word where it has one.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Full(_) => "CIDRNotAvailable",
            Self::Foreign(_) | Self::Overlap { .. } => "CIDRConflict",
        }
    }
}

/// Shares for all nodes that have none, and what is wrong with those that are held.
pub(crate) fn assign(shares: &NodeCidrs, claims: &[Claim]) -> Assignment {
    let mut sorted: Vec<&Claim> = claims.iter().collect();
    sorted.sort_by_key(|claim| (&claim.since, &claim.name));
    let mut assignment = Assignment::default();
    let mut families: Vec<Family<'_>> = shares
        .families()
        .iter()
        .map(|shares| Family {
            shares: *shares,
            taken: BTreeMap::new(),
        })
        .collect();
    for claim in &sorted {
        for range in &claim.held {
            if let Err(complaint) = hold(&mut families, &claim.name, range) {
                assignment.complaints.push((claim.name.clone(), complaint));
            }
        }
    }
    for claim in sorted.iter().filter(|claim| claim.held.is_empty()) {
        match give(&mut families, claim) {
            Ok(ranges) => drop(assignment.given.insert(claim.name.clone(), ranges)),
            Err(complaint) => assignment.complaints.push((claim.name.clone(), complaint)),
        }
    }
    assignment
}

/// Who has which share of one range.
struct Family<'a> {
    shares: Shares,
    taken: BTreeMap<u32, &'a str>,
}

fn hold<'a>(families: &mut [Family<'a>], name: &'a str, range: &IpNet) -> Result<(), Complaint> {
    let family = families
        .iter_mut()
        .find(|family| !family.shares.touched_by(range).is_empty())
        .ok_or(Complaint::Foreign(*range))?;
    let mut others = BTreeSet::new();
    for number in family.shares.touched_by(range) {
        let holder = *family.taken.entry(number).or_insert(name);
        others.extend((holder != name).then_some(holder));
    }
    match others.first() {
        None => Ok(()),
        Some(other) => Err(Complaint::Overlap {
            range: *range,
            other: (*other).to_owned(),
        }),
    }
}

/// One share of each range, or none at all: what was asked for if all of it is free, else the first.
fn give<'a>(families: &mut [Family<'a>], claim: &'a Claim) -> Result<Vec<IpNet>, Complaint> {
    let numbers = match asked(families, claim) {
        Some(numbers) => numbers,
        None => families.iter().map(first_free).collect::<Result<_, _>>()?,
    };
    let given = families.iter_mut().zip(numbers).map(|(family, number)| {
        family.taken.insert(number, &claim.name);
        family.shares.at(number)
    });
    Ok(given.collect())
}

fn asked(families: &[Family<'_>], claim: &Claim) -> Option<Vec<u32>> {
    let wanted = families.iter().map(|family| {
        let mut ranges = claim.asked_for.iter();
        let range = ranges.find(|range| family.shares.is_share(range))?;
        let number = *family.shares.touched_by(range).start();
        (!family.taken.contains_key(&number)).then_some(number)
    });
    wanted.collect()
}

fn first_free(family: &Family<'_>) -> Result<u32, Complaint> {
    (0..family.shares.count())
        .find(|number| !family.taken.contains_key(number))
        .ok_or(Complaint::Full(family.shares.whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_ipam::MaskSizes;

    fn shares(cluster: &[&str]) -> NodeCidrs {
        let ranges: Vec<IpNet> = cluster
            .iter()
            .map(|range| range.parse().expect("a range"))
            .collect();
        NodeCidrs::new(&ranges, MaskSizes::default()).expect("shares")
    }

    fn claim(name: &str, held: &[&str], asked_for: &[&str]) -> Claim {
        let parse = |ranges: &[&str]| {
            ranges
                .iter()
                .map(|range| range.parse().expect("a range"))
                .collect()
        };
        Claim {
            name: name.to_owned(),
            since: String::new(),
            held: parse(held),
            asked_for: parse(asked_for),
        }
    }

    fn given(assignment: &Assignment, name: &str) -> String {
        let ranges = &assignment.given[name];
        ranges
            .iter()
            .map(IpNet::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }

    #[test]
    fn each_node_without_a_share_gets_the_first_that_is_free_in_every_family() {
        let claims = [
            claim("a", &["10.42.0.0/24", "fd42:0:0:1::/64"], &[]),
            claim("b", &[], &[]),
            claim("c", &[], &[]),
        ];
        let assignment = assign(&shares(&["10.42.0.0/16", "fd42::/56"]), &claims);
        assert_eq!(given(&assignment, "b"), "10.42.1.0/24,fd42::/64");
        assert_eq!(given(&assignment, "c"), "10.42.2.0/24,fd42:0:0:2::/64");
        assert_eq!(
            (assignment.given.len(), assignment.complaints.len()),
            (2, 0)
        );
    }

    #[test]
    fn a_node_gets_what_it_asks_for_only_if_it_is_a_share_and_free() {
        let claims = [
            claim("a", &["10.42.5.0/24"], &[]),
            claim("b", &[], &["10.42.7.0/24"]),
            claim("c", &[], &["10.42.5.0/24"]),
            claim("d", &[], &["10.42.0.0/17"]),
            claim("e", &[], &["192.0.2.0/24"]),
        ];
        let assignment = assign(&shares(&["10.42.0.0/16"]), &claims);
        assert_eq!(given(&assignment, "b"), "10.42.7.0/24");
        assert_eq!(given(&assignment, "c"), "10.42.0.0/24");
        assert_eq!(given(&assignment, "d"), "10.42.1.0/24");
        assert_eq!(given(&assignment, "e"), "10.42.2.0/24");
    }

    #[test]
    fn a_full_range_is_told_and_gives_nothing_of_the_other_family() {
        let claims = [claim("a", &["10.42.0.0/24"], &[]), claim("b", &[], &[])];
        let assignment = assign(&shares(&["10.42.0.0/24", "fd42::/56"]), &claims);
        assert!(assignment.given.is_empty());
        let [(name, complaint)] = &assignment.complaints[..] else {
            panic!("one complaint: {assignment:?}");
        };
        assert_eq!(
            (name.as_str(), complaint.reason()),
            ("b", "CIDRNotAvailable")
        );
    }

    #[test]
    fn of_two_that_hold_the_same_the_older_is_right_and_foreign_ranges_are_told() {
        let mut older = claim("z", &["10.42.1.0/24"], &[]);
        older.since = "2026-01-01T00:00:00Z".to_owned();
        let mut younger = claim("a", &["10.42.0.0/20"], &[]);
        younger.since = "2026-01-02T00:00:00Z".to_owned();
        let foreign = claim("f", &["10.99.0.0/24"], &[]);
        let assignment = assign(&shares(&["10.42.0.0/16"]), &[younger, older, foreign]);
        let told: Vec<(&str, &str)> = assignment
            .complaints
            .iter()
            .map(|(name, complaint)| (name.as_str(), complaint.reason()))
            .collect();
        assert_eq!(told, [("f", "CIDRConflict"), ("a", "CIDRConflict")]);
    }
}
