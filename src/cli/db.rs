//! `combo db`: looks after a server's store.

use bootstrap::DataDir;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use supervisor::{Done, Upkeep, check_database};

use super::stored::DataDirFlag;

#[derive(Subcommand)]
pub(crate) enum DbCommand {
    /// Tell how large it is and what is in it
    Status(StatusCommand),
    /// Read all of it, and compare every checksum; the server goes on meanwhile
    Check(CheckCommand),
    /// Forget all history; watches of what is forgotten begin anew
    Compact(PlainCommand),
    /// Give the space back that is free in it; writes wait until it is done
    Vacuum(PlainCommand),
    /// Clear the alarms after which it refuses writes, once their cause is put right
    Disarm(PlainCommand),
}

#[derive(Args)]
pub(crate) struct StatusCommand {
    #[command(flatten)]
    data_dir: DataDirFlag,
    /// How to print it
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
pub(crate) struct CheckCommand {
    #[command(flatten)]
    data_dir: DataDirFlag,
}

#[derive(Args)]
pub(crate) struct PlainCommand {
    #[command(flatten)]
    data_dir: DataDirFlag,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// Asks the server, or does it here if none runs.
pub(super) fn upkeep(data_dir: &DataDir, what: Upkeep) -> anyhow::Result<Done> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(supervisor::upkeep(data_dir, what))
}

impl DbCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Status(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Compact(command) => command.run(Upkeep::Compact),
            Self::Vacuum(command) => command.run(Upkeep::Vacuum),
            Self::Disarm(command) => command.run(Upkeep::Disarm),
        }
    }
}

impl StatusCommand {
    fn run(self) -> anyhow::Result<()> {
        let data_dir = DataDir::at(&self.data_dir.folder()?);
        let Done::Status(status) = upkeep(&data_dir, Upkeep::Status)? else {
            anyhow::bail!("the server answered something else");
        };
        if self.output == Output::Json {
            println!("{}", serde_json::to_string_pretty(&json!(status))?);
            return Ok(());
        }
        println!("file:              {}", data_dir.database().display());
        println!("keys:              {}", status.keys);
        println!("revision:          {}", status.revision);
        println!("compact revision:  {}", status.compact_revision);
        println!("bytes:             {}", status.size_bytes);
        println!("bytes in use:      {}", status.size_in_use_bytes);
        let quota = status.quota_bytes;
        println!(
            "quota:             {}",
            quota.map_or("none".to_owned(), |bytes| bytes.to_string())
        );
        let alarms = match status.alarms.as_slice() {
            [] => "none".to_owned(),
            raised => raised.join(", "),
        };
        println!("alarms:            {alarms}");
        Ok(())
    }
}

impl CheckCommand {
    fn run(self) -> anyhow::Result<()> {
        let data_dir = DataDir::at(&self.data_dir.folder()?);
        let checked = check_database(&data_dir)?;
        println!(
            "{} versions of {} keys up to revision {}, {} bytes",
            checked.rows, checked.keys, checked.revision, checked.bytes
        );
        for problem in &checked.problems {
            println!("damaged: {problem}");
        }
        if checked.problems.is_empty() {
            println!("every checksum matches");
            return Ok(());
        }
        anyhow::bail!(
            "the store is damaged: `combo snapshot list` shows what it can be restored from, \
             and `combo snapshot restore --replace` does that"
        )
    }
}

impl PlainCommand {
    fn run(self, what: Upkeep) -> anyhow::Result<()> {
        let data_dir = DataDir::at(&self.data_dir.folder()?);
        match upkeep(&data_dir, what)? {
            Done::Compacted { revision } => {
                println!("history up to revision {revision} is forgotten");
            }
            Done::Vacuumed { before, after } => println!("{before} bytes before, {after} now"),
            Done::Disarmed { alarms } if alarms.is_empty() => println!("no alarm was raised"),
            Done::Disarmed { alarms } => {
                println!(
                    "the store takes writes again: {} is cleared",
                    alarms.join(", ")
                );
            }
            _ => anyhow::bail!("the server answered something else"),
        }
        Ok(())
    }
}
