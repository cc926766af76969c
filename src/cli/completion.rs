//! `combo completion`.

use clap::{Args, Command};
use clap_complete::Shell;

#[derive(Args)]
pub(crate) struct CompletionCommand {
    /// The shell to complete for
    shell: Shell,
}

impl CompletionCommand {
    pub(crate) fn run(self, cli: &mut Command) -> anyhow::Result<()> {
        clap_complete::generate(self.shell, cli, "combo", &mut std::io::stdout());
        Ok(())
    }
}
