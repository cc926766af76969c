//! The snapshots that a server takes by itself.

use std::path::PathBuf;

use semantics::cron_schedule::{Schedule, parse};

use crate::error::invalid;
use crate::paths::absolute;
use crate::snapshot_flags::SnapshotFlags;
use crate::{ConfigError, S3Config};

/// As k3s takes those of its etcd.
pub const DEFAULT_SNAPSHOT_SCHEDULE: &str = "0 */12 * * *";
pub const DEFAULT_SNAPSHOT_RETENTION: usize = 5;
const DEFAULT_SERIES: &str = "etcd-snapshot";
const SERIES_BYTES_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    pub schedule: Schedule,
    /// The schedule as it was said.
    pub cron: String,
    /// `None`: below the data folder.
    pub folder: Option<PathBuf>,
    pub series: String,
    /// `None`: all.
    pub keep: Option<usize>,
    pub compress: bool,
    pub passphrase_file: Option<PathBuf>,
    /// Where copies of them go, too.
    pub s3: Option<S3Config>,
}

impl SnapshotConfig {
    /// `None`: the server takes none.
    pub(crate) fn from_flags(said: SnapshotFlags) -> Result<Option<Self>, ConfigError> {
        let cron = said
            .etcd_snapshot_schedule_cron
            .unwrap_or_else(|| DEFAULT_SNAPSHOT_SCHEDULE.to_owned());
        let schedule =
            parse(&cron).map_err(|why| invalid("etcd-snapshot-schedule-cron", &cron, &why))?;
        let series = said
            .etcd_snapshot_name
            .unwrap_or_else(|| DEFAULT_SERIES.to_owned());
        if !is_file_name(&series) {
            let why = "it has to be letters, digits, dots, dashes and underscores, and not begin with a dot";
            return Err(invalid("etcd-snapshot-name", series, why));
        }
        let s3 = S3Config::from_flags(said.s3)?;
        if said.etcd_disable_snapshots {
            return Ok(None);
        }
        let keep = said
            .etcd_snapshot_retention
            .unwrap_or(DEFAULT_SNAPSHOT_RETENTION);
        Ok(Some(Self {
            schedule,
            cron,
            folder: said.etcd_snapshot_dir.map(absolute),
            series,
            keep: (keep > 0).then_some(keep),
            compress: said.etcd_snapshot_compress,
            passphrase_file: said.snapshot_passphrase_file.map(absolute),
            s3,
        }))
    }
}

/// Whether snapshots can be called so.
pub fn is_file_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=SERIES_BYTES_MAX).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_takes_snapshots_unless_told_not_to() {
        let config = SnapshotConfig::from_flags(SnapshotFlags::default());
        let config = config.expect("good").expect("some");
        assert_eq!(
            (config.cron.as_str(), config.keep),
            ("0 */12 * * *", Some(5))
        );
        let none = SnapshotFlags {
            etcd_disable_snapshots: true,
            ..SnapshotFlags::default()
        };
        assert_eq!(SnapshotConfig::from_flags(none), Ok(None));
        let all = SnapshotFlags {
            etcd_snapshot_retention: Some(0),
            ..SnapshotFlags::default()
        };
        let all = SnapshotConfig::from_flags(all)
            .expect("good")
            .expect("some");
        assert_eq!(all.keep, None);
    }

    #[test]
    fn wrong_schedules_and_names_are_refused_also_when_nothing_is_taken() {
        for (cron, name, flag) in [
            ("61 * * * *", "a", "etcd-snapshot-schedule-cron"),
            ("* * * * *", "../a", "etcd-snapshot-name"),
            ("* * * * *", ".a", "etcd-snapshot-name"),
            ("* * * * *", "", "etcd-snapshot-name"),
        ] {
            let error = SnapshotConfig::from_flags(SnapshotFlags {
                etcd_disable_snapshots: true,
                etcd_snapshot_schedule_cron: Some(cron.to_owned()),
                etcd_snapshot_name: Some(name.to_owned()),
                ..SnapshotFlags::default()
            });
            let error = error.expect_err("refused");
            assert!(
                matches!(error, ConfigError::Flag { flag: named, .. } if named == flag),
                "{error}"
            );
        }
    }
}
