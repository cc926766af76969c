//! `combo server`.

use clap::Args;
use config::{ServerConfig, ServerFlags};
use supervisor::Server;

use super::service;

#[derive(Args)]
pub(crate) struct ServerCommand {
    #[command(flatten)]
    flags: ServerFlags,
}

impl ServerCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        service::start_log(&self.flags.general)?;
        let host_name = linux::system::host_name();
        let config = ServerConfig::from_flags(self.flags, &host_name)?;
        service::run(
            async |shutdown| Server::start(&config, &host_name, shutdown).await,
            async |server: Server| server.stopped().await,
        )
    }
}
