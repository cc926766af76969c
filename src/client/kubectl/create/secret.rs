//! `create secret generic|tls|docker-registry`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::sources::Sources;
use crate::error::{Error, Result};

#[derive(Subcommand)]
pub(super) enum Secret {
    /// From files and literals
    Generic(Generic),
    /// From a certificate and its key
    Tls(Tls),
    /// From a registry's address, user and password
    DockerRegistry(DockerRegistry),
}

#[derive(Args)]
pub(super) struct Generic {
    name: String,
    #[command(flatten)]
    sources: Sources,
    /// The secret's type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

#[derive(Args)]
pub(super) struct Tls {
    name: String,
    /// File with the certificate in PEM
    #[arg(long, value_name = "FILE")]
    cert: String,
    /// File with the key in PEM
    #[arg(long, value_name = "FILE")]
    key: String,
}

#[derive(Args)]
pub(super) struct DockerRegistry {
    name: String,
    #[arg(
        long,
        default_value = "https://index.docker.io/v1/",
        value_name = "URL"
    )]
    docker_server: String,
    #[arg(long, value_name = "NAME")]
    docker_username: String,
    #[arg(long, value_name = "PASSWORD")]
    docker_password: String,
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "ADDRESS"
    )]
    docker_email: String,
}

impl Secret {
    pub(super) fn object(self) -> Result<Value> {
        match self {
            Self::Generic(command) => {
                let data = command.sources.read()?;
                let data = data
                    .into_iter()
                    .map(|(key, value)| (key, STANDARD.encode(value).into()))
                    .collect();
                let kind = command.kind.as_deref().unwrap_or("Opaque");
                Ok(secret(&command.name, kind, data))
            }
            Self::Tls(command) => {
                let read = |file: &str| {
                    let bytes = std::fs::read(file)
                        .map_err(|error| Error::usage(format!("{file}: {error}")))?;
                    Ok::<Value, Error>(STANDARD.encode(bytes).into())
                };
                let data = Map::from_iter([
                    ("tls.crt".to_owned(), read(&command.cert)?),
                    ("tls.key".to_owned(), read(&command.key)?),
                ]);
                Ok(secret(&command.name, "kubernetes.io/tls", data))
            }
            Self::DockerRegistry(command) => {
                let config = command.config().to_string();
                let data = Map::from_iter([(
                    ".dockerconfigjson".to_owned(),
                    STANDARD.encode(config).into(),
                )]);
                Ok(secret(
                    &command.name,
                    "kubernetes.io/dockerconfigjson",
                    data,
                ))
            }
        }
    }
}

impl DockerRegistry {
    fn config(&self) -> Value {
        let auth = STANDARD.encode(format!("{}:{}", self.docker_username, self.docker_password));
        let mut entry = json!({"username": self.docker_username, "password": self.docker_password, "auth": auth});
        if !self.docker_email.is_empty() {
            entry["email"] = self.docker_email.clone().into();
        }
        json!({"auths": {self.docker_server.clone(): entry}})
    }
}

fn secret(name: &str, kind: &str, data: Map<String, Value>) -> Value {
    let mut object =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind});
    if !data.is_empty() {
        object["data"] = data.into();
    }
    object
}
