//! `combo secrets-encrypt`: the keys that Secrets are sealed with in the store.

use bootstrap::DataDir;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use supervisor::{Done, Upkeep};

use super::db::upkeep;
use super::stored::DataDirFlag;

#[derive(Subcommand)]
pub(crate) enum SecretsEncryptCommand {
    /// Tell which keys seal how many values
    Status(StatusCommand),
    /// Make a new key, seal all Secrets anew with it, and forget the former keys; the server goes on meanwhile
    #[command(visible_alias = "rotate-keys")]
    Rotate(RotateCommand),
    /// Secrets are encrypted from the first start on
    #[command(hide = true)]
    Enable,
    #[command(hide = true)]
    Disable,
    #[command(hide = true, alias = "reencrypt")]
    Prepare,
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
pub(crate) struct RotateCommand {
    #[command(flatten)]
    data_dir: DataDirFlag,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

impl SecretsEncryptCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Status(command) => command.run(),
            Self::Rotate(command) => command.run(),
            Self::Enable => {
                println!("Secrets are encrypted at rest, as always");
                Ok(())
            }
            Self::Disable => anyhow::bail!("Secrets are always encrypted at rest"),
            Self::Prepare => anyhow::bail!(
                "`combo secrets-encrypt rotate` makes a key, seals everything anew and forgets the former keys in one step"
            ),
        }
    }
}

impl StatusCommand {
    fn run(self) -> anyhow::Result<()> {
        let data_dir = DataDir::at(&self.data_dir.folder()?);
        let Done::Status(status) = upkeep(&data_dir, Upkeep::Status)? else {
            anyhow::bail!("the server answered something else");
        };
        let active = status.sealing_keys.last();
        let former = status.sealing_keys.len().saturating_sub(1);
        let stage = if former > 0 { "rotating" } else { "done" };
        if self.output == Output::Json {
            let report = json!({
                "enabled": true, "cipher": "AES-256-GCM", "activeKey": active, "keys": status.sealing_keys,
                "values": status.sealed, "plainValues": status.unsealed, "rotation": stage,
            });
            println!("{}", serde_json::to_string_pretty(&report)?);
            return Ok(());
        }
        println!("Encryption Status: Enabled");
        println!("Cipher: AES-256-GCM");
        println!("Key File: {}", data_dir.encryption_key().display());
        println!("Rotation: {stage}");
        println!("Values not encrypted: {}", status.unsealed);
        println!();
        println!("{:<8} {:<8} VALUES", "ACTIVE", "KEY");
        for key in &status.sealing_keys {
            let mark = if Some(key) == active { "*" } else { "" };
            let values = status.sealed.get(key).copied().unwrap_or(0);
            println!("{mark:<8} {key:<8} {values}");
        }
        Ok(())
    }
}

impl RotateCommand {
    fn run(self) -> anyhow::Result<()> {
        let data_dir = DataDir::at(&self.data_dir.folder()?);
        let Done::Rotated { key, values } = upkeep(&data_dir, Upkeep::RotateKeys)? else {
            anyhow::bail!("the server answered something else");
        };
        println!("{values} values are sealed with key {key}; former keys are forgotten");
        eprintln!("combo: snapshots that were taken before hold the keys that they need");
        Ok(())
    }
}
