//! What k3s' users say that means something else here: variables with another prefix, and flags that are not there.

/// Variables of k3s that mean what ours mean: `K3S_<name>` is read where `COMBO_<name>` is not set.
const ALIASES: &[&str] = &[
    "AGENT_HTTP_PROXY_ALLOWED",
    "AGENT_TOKEN",
    "AGENT_TOKEN_FILE",
    "CONFIG_FILE",
    "DATASTORE_CAFILE",
    "DATASTORE_CERTFILE",
    "DATASTORE_ENDPOINT",
    "DATASTORE_KEYFILE",
    "DATA_DIR",
    "DEBUG",
    "KUBECONFIG_MODE",
    "KUBECONFIG_OUTPUT",
    "LB_SERVER_PORT",
    "NODE_NAME",
    "RESOLV_CONF",
    "TOKEN",
    "TOKEN_FILE",
    "URL",
];

/// The variable of k3s that means the same as `variable`.
pub(crate) fn alias(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("COMBO_")?;
    ALIASES.contains(&name).then(|| format!("K3S_{name}"))
}

const STORE: &str = "there is no kine: the cluster is kept in SQLite below the data folder, or in the etcd cluster that \
                     --datastore-endpoint names";
const NO_ETCD: &str = "there is no embedded etcd; several servers share the etcd cluster that \
                       --datastore-endpoint names";
const RESTORE: &str =
    "`combo snapshot restore` does that, on a data folder whose server is stopped";
const NOTHING_TO_RECONCILE: &str = "snapshots are the files in their folder; leave it out";
const S3_SECRET: &str = "buckets are told by the other etcd-s3-* flags; keys can stand in the configuration file or in \
                         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
const SECOND_SERVER: &str = "a second server is given the same --datastore-endpoint and --token as the first one; \
                             a node joins with `combo agent --server`";
const NO_ARGUMENTS: &str = "the component is built in and takes no arguments of its own; look for a flag of \
                            combo that does what you need";
const RUNTIME: &str = "containers run in the built-in runtime; leave it out";
const NOT_THERE: &str = "there is nothing of that kind here to configure; leave it out";
const LOG: &str =
    "the log goes to standard error, where the init system keeps it; --debug says more";
const NOT_BUILT: &str = "it is not built yet";
const OVERLAY: &str = "nodes reach each other at their node addresses and the network is set up in this \
                       process; --flannel-backend and --flannel-iface are what can be chosen";
const SEALED: &str = "Secrets are always encrypted at rest; leave it out";
const ONE_PORT: &str = "everything is served on --https-listen-port; leave it out";

/// Flags of k3s that are refused, each with what to do instead.
const REFUSED: &[(&str, &[&str])] = &[
    (STORE, &["kine-tls"]),
    (
        NO_ETCD,
        &[
            "cluster-init",
            "cluster-reset",
            "disable-etcd",
            "etcd-arg",
            "etcd-expose-metrics",
        ],
    ),
    (RESTORE, &["cluster-reset-restore-path"]),
    (S3_SECRET, &["etcd-s3-config-secret"]),
    (NOTHING_TO_RECONCILE, &["etcd-snapshot-reconcile-interval"]),
    (SECOND_SERVER, &["server"]),
    (
        NO_ARGUMENTS,
        &[
            "kube-apiserver-arg",
            "kube-cloud-controller-arg",
            "kube-cloud-controller-manager-arg",
            "kube-controller-arg",
            "kube-controller-manager-arg",
            "kube-proxy-arg",
            "kube-scheduler-arg",
            "kubelet-arg",
        ],
    ),
    (
        RUNTIME,
        &[
            "container-runtime-endpoint",
            "default-runtime",
            "docker",
            "image-service-endpoint",
            "nonroot-devices",
            "pause-image",
            "prefer-bundled-bin",
            "snapshotter",
        ],
    ),
    (
        NOT_THERE,
        &[
            "airgap-extra-registry",
            "default-local-storage-path",
            "disable-cloud-controller",
            "disable-helm-controller",
            "helm-controller-arg",
            "helm-job-image",
            "servicelb-namespace",
            "system-default-registry",
        ],
    ),
    (LOG, &["alsologtostderr", "log", "v", "vmodule"]),
    (
        NOT_BUILT,
        &[
            "bind-address",
            "disable-apiserver",
            "disable-apiserver-lb",
            "disable-kube-proxy",
            "egress-selector-mode",
            "enable-pprof",
            "image-credential-provider-bin-dir",
            "image-credential-provider-config",
            "node-external-dns",
            "node-internal-dns",
            "protect-kernel-defaults",
            "rootless",
            "selinux",
            "tls-san-security",
            "vpn-auth",
            "vpn-auth-file",
            "with-node-id",
            "write-kubeconfig-group",
            "write-kubeconfig-name",
        ],
    ),
    (
        OVERLAY,
        &[
            "flannel-cni-conf",
            "flannel-conf",
            "flannel-external-ip",
            "flannel-ipv6-masq",
        ],
    ),
    (
        SEALED,
        &["secrets-encryption", "secrets-encryption-provider"],
    ),
    (
        ONE_PORT,
        &[
            "advertise-port",
            "apiserver-bind-address",
            "apiserver-port",
            "lb-server-port",
            "supervisor-metrics",
            "supervisor-port",
        ],
    ),
];

/// What to do instead of a flag that k3s has and this command has not.
pub(crate) fn hint(flag: &str) -> Option<&'static str> {
    let refused = REFUSED.iter().find(|(_, flags)| flags.contains(&flag))?;
    Some(refused.0)
}
