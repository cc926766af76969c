//! Image names, normalised as Docker does: `nginx` and `docker.io/library/nginx:latest` are one name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, is_hex};
use crate::error::{Error, Result};

const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Registry and repository together, in bytes (distribution's `NameTotalLengthMax`).
const NAME_LEN_MAX: usize = 255;
const TAG_LEN_MAX: usize = 128;

/// A normalised image name: registry, repository, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalises; a name with neither tag nor digest gets `latest`.
    pub fn parse(name: &str) -> Result<Self> {
        let wrong = |reason| Error::Reference {
            name: name.to_owned(),
            reason,
        };
        if is_hex(name) {
            return Err(wrong("cannot specify 64-byte hexadecimal strings"));
        }
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(
                    Digest::parse(digest)
                        .map_err(|_| wrong("the digest is not a sha256 digest"))?,
                ),
            ),
            None => (name, None),
        };
        let (registry, remainder) = split_registry(rest);
        let (path, tag) = match remainder.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (remainder, None),
        };
        let registry = if registry == LEGACY_DEFAULT_REGISTRY {
            DEFAULT_REGISTRY
        } else {
            registry
        };
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = format!("{}{path}", if official { OFFICIAL_PREFIX } else { "" });
        check_registry(registry).map_err(wrong)?;
        check_repository(path).map_err(wrong)?;
        if registry.len() + 1 + repository.len() > NAME_LEN_MAX {
            return Err(wrong(
                "repository name must not be more than 255 characters",
            ));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("the tag is not valid"));
        }
        let tag = if tag.is_none() && digest.is_none() {
            Some(DEFAULT_TAG.to_owned())
        } else {
            tag
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }

    /// `docker.io`, `registry.example:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name of this repository's content with that digest: a "repo digest".
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest.clone()),
        }
    }

    /// The same name by its tag alone, if it has one.
    pub(crate) fn tagged(&self) -> Option<Self> {
        self.tag.is_some().then(|| Self {
            digest: None,
            ..self.clone()
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

/// The first component is a registry when it looks like a host: a dot, a port, an upper-case letter, or `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn check_registry(registry: &str) -> std::result::Result<(), &'static str> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                let address_fits = address.parse::<std::net::Ipv6Addr>().is_ok();
                return if address_fits && (port.is_empty() || is_port(port.strip_prefix(':'))) {
                    Ok(())
                } else {
                    Err("the registry is not valid")
                };
            }
            None => return Err("the registry is not valid"),
        },
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let labels_fit = host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    if labels_fit && (port.is_none() || is_port(port)) {
        Ok(())
    } else {
        Err("the registry is not valid")
    }
}

fn is_port(port: Option<&str>) -> bool {
    port.is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn check_repository(path: &str) -> std::result::Result<(), &'static str> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("repository name must be lowercase");
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err("the repository is not valid")
    }
}

/// Lower-case letters and digits, separated by one dot, one or two underscores, or any number of hyphens.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    alphanumeric(*first)
        && alphanumeric(*last)
        && component
            .split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit())
            .all(|separator| {
                matches!(separator, "" | "." | "_" | "__")
                    || separator.bytes().all(|byte| byte == b'-')
            })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_LEN_MAX
        && tag.bytes().next().is_some_and(word)
        && tag
            .bytes()
            .all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_docker_does() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = format!("sha256:{hex}");
        for (name, normal) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("rancher/klipper", "docker.io/rancher/klipper:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost/nginx", "localhost/nginx:latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            (
                "registry.k8s.io/e2e-test-images/agnhost:2.59",
                "registry.k8s.io/e2e-test-images/agnhost:2.59",
            ),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("MyHost/a", "MyHost/a:latest"),
            (
                &format!("nginx@{digest}"),
                &format!("docker.io/library/nginx@{digest}"),
            ),
            (
                &format!("nginx:1@{digest}"),
                &format!("docker.io/library/nginx:1@{digest}"),
            ),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"),
        ] {
            assert_eq!(
                Reference::parse(name).expect(name).to_string(),
                normal,
                "{name}"
            );
        }
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for name in [
            "",
            ":",
            "a:",
            "/a",
            "a/",
            "a//b",
            "Nginx",
            "docker.io/Nginx",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "../a",
            hex,
            "nginx@sha256:00",
            "nginx@sha512:00",
            "host:port/a",
            "[::1/a",
            "-x.example/a",
            &"a".repeat(300),
            &format!("a:{}", "t".repeat(129)),
            "a:.b",
            "a:b:c",
        ] {
            assert!(Reference::parse(name).is_err(), "{name}");
        }
    }
}
