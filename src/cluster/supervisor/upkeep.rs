//! Work on a server's store that people ask for: the server does it while it runs, the command itself while it does not.
//!
//! A server is asked at a socket in its data folder, one line of JSON each way.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use bootstrap::DataDir;
use env::{Shutdown, SystemClock, SystemRng};
use kv::{Alarm, Kv as _};
use rest::MetricsSource;
use serde::{Deserialize, Serialize};
use sqlite::{Checked, SealingKeys, SqliteKv, check_store, is_open};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

use crate::control_plane::{open_store, sealed_prefixes};
use crate::scheduled_snapshots::SnapshotPlan;

/// Whoever asks sends less.
const REQUEST_BYTES_MAX: u64 = 4096;
const ANSWER_BYTES_MAX: u64 = 1 << 20;
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upkeep {
    Status,
    /// Seal all Secrets anew, with a new key.
    RotateKeys,
    /// Forget all history.
    Compact,
    /// Give space back.
    Vacuum,
    /// Tell when the server takes snapshots by itself.
    SnapshotPlan,
    /// Take writes again: what was wrong is put right.
    Disarm,
    /// Take no more writes: somebody found damage.
    TellDamage,
}

/// How a server's store stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    pub revision: i64,
    pub compact_revision: i64,
    pub keys: usize,
    pub size_bytes: u64,
    pub size_in_use_bytes: u64,
    /// How large it may be.
    #[serde(default)]
    pub quota_bytes: Option<u64>,
    /// Why it refuses writes, in etcd's names.
    #[serde(default)]
    pub alarms: Vec<String>,
    /// The last one seals.
    pub sealing_keys: Vec<i64>,
    /// How many values each key sealed, old versions among them.
    pub sealed: BTreeMap<i64, u64>,
    /// Values of Secrets that are not sealed.
    pub unsealed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    Status(StoreStatus),
    Rotated { key: i64, values: usize },
    Compacted { revision: i64 },
    Vacuumed { before: u64, after: u64 },
    SnapshotPlan(Option<SnapshotPlan>),
    Disarmed { alarms: Vec<String> },
    DamageTold,
}

/// Does what is asked for, and tells whether a server did it.
pub async fn upkeep(data_dir: &DataDir, what: Upkeep) -> anyhow::Result<Done> {
    let database = database(data_dir)?;
    if is_open(&database)? {
        return ask(data_dir, what);
    }
    let opened = open_store(
        data_dir,
        None,
        (&SystemClock::shared(), &SystemRng::shared()),
    )?;
    let done = opened.clone().run(what).await;
    opened.store.close().await.context("close the store")?;
    done
}

/// Reads all of a server's store, whether the server runs or not. One that runs writes no more once damage is found; without one, the next start finds
/// it again.
pub fn check_database(data_dir: &DataDir) -> anyhow::Result<Checked> {
    let database = database(data_dir)?;
    let keys = SealingKeys::load(&data_dir.encryption_key(), SystemRng::shared())?;
    let checked = check_store(&database, sealed_prefixes(keys))?;
    if !checked.problems.is_empty()
        && is_open(&database)?
        && let Err(error) = ask(data_dir, Upkeep::TellDamage)
    {
        tracing::warn!(
            error = format!("{error:#}"),
            "whoever has the store open does not know that it is damaged"
        );
    }
    Ok(checked)
}

/// The file of a server's store.
fn database(data_dir: &DataDir) -> anyhow::Result<PathBuf> {
    data_dir.has_own_store("this command")?;
    let database = data_dir.database();
    anyhow::ensure!(
        database.is_file(),
        "there is no server's data in {}: name its folder with --data-dir",
        data_dir.root().display()
    );
    Ok(database)
}

/// The snapshots that the server takes that runs on a data folder; `None`: none runs.
pub fn running_plan(data_dir: &DataDir) -> anyhow::Result<Option<Option<SnapshotPlan>>> {
    let database = data_dir.database();
    if !database.is_file() || !is_open(&database)? {
        return Ok(None);
    }
    match ask(data_dir, Upkeep::SnapshotPlan)? {
        Done::SnapshotPlan(plan) => Ok(Some(plan)),
        _ => anyhow::bail!("the server answered something else"),
    }
}

fn socket(data_dir: &DataDir) -> PathBuf {
    data_dir.root().join("server/upkeep.sock")
}

fn ask(data_dir: &DataDir, what: Upkeep) -> anyhow::Result<Done> {
    let path = socket(data_dir);
    let mut stream = linux::unix_socket::connect(&path)
        .context("the store is in use, but no server answers: another command may work on it")?;
    let mut line = serde_json::to_string(&what)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut answer)?;
    anyhow::ensure!(!answer.is_empty(), "the server ended before it was done");
    let answer: Result<Done, String> = serde_json::from_str(&answer)?;
    answer.map_err(anyhow::Error::msg)
}

/// A store with the keys that seal in it.
#[derive(Clone, Debug)]
pub(crate) struct OpenedStore {
    pub(crate) store: Arc<SqliteKv>,
    pub(crate) keys: Arc<SealingKeys>,
    /// One at a time changes keys.
    rotating: Arc<Mutex<()>>,
    /// Known once a server runs.
    plan: Option<SnapshotPlan>,
}

impl OpenedStore {
    pub(crate) fn new(store: Arc<SqliteKv>, keys: Arc<SealingKeys>) -> Self {
        Self {
            store,
            keys,
            rotating: Arc::default(),
            plan: None,
        }
    }

    async fn run(self, what: Upkeep) -> anyhow::Result<Done> {
        match what {
            Upkeep::Status => self.status().await.map(Done::Status),
            Upkeep::RotateKeys => self.rotate().await,
            Upkeep::Compact => {
                let revision = self.store.current_revision();
                match self.store.compact(revision).await {
                    // It is as compact as it gets.
                    Ok(()) | Err(kv::Error::Compacted { .. }) => Ok(Done::Compacted { revision }),
                    Err(error) => Err(error.into()),
                }
            }
            Upkeep::Vacuum => {
                let before = self.store.status().await?.size_bytes;
                self.store.vacuum().await?;
                let after = self.store.status().await?.size_bytes;
                Ok(Done::Vacuumed { before, after })
            }
            Upkeep::SnapshotPlan => Ok(Done::SnapshotPlan(self.plan)),
            Upkeep::Disarm => {
                let raised = self.store.alarms();
                for alarm in &raised {
                    self.store.clear_alarm(*alarm).await?;
                }
                let alarms = raised.into_iter().map(alarm_name).collect();
                Ok(Done::Disarmed { alarms })
            }
            Upkeep::TellDamage => {
                self.store.raise_alarm(Alarm::Corrupt).await?;
                Ok(Done::DamageTold)
            }
        }
    }

    async fn status(&self) -> anyhow::Result<StoreStatus> {
        let status = self.store.status().await?;
        let seals = self.store.seals().await?;
        Ok(StoreStatus {
            revision: status.revision,
            compact_revision: status.compact_revision,
            keys: status.keys,
            size_bytes: status.size_bytes,
            size_in_use_bytes: status.size_in_use_bytes,
            quota_bytes: self.store.quota_bytes(),
            alarms: self.store.alarms().into_iter().map(alarm_name).collect(),
            sealing_keys: self.keys.ids(),
            sealed: seals.by_key,
            unsealed: seals.unsealed,
        })
    }

    async fn rotate(&self) -> anyhow::Result<Done> {
        let _alone = self.rotating.lock().await;
        let key = self.keys.add()?;
        let values = self.finish().await?;
        Ok(Done::Rotated { key, values })
    }

    /// Seals anew what former keys sealed, and forgets those keys.
    async fn finish(&self) -> anyhow::Result<usize> {
        let values = self.store.reseal().await?;
        self.keys.keep_newest()?;
        let key = self.keys.ids().last().copied();
        tracing::info!(values, key, "Secrets are sealed with a new key");
        Ok(values)
    }

    /// Goes on where the end of a process broke off.
    pub(crate) async fn finish_rotation(self) {
        let _alone = self.rotating.lock().await;
        if self.keys.ids().len() > 1
            && let Err(error) = self.finish().await
        {
            tracing::warn!(%error, "Secrets stay sealed with former keys until the next start");
        }
    }

    /// Answers at the socket until the end.
    pub(crate) fn serve(
        mut self,
        plan: Option<SnapshotPlan>,
        data_dir: &DataDir,
        shutdown: Shutdown,
    ) -> anyhow::Result<()> {
        self.plan = plan;
        let listener = linux::unix_socket::listen(&socket(data_dir))?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        env::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = shutdown.requested() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) => drop(env::spawn(self.clone().answer(stream))),
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the store's socket is not accepted");
                        env::sleep(ACCEPT_RETRY).await;
                    }
                }
            }
        });
        Ok(())
    }

    async fn answer(self, mut stream: UnixStream) {
        // The socket's mode says the same; a descriptor may have been handed on.
        if stream.peer_cred().is_ok_and(|peer| peer.uid() != 0) {
            return tracing::warn!("somebody other than root asked at the store's socket");
        }
        let mut line = String::new();
        let (read, mut write) = stream.split();
        let mut read = tokio::io::BufReader::new(read.take(REQUEST_BYTES_MAX));
        if read.read_line(&mut line).await.is_err() {
            return;
        }
        let done = match serde_json::from_str(&line) {
            Ok(what) => self
                .run(what)
                .await
                .map_err(|error: anyhow::Error| format!("{error:#}")),
            Err(error) => Err(format!("the server does not know what is asked: {error}")),
        };
        let mut answer = serde_json::to_string(&done).expect("an answer is JSON");
        answer.push('\n');
        // Whoever asked may have gone.
        let _gone = write.write_all(answer.as_bytes()).await;
    }
}

fn alarm_name(alarm: Alarm) -> String {
    let name = match alarm {
        Alarm::NoSpace => "NOSPACE",
        Alarm::Corrupt => "CORRUPT",
    };
    name.to_owned()
}

#[async_trait]
impl MetricsSource for OpenedStore {
    async fn text(&self) -> String {
        match self.store.metrics().await {
            Ok(text) => text,
            Err(error) => {
                tracing::debug!(%error, "the store tells no metrics");
                String::new()
            }
        }
    }
}
