//! How the cluster's pod addresses are cut into shares.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

const V4_PREFIX: u8 = 24;
const V6_PREFIX: u8 = 64;
/// As upstream: so many shares of one range are kept count of.
const SHARES_BITS_MAX: u8 = 16;

/// Prefix lengths that somebody asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskSizes {
    /// For a cluster of one family.
    pub only: Option<u8>,
    pub v4: Option<u8>,
    pub v6: Option<u8>,
}

/// The cluster's ranges and the size of a node's share of each; at most one range of each family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCidrs(Vec<Shares>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) whole: IpNet,
    prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharesError {
    #[error("a cluster has one pod range, or one IPv4 and one IPv6 range")]
    Families,
    #[error(
        "a node's share of {whole} cannot be a /{prefix}: give --node-cidr-mask-size a number from {from} to {to}"
    )]
    Prefix {
        whole: IpNet,
        prefix: u8,
        from: u8,
        to: u8,
    },
    #[error(
        "--node-cidr-mask-size is for a cluster of one family: give --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6"
    )]
    OnlyOfTwo,
}

impl NodeCidrs {
    pub fn new(cluster_cidrs: &[IpNet], sizes: MaskSizes) -> Result<Self, SharesError> {
        match cluster_cidrs {
            [_] => {}
            [one, other] if one.network().is_ipv4() != other.network().is_ipv4() => {
                if sizes.only.is_some() {
                    return Err(SharesError::OnlyOfTwo);
                }
            }
            _ => return Err(SharesError::Families),
        }
        let shares = cluster_cidrs.iter().map(|whole| Shares::of(*whole, sizes));
        shares.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn families(&self) -> &[Shares] {
        &self.0
    }

    /// The share that a server's node asks for, and takes where nobody gives any.
    pub fn first(&self) -> Vec<IpNet> {
        self.0.iter().map(|shares| shares.at(0)).collect()
    }
}

impl Shares {
    fn of(whole: IpNet, sizes: MaskSizes) -> Result<Self, SharesError> {
        let (asked, default) = match whole {
            IpNet::V4(_) => (sizes.v4, V4_PREFIX),
            IpNet::V6(_) => (sizes.v6, V6_PREFIX),
        };
        let asked = asked.or(sizes.only);
        let from = whole.prefix_len();
        let to = whole.max_prefix_len().min(from + SHARES_BITS_MAX);
        // A small range without further word is one node's.
        let prefix = asked.unwrap_or(default.max(from));
        if (from..=to).contains(&prefix) {
            Ok(Self { whole, prefix })
        } else {
            Err(SharesError::Prefix {
                whole,
                prefix,
                from,
                to,
            })
        }
    }

    pub(crate) fn count(self) -> u32 {
        1 << (self.prefix - self.whole.prefix_len())
    }

    pub(crate) fn at(self, number: u32) -> IpNet {
        let free_bits = u32::from(self.whole.max_prefix_len() - self.prefix);
        let address: IpAddr = match self.whole.network() {
            IpAddr::V4(first) => {
                let offset = number.checked_shl(free_bits).unwrap_or(0);
                Ipv4Addr::from_bits(first.to_bits() | offset).into()
            }
            IpAddr::V6(first) => {
                let offset = u128::from(number).checked_shl(free_bits).unwrap_or(0);
                Ipv6Addr::from_bits(first.to_bits() | offset).into()
            }
        };
        IpNet::new(address, self.prefix).expect("the prefix fits the family")
    }

    /// The shares that a range touches, as numbers; none when it is elsewhere.
    pub(crate) fn touched_by(self, range: &IpNet) -> std::ops::RangeInclusive<u32> {
        #[expect(clippy::reversed_empty_ranges, reason = "no share is meant")]
        const NONE: std::ops::RangeInclusive<u32> = 1..=0;
        let is_inside = self.whole.contains(range);
        if !is_inside && !range.contains(&self.whole) {
            return NONE;
        }
        if !is_inside {
            return 0..=self.count() - 1;
        }
        self.number_of(range.network())..=self.number_of(range.broadcast())
    }

    pub(crate) fn is_share(self, range: &IpNet) -> bool {
        self.whole.contains(range) && range.prefix_len() == self.prefix
    }

    fn number_of(self, address: IpAddr) -> u32 {
        let free_bits = u32::from(self.whole.max_prefix_len() - self.prefix);
        let number = match (address, self.whole.network()) {
            (IpAddr::V4(address), IpAddr::V4(first)) => {
                let offset = address.to_bits() - first.to_bits();
                u128::from(offset.checked_shr(free_bits).unwrap_or(0))
            }
            (IpAddr::V6(address), IpAddr::V6(first)) => {
                let offset = address.to_bits() - first.to_bits();
                offset.checked_shr(free_bits).unwrap_or(0)
            }
            _ => 0,
        };
        u32::try_from(number).expect("a range has at most 2^16 shares")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(cluster: &[&str], sizes: MaskSizes) -> Result<NodeCidrs, SharesError> {
        let ranges: Vec<IpNet> = cluster
            .iter()
            .map(|range| range.parse().expect("a range"))
            .collect();
        NodeCidrs::new(&ranges, sizes)
    }

    #[test]
    fn shares_are_as_large_as_upstreams_unless_somebody_says_otherwise() {
        let first = |cluster: &[&str], sizes| {
            let first = shares(cluster, sizes).expect("shares").first();
            first.iter().map(IpNet::to_string).collect::<Vec<_>>()
        };
        let default = MaskSizes::default();
        assert_eq!(
            first(&["10.42.0.0/16", "fd42::/56"], default),
            ["10.42.0.0/24", "fd42::/64"]
        );
        let sizes = MaskSizes {
            only: Some(26),
            ..default
        };
        assert_eq!(first(&["10.42.0.0/16"], sizes), ["10.42.0.0/26"]);
        assert_eq!(first(&["10.42.0.0/25"], default), ["10.42.0.0/25"]);
        assert_eq!(first(&["0.0.0.0/8"], default), ["0.0.0.0/24"]);
    }

    #[test]
    fn what_cannot_be_cut_is_refused_with_what_can() {
        let default = MaskSizes::default();
        let text =
            |cluster: &[&str], sizes| shares(cluster, sizes).expect_err("refused").to_string();
        assert!(text(&["fd42::/32"], default).contains("from 32 to 48"));
        assert!(text(&["10.42.0.0/16", "10.44.0.0/16"], default).contains("one IPv4 and one IPv6"));
        let sizes = MaskSizes {
            only: Some(26),
            ..default
        };
        assert!(text(&["10.42.0.0/16", "fd42::/56"], sizes).contains("of one family"));
    }

    #[test]
    fn the_numbers_of_shares_are_those_of_their_addresses() {
        let of = |whole: &str| shares(&[whole], MaskSizes::default()).expect("shares").0[0];
        for whole in ["10.42.0.0/16", "fd42::/56"] {
            let shares = of(whole);
            assert_eq!(shares.count(), 256);
            for number in [0, 1, 255] {
                assert_eq!(shares.touched_by(&shares.at(number)), number..=number);
            }
            assert_eq!(shares.touched_by(&shares.whole), 0..=255);
            let elsewhere = "192.0.2.0/24".parse().expect("a range");
            assert!(shares.touched_by(&elsewhere).is_empty());
        }
        assert_eq!(of("10.42.0.0/25").count(), 1);
    }
}
