//! `combo pods`: the pods of this node, as the node itself has them; no server is asked.

use std::process::ExitCode;

use clap::Args;
use kubectl::{NodePods, OnNode};

use super::node_socket;
use super::stored::DataDirFlag;

#[derive(Args)]
pub(crate) struct PodsOfNode {
    #[command(flatten)]
    data_dir: DataDirFlag,
    #[command(flatten)]
    pods: NodePods,
}

impl PodsOfNode {
    pub(crate) fn run(self) -> ExitCode {
        node_socket::ask(&self.data_dir, OnNode::Pods(self.pods))
    }
}
