//! What a person may say about snapshots that a server takes by itself. The names are k3s'.

use std::path::PathBuf;

use clap::Args;

use crate::s3_flags::S3Flags;

/// Flags of `combo server` about its snapshots.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Snapshots")]
pub struct SnapshotFlags {
    /// Take no snapshots by itself; `combo snapshot save` still does
    #[arg(long, env = "COMBO_ETCD_DISABLE_SNAPSHOTS")]
    pub etcd_disable_snapshots: bool,

    /// When to take one: five fields of cron in UTC, or a name such as @daily
    /// [default: 0 */12 * * *]
    #[arg(
        long,
        env = "COMBO_ETCD_SNAPSHOT_SCHEDULE_CRON",
        value_name = "SCHEDULE"
    )]
    pub etcd_snapshot_schedule_cron: Option<String>,

    /// How many of them to keep; 0 keeps all [default: 5]
    #[arg(long, env = "COMBO_ETCD_SNAPSHOT_RETENTION", value_name = "NUMBER")]
    pub etcd_snapshot_retention: Option<usize>,

    /// Where to write them [default: server/db/snapshots in the data folder]
    #[arg(long, env = "COMBO_ETCD_SNAPSHOT_DIR", value_name = "DIR")]
    pub etcd_snapshot_dir: Option<PathBuf>,

    /// What their names begin with [default: etcd-snapshot]
    #[arg(long, env = "COMBO_ETCD_SNAPSHOT_NAME", value_name = "NAME")]
    pub etcd_snapshot_name: Option<String>,

    /// Compress them
    #[arg(long, env = "COMBO_ETCD_SNAPSHOT_COMPRESS")]
    pub etcd_snapshot_compress: bool,

    /// File with a passphrase that wraps the keys in them
    #[arg(long, env = "COMBO_SNAPSHOT_PASSPHRASE_FILE", value_name = "FILE")]
    pub snapshot_passphrase_file: Option<PathBuf>,

    #[command(flatten)]
    pub s3: S3Flags,
}
