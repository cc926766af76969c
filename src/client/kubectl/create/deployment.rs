//! `create deployment`.

use clap::Args;
use serde_json::{Value, json};

use crate::error::{Error, Result};

#[derive(Args)]
pub(super) struct Deployment {
    name: String,
    /// Image of a container; several make several containers
    #[arg(long, required = true, value_name = "IMAGE")]
    image: Vec<String>,
    #[arg(long, short = 'r', default_value_t = 1, value_name = "COUNT")]
    replicas: u32,
    /// Port of the container
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Command of the container
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Deployment {
    pub(super) fn object(&self) -> Result<Value> {
        if self.image.len() > 1 && !self.command.is_empty() {
            return Err(Error::usage(
                "cannot specify multiple --image options and command",
            ));
        }
        let containers: Vec<Value> = self
            .image
            .iter()
            .map(|image| self.container(image))
            .collect();
        let labels = json!({"app": self.name});
        Ok(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
            },
        }))
    }

    fn container(&self, image: &str) -> Value {
        let mut container = json!({"name": container_name(image), "image": image});
        if !self.command.is_empty() {
            container["command"] = json!(self.command);
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        container
    }
}

/// The last part of an image's name, without tag and digest, as far as a container may be called so.
pub(super) fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split([':', '@']).next().unwrap_or(last).to_lowercase();
    let name: String = name
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character
            } else {
                '-'
            }
        })
        .collect();
    name.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_named_after_its_image() {
        assert_eq!(
            container_name("registry:5000/a/web_server:1.2"),
            "web-server"
        );
        assert_eq!(container_name("nginx@sha256:00"), "nginx");
    }
}
