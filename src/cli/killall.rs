//! `combo killall`: what is left of a server that was stopped goes away; its data stays.

use std::path::PathBuf;

use clap::Args;
use host::ServiceSettings;

#[derive(Args)]
pub(crate) struct KillAllCommand {
    /// Folder that holds all state [default: as the configuration file says, else /var/lib/combo]
    #[arg(long, short = 'd', value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl KillAllCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let data_dir = match self.data_dir {
            Some(data_dir) => std::path::absolute(data_dir)?,
            None => ServiceSettings::said(&[], &std::env::vars().collect()).data_dir,
        };
        for installation in host::installations()? {
            if ServiceSettings::of(&installation).data_dir == data_dir
                && let Err(why) = installation.stop()
            {
                // If it runs on, it holds its folder, and the next step says so.
                eprintln!("combo: {} was not stopped: {why}", installation.service);
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        runtime.block_on(supervisor::clean_up(&data_dir))
    }
}
