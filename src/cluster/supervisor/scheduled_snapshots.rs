//! The snapshots that a server takes by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bootstrap::DataDir;
use config::SnapshotConfig;
use k8s_openapi::jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use snapshots::{Bucket, Compression, Passphrase, SaveOptions, default_folder, prune, save};

use crate::control_plane::Basics;

/// Wall clocks are set: the schedule is looked at again after this long, and no moment is missed by more.
const LOOK_AGAIN: Duration = Duration::from_hours(1);

/// The snapshots that a server takes by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPlan {
    pub cron: String,
    pub kept: String,
    pub folder: PathBuf,
    /// Where copies go.
    pub bucket: Option<String>,
}

/// What is told to whoever asks.
pub(crate) fn plan(config: &SnapshotConfig, data_dir: &DataDir) -> SnapshotPlan {
    let folder = config.folder.clone();
    SnapshotPlan {
        cron: config.cron.clone(),
        kept: config
            .keep
            .map_or_else(|| "all".to_owned(), |keep| keep.to_string()),
        folder: folder.unwrap_or_else(|| default_folder(data_dir)),
        bucket: config.s3.as_ref().map(ToString::to_string),
    }
}

/// Takes snapshots as the schedule says, until the end.
pub(crate) async fn run(config: SnapshotConfig, node: String, data_dir: DataDir, basics: Basics) {
    let mut after = basics.clock.now();
    while let Some(next) = config.schedule.next(after, &TimeZone::UTC) {
        let now = basics.clock.now();
        let wait = next.saturating_since(now);
        if !wait.is_zero() {
            let wait = env::sleep(wait.min(LOOK_AGAIN));
            tokio::select! {
                biased;
                () = basics.shutdown.requested() => return,
                () = wait => {}
            }
            // Where the clock was set back, the schedule is that of the new time.
            after = after.min(basics.clock.now());
            continue;
        }
        take(&config, &node, &data_dir, &basics).await;
        after = basics.clock.now();
    }
    tracing::warn!(
        schedule = config.cron,
        "no snapshot is taken any more: the schedule names no moment"
    );
}

async fn take(config: &SnapshotConfig, node: &str, data_dir: &DataDir, basics: &Basics) {
    let (of_folder, data_dir) = (config.clone(), data_dir.clone());
    let (node, now, rng) = (node.to_owned(), basics.clock.now(), basics.rng.clone());
    let work = move || {
        let config = of_folder;
        let passphrase = config.passphrase_file.as_deref().map(Passphrase::read);
        let options = SaveOptions {
            folder: config.folder.unwrap_or_else(|| default_folder(&data_dir)),
            series: config.series,
            node,
            compression: if config.compress {
                Compression::Zstd
            } else {
                Compression::None
            },
            passphrase: passphrase.transpose()?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let saved = save(&data_dir, &options, now, &rng)?;
        let removed = match config.keep {
            Some(keep) => prune(&options.folder, &options.series, keep)?,
            None => Vec::new(),
        };
        Ok::<_, snapshots::Error>((saved, removed))
    };
    let saved = match env::spawn_blocking(work).await {
        Ok(Ok((saved, removed))) => {
            tracing::info!(
                path = %saved.path.display(),
                bytes = saved.bytes,
                revision = saved.header.revision,
                removed = removed.len(),
                "a snapshot is taken"
            );
            saved
        }
        Ok(Err(error)) => {
            let error = anyhow::Error::from(error);
            return tracing::error!("no snapshot is taken: {error:#}");
        }
        Err(error) => return tracing::error!(%error, "no snapshot is taken"),
    };
    match copy(config, &saved.path, basics).await {
        Ok(None) => {}
        Ok(Some((place, removed))) => {
            tracing::info!(place, removed, "the snapshot is copied to the bucket");
        }
        Err(error) => tracing::error!("the snapshot is in its folder only: {error:#}"),
    }
}

/// Where the copy is, and how many others went for it; `None`: none is made.
async fn copy(
    config: &SnapshotConfig,
    snapshot: &Path,
    basics: &Basics,
) -> anyhow::Result<Option<(String, usize)>> {
    let Some(s3) = &config.s3 else {
        return Ok(None);
    };
    let bucket = Bucket::open(s3, Arc::clone(&basics.clock))?;
    let place = bucket.upload(snapshot).await?;
    let removed = match s3.keep() {
        Some(keep) => bucket.prune(&config.series, keep).await?,
        None => Vec::new(),
    };
    Ok(Some((place, removed.len())))
}
