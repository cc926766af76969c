//! `combo logs`: what a container of this node wrote; no server is asked.

use std::process::ExitCode;

use clap::Args;
use kubectl::{NodeLogs, OnNode};

use super::node_socket;
use super::stored::DataDirFlag;

#[derive(Args)]
pub(crate) struct LogsOfNode {
    #[command(flatten)]
    data_dir: DataDirFlag,
    #[command(flatten)]
    logs: NodeLogs,
}

impl LogsOfNode {
    pub(crate) fn run(self) -> ExitCode {
        node_socket::ask(&self.data_dir, OnNode::Logs(self.logs))
    }
}
