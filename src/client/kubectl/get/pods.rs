//! The pods of one node, as that node shows them.

use clap::Args;

use super::GetCommand;
use crate::arguments::Selectors;
use crate::error::Result;
use crate::session::Session;

#[derive(Args)]
pub(crate) struct PodsCommand {
    /// These only; they need a namespace
    #[arg(value_name = "POD", requires = "namespace")]
    names: Vec<String>,
    #[command(flatten)]
    selectors: Selectors,
    /// wide|json|yaml|name|jsonpath=...|custom-columns=...
    #[arg(long, short = 'o', value_name = "FORM")]
    output: Option<String>,
    /// Leave the headers out
    #[arg(long)]
    no_headers: bool,
    /// Show all labels in a column
    #[arg(long)]
    show_labels: bool,
}

impl PodsCommand {
    /// Those of the session's namespace, or of all if it has none.
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        let arguments = std::iter::once("pods".to_owned()).chain(self.names);
        let get = GetCommand {
            arguments: arguments.collect(),
            selectors: self.selectors,
            output: self.output,
            no_headers: self.no_headers,
            show_labels: self.show_labels,
            all_namespaces: session.namespace.is_empty(),
            ..GetCommand::default()
        };
        get.run(session).await
    }
}
