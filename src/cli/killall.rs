//! `combo killall`: what is left of a server that was stopped goes away; its data stays.

use std::path::PathBuf;

use clap::Args;

const DEFAULT_DATA_DIR: &str = "/var/lib/combo";

#[derive(Args)]
pub(crate) struct KillAllCommand {
    /// Folder that holds all state
    #[arg(long, short = 'd', env = "COMBO_DATA_DIR", default_value = DEFAULT_DATA_DIR, value_name = "DIR")]
    data_dir: PathBuf,
}

impl KillAllCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let data_dir = std::path::absolute(&self.data_dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        runtime.block_on(supervisor::clean_up(&data_dir))
    }
}
