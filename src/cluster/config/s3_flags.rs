//! What a person may say about a store of objects that snapshots are copied to. The names are k3s', each also without `etcd-`.

use std::path::PathBuf;

use clap::Args;

/// Flags of `combo server` and `combo snapshot` about the copies of snapshots in a bucket.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Snapshots in S3")]
pub struct S3Flags {
    /// Copy snapshots to a bucket of S3, or of what speaks as it does
    #[arg(long, alias = "s3", env = "COMBO_ETCD_S3")]
    pub etcd_s3: bool,

    /// Host and port of the store [default: s3.amazonaws.com]
    #[arg(
        long,
        alias = "s3-endpoint",
        env = "COMBO_ETCD_S3_ENDPOINT",
        value_name = "HOST"
    )]
    pub etcd_s3_endpoint: Option<String>,

    /// File with the authorities that the store's certificate is signed by [default: the system's]
    #[arg(
        long,
        alias = "s3-endpoint-ca",
        env = "COMBO_ETCD_S3_ENDPOINT_CA",
        value_name = "FILE"
    )]
    pub etcd_s3_endpoint_ca: Option<PathBuf>,

    /// Believe any certificate of the store
    #[arg(
        long,
        alias = "s3-skip-ssl-verify",
        env = "COMBO_ETCD_S3_SKIP_SSL_VERIFY"
    )]
    pub etcd_s3_skip_ssl_verify: bool,

    /// Access key
    #[arg(
        long,
        alias = "s3-access-key",
        env = "AWS_ACCESS_KEY_ID",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub etcd_s3_access_key: Option<String>,

    /// Secret key
    #[arg(
        long,
        alias = "s3-secret-key",
        env = "AWS_SECRET_ACCESS_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub etcd_s3_secret_key: Option<String>,

    /// Session token that goes with the keys, if they are temporary
    #[arg(
        long,
        alias = "s3-session-token",
        env = "AWS_SESSION_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub etcd_s3_session_token: Option<String>,

    /// Bucket
    #[arg(
        long,
        alias = "s3-bucket",
        env = "COMBO_ETCD_S3_BUCKET",
        value_name = "NAME"
    )]
    pub etcd_s3_bucket: Option<String>,

    /// Where the bucket's name stands: dns, in the host; path, behind it; auto, dns for Amazon's
    /// hosts [default: auto]
    #[arg(
        long,
        alias = "s3-bucket-lookup-type",
        env = "COMBO_ETCD_S3_BUCKET_LOOKUP_TYPE",
        value_name = "TYPE"
    )]
    pub etcd_s3_bucket_lookup_type: Option<String>,

    /// Region of the bucket [default: us-east-1]
    #[arg(
        long,
        alias = "s3-region",
        env = "COMBO_ETCD_S3_REGION",
        value_name = "REGION"
    )]
    pub etcd_s3_region: Option<String>,

    /// Folder in the bucket
    #[arg(
        long,
        alias = "s3-folder",
        env = "COMBO_ETCD_S3_FOLDER",
        value_name = "FOLDER"
    )]
    pub etcd_s3_folder: Option<String>,

    /// How many to keep there, of a name and a node; 0 keeps all [default: 5]
    #[arg(
        long,
        alias = "s3-retention",
        env = "COMBO_ETCD_S3_RETENTION",
        value_name = "NUMBER"
    )]
    pub etcd_s3_retention: Option<usize>,

    /// Proxy to the store, an http:// URL [default: as HTTPS_PROXY and NO_PROXY say]
    #[arg(
        long,
        alias = "s3-proxy",
        env = "COMBO_ETCD_S3_PROXY",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub etcd_s3_proxy: Option<String>,

    /// Talk to the store by http
    #[arg(long, alias = "s3-insecure", env = "COMBO_ETCD_S3_INSECURE")]
    pub etcd_s3_insecure: bool,

    /// How long one request may take [default: 5m]
    #[arg(
        long,
        alias = "s3-timeout",
        env = "COMBO_ETCD_S3_TIMEOUT",
        value_name = "DURATION"
    )]
    pub etcd_s3_timeout: Option<String>,
}
