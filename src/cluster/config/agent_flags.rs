//! What a person may say about an agent. Flag names are k3s' where the meaning is the same.

use std::path::PathBuf;

use clap::Args;

use crate::{GeneralFlags, NodeFlags};

/// Flags of `combo agent`; the config file has the same names.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Cluster")]
pub struct AgentFlags {
    /// Server to join, as https://HOST:PORT
    #[arg(long, short = 's', env = "COMBO_URL", value_name = "URL")]
    pub server: Option<String>,

    /// Token to join with; a node that has joined needs none
    #[arg(
        long,
        short = 't',
        env = "COMBO_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    pub token: Option<String>,

    /// File with the token
    #[arg(long, env = "COMBO_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Take the place of a node of this name that is not ready any more
    #[arg(long, env = "COMBO_REPLACE")]
    pub replace: bool,

    /// Reach servers through the proxy in HTTPS_PROXY, except those that NO_PROXY names; images are pulled through it also
    /// without this
    #[arg(long, env = "COMBO_AGENT_HTTP_PROXY_ALLOWED")]
    pub agent_http_proxy_allowed: bool,

    /// Port of 127.0.0.1 that leads to whichever server answers, for tools on this machine [default: none]
    #[arg(long, env = "COMBO_LB_SERVER_PORT", value_name = "PORT")]
    pub lb_server_port: Option<u16>,

    #[command(flatten)]
    pub general: GeneralFlags,

    #[command(flatten)]
    pub node: NodeFlags,
}
