//! `combo exec`: a command in a container of this node; no server is asked.

use std::process::ExitCode;

use clap::Args;
use kubectl::{NodeExec, OnNode};

use super::node_socket;
use super::stored::DataDirFlag;

#[derive(Args)]
pub(crate) struct ExecOfNode {
    #[command(flatten)]
    data_dir: DataDirFlag,
    #[command(flatten)]
    exec: NodeExec,
}

impl ExecOfNode {
    pub(crate) fn run(self) -> ExitCode {
        node_socket::ask(&self.data_dir, OnNode::Exec(self.exec))
    }
}
