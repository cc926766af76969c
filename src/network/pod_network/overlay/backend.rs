//! How packets get from node to node.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The names are k3s', as are those on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Backend {
    /// Frames in UDP, to any node that can be reached at all.
    #[default]
    Vxlan,
    /// Plain routes to nodes on the same link; VXLAN to others.
    HostGw,
    /// An encrypted tunnel by the kernel.
    WireGuard,
    /// Nothing is done: somebody else routes between the nodes.
    None,
}

/// A backend that Combo does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no backend {0:?}; there are vxlan, host-gw, wireguard-native and none")]
pub struct UnknownBackend(String);

impl Backend {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
            Self::WireGuard => "wireguard-native",
            Self::None => "none",
        }
    }

    /// Bytes of a packet inside the pod network, where the uplink carries `uplink` bytes to nodes with addresses like
    /// `underlay`. All pods get it from their first moment: a second node may come at any time.
    pub fn pod_mtu(self, uplink: u32, underlay: IpAddr) -> u32 {
        let inside = uplink.saturating_sub(self.overhead(underlay));
        inside.max(MTU_MIN.min(uplink))
    }

    /// Bytes that a packet grows by on its way.
    fn overhead(self, underlay: IpAddr) -> u32 {
        match (self, underlay) {
            (Self::Vxlan, IpAddr::V4(_)) => 50,
            (Self::Vxlan, IpAddr::V6(_)) => 70,
            (Self::WireGuard, _) => 80,
            (Self::HostGw | Self::None, _) => 0,
        }
    }
}

/// IPv6 needs this much of every link.
const MTU_MIN: u32 = 1280;

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<Self, UnknownBackend> {
        match text {
            "vxlan" => Ok(Self::Vxlan),
            "host-gw" => Ok(Self::HostGw),
            "wireguard" | "wireguard-native" => Ok(Self::WireGuard),
            "none" => Ok(Self::None),
            other => Err(UnknownBackend(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_read_as_it_is_written() {
        for backend in [
            Backend::Vxlan,
            Backend::HostGw,
            Backend::WireGuard,
            Backend::None,
        ] {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        assert!("ipsec".parse::<Backend>().is_err());
    }

    #[test]
    fn packets_of_pods_fit_into_the_uplink_with_what_is_put_around_them() {
        let (v4, v6) = ([192, 0, 2, 1].into(), IpAddr::V6([0x2001; 8].into()));
        assert_eq!(Backend::Vxlan.pod_mtu(1500, v4), 1450);
        assert_eq!(Backend::Vxlan.pod_mtu(1500, v6), 1430);
        assert_eq!(Backend::WireGuard.pod_mtu(1500, v4), 1420);
        assert_eq!(Backend::HostGw.pod_mtu(9000, v4), 9000);
        assert_eq!(Backend::Vxlan.pod_mtu(1280, v4), 1280);
    }
}
