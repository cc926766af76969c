//! Which credentials of a pod's image pull secrets fit an image: pure, by the rules of the kubelet's keyring.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cri::PullAuth;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::reference::Reference;

/// What Docker's own client calls its default registry.
const DEFAULT_REGISTRY_KEY: &str = "index.docker.io";
const DEFAULT_REGISTRY: &str = "docker.io";

/// Credentials by registry, from one or more secrets.
#[derive(Debug, Clone, Default)]
pub struct PullSecrets {
    /// Host with optional port and path prefix, each part of the host possibly with `*`; the most specific is the last.
    by_location: BTreeMap<String, Vec<PullAuth>>,
}

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerAuth {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

impl PullSecrets {
    /// Adds the content of `.dockerconfigjson` (type `kubernetes.io/dockerconfigjson`).
    pub fn add_docker_config_json(&mut self, content: &[u8]) -> Result<()> {
        let config: DockerConfigJson = parse(content)?;
        self.add(config.auths)
    }

    /// Adds the content of `.dockercfg` (type `kubernetes.io/dockercfg`).
    pub fn add_docker_cfg(&mut self, content: &[u8]) -> Result<()> {
        self.add(parse(content)?)
    }

    fn add(&mut self, auths: BTreeMap<String, DockerAuth>) -> Result<()> {
        for (location, entry) in auths {
            let (username, password) = if entry.auth.is_empty() {
                (entry.username, entry.password)
            } else {
                decode_auth(&entry.auth).ok_or_else(|| {
                    Error::invalid(
                        format!("image pull secret for {location}"),
                        "auth is not base64 of user:password",
                    )
                })?
            };
            // A token beside a password is another way to the same registry; the password is the one the kubelet uses.
            let identity_token = if username.is_empty() {
                entry.identitytoken
            } else {
                String::new()
            };
            let auth = PullAuth {
                username,
                password,
                identity_token,
                registry_token: entry.registrytoken,
            };
            self.by_location
                .entry(normal_location(&location))
                .or_default()
                .push(auth);
        }
        Ok(())
    }

    /// All credentials that fit, the most specific first; to be tried one after the other.
    pub fn matching(&self, image: &Reference) -> Vec<PullAuth> {
        let name = image.name();
        let fitting: Vec<PullAuth> = self
            .by_location
            .iter()
            .rev()
            .filter(|(location, _)| fits(location, &name))
            .flat_map(|(_, auths)| auths.iter().cloned())
            .collect();
        if fitting.is_empty() && image.registry() == DEFAULT_REGISTRY {
            return self
                .by_location
                .get(DEFAULT_REGISTRY_KEY)
                .cloned()
                .unwrap_or_default();
        }
        fitting
    }
}

fn parse<T: serde::de::DeserializeOwned>(content: &[u8]) -> Result<T> {
    // The error of serde_json may quote what stands in the secret.
    serde_json::from_slice(content)
        .map_err(|_| Error::invalid("image pull secret", "is not a docker configuration"))
}

pub(crate) fn decode_auth(auth: &str) -> Option<(String, String)> {
    let decoded = STANDARD.decode(auth.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((
        username.to_owned(),
        password.trim_end_matches('\0').to_owned(),
    ))
}

/// `https://index.docker.io/v1/` and `index.docker.io` are one place.
fn normal_location(location: &str) -> String {
    let bare = location
        .strip_prefix("https://")
        .or_else(|| location.strip_prefix("http://"))
        .unwrap_or(location);
    let (host, path) = bare
        .split_once('/')
        .map_or((bare, ""), |(host, path)| (host, path));
    let versioned = path
        .strip_prefix("v1/")
        .or_else(|| path.strip_prefix("v2/"));
    let path = versioned.unwrap_or(if matches!(path, "v1" | "v2") {
        ""
    } else {
        path
    });
    if path.is_empty() {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

/// Equal ports, hosts that agree part by part, and the path as a prefix.
fn fits(location: &str, image: &str) -> bool {
    let (glob_host, glob_path) = location.split_once('/').unwrap_or((location, ""));
    let (host, path) = image.split_once('/').unwrap_or((image, ""));
    let (glob_name, glob_port) = split_port(glob_host);
    let (name, port) = split_port(host);
    let globs: Vec<&str> = glob_name.split('.').collect();
    let parts: Vec<&str> = name.split('.').collect();
    glob_port == port
        && globs.len() == parts.len()
        && globs
            .iter()
            .zip(&parts)
            .all(|(glob, part)| glob_fits(glob.as_bytes(), part.as_bytes()))
        && path.starts_with(glob_path)
}

fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    }
}

/// `*` any run of characters, `?` any one.
fn glob_fits(glob: &[u8], text: &[u8]) -> bool {
    match (glob.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            glob_fits(rest, text) || (!text.is_empty() && glob_fits(glob, &text[1..]))
        }
        (Some((b'?', glob)), Some((_, text))) => glob_fits(glob, text),
        (Some((wanted, glob)), Some((found, text))) => wanted == found && glob_fits(glob, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(config: &str, image: &str) -> Vec<String> {
        let mut secrets = PullSecrets::default();
        secrets.add_docker_config_json(config.as_bytes()).unwrap();
        secrets
            .matching(&Reference::parse(image).unwrap())
            .into_iter()
            .map(|auth| auth.username)
            .collect()
    }

    #[test]
    fn the_most_specific_location_comes_first() {
        let config = r#"{"auths": {
            "quay.io": {"username": "host", "password": "p"},
            "quay.io/team": {"auth": "dGVhbTpw"},
            "*.example.com": {"username": "star", "password": "p"},
            "port.example.com:5000": {"username": "port", "password": "p"},
            "https://index.docker.io/v1/": {"username": "hub", "password": "p"}
        }}"#;
        assert_eq!(users(config, "quay.io/team/app"), ["team", "host"]);
        assert_eq!(users(config, "quay.io/other/app"), ["host"]);
        assert_eq!(users(config, "a.example.com/x"), ["star"]);
        assert_eq!(users(config, "a.b.example.com/x"), Vec::<String>::new());
        assert_eq!(users(config, "port.example.com:5000/x"), ["port"]);
        assert_eq!(users(config, "port.example.com/x"), ["star"]);
        assert_eq!(users(config, "nginx"), ["hub"]);
    }

    #[test]
    fn a_broken_secret_is_refused_without_quoting_it() {
        let mut secrets = PullSecrets::default();
        assert!(
            secrets
                .add_docker_config_json(br#"{"auths": {"a": {"auth": "***"}}}"#)
                .is_err()
        );
        let error = secrets.add_docker_cfg(b"hunter2").unwrap_err();
        assert!(!error.chain().contains("hunter2"));
        secrets
            .add_docker_cfg(br#"{"a.example": {"username": "u", "password": "p"}}"#)
            .unwrap();
        assert_eq!(
            secrets
                .matching(&Reference::parse("a.example/x").unwrap())
                .len(),
            1
        );
    }
}
