//! Every controller, in the order of their start.

use std::sync::Arc;
use std::time::Duration;

use controller::Manager;

use crate::certificates::CertificateSigner;
use crate::node_ipam::NodeCidrs;
use crate::{
    certificates, cluster_role_aggregation, cron_job, daemon_set, deployment, disruption,
    endpoint_slice, endpoints, garbage_collector, job, namespace, node_ipam, node_lifecycle,
    pod_garbage, replica_set, resource_quota, root_ca, service_account, service_lb, stateful_set,
    storage_protection, taint_eviction, token_cleaner, ttl_after_finished,
};

/// What controllers are told by the one who starts them.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// PEM of what signs the API server's certificate; it is published in every namespace.
    pub root_certificate_authority: String,
    /// Signs approved certificate requests; without one they stay unsigned.
    pub certificate_signer: Option<Arc<dyn CertificateSigner>>,
    /// Services of type `LoadBalancer` are somebody else's business.
    pub without_service_lb: bool,
    /// The pod addresses that nodes get shares of; without them nodes get none.
    pub node_cidrs: Option<NodeCidrs>,
    /// How long a node may be silent before it counts as lost, if it is not the usual time.
    pub node_monitor_grace: Option<Duration>,
}

/// One controller: upstream's name for it, and how it starts.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: &'static str,
    pub start: fn(&Manager, &Options),
}

pub const CONTROLLERS: &[Entry] = &[
    Entry {
        name: "serviceaccount-controller",
        start: |manager, _| manager.start(service_account::ServiceAccounts::new(manager.factory())),
    },
    Entry {
        name: "root-ca-certificate-publisher-controller",
        start: |manager, options| {
            let authority = options.root_certificate_authority.clone();
            manager.start(root_ca::RootCa::new(manager.factory(), authority));
        },
    },
    Entry {
        name: "namespace-controller",
        start: |manager, _| namespace::start(manager),
    },
    Entry {
        name: "garbage-collector-controller",
        start: |manager, _| garbage_collector::start(manager),
    },
    Entry {
        name: "clusterrole-aggregation-controller",
        start: |manager, _| {
            manager.start(cluster_role_aggregation::ClusterRoleAggregation::new(
                manager.factory(),
            ));
        },
    },
    Entry {
        name: "certificatesigningrequest-controller",
        start: |manager, options| {
            let signer = options.certificate_signer.clone();
            manager.start(certificates::Certificates::new(manager.factory(), signer));
        },
    },
    Entry {
        name: "node-ipam-controller",
        start: |manager, options| {
            if let Some(shares) = options.node_cidrs.clone() {
                manager.start(node_ipam::NodeIpam::new(manager.factory(), shares));
            }
        },
    },
    Entry {
        name: "node-lifecycle-controller",
        start: |manager, options| {
            let grace = options.node_monitor_grace;
            manager.start(node_lifecycle::NodeLifecycle::new(manager.factory(), grace));
        },
    },
    Entry {
        name: "taint-eviction-controller",
        start: |manager, _| manager.start(taint_eviction::TaintEviction::new(manager.factory())),
    },
    Entry {
        name: "pod-garbage-collector-controller",
        start: |manager, _| manager.start(pod_garbage::PodGarbage::new(manager.factory())),
    },
    Entry {
        name: "deployment-controller",
        start: |manager, _| manager.start(deployment::Deployments::new(manager.factory())),
    },
    Entry {
        name: "replicaset-controller",
        start: |manager, _| manager.start(replica_set::ReplicaSets::new(manager.factory())),
    },
    Entry {
        name: "replicationcontroller-controller",
        start: |manager, _| {
            manager.start(replica_set::ReplicationControllers::new(manager.factory()));
        },
    },
    Entry {
        name: "daemonset-controller",
        start: |manager, _| manager.start(daemon_set::DaemonSets::new(manager.factory())),
    },
    Entry {
        name: "statefulset-controller",
        start: |manager, _| manager.start(stateful_set::StatefulSets::new(manager.factory())),
    },
    Entry {
        name: "job-controller",
        start: |manager, _| manager.start(job::Jobs::new(manager.factory())),
    },
    Entry {
        name: "cronjob-controller",
        start: |manager, _| manager.start(cron_job::CronJobs::new(manager.factory())),
    },
    Entry {
        name: "disruption-controller",
        start: |manager, _| manager.start(disruption::Disruption::new(manager.factory())),
    },
    Entry {
        name: "resourcequota-controller",
        start: |manager, _| manager.start(resource_quota::ResourceQuotas::new(manager.factory())),
    },
    Entry {
        name: "ttl-after-finished-controller",
        start: |manager, _| {
            manager.start(ttl_after_finished::TtlAfterFinished::new(manager.factory()));
        },
    },
    Entry {
        name: "bootstrap-token-cleaner-controller",
        start: |manager, _| manager.start(token_cleaner::TokenCleaner::new(manager.factory())),
    },
    Entry {
        name: "persistentvolumeclaim-protection-controller",
        start: |manager, _| {
            manager.start(storage_protection::ClaimProtection::new(manager.factory()));
        },
    },
    Entry {
        name: "persistentvolume-protection-controller",
        start: |manager, _| {
            manager.start(storage_protection::VolumeProtection::new(manager.factory()));
        },
    },
    Entry {
        name: "endpointslice-controller",
        start: |manager, _| manager.start(endpoint_slice::EndpointSlices::new(manager.factory())),
    },
    Entry {
        name: "service-lb-controller",
        start: |manager, options| {
            if !options.without_service_lb {
                manager.start(service_lb::ServiceLoadBalancer::new(manager.factory()));
            }
        },
    },
    Entry {
        name: "endpointslice-mirroring-controller",
        start: |manager, _| manager.start(endpoint_slice::Mirroring::new(manager.factory())),
    },
    Entry {
        name: "endpoints-controller",
        start: |manager, _| manager.start(endpoints::EndpointsOfServices::new(manager.factory())),
    },
];

/// Starts every controller; they run until the manager's end is asked for. Must be called within a runtime.
pub fn start_all(manager: &Manager, options: &Options) {
    for entry in CONTROLLERS {
        (entry.start)(manager, options);
    }
}
