//! Which credentials fit an image: those of `imagePullSecrets`, matched by registry and path.

use std::collections::BTreeMap;

use base64::Engine;
use cri::PullAuth;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

/// The registry of images that name none.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// Credentials by registry (`host[:port][/path]`), most specific first.
#[derive(Clone, Default)]
pub(crate) struct Keyring {
    entries: Vec<(String, PullAuth)>,
}

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

impl Keyring {
    /// Secrets of other types or with unreadable content add nothing.
    pub(crate) fn from_secrets<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut entries: Vec<(String, PullAuth)> = Vec::new();
        for secret in secrets {
            for (registry, entry) in entries_of(secret) {
                entries.push((normalise(&registry), auth(entry)));
            }
        }
        entries.sort_by_key(|(registry, _)| std::cmp::Reverse(registry.len()));
        Self { entries }
    }

    /// Every credential that fits, in the order to try them.
    pub(crate) fn for_image(&self, image: &str) -> Vec<&PullAuth> {
        let wanted = full_name(image);
        let fits = |registry: &str| {
            let (host, path) = registry.split_once('/').unwrap_or((registry, ""));
            let (wanted_host, wanted_path) = wanted.split_once('/').unwrap_or((&wanted, ""));
            host_fits(host, wanted_host) && wanted_path.starts_with(path)
        };
        self.entries
            .iter()
            .filter(|(registry, _)| fits(registry))
            .map(|(_, auth)| auth)
            .collect()
    }
}

fn entries_of(secret: &Secret) -> BTreeMap<String, Entry> {
    let data = |key: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.as_slice())
    };
    match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson")
            .and_then(|bytes| serde_json::from_slice::<DockerConfigJson>(bytes).ok())
            .map(|config| config.auths),
        Some("kubernetes.io/dockercfg") => {
            data(".dockercfg").and_then(|bytes| serde_json::from_slice(bytes).ok())
        }
        _ => None,
    }
    .unwrap_or_default()
}

fn auth(entry: Entry) -> PullAuth {
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(&entry.auth)
        .ok();
    let decoded = decoded
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default();
    let (username, password) = decoded.split_once(':').unwrap_or_default();
    let or = |own: String, other: &str| {
        if own.is_empty() {
            other.trim_end_matches('\0').to_owned()
        } else {
            own
        }
    };
    PullAuth {
        username: or(entry.username, username),
        password: or(entry.password, password),
        identity_token: entry.identitytoken,
        registry_token: entry.registrytoken,
    }
}

/// `https://index.docker.io/v1/` → `index.docker.io`.
fn normalise(registry: &str) -> String {
    let bare = registry
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let bare = bare.trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    if bare == "docker.io" {
        DEFAULT_REGISTRY.to_owned()
    } else {
        bare.to_owned()
    }
}

/// With its registry, as a keyring sees it.
fn full_name(image: &str) -> String {
    let first = image.split_once('/').map(|(first, _)| first);
    match first {
        Some(host) if host.contains(['.', ':']) || host == "localhost" => {
            let rest = &image[host.len()..];
            if host == "docker.io" {
                format!("{DEFAULT_REGISTRY}{rest}")
            } else {
                image.to_owned()
            }
        }
        Some(_) => format!("{DEFAULT_REGISTRY}/{image}"),
        None => format!("{DEFAULT_REGISTRY}/library/{image}"),
    }
}

/// `*` in a part of the entry stands for any one part of the host name.
fn host_fits(pattern: &str, host: &str) -> bool {
    let (left, right): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), host.split('.').collect());
    left.len() == right.len()
        && left
            .iter()
            .zip(&right)
            .all(|(pattern, part)| part_fits(pattern, part))
}

fn part_fits(pattern: &str, part: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == part,
        Some((before, after)) => {
            part.len() >= before.len() + after.len()
                && part.starts_with(before)
                && part.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_most_specific_credential_that_fits_comes_first() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let config = json!({"auths": {
            "registry.example": {"auth": encode("wide:1")},
            "registry.example/team": {"username": "narrow", "password": "2"},
            "https://index.docker.io/v1/": {"auth": encode("hub:3")},
            "*.wild.example": {"auth": encode("wild:4")}
        }});
        let secret: Secret =
            serde_json::from_value(json!({"type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": encode(&config.to_string())}}))
            .unwrap();
        let keyring = Keyring::from_secrets([&secret]);
        let users = |image: &str| -> Vec<String> {
            keyring
                .for_image(image)
                .iter()
                .map(|auth| auth.username.clone())
                .collect()
        };
        assert_eq!(users("registry.example/team/app:1"), ["narrow", "wide"]);
        assert_eq!(users("registry.example/other"), ["wide"]);
        assert_eq!(users("busybox"), ["hub"]);
        assert_eq!(users("a.wild.example/x"), ["wild"]);
    }
}
