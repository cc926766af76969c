//! Services in the kernel: cluster IPs, node ports, external addresses, host ports, and masquerading, as one `inet` table.
//!
//! What should be there is computed as one plain [`Ruleset`] by the pure function [`plan`]; [`ServiceProxy`] compares it
//! with what it last sent and commits the difference as one atomic batch, and [`run`] does so for as long as the node
//! lives. The work of a packet does not depend on the number of Services. Not built: `healthCheckNodePort` is not served,
//! and a client whose source is `127.0.0.1` reaches neither node ports nor host ports there: that needs `route_localnet`.
//!
//! Two instances in one network namespace leave each other's tables alone, but both see every packet: they need different
//! Service ranges and node ports, or the older table's Service answers. Rules of others still decide: a firewall that drops
//! forwarded packets drops those of pods.

mod endpoints;
mod error;
mod facts;
mod follow;
mod frame;
mod plan;
mod proxy;
mod stale_flows;
mod steps;

pub use error::Error;
pub use facts::{
    Desired, EndpointFacts, EndpointState, Hint, HostPort, Locality, NodeFacts, PortFacts,
    Protocol, ServiceFacts, ServiceName, SliceFacts, SlicePort, TrafficPolicy,
};
pub use follow::run;
pub use plan::plan;
pub use proxy::ServiceProxy;
