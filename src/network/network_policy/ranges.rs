//! Ranges of numbers as sets of the kernel want them: merged, so that none touches another; pure.

use crate::facts::Block;
use linux::netlink::nf_tables::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First and last.
pub(crate) type Range = (u128, u128);

/// The same numbers in as few ranges as possible, in order.
pub(crate) fn merge(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(known) if first <= known.1.saturating_add(1) => known.1 = known.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// What is left of a range without the holes.
pub(crate) fn cut((mut first, last): Range, holes: Vec<Range>) -> Vec<Range> {
    let mut left = Vec::new();
    for hole in merge(holes) {
        if hole.1 < first || hole.0 > last {
            continue;
        }
        if hole.0 > first {
            left.push((first, hole.0 - 1));
        }
        let Some(next) = hole.1.checked_add(1) else {
            return left;
        };
        first = next;
    }
    if first <= last {
        left.push((first, last));
    }
    left
}

/// The addresses of one family that are in one of the blocks.
pub(crate) fn addresses_in<'a>(
    blocks: impl Iterator<Item = &'a Block>,
    family: Family,
) -> Vec<Range> {
    let of_family = blocks.filter(|block| Family::of(block.range.network()) == family);
    let cut_blocks = of_family.flat_map(|block| {
        let except = block.except.iter().map(range_of).collect();
        cut(range_of(&block.range), except)
    });
    merge(cut_blocks.collect())
}

pub(crate) fn contains(ranges: &[Range], address: IpAddr) -> bool {
    let number = number_of(address);
    ranges
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&number))
}

/// The address with this number.
pub(crate) fn address_at(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => {
            let number = u32::try_from(number).expect("ranges of IPv4 end where IPv4 ends");
            Ipv4Addr::from(number).into()
        }
        Family::V6 => Ipv6Addr::from(number).into(),
    }
}

fn range_of(range: &ipnet::IpNet) -> Range {
    (number_of(range.network()), number_of(range.broadcast()))
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(range: &str, except: &[&str]) -> Block {
        Block {
            range: range.parse().unwrap(),
            except: except.iter().map(|range| range.parse().unwrap()).collect(),
        }
    }

    fn shown(blocks: &[Block], family: Family) -> Vec<String> {
        let ranges = addresses_in(blocks.iter(), family).into_iter();
        let shown = ranges.map(|(first, last)| {
            format!("{}-{}", address_at(family, first), address_at(family, last))
        });
        shown.collect()
    }

    #[test]
    fn exceptions_are_cut_out_and_what_touches_is_merged() {
        let blocks = [
            block(
                "10.0.0.0/24",
                &["10.0.0.0/28", "10.0.0.128/25", "10.0.0.200/32"],
            ),
            block("10.0.0.120/29", &[]),
            block("10.0.0.128/32", &[]),
            block("255.255.255.0/24", &["255.255.255.255/32"]),
            block("fd00::/126", &["fd00::1/128"]),
        ];
        assert_eq!(
            shown(&blocks, Family::V4),
            ["10.0.0.16-10.0.0.128", "255.255.255.0-255.255.255.254"]
        );
        assert_eq!(
            shown(&blocks, Family::V6),
            ["fd00::-fd00::", "fd00::2-fd00::3"]
        );
    }

    #[test]
    fn the_ends_of_the_address_space_are_no_trap() {
        let all = [
            block("::/0", &["ffff::/16"]),
            block("0.0.0.0/0", &["0.0.0.0/0"]),
        ];
        assert_eq!(
            shown(&all, Family::V6),
            ["::-fffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        );
        assert_eq!(shown(&all, Family::V4), [""; 0]);
        assert_eq!(merge(vec![(5, u128::MAX), (0, 4)]), [(0, u128::MAX)]);
    }
}
