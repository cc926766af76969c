//! Every controller, in the order of their start.

use controller::Manager;

use crate::{deployment, replica_set};

/// One controller: upstream's name for it, and how it starts.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: &'static str,
    pub start: fn(&Manager),
}

pub const CONTROLLERS: &[Entry] = &[
    Entry {
        name: "deployment-controller",
        start: |manager| manager.start(deployment::Deployments::new(manager.factory())),
    },
    Entry {
        name: "replicaset-controller",
        start: |manager| manager.start(replica_set::ReplicaSets::new(manager.factory())),
    },
    Entry {
        name: "replicationcontroller-controller",
        start: |manager| manager.start(replica_set::ReplicationControllers::new(manager.factory())),
    },
];

/// Starts every controller; they run until the manager's end is asked for. Must be called within a runtime.
pub fn start_all(manager: &Manager) {
    for entry in CONTROLLERS {
        (entry.start)(manager);
    }
}
