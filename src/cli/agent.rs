//! `combo agent`.

use clap::Args;
use config::{AgentConfig, AgentFlags, ProxyVariables};
use supervisor::Agent;

use super::service;

#[derive(Args)]
pub(crate) struct AgentCommand {
    #[command(flatten)]
    flags: AgentFlags,
}

impl AgentCommand {
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        service::start_log(&self.flags.general)?;
        let host_name = linux::system::host_name();
        self.flags.node.proxies = ProxyVariables::of_this_process();
        let config = AgentConfig::from_flags(self.flags, &host_name)?;
        service::run(
            async |shutdown| Agent::start(&config, shutdown).await,
            Agent::stopped,
        )
    }
}
