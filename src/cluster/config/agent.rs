//! What holds for an agent, checked.

use std::fmt;
use std::path::PathBuf;

use joining::JoinToken;
use kube_client::Dialer;

use crate::error::invalid;
use crate::token::{TokenFlags, join_token};
use crate::{AgentFlags, ConfigError, NodeConfig, paths};

const HTTPS_PORT: u16 = 443;

/// Everything about an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    pub data_dir: PathBuf,
    pub server: ServerAddress,
    /// `None`: nothing but the key that the node joined with.
    pub token: Option<JoinToken>,
    pub node: NodeConfig,
    /// Take the place of a node of this name that is not ready any more.
    pub replaces: bool,
    /// How servers are reached.
    pub dialer: Dialer,
    /// `--lb-server-port`
    pub local_port: Option<u16>,
}

/// A server as an agent is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
}

impl ServerAddress {
    /// Reads `https://host:port`.
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let refused = |why: &str| Err(invalid("server", url, why));
        let Some(rest) = url.trim().strip_prefix("https://") else {
            return refused(
                "it does not begin with https://; say for example https://10.0.0.1:6443",
            );
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return refused("it has more in it than a host and a port");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, port)) => match port.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None => return refused("behind the bracket there is no port such as :6443"),
                },
                None => return refused("its bracket is not closed"),
            },
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
        let is_host = |letter: u8| letter.is_ascii_alphanumeric() || b"-._".contains(&letter);
        if host.is_empty() || host.len() > 253 || !(is_address || host.bytes().all(is_host)) {
            return refused("its host is neither a name nor an address; IPv6 stands in brackets");
        }
        let port = match port.map(str::parse) {
            None => HTTPS_PORT,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return refused("its port is no number from 1 to 65535"),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ServerAddress {
    /// `host:port`, as it is dialled.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(formatter, "[{}]:{}", self.host, self.port);
        }
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

impl AgentConfig {
    /// What `said` means on a host of this name. Reads the file of the token.
    pub fn from_flags(said: AgentFlags, host_name: &str) -> Result<Self, ConfigError> {
        let server = said.server.as_deref().ok_or(ConfigError::Missing {
            flag: "server",
            why: "say which server to join, for example --server https://10.0.0.1:6443 or COMBO_URL",
        })?;
        let token = TokenFlags {
            flag: "token",
            token: said.token.as_deref(),
            file_flag: "token-file",
            file: said.token_file.as_deref(),
        };
        Ok(Self {
            data_dir: paths::data_dir(said.general.data_dir),
            server: ServerAddress::parse(server)?,
            token: join_token(&token)?,
            node: NodeConfig::from_flags(&said.node, host_name)?,
            replaces: said.replace,
            dialer: if said.agent_http_proxy_allowed {
                said.node.proxies.dialer()?
            } else {
                Dialer::default()
            },
            local_port: said.lb_server_port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(server: &str) -> AgentFlags {
        AgentFlags {
            server: Some(server.to_owned()),
            ..AgentFlags::default()
        }
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (url, dialled) in [
            ("https://10.0.0.1:6443", "10.0.0.1:6443"),
            ("https://edge.example/", "edge.example:443"),
            ("https://[fd00::1]:7443", "[fd00::1]:7443"),
            ("https://[fd00::1]", "[fd00::1]:443"),
        ] {
            let agent = AgentConfig::from_flags(said(url), "host").expect(url);
            assert_eq!(agent.server.to_string(), dialled);
        }
        for wrong in [
            "",
            "10.0.0.1:6443",
            "http://a:1",
            "https://",
            "https://a:0",
            "https://a:99999",
            "https://a:b",
            "https://u@a:1",
            "https://a/b",
            "https://[fd00::1",
            "https://[fd00::1]6443",
            "https://fd00::1:6443",
            "https://a b:1",
        ] {
            let error = AgentConfig::from_flags(said(wrong), "host").expect_err(wrong);
            assert!(error.to_string().starts_with("--server "), "{error}");
        }
    }

    #[test]
    fn a_token_comes_from_a_word_or_a_file_and_is_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "secret\n").expect("written");
        let mut flags = said("https://a");
        flags.token_file = Some(file);
        let agent = AgentConfig::from_flags(flags, "host").expect("a config");
        let mut flags = said("https://a");
        flags.token = Some("secret".to_owned());
        assert_eq!(AgentConfig::from_flags(flags, "host"), Ok(agent));
        let mut flags = said("https://a");
        flags.token = Some("K10topsecret".to_owned());
        let error = AgentConfig::from_flags(flags, "host").expect_err("refused");
        assert!(error.to_string().contains("K10"), "{error}");
        assert!(!error.to_string().contains("topsecret"), "{error}");
        let mut flags = said("https://a");
        flags.token_file = Some(folder.path().join("none"));
        let error = AgentConfig::from_flags(flags, "host").expect_err("refused");
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn a_proxy_stands_between_an_agent_and_its_servers_only_if_allowed() {
        let mut flags = said("https://a");
        let variable = ("HTTPS_PROXY".to_owned(), "http://proxy:3128".to_owned());
        flags.node.proxies = crate::ProxyVariables::among([variable]);
        let straight = AgentConfig::from_flags(flags.clone(), "host").expect("a config");
        assert_eq!(straight.dialer, Dialer::default());
        flags.agent_http_proxy_allowed = true;
        let through = AgentConfig::from_flags(flags, "host").expect("a config");
        assert_eq!(
            format!("{:?}", through.dialer),
            "Dialer(through proxy:3128)"
        );
    }

    #[test]
    fn without_a_server_the_error_says_how_to_name_one() {
        let error = AgentConfig::from_flags(AgentFlags::default(), "host").expect_err("refused");
        assert!(error.to_string().contains("--server https://"), "{error}");
    }
}
