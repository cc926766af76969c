//! `version`: of client and server.

use clap::Args;
use serde_json::json;

use crate::error::Result;
use crate::output::{self, Output};
use crate::session::{PLAIN, Session};

/// The Kubernetes whose kubectl this is like.
const CLIENT_VERSION: &str = "v1.36.2+combo.1";

#[derive(Args)]
pub(crate) struct VersionCommand {
    /// Do not ask the server
    #[arg(long)]
    client: bool,
    /// json|yaml
    #[arg(long, short = 'o', value_name = "FORM")]
    output: Option<String>,
}

impl VersionCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        let output = Output::parse(self.output.as_deref())?;
        let mut versions =
            json!({"clientVersion": {"gitVersion": CLIENT_VERSION, "major": "1", "minor": "36"}});
        if !self.client {
            versions["serverVersion"] = session.get("/version".to_owned(), PLAIN).await?;
        }
        if !output.is_table() {
            return session.print(output::render(&output, &versions, ""));
        }
        session.say(format!("Client Version: {CLIENT_VERSION}"))?;
        match versions["serverVersion"]["gitVersion"].as_str() {
            Some(version) => session.say(format!("Server Version: {version}")),
            None => Ok(()),
        }
    }
}
