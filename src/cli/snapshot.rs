//! `combo snapshot`: the whole cluster in one file, and back.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bootstrap::DataDir;
use clap::{Args, Subcommand, ValueEnum};
use env::{SystemClock, SystemRng};
use host::{ServiceSettings, SnapshotSettings};
use k8s_openapi::jiff::tz::TimeZone;
use semantics::cron_schedule;
use serde_json::{Value, json};
use snapshots::{
    Compression, Existing, Listed, Passphrase, SaveOptions, default_folder, delete, list, prune,
    restore, save,
};
use supervisor::{SnapshotPlan, running_plan};

use super::bucket::{BucketFlags, Opened};
use super::stored::DataDirFlag;

/// Of the schedule, so many moments are told.
const MOMENTS_TOLD: usize = 3;

#[derive(Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Take a snapshot, while the server runs or not: the store, authorities, keys, tokens and the manifests folder
    Save(SaveCommand),
    /// List the snapshots in the folder
    #[command(aliases = ["ls", "l"])]
    List(ListCommand),
    /// Make a server's data folder of a snapshot: started with the same flags, it is the same cluster
    Restore(RestoreCommand),
    /// Remove all but the newest snapshots of a name, of each node by itself
    Prune(PruneCommand),
    /// Remove snapshots
    Delete(DeleteCommand),
    /// Tell when the server takes snapshots by itself
    Schedule(ScheduleCommand),
}

#[derive(Args)]
struct Folder {
    #[command(flatten)]
    data_dir: DataDirFlag,
    /// Folder of the snapshots [default: as the configuration file says, else server/db/snapshots in the data folder]
    #[arg(long, alias = "etcd-snapshot-dir", value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    bucket: BucketFlags,
}

#[derive(Args)]
pub(crate) struct SaveCommand {
    #[command(flatten)]
    folder: Folder,
    /// What its name begins with
    #[arg(long, default_value = "on-demand", value_name = "NAME", value_parser = file_name)]
    name: String,
    /// Compress it
    #[arg(long, alias = "etcd-snapshot-compress")]
    snapshot_compress: bool,
    /// File with a passphrase that wraps the keys in it
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ListCommand {
    #[command(flatten)]
    folder: Folder,
    /// How to print them
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
pub(crate) struct RestoreCommand {
    #[command(flatten)]
    folder: Folder,
    /// A snapshot's path, or its name in the folder
    #[arg(value_name = "SNAPSHOT")]
    snapshot: PathBuf,
    /// File with the passphrase that wraps the keys in it
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Set the cluster aside that the data folder holds already
    #[arg(long)]
    replace: bool,
}

#[derive(Args)]
pub(crate) struct PruneCommand {
    #[command(flatten)]
    folder: Folder,
    /// What their names begin with
    #[arg(long, default_value = "on-demand", value_name = "NAME", value_parser = file_name)]
    name: String,
    /// How many to keep
    #[arg(
        long,
        alias = "etcd-snapshot-retention",
        default_value_t = config::DEFAULT_SNAPSHOT_RETENTION,
        value_name = "NUMBER"
    )]
    snapshot_retention: usize,
}

#[derive(Args)]
pub(crate) struct DeleteCommand {
    #[command(flatten)]
    folder: Folder,
    /// Their names in the folder
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Args)]
pub(crate) struct ScheduleCommand {
    #[command(flatten)]
    folder: Folder,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

fn file_name(text: &str) -> Result<String, String> {
    if config::is_file_name(text) {
        return Ok(text.to_owned());
    }
    Err(
        "it has to be letters, digits, dots, dashes and underscores, and not begin with a dot"
            .into(),
    )
}

fn settings() -> SnapshotSettings {
    SnapshotSettings::said(&[], &std::env::vars().collect())
}

impl Folder {
    fn data_dir(&self) -> anyhow::Result<DataDir> {
        Ok(DataDir::at(&self.data_dir.folder()?))
    }

    fn path(&self) -> anyhow::Result<PathBuf> {
        match self.dir.clone().or_else(|| settings().folder) {
            Some(folder) => Ok(std::path::absolute(folder)?),
            None => Ok(default_folder(&self.data_dir()?)),
        }
    }
}

fn passphrase(file: Option<&Path>) -> anyhow::Result<Option<Passphrase>> {
    Ok(file.map(Passphrase::read).transpose()?)
}

impl SnapshotCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Save(command) => command.run(),
            Self::List(command) => command.run(),
            Self::Restore(command) => command.run(),
            Self::Prune(command) => command.run(),
            Self::Delete(command) => command.run(),
            Self::Schedule(command) => command.run(),
        }
    }
}

impl SaveCommand {
    fn run(self) -> anyhow::Result<()> {
        let bucket = self.folder.bucket.open()?;
        let options = SaveOptions {
            folder: self.folder.path()?,
            series: self.name,
            node: ServiceSettings::said(&[], &std::env::vars().collect()).node_name,
            compression: if self.snapshot_compress {
                Compression::Zstd
            } else {
                Compression::None
            },
            passphrase: passphrase(self.passphrase_file.as_deref())?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let data_dir = self.folder.data_dir()?;
        data_dir.has_own_store("`combo snapshot save`")?;
        let now = SystemClock::shared().now();
        let saved = save(&data_dir, &options, now, &SystemRng::shared())?;
        println!("{}", saved.path.display());
        let words = if saved.header.needs_passphrase() {
            "its keys are wrapped with the passphrase"
        } else {
            "it holds the cluster's keys: whoever reads it can be anybody in the cluster"
        };
        eprintln!(
            "combo: the cluster at revision {}, {} bytes; {words}",
            saved.header.revision, saved.bytes
        );
        match bucket {
            Some(bucket) => copy(&bucket, &saved.path, &options.series),
            None => Ok(()),
        }
    }
}

fn copy(to: &Opened, snapshot: &Path, series: &str) -> anyhow::Result<()> {
    let place = to
        .wait(to.bucket.upload(snapshot))
        .context("the snapshot is in its folder only")?;
    println!("{place}");
    // Nobody who takes one expects others to go, unless a number was said.
    let keep = to.config.retention.filter(|keep| *keep > 0);
    for name in keep.map_or(Ok(Vec::new()), |keep| {
        to.wait(to.bucket.prune(series, keep))
    })? {
        eprintln!("combo: removed {name} from the bucket");
    }
    Ok(())
}

impl ListCommand {
    fn run(self) -> anyhow::Result<()> {
        let mut listed = list(&self.folder.path()?)?;
        if let Some(bucket) = self.folder.bucket.open()? {
            listed.extend(bucket.wait(bucket.bucket.list(""))?);
        }
        match self.output {
            Output::Json => {
                let all: Vec<Value> = listed.iter().map(as_json).collect();
                println!("{}", serde_json::to_string_pretty(&all)?);
            }
            Output::Table => {
                println!(
                    "{:<48} {:<12} {:<21} {:<12} {:<8} LOCATION",
                    "NAME", "BYTES", "TAKEN", "REVISION", "KEYS"
                );
                for one in &listed {
                    print_row(one);
                }
            }
        }
        Ok(())
    }
}

fn print_row(listed: &Listed) {
    let (name, bytes) = (&listed.name, listed.bytes);
    match &listed.header {
        Ok(header) => {
            let keys = if header.needs_passphrase() {
                "wrapped"
            } else {
                "plain"
            };
            let (taken, revision) = (&header.taken, header.revision);
            let location = &listed.location;
            println!("{name:<48} {bytes:<12} {taken:<21} {revision:<12} {keys:<8} {location}");
        }
        Err(error) => println!("{name:<48} {bytes:<12} {error}"),
    }
}

fn as_json(listed: &Listed) -> Value {
    let (name, location, bytes) = (&listed.name, &listed.location, listed.bytes);
    match &listed.header {
        Ok(header) => json!({
            "name": name, "location": location, "bytes": bytes, "taken": header.taken, "revision": header.revision,
            "series": header.series, "node": header.node, "cluster": header.cluster, "version": header.version,
            "needsPassphrase": header.needs_passphrase(),
        }),
        Err(error) => {
            json!({"name": name, "location": location, "bytes": bytes, "error": error.to_string()})
        }
    }
}

impl RestoreCommand {
    fn run(self) -> anyhow::Result<()> {
        let data_dir = self.folder.data_dir()?;
        let mut snapshot = self.snapshot.clone();
        let fetched = match self.folder.bucket.open()? {
            Some(bucket) => Some(bucket.fetch(&snapshot.to_string_lossy(), &data_dir)?),
            None => None,
        };
        if let Some(fetched) = &fetched {
            snapshot = fetched.path().to_owned();
        } else if !snapshot.exists() && snapshot.components().count() == 1 {
            snapshot = self.folder.path()?.join(&self.snapshot);
        }
        let existing = if self.replace {
            Existing::SetAside
        } else {
            Existing::Refuse
        };
        let restored = restore(
            &snapshot,
            &data_dir,
            passphrase(self.passphrase_file.as_deref())?.as_ref(),
            existing,
            (SystemClock::shared().now(), &SystemRng::shared()),
        )?;
        println!(
            "the cluster of {} (revision {}, {} keys) is in {}",
            restored.header.taken,
            restored.header.revision,
            restored.keys,
            data_dir.root().display()
        );
        if let Some(aside) = &restored.set_aside {
            println!("what was there before is in {}", aside.display());
        }
        eprintln!(
            "combo: start the server with the flags that the cluster had. Nodes that know it under another address need \
             the new one, --server."
        );
        Ok(())
    }
}

impl PruneCommand {
    fn run(self) -> anyhow::Result<()> {
        let (series, keep) = (&self.name, self.snapshot_retention);
        for name in prune(&self.folder.path()?, series, keep)? {
            println!("removed {name}");
        }
        if let Some(bucket) = self.folder.bucket.open()? {
            let keep = bucket.config.retention.unwrap_or(keep);
            for name in bucket.wait(bucket.bucket.prune(series, keep))? {
                println!("removed {name} from the bucket");
            }
        }
        Ok(())
    }
}

impl DeleteCommand {
    fn run(self) -> anyhow::Result<()> {
        let folder = self.folder.path()?;
        let bucket = self.folder.bucket.open()?;
        for name in &self.names {
            let was_there = match &bucket {
                Some(bucket) => bucket.wait(bucket.bucket.delete(name))?,
                None => false,
            };
            if was_there {
                println!("removed {name} from the bucket");
            }
            match delete(&folder, name) {
                Err(snapshots::Error::Unknown { .. }) if was_there => {}
                deleted => {
                    deleted?;
                    println!("removed {name}");
                }
            }
        }
        Ok(())
    }
}

impl ScheduleCommand {
    fn run(self) -> anyhow::Result<()> {
        let data_dir = self.folder.data_dir()?;
        let plan = if let Some(plan) = running_plan(&data_dir)? {
            println!("server:    it runs, and does this");
            plan
        } else {
            println!("server:    none runs; this is what the configuration file says");
            self.said_plan()?
        };
        let Some(plan) = plan else {
            println!("the server takes no snapshots by itself");
            return Ok(());
        };
        let cron = &plan.cron;
        let schedule = cron_schedule::parse(cron)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("etcd-snapshot-schedule-cron: {cron}"))?;
        println!("schedule:  {cron} (UTC)");
        println!("kept:      {}", plan.kept);
        println!("folder:    {}", plan.folder.display());
        if let Some(bucket) = &plan.bucket {
            println!("bucket:    {bucket}");
        }
        let mut moment = SystemClock::shared().now();
        for _ in 0..MOMENTS_TOLD {
            let Some(next) = schedule.next(moment, &TimeZone::UTC) else {
                break;
            };
            println!("next:      {}", next.to_seconds_string());
            moment = next;
        }
        Ok(())
    }

    /// What a server would do that is started as this command was.
    fn said_plan(&self) -> anyhow::Result<Option<SnapshotPlan>> {
        let said = settings();
        if said.are_disabled {
            return Ok(None);
        }
        Ok(Some(SnapshotPlan {
            cron: said
                .cron
                .unwrap_or_else(|| config::DEFAULT_SNAPSHOT_SCHEDULE.to_owned()),
            kept: said
                .keep
                .unwrap_or_else(|| config::DEFAULT_SNAPSHOT_RETENTION.to_string()),
            folder: self.folder.path()?,
            bucket: self.folder.bucket.config()?.map(|s3| s3.to_string()),
        }))
    }
}
