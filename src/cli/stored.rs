//! Where commands that work on a server's or node's own files find them.

use std::path::PathBuf;

use clap::Args;
use host::ServiceSettings;

#[derive(Args)]
pub(crate) struct DataDirFlag {
    /// Folder that holds all state [default: as the configuration file says, else /var/lib/combo]
    #[arg(long, short = 'd', value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl DataDirFlag {
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        match &self.data_dir {
            Some(data_dir) => Ok(std::path::absolute(data_dir)?),
            None => Ok(ServiceSettings::said(&[], &std::env::vars().collect()).data_dir),
        }
    }
}
