//! Services in the kernel: cluster IPs, node ports, external addresses, host ports, and masquerading, as one `inet` table.
//!
//! What should be there is computed as one plain [`Ruleset`] by the pure function [`plan`]; [`ServiceProxy`] compares it
//! with what it last sent and commits the difference as one atomic batch, and [`run`] does so for as long as the node lives. The work of a packet does not depend on the
//! number of Services. Not built: `healthCheckNodePort` is not served, and `127.0.0.1:<port>` reaches neither node
//! ports nor host ports, since that needs `route_localnet`.

mod difference;
mod drift;
mod endpoints;
mod error;
mod facts;
mod family;
mod follow;
mod frame;
mod plan;
mod proxy;
mod ruleset;

pub use error::Error;
pub use facts::{
    Desired, EndpointFacts, EndpointState, Hint, HostPort, Locality, NodeFacts, PortFacts,
    Protocol, ServiceFacts, ServiceName, SliceFacts, SlicePort, TrafficPolicy,
};
pub use follow::run;
pub use plan::plan;
pub use proxy::{Applied, Change, ServiceProxy};
pub use ruleset::Ruleset;
