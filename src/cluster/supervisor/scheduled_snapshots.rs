//! The snapshots that a server takes by itself.

use std::time::Duration;

use bootstrap::DataDir;
use config::SnapshotConfig;
use k8s_openapi::jiff::tz::TimeZone;
use snapshots::{Compression, Passphrase, SaveOptions, default_folder, prune, save};

use crate::control_plane::Basics;

/// Wall clocks are set: the schedule is looked at again after this long, and no moment is missed by more.
const LOOK_AGAIN: Duration = Duration::from_hours(1);

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
    let (config, data_dir) = (config.clone(), data_dir.clone());
    let (node, now, rng) = (node.to_owned(), basics.clock.now(), basics.rng.clone());
    let work = move || {
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
    match env::spawn_blocking(work).await {
        Ok(Ok((saved, removed))) => tracing::info!(
            path = %saved.path.display(),
            bytes = saved.bytes,
            revision = saved.header.revision,
            removed = removed.len(),
            "a snapshot is taken"
        ),
        Ok(Err(error)) => {
            let error = anyhow::Error::from(error);
            tracing::error!("no snapshot is taken: {error:#}");
        }
        Err(error) => tracing::error!(%error, "no snapshot is taken"),
    }
}
