//! Keeps a running node in step with what is put beside it: archives and lists in the store's directory, and `registries.yaml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use env::Shutdown;
use linux::Readable;
use linux::inotify::Watches;

use crate::arrivals::Contents;
use crate::contents;
use crate::error::{Error, ErrorKind, Result};
use crate::pull::{PullSettings, blocking};
use crate::reference::Reference;
use crate::registries::{DefaultEndpoint, Registries};
use crate::service::LocalImageService;
use crate::store::Pin;
use crate::watch::{StoreChange, StoreWatch};

/// A directory that nothing changed in for so long is complete, or not worth waiting for.
const FOLDER_QUIET: Duration = Duration::from_secs(1);
/// A registry that has not answered for a listed image is asked again after this, and then less often: nothing tells when it is back.
const LISTED_PAUSE_FIRST: Duration = Duration::from_secs(10);
const LISTED_PAUSE_MAX: Duration = Duration::from_mins(10);

impl LocalImageService {
    /// Imports the archives that lie in the store's directory, now and whenever one is put there, and pulls what lists name.
    /// From this call on, not from the first poll, pulls of missing images wait for an
    /// archive that may have them. Ends with the shutdown.
    pub fn keep_air_gap_imported(
        self: Arc<Self>,
        shutdown: Shutdown,
    ) -> impl Future<Output = Result<()>> + Send {
        self.arrivals.look();
        async move {
            let kept = self.keep_imported(&shutdown).await;
            self.arrivals.end();
            kept
        }
    }

    async fn keep_imported(&self, shutdown: &Shutdown) -> Result<()> {
        // Watched before the first look, so that nothing is missed between.
        let mut watch = self.store().watch()?;
        loop {
            self.arrivals.look();
            let listed = self.import_waiting().await;
            let pulling = async {
                self.pull_listed(listed).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                changed = file_changed(&mut watch) => changed?,
                () = pulling => {}
            }
        }
    }

    /// Imports one archive after the other; gives what the lists name. A file that cannot be read is told and left alone until something
    /// changes.
    async fn import_waiting(&self) -> Vec<Reference> {
        let store = Arc::clone(self.store());
        let looked = blocking(move || {
            let files = store.air_gap_files()?;
            let contents = |name: &String| contents::of(&store.root().join(name));
            let expected: BTreeMap<String, Contents> = files
                .archives
                .iter()
                .map(|name| (name.clone(), contents(name)))
                .collect();
            Ok((files, expected))
        });
        let (files, expected) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                let error = error.chain();
                tracing::warn!(error, "the directory of archives cannot be read");
                self.arrivals.end();
                return Vec::new();
            }
        };
        for (file, reason) in &files.refused {
            tracing::warn!(file, reason, "an air-gap file is not used");
        }
        self.arrivals.expect(expected);
        while let Some(file) = self.arrivals.next() {
            match self.import_one(&file).await {
                Ok(images) => tracing::info!(file, images, "imported an archive"),
                Err(error) => {
                    tracing::warn!(file, error = error.chain(), "an archive is not imported");
                }
            }
            self.arrivals.done(&file);
        }
        files.listed
    }

    async fn import_one(&self, file: &str) -> Result<usize> {
        let (store, arrivals) = (Arc::clone(self.store()), Arc::clone(&self.arrivals));
        let file = file.to_owned();
        blocking(move || Ok(store.import_air_gap_for(&file, &arrivals)?.len())).await
    }

    /// Returns when all are there, or will not come: a registry that does not answer is asked again.
    async fn pull_listed(&self, mut listed: Vec<Reference>) {
        let mut pause = LISTED_PAUSE_FIRST;
        loop {
            let mut left = Vec::new();
            for reference in listed {
                if let Err(error) = self.keep_listed(&reference).await {
                    tracing::warn!(%reference, error = error.chain(), "a listed image is not pulled");
                    if error.kind() == ErrorKind::Network {
                        left.push(reference);
                    }
                }
            }
            if left.is_empty() {
                return;
            }
            env::sleep(pause).await;
            pause = (pause * 2).min(LISTED_PAUSE_MAX);
            listed = left;
        }
    }

    /// Pulls an image unless it is there, and pins it.
    async fn keep_listed(&self, reference: &Reference) -> Result<()> {
        let name = reference.to_string();
        let found = self.store().status(&name)?;
        if found.as_ref().is_some_and(|found| found.pinned) {
            return Ok(());
        }
        if found.is_none() {
            self.pull_in_turn(reference, None).await?;
        }
        let store = Arc::clone(self.store());
        blocking(move || store.set_pin(&name, Pin::Pinned)).await
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
        let proxies = self.pull_settings().proxies.clone();
        let load = move |path: &Path| -> Result<PullSettings> {
            Ok(PullSettings {
                registries: Registries::load(path)?,
                default_endpoint,
                proxies: Arc::clone(&proxies),
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

/// Returns when an archive, a list or an OCI layout changed. Directories are filled file by file: the last one is waited for.
async fn file_changed(watch: &mut StoreWatch) -> Result<()> {
    loop {
        match watch.changed().await? {
            StoreChange::AirGapFile(_) => return Ok(()),
            StoreChange::AirGapFolder => break,
            StoreChange::Images => {}
        }
    }
    while let Ok(change) = env::timeout(FOLDER_QUIET, watch.changed()).await {
        change?;
    }
    Ok(())
}
