//! The bucket that commands about snapshots work on, beside the folder.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use bootstrap::DataDir;
use clap::Args;
use config::{S3Config, S3Flags};
use env::SystemClock;
use snapshots::Bucket;

/// Below the data folder, while a copy is needed.
const DOWNLOADED: &str = ".downloaded";
const PRIVATE_FOLDER: u32 = 0o700;

#[derive(Args)]
pub(super) struct BucketFlags {
    #[command(flatten)]
    said: S3Flags,
}

/// A bucket, and what is to be done with what comes there.
pub(super) struct Opened {
    pub(super) bucket: Bucket,
    pub(super) config: S3Config,
    runtime: tokio::runtime::Runtime,
}

impl BucketFlags {
    /// `None`: nobody speaks of one, neither here nor in the configuration file.
    pub(super) fn config(&self) -> anyhow::Result<Option<S3Config>> {
        let files = host::values_in_files(&std::env::vars().collect());
        let all = self.said.clone().or_in_files(&files)?;
        // What files say is for whoever turns it on.
        let said = if all.etcd_s3 { all } else { self.said.clone() };
        Ok(S3Config::from_flags(said)?)
    }

    pub(super) fn open(&self) -> anyhow::Result<Option<Opened>> {
        let Some(config) = self.config()? else {
            return Ok(None);
        };
        Ok(Some(Opened {
            bucket: Bucket::open(&config, SystemClock::shared())?,
            config,
            runtime: super::stored::runtime()?,
        }))
    }
}

impl Opened {
    pub(super) fn wait<T>(
        &self,
        work: impl Future<Output = snapshots::Result<T>>,
    ) -> anyhow::Result<T> {
        Ok(self.runtime.block_on(work)?)
    }

    /// A copy of a copy, on the disk of the data folder.
    pub(super) fn fetch(&self, name: &str, data_dir: &DataDir) -> anyhow::Result<Fetched> {
        let root = data_dir.root().to_owned();
        let fetched = Fetched {
            file: root.join(DOWNLOADED).join(name),
            root,
        };
        fetched.remove();
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER)
            .create(fetched.root.join(DOWNLOADED))?;
        self.wait(self.bucket.download(name, &fetched.file))?;
        Ok(fetched)
    }
}

/// A snapshot that was read from a bucket; it goes when nobody needs it.
pub(super) struct Fetched {
    root: PathBuf,
    file: PathBuf,
}

impl Fetched {
    pub(super) fn path(&self) -> &Path {
        &self.file
    }

    fn remove(&self) {
        // What stays is in nobody's way, and goes with the next one; a data folder with something in it stays.
        let _stays = fs::remove_dir_all(self.root.join(DOWNLOADED));
        let _stays = fs::remove_dir(&self.root);
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        self.remove();
    }
}
