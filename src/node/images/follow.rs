//! Keeps a running node in step with what is put beside it: archives and lists in the store's directory, and `registries.yaml`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::Shutdown;
use linux::Readable;
use linux::inotify::Watches;

use crate::error::{Error, Result};
use crate::pull::{PullSettings, blocking};
use crate::registries::{DefaultEndpoint, Registries};
use crate::service::LocalImageService;
use crate::watch::StoreChange;

impl LocalImageService {
    /// Imports the archives that lie in the store's directory, now and whenever one is put there, and pulls what lists name.
    /// From this call on, not from the first poll, pulls of missing images wait for the import. Ends with the shutdown.
    pub fn keep_air_gap_imported(
        self: Arc<Self>,
        shutdown: Shutdown,
    ) -> impl Future<Output = Result<()>> + Send {
        self.importing.send_replace(true);
        async move {
            let kept = self.keep_imported(&shutdown).await;
            self.importing.send_replace(false);
            kept
        }
    }

    async fn keep_imported(&self, shutdown: &Shutdown) -> Result<()> {
        // Watched before the first look, so that nothing is missed between.
        let mut watch = self.store().watch()?;
        loop {
            self.importing.send_replace(true);
            let files = self.import_waiting().await;
            self.importing.send_replace(false);
            self.pull_listed(files).await;
            loop {
                let change = tokio::select! {
                    biased;
                    () = shutdown.requested() => return Ok(()),
                    change = watch.changed() => change?,
                };
                if matches!(change, StoreChange::AirGapFile(_)) {
                    break;
                }
            }
        }
    }

    /// Imports one archive after the other; gives what the lists name. A file that cannot be read is told and left alone until it changes.
    async fn import_waiting(&self) -> Vec<crate::Reference> {
        let store = Arc::clone(self.store());
        let files = match blocking(move || store.air_gap_files()).await {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(
                    error = error.chain(),
                    "the directory of archives cannot be read"
                );
                return Vec::new();
            }
        };
        for (file, reason) in &files.refused {
            tracing::warn!(file, reason, "an air-gap file is not used");
        }
        for file in files.archives {
            let (store, name) = (Arc::clone(self.store()), file.clone());
            match blocking(move || store.import_air_gap(&name)).await {
                Ok(images) => tracing::info!(file, images = images.len(), "imported an archive"),
                Err(error) => {
                    tracing::warn!(file, error = error.chain(), "an archive is not imported");
                }
            }
        }
        files.listed
    }

    async fn pull_listed(&self, listed: Vec<crate::Reference>) {
        for reference in listed {
            if self
                .store()
                .status(&reference.to_string())
                .is_ok_and(|found| found.is_some())
            {
                continue;
            }
            if let Err(error) = self.pull_in_turn(&reference, None).await {
                tracing::warn!(%reference, error = error.chain(), "a listed image is not pulled");
            }
        }
    }

    /// Takes `registries.yaml` now and whenever it changes; a file that is wrong is told and the one before stays. The first must be right.
    pub fn follow_registries(
        self: Arc<Self>,
        path: PathBuf,
        default_endpoint: DefaultEndpoint,
        shutdown: Shutdown,
    ) -> Result<impl Future<Output = Result<()>> + Send> {
        // Editors replace files, so the directory is watched.
        let directory = path
            .parent()
            .filter(|directory| directory.is_dir())
            .map(Path::to_path_buf);
        let watches = Watches::new()?;
        if let Some(directory) = &directory {
            watches.watch_directory(directory)?;
        }
        let readable = Readable::new(&watches)?;
        let load = move |path: &Path| -> Result<PullSettings> {
            Ok(PullSettings {
                registries: Registries::load(path)?,
                default_endpoint,
            })
        };
        self.set_pull_settings(load(&path)?);
        Ok(async move {
            loop {
                let changed = readable.read_with(|| match watches.take() {
                    Ok(changes) if changes.is_empty() => None,
                    taken => Some(taken.map(|changes| {
                        changes.iter().any(|change| {
                            change.overflow || change.name.as_deref() == path.file_name()
                        })
                    })),
                });
                let is_ours = tokio::select! {
                    biased;
                    () = shutdown.requested() => return Ok::<(), Error>(()),
                    changed = changed => changed??,
                };
                if !is_ours {
                    continue;
                }
                match load(&path) {
                    Ok(settings) => self.set_pull_settings(settings),
                    Err(error) => {
                        tracing::warn!(error = error.chain(), "registries.yaml is not used");
                    }
                }
            }
        })
    }
}
