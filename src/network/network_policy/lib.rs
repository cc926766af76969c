//! `NetworkPolicies` of a node in the kernel, as an `inet` table of their own beside that of Services.
//!
//! Only pods of this node are isolated here; each node does the same for its own. What should be there is computed as one
//! plain ruleset by the pure function [`plan`]; [`PolicyTable`] commits the difference to what it last sent as one atomic
//! batch, and [`run`] does so for as long as the node lives. A pod that starts or ends changes elements of sets; rules
//! change with policies only.
//!
//! What upstream leaves open is decided so: pods on the node's own network are neither isolated nor found by selectors;
//! what the node itself sends to its own pods always passes; a connection that stands is not cut by a later policy; the
//! cluster's DNS, which runs in this process, counts as a pod `k8s-app: kube-dns` of `kube-system` with port 53.

mod error;
mod facts;
mod follow;
mod frame;
mod node_pods;
mod peers;
mod plan;
mod policy_table;
mod ranges;

pub use error::Error;
pub use facts::{
    Block, ConnectedPod, Desired, DnsPlace, NamedPort, Peer, PodFacts, PolicyFacts, Port,
    PortChoice, Protocol, Rule,
};
pub use follow::run;
pub use node_pods::NodePods;
pub use plan::plan;
pub use policy_table::PolicyTable;
