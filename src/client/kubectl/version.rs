//! `version`: of client and server.

use apimachinery::version;
use clap::Args;
use serde_json::json;

use crate::error::Result;
use crate::output::{self, Output};
use crate::session::{PLAIN, Session};

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
        // The Kubernetes whose kubectl this is like.
        let client = json!({
            "gitVersion": version::GIT, "major": version::MAJOR, "minor": version::MINOR});
        let mut versions = json!({ "clientVersion": client });
        if !self.client {
            versions["serverVersion"] = session.get("/version".to_owned(), PLAIN).await?;
        }
        if !output.is_table() {
            return session.print(output::render(&output, &versions, ""));
        }
        session.say(format!("Client Version: {}", version::GIT))?;
        match versions["serverVersion"]["gitVersion"].as_str() {
            Some(version) => session.say(format!("Server Version: {version}")),
            None => Ok(()),
        }
    }
}
