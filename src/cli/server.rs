//! `combo server`.

use clap::Args;
use config::{ProxyVariables, ServerConfig, ServerFlags};
use supervisor::Server;

use super::service;

#[derive(Args)]
pub(crate) struct ServerCommand {
    #[command(flatten)]
    flags: ServerFlags,
}

impl ServerCommand {
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        service::start_log(&self.flags.general)?;
        let host_name = linux::system::host_name();
        self.flags.node.proxies = ProxyVariables::of_this_process();
        let config = ServerConfig::from_flags(self.flags, &host_name)?;
        service::run(
            async |shutdown| Server::start(&config, &host_name, shutdown).await,
            async |server: Server| server.stopped().await,
        )
    }
}
