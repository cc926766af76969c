//! An etcd cluster as the store of several servers: reached, and the keys in it that all of them have alike.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bootstrap::{DataDir, SharedKeys, random_password};
use config::{DatastoreConfig, ServerConfig};
use env::{Rng, Shutdown};
use joining::read_password;
use kv::{Compare, Durability, KeyRange, Kv, Limits, Operation, RangeRequest, Revision, Txn};
use linux::AtomicFile;
use remote::{Client, Options, RemoteKv, Security};
use sqlite::SealingKeys;

use crate::control_plane::{Basics, REQUEST_BYTES_MAX, sealed_prefixes};

/// Where objects are, as in every Kubernetes.
const OBJECTS_PREFIX: &str = "/registry/";
/// Where the keys are that servers share.
const KEYS: &str = "/combo/shared-keys";
/// Servers that write the keys at the same time settle it within fewer tries.
const TRIES_MAX: usize = 5;
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The cluster's datastore, for a server that is given one.
pub(crate) struct Datastore {
    client: Client,
    /// Of servers; it seals what is shared.
    pub(crate) password: String,
}

impl Datastore {
    /// `None`: the store is in the data folder. Errors when the folder belongs to another store than what is asked for.
    pub(crate) fn of(
        config: &ServerConfig,
        data_dir: &DataDir,
        rng: &dyn Rng,
    ) -> anyhow::Result<Option<Self>> {
        let Some(datastore) = &config.datastore else {
            data_dir
                .has_own_store("`combo server` without --datastore-endpoint")
                .with_context(|| {
                    format!(
                        "give the flag again, or remove {} to begin a cluster of its own",
                        data_dir.datastore().display()
                    )
                })?;
            return Ok(None);
        };
        let client = datastore_client(datastore)?;
        let kept = || read_password(&data_dir.token()).context("read the token of servers");
        let password = match &config.token {
            Some(said) => said.clone(),
            None => kept()?.unwrap_or_else(|| random_password(rng)),
        };
        Ok(Some(Self { client, password }))
    }

    /// Gives the data folder the keys of the cluster, or the cluster those of the folder if it has none yet. `make` makes what is missing in the
    /// folder.
    pub(crate) async fn share_keys(
        &self,
        data_dir: &DataDir,
        basics: &Basics,
        make: impl Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let store = self.open(Options {
            mirrored: KeyRange::key(KEYS),
            auto_compaction: None,
            ..Options::default()
        });
        let store = until(&basics.shutdown, store).await?;
        // What this very start made may give way to what another server was quicker to make.
        let is_of_nobody = !SharedKeys::are_in(data_dir)? || belongs_to(data_dir)?.is_some();
        for _ in 0..TRIES_MAX {
            let (stored, revision) = self.stored(&*store).await?;
            if let Some(stored) = &stored {
                let is_same = belongs_to(data_dir)?.is_none_or(|cluster| cluster == stored.cluster);
                anyhow::ensure!(
                    is_of_nobody && is_same,
                    "the data folder {} has the keys of another cluster than the datastore: start with an empty folder, or name its own datastore",
                    data_dir.root().display()
                );
                stored.write(data_dir)?;
            }
            make()?;
            let cluster = stored.as_ref().map(|stored| stored.cluster.clone());
            let cluster = cluster.unwrap_or_else(|| basics.rng.uuid());
            let keys = SharedKeys::of(data_dir, &cluster)?;
            let is_stored = stored.as_ref() == Some(&keys);
            if is_stored || self.publish(&*store, &keys, revision, &*basics.rng).await? {
                let text = format!("{cluster}\n{}\n", self.client.endpoints());
                AtomicFile::private(data_dir.datastore()).write(text.as_bytes())?;
                return Ok(());
            }
        }
        anyhow::bail!("other servers write the keys of the cluster all the time: start again")
    }

    async fn open(&self, options: Options) -> anyhow::Result<Arc<RemoteKv>> {
        let endpoints = self.client.endpoints();
        RemoteKv::open(self.client.clone(), options)
            .await
            .with_context(|| format!("open the datastore {endpoints}"))
    }

    /// What the servers share, and at which revision it was written.
    async fn stored(&self, store: &dyn Kv) -> anyhow::Result<(Option<SharedKeys>, Revision)> {
        let request = RangeRequest::newest(KeyRange::key(KEYS));
        let found = store
            .range(request)
            .await
            .context("read the keys of the cluster")?;
        let Some(entry) = found.entries.first().cloned() else {
            return Ok((None, 0));
        };
        let revision = entry.mod_revision;
        let password = self.password.clone();
        let opened = env::spawn_blocking(move || SharedKeys::open(&entry.value, &password)).await?;
        Ok((Some(opened?), revision))
    }

    /// Writes them unless another server was quicker.
    async fn publish(
        &self,
        store: &dyn Kv,
        keys: &SharedKeys,
        revision: Revision,
        rng: &dyn Rng,
    ) -> anyhow::Result<bool> {
        let txn = Txn {
            compares: vec![Compare::mod_revision_is(KEYS, revision)],
            success: vec![Operation::Put {
                key: KEYS.into(),
                value: keys.seal(&self.password, rng).into(),
                lease: 0,
            }],
            failure: Vec::new(),
        };
        let answer = store
            .txn(txn, Durability::Durable)
            .await
            .context("write the keys of the cluster")?;
        Ok(answer.succeeded)
    }

    /// The store, once the data folder has the keys.
    pub(crate) async fn open_store(
        &self,
        keys: Arc<SealingKeys>,
        basics: &Basics,
    ) -> anyhow::Result<Arc<RemoteKv>> {
        let options = Options {
            mirrored: KeyRange::prefix(OBJECTS_PREFIX),
            limits: Limits {
                request_bytes_max: REQUEST_BYTES_MAX,
                ..Limits::default()
            },
            sealers: sealed_prefixes(keys),
            rng: basics.rng.clone(),
            ..Options::default()
        };
        let store = until(&basics.shutdown, self.open(options)).await?;
        tracing::info!(datastore = %self.client.endpoints(), "the cluster is in an etcd cluster");
        Ok(store)
    }
}

async fn until<T>(
    shutdown: &Shutdown,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        biased;
        () = shutdown.requested() => anyhow::bail!("the end was asked for before the datastore answered"),
        done = work => done,
    }
}

/// The cluster that a data folder was used for, if that was in a datastore.
fn belongs_to(data_dir: &DataDir) -> anyhow::Result<Option<String>> {
    let path = data_dir.datastore();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().next().map(str::to_owned)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// How commands and servers talk to an etcd cluster.
pub fn datastore_client(config: &DatastoreConfig) -> anyhow::Result<Client> {
    Ok(Client::new(config.endpoints.clone(), security(config)?))
}

fn security(config: &DatastoreConfig) -> anyhow::Result<Security> {
    let Some(authority) = &config.authority_file else {
        return Ok(Security::Plain);
    };
    let authority = read(authority, "datastore-cafile")?;
    let identity = match &config.identity_files {
        None => None,
        Some((certificate, key)) => Some((
            read(certificate, "datastore-certfile")?,
            read(key, "datastore-keyfile")?,
        )),
    };
    let identity = identity
        .as_ref()
        .map(|(certificate, key)| (certificate.as_slice(), key.as_slice()));
    Ok(Security::tls(&authority, identity)?)
}

fn read(path: &Path, flag: &str) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text))
        .with_context(|| format!("--{flag}: cannot read {}", path.display()))?;
    Ok(text)
}
